"""Whether a computation runs as compiled loops on the CPU, and those loops: the choice between the two paths.

Every function of the layers has a plain Paddle definition, which says what it means and runs on GPUs, XPUs and in
static programs. On a CPU the large ones run as the package `cpu` instead: the same numbers, several times faster.
CONVBERT_KERNELS=paddle in the environment forces the definitions.
"""

import contextlib
import functools
import logging
import os

import paddle

from cpu import onednn, products
from cpu.machine import has_bfloat16
from files.errors import InputError

logger = logging.getLogger("convbert")


def on_fast_path(*tensors):
    """Whether a call with these floating tensors can run as compiled loops on the CPU."""
    return (
        paddle.in_dynamic_mode()
        and paddle.get_device() == "cpu"
        and all(t.dtype == paddle.float32 and t.place.is_cpu_place() and 0 not in t.shape for t in tensors)
        and kernels_wanted()
        and compiled() is not None
    )


def kernels_wanted():
    """What CONVBERT_KERNELS says: auto (the default) or paddle."""
    wish = os.environ.get("CONVBERT_KERNELS") or "auto"
    if wish not in ("auto", "paddle"):
        raise InputError(f"CONVBERT_KERNELS={wish}: must be auto or paddle")
    return wish == "auto"


@functools.cache
def compiled():
    """The package `cpu` with its loops compiled; None, and one warning, where it can't be used.

    Raises InputError: CONVBERT_PRODUCTS is none of its values.
    """
    products.forced()
    try:
        import cpu.functions
        import cpu.inference
        import cpu.language_model
        import cpu.mixed_attention
        import cpu.optimizer
        import cpu.self_attention
    except (ImportError, RuntimeError, ValueError, OSError) as problem:
        logger.warning("slower: compiled CPU loops can't be used here (%s)", problem)
        return None
    return cpu


def loaded():
    """Whether this process has computed, or could at once compute, with compiled loops."""
    return bool(compiled.cache_info().currsize and compiled())


def product_library():
    """The library of float32 products beside compiled loops, of products.WAYS; None where none are loaded."""
    return products.choice() if loaded() else None


@contextlib.contextmanager
def bfloat16(operands=None):
    """A context in which the fast path's products work in bfloat16: forward, and the backward of what ran in it.

    A weight is converted once, when it is first used: after an optimizer's step open another one.

    Args:
        operands: weights that were converted already, of `bfloat16_operands`; who changes weights sees to these too.

    Raises:
        InputError: that is impossible here.
    """
    operands = operands or bfloat16_operands()
    precision = compiled().operands.precision
    token = precision.set(operands)
    try:
        yield
    finally:
        precision.reset(token)


def bfloat16_operands():
    """An operands.Bfloat16, which keeps the weights that are converted. Raises InputError, see bfloat16."""
    if reason := bfloat16_obstacle():
        raise InputError(f"bfloat16 on a CPU: {reason}")
    return compiled().operands.Bfloat16()


def bfloat16_obstacle():
    """Why `bfloat16` can't be opened here; None if it can."""
    if not has_bfloat16():
        return "this processor has no instructions for it (avx512_bf16 or amx_bf16)"
    return short_products_obstacle()


def short_products_obstacle():
    """Why, whatever the processor has, products can't be of other numbers than float32; None if they can."""
    if not kernels_wanted():
        return "CONVBERT_KERNELS=paddle has none"
    if compiled() is None:
        return "it needs the compiled loops"
    try:
        onednn.load()
    except OSError as error:
        return str(error)
    return None
