"""The matrix products between the compiled loops: float32 by Paddle's matrix library or oneDNN, bfloat16 by oneDNN.

Results are float32, with float32 accumulation, unless asked for otherwise. The two libraries round differently.
CONVBERT_PRODUCTS=paddle or onednn in the environment forces one of them for float32; else a race decides, once in a
process, or what a run that goes on was begun with.
"""

import contextlib
import ctypes
import functools
import logging
import math
import os
import time
from pathlib import Path

import paddle

from cpu import onednn
from cpu.onednn import BFLOAT16, FLOAT32, Matrix
from files.errors import InputError

logger = logging.getLogger("convbert")

WAYS = "paddle", "onednn"
TYPES = {paddle.float32: FLOAT32, paddle.bfloat16: BFLOAT16}
MARGIN = 1.5  # times that oneDNN must be faster to get float32 products; on one thread the race is repeatable to 1 %
LONGEST_SUM = 384  # terms of float32 products that oneDNN adds up at once: it rounds twice as much as Paddle's
TRIALS, TRIAL_SIZE = 40, 192  # products, each shorter than a scheduler's slice: under load too, some are undisturbed


_chosen = None  # of WAYS


def choice():
    """The library of float32 products in this process, of WAYS. Raises InputError: see forced."""
    global _chosen
    if _chosen is None:
        _chosen = forced() or _faster()
    return _chosen


def choose(name):
    """Takes the library that a run was begun with, unless the environment forces another one. Returns which it is now.

    Warns where that is another one: the run's numbers change in their last bits. Raises InputError: see forced.
    """
    global _chosen
    _chosen, reason = name, None
    if forced() not in (None, name):
        _chosen, reason = forced(), "CONVBERT_PRODUCTS forces that"
    elif name == "onednn" and (why := obstacle()):
        _chosen, reason = "paddle", why
    if reason:
        logger.warning("products by %s, until now by %s, which rounds differently (%s)", _chosen, name, reason)
    return _chosen


def forced():
    """What CONVBERT_PRODUCTS forces, of WAYS; None: nothing. Raises InputError: that is unknown, or impossible here."""
    wish = os.environ.get("CONVBERT_PRODUCTS") or "auto"
    if wish not in (*WAYS, "auto"):
        raise InputError(f"CONVBERT_PRODUCTS={wish}: must be paddle, onednn or auto")
    if wish == "onednn" and (why := obstacle()):
        raise InputError(f"CONVBERT_PRODUCTS=onednn: {why}")
    return None if wish == "auto" else wish


def obstacle():
    """Why oneDNN can't be used here; None if it can."""
    try:
        onednn.load()
    except OSError as error:
        return str(error)
    return None


def _faster():
    """oneDNN where Paddle's own library is far slower, as an old MKL can be on AMD.

    The answer should not change from run to run, nor with what else the machine does: the race is on one thread, and
    not won by the one whose two threads happened to run at the same time.
    """
    if obstacle():
        return "paddle"
    library = onednn.load()
    a, b, out = paddle.ones([TRIAL_SIZE] * 2), paddle.ones([TRIAL_SIZE] * 2), paddle.empty([TRIAL_SIZE] * 2)
    ways = {"paddle": lambda: paddle.matmul(a, b), "onednn": lambda: library.matmul(*map(matrix, (a, b, out)))}
    shortest = dict.fromkeys(ways, math.inf)
    with _one_thread():
        for _ in range(TRIALS):
            for name, multiply in ways.items():
                started = time.perf_counter()
                multiply()
                shortest[name] = min(shortest[name], time.perf_counter() - started)
    return "onednn" if shortest["paddle"] > MARGIN * shortest["onednn"] else "paddle"


@contextlib.contextmanager
def _one_thread():
    """Both libraries use one thread; where Paddle brings no libiomp5, as many as ever."""
    path = Path(paddle.__file__).parent / "libs" / "libiomp5.so"
    if not path.exists():
        yield
        return
    openmp = ctypes.CDLL(str(path))
    before = openmp.omp_get_max_threads()
    openmp.omp_set_num_threads(1)
    try:
        yield
    finally:
        openmp.omp_set_num_threads(before)


@functools.cache
def sgemm():
    """The address of cblas_sgemm in a library that comes with Paddle: float32 products from compiled code.

    Raises OSError: there is none.
    """
    libraries = Path(paddle.__file__).parent / "libs"
    for name in ("libmklml_intel.so", "libmklml.dylib", "mklml.dll", "libopenblas.so", "openblas.dll"):
        if (libraries / name).exists():
            return ctypes.cast(ctypes.CDLL(str(libraries / name)).cblas_sgemm, ctypes.c_void_p).value
    raise OSError("no matrix library with cblas_sgemm comes with this Paddle")


def matrix(tensor):
    """A contiguous tensor [M, K] or [..., M, K] as one Matrix or a batch of them."""
    *batch, rows, columns = tensor.shape
    if not batch:
        return Matrix(tensor.data_ptr(), TYPES[tensor.dtype], (rows, columns), (columns, 1))
    size = rows * columns
    return Matrix(tensor.data_ptr(), TYPES[tensor.dtype], (math.prod(batch), rows, columns), (size, columns, 1))


def _by_paddle(operand):
    return operand.dtype == paddle.float32 and choice() == "paddle"


def matmul(a, b, transpose_a=False, transpose_b=False, dtype="float32"):
    """a @ b for contiguous tensors of the same type, [M, K] or [..., M, K]; the result has `dtype`."""
    if _by_paddle(a):
        return paddle.matmul(a, b, transpose_x=transpose_a, transpose_y=transpose_b)
    rows, columns = a.shape[-1 if transpose_a else -2], b.shape[-2 if transpose_b else -1]
    out = paddle.empty([*a.shape[:-2], rows, columns], dtype)
    first, second = matrix(a), matrix(b)
    onednn.load().matmul(first.t if transpose_a else first, second.t if transpose_b else second, matrix(out))
    return out


def product(x, weight, dtype="float32"):
    """x [N, in] @ weight [in, out], or [G, in / G, out / G] for G slices: [N, out]."""
    if weight.ndim == 2 and x.shape[1] > LONGEST_SUM and x.dtype == paddle.float32 and not _by_paddle(x):
        return _long_product(x, weight)
    if weight.ndim == 2:
        return matmul(x, weight, dtype=dtype)
    if _by_paddle(x):
        return _joined(paddle.matmul(_split(x, len(weight)), weight))
    out = paddle.empty([x.shape[0], weight.shape[0] * weight.shape[2]], dtype)
    onednn.load().matmul(_groups(x, len(weight)), matrix(weight), _groups(out, len(weight)))
    return out


def _long_product(x, weight):
    """The same of two dimensions by oneDNN, its sums over equal parts of at most LONGEST_SUM."""
    (rows, inner), columns = x.shape, weight.shape[1]
    out, part = paddle.empty([rows, columns], "float32"), math.ceil(inner / math.ceil(inner / LONGEST_SUM))
    for first in range(0, inner, part):
        size = min(part, inner - first)
        a = Matrix(x.data_ptr() + 4 * first, FLOAT32, (rows, size), (inner if rows > 1 else size, 1))
        b = Matrix(weight.data_ptr() + 4 * first * columns, FLOAT32, (size, columns), (columns, 1))
        onednn.load().matmul(a, b, matrix(out), add=first > 0)
    return out


def product_backward(x, weight, d_out, dtype="float32"):
    """Gradients of x, in `dtype`, and of weight, in float32."""
    if weight.ndim == 2:
        return matmul(d_out, weight, transpose_b=True, dtype=dtype), matmul(x, d_out, transpose_a=True)
    if _by_paddle(x):
        x, d_out = _split(x, len(weight)), _split(d_out, len(weight))
        return _joined(paddle.matmul(d_out, weight, transpose_y=True)), paddle.matmul(x, d_out, transpose_x=True)
    d_x, d_weight = paddle.empty(x.shape, dtype), paddle.empty(weight.shape, "float32")
    d_outs = _groups(d_out, len(weight))
    onednn.load().matmul(d_outs, matrix(weight).t, _groups(d_x, len(weight)))
    onednn.load().matmul(_groups(x, len(weight)).t, d_outs, matrix(d_weight))
    return d_x, d_weight


def _groups(x, groups):
    """[N, G·I] as G matrices [N, I], where they lie."""
    rows, columns = x.shape
    return Matrix(x.data_ptr(), TYPES[x.dtype], (groups, rows, columns // groups), (columns // groups, columns, 1))


def _split(x, groups):
    """[N, G·I] → [G, N, I]."""
    return x.reshape([x.shape[0], groups, -1]).transpose([1, 0, 2])


def _joined(x):
    """[G, N, I] → [N, G·I]."""
    return x.transpose([1, 0, 2]).flatten(1).contiguous()
