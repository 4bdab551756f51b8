"""How the CPU loops are compiled: registered by `kernel`, compiled or taken from numba's cache by `load`.

numba's cache notices a change of the file that a kernel is written in, not of another one that it uses: after changing
`part_of` or a constant here, `make clean`.
"""

import ctypes
import functools
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import paddle
from numba import config, njit
from tqdm import tqdm

# "nnan" and "ninf" are left out on purpose: with them a NaN would be optimised away.
FAST_MATH = {"reassoc", "contract", "arcp", "nsz", "afn"}
PARTS = 32  # partial sums over rows: enough for any machine's threads to share, few enough to be cheap

F1, F2, F3, F4 = "float32[::1]", "float32[:,::1]", "float32[:,:,::1]", "float32[:,:,:,::1]"
I1 = "int64[::1]"
DROPOUT = "uint32", "uint32", "uint32", "float32"  # cpu_functions.Dropout

_kernels = []  # of (Python function, numba signature)


def kernel(*types):
    """Registers a loop to be compiled for exactly these argument types."""

    def register(function):
        _kernels.append((function, f"void({', '.join(types)})"))
        return function

    return register


inline = njit(fastmath=FAST_MATH, error_model="numpy")


@inline
def part_of(part, rows):
    """First and last + 1 of the rows that belong to one of PARTS parts."""
    return part * rows // PARTS, (part + 1) * rows // PARTS


def load():
    """The compiled kernels as attributes. What no cache holds is compiled, with a progress line on stderr.

    Raises RuntimeError, ValueError or OSError where kernels can't be used: no writable folder for the cache, or no
    threading layer that bears calls from several Python threads.
    """
    _choose_threads()
    compiled = SimpleNamespace()
    compile_for = functools.partial(
        njit, parallel=True, cache=True, fastmath=FAST_MATH, error_model="numpy", nogil=True
    )
    for function, signature in tqdm(_kernels, "compiling CPU loops, once", delay=2, leave=False, file=sys.stderr):
        setattr(compiled, function.__name__, compile_for(signature)(function))
    compiled.add_bias(np.zeros((1, 1), np.float32), np.zeros(1, np.float32))  # starts the threads, or raises
    return compiled


def _choose_threads():
    """One pool of threads for the matrix products and the loops, where that is possible.

    Paddle's matrix library keeps its OpenMP threads spinning for a while after a product, in the way of any other pool.
    numba's "omp" layer asks for GNU's OpenMP; with Paddle's libiomp5 in the global namespace it gets that one.
    """
    if config.THREADING_LAYER == "workqueue":
        raise RuntimeError("numba's workqueue threads abort when two Python threads use them")
    if config.THREADING_LAYER != "default":
        return
    library = Path(paddle.__file__).parent / "libs" / "libiomp5.so"
    config.THREADING_LAYER = "threadsafe"  # tbb or omp
    if library.exists():
        ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
        config.THREADING_LAYER = "omp"
