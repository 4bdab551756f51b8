"""Loops that the compiler can turn into vector instructions, which it can't where an index may be negative.

numba counts negative indices from the end, so an element's index must be seen not to be one: innermost loops count
from 0, and index rows or slices by nothing but their variable.
"""

import ast
from pathlib import Path

import pytest

from cpu import compiler

SOURCES = sorted(Path(compiler.__file__).parent.glob("*_kernels.py"))


def scalar_loops(source):
    """Innermost loops, by their lines, that can't become vector instructions; not those that search, or take steps."""
    found = []
    for loop in ast.walk(ast.parse(source)):
        if not isinstance(loop, ast.For) or not isinstance(loop.iter, ast.Call) or loop.iter.func.id != "range":
            continue
        inside = [node for statement in loop.body for node in ast.walk(statement)]
        if any(isinstance(node, ast.For | ast.While | ast.Break) for node in inside):
            continue
        indices = [node.slice for node in inside if isinstance(node, ast.Subscript)]
        parts = [part for index in indices for part in (index.elts if isinstance(index, ast.Tuple) else [index])]
        variable = loop.target.id
        mine = [part for part in parts if variable in {n.id for n in ast.walk(part) if isinstance(n, ast.Name)}]
        shifted = [part for part in mine if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Add | ast.Sub)]
        if len(loop.iter.args) < 3 and (shifted or (mine and len(loop.iter.args) == 2)):
            found.append(f"{loop.lineno}: {ast.unparse(loop).splitlines()[0]}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_innermost_loops_count_from_0(path):
    assert not scalar_loops(path.read_text(encoding="utf-8"))


def test_what_is_found():
    assert scalar_loops("for i in range(first, last):\n    x[i] = y[i]\n")
    assert scalar_loops("for i in range(size):\n    x[n, first + i] = y[i]\n")
    assert not scalar_loops("for i in range(size):\n    x[n, i] = is_kept(first + i)\n")
