"""The house: what stands at the top, and which way imports go."""

import ast
import importlib.metadata
import subprocess
import sys

import pytest
from conftest import ROOT

GROUPS = (  # an import goes to a group further up, never within one
    {"runtime", "files"},
    {"flags", "cpu", "text"},
    {"layers"},
    {"modeling", "tokenizer"},
    {"family"},
    {"conversion", "training", "pretraining"},
    {"tasks"},
    {"serving", "comparison"},
)
PUBLIC = {"modeling", "tokenizer", "runtime"}
UNTUNED = {"benchmark", "glue_sweep"}  # scripts that compute nothing themselves
PACKAGES = {path.parent.name for path in ROOT.glob("*/__init__.py")}
TOP = {path.stem for path in ROOT.glob("*.py")}
SCRIPTS = TOP - PUBLIC
OPTIONAL = {"paddlenlp", "torch", "transformers"}
LIGHT = {"modeling", "tokenizer", "family"}  # they, and what they stand on, never import OPTIONAL, lazily either


def sources():
    """(room, path, tree) of every module of the project; a room is a package or a module at the top."""
    for path in sorted([*ROOT.glob("*.py"), *(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))]):
        room = path.stem if path.parent == ROOT else path.relative_to(ROOT).parts[0]
        yield room, path.relative_to(ROOT), ast.parse(path.read_text("utf-8"))


def imports(tree):
    """(line, dotted name, whether inside a function) of every import."""
    lazy = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lazy |= {id(inner) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield node.lineno, name.name, id(node) in lazy
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            for name in node.names:
                yield node.lineno, f"{node.module}.{name.name}", id(node) in lazy


def floor(room):
    return next((number for number, group in enumerate(GROUPS) if room in group), len(GROUPS))


def test_every_import_goes_down():
    wrong = []
    for room, path, tree in sources():
        for line, name, _ in imports(tree):
            other = name.partition(".")[0]
            if other in PACKAGES | TOP and other != room and floor(other) >= floor(room):
                wrong.append(f"{path}, line {line}: {other}")
    assert not wrong


def test_every_room_has_its_floor():
    assert set().union(*GROUPS) >= PACKAGES | PUBLIC
    assert not SCRIPTS & set().union(*GROUPS)


def test_runtime_comes_first_and_stands_alone():
    for room, path, tree in sources():
        ours = [name.partition(".")[0] for _, name, _ in imports(tree) if name.partition(".")[0] in PACKAGES | TOP]
        if room == "runtime":
            assert not ours
        elif room in SCRIPTS - UNTUNED:
            first = next(node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom))
            assert ast.unparse(first) == "import runtime", path


def test_heavy_libraries_are_imported_where_they_are_needed():
    below = {room for group in GROUPS[: floor("family") + 1] for room in group}
    for room, path, tree in sources():
        for line, name, lazy in imports(tree):
            if name.partition(".")[0] in OPTIONAL:
                assert lazy, f"{path}, line {line}: {name} at the top of a module"
                assert room not in below, f"{path}, line {line}: {name} below {', '.join(LIGHT)}"


def test_untuned_peers_are_not_set_up():
    """What benchmark.py's process for PaddleNLP, or for Hugging Face, may import on its way never leads to runtime."""
    modules = (
        "comparison.peer_process", "comparison.peers", "comparison.hugging_face_reference", "layers.configuration",
        "comparison.hugging_face_pretraining", "tasks.glue",
    )  # fmt: skip
    code = f"import sys, {', '.join(modules)}; print('runtime' in sys.modules, 'paddle' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_the_top_is_a_menu():
    assert len(TOP) <= 15
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    assert folders - {"output", "__pycache__"} == PACKAGES | {"docs", "pretrained", "samples", "tests"}


def test_a_package_s_page_says_what_it_owns_and_nothing_else():
    for name in PACKAGES:
        (docstring,) = ast.parse((ROOT / name / "__init__.py").read_text("utf-8")).body
        assert ast.literal_eval(docstring.value).strip(), name


def test_no_name_hides_a_package_that_users_import():
    taken = {*sys.stdlib_module_names, "kernels", "tokenizers", "datasets", "safetensors", "evaluate"}
    taken |= set(importlib.metadata.packages_distributions())
    assert not taken & (PACKAGES | TOP)
    assert not {path.stem for _, path, _ in sources()} & {"util", "utils", "helper", "helpers", "common", "misc"}


def test_tests_mirror_the_packages():
    tests = ROOT / "tests"
    folders = {path.name for path in tests.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders <= PACKAGES
    assert not list(tests.rglob("__init__.py"))  # with one, pytest lets tests/files stand for files
    names = [path.name for path in tests.rglob("test_*.py")]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("script", sorted(SCRIPTS | {"tokenizer"}))
def test_help_comes_before_anything_heavy(script):
    code = (
        "import runpy, sys; sys.argv = [sys.argv[1], '--help']\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end: print(end.code, {'paddle', 'paddlenlp', 'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, f"{script}.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "0 set()"


def test_the_training_scripts_share_no_six_lines():
    """What two of them need alike belongs to the packages."""
    runs = {}
    for path in ROOT.glob("run_*.py"):
        lines = [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
        for start in range(len(lines) - 5):
            runs.setdefault(tuple(lines[start : start + 6]), set()).add(path.name)
    assert not [run for run, where in runs.items() if len(where) > 1]
