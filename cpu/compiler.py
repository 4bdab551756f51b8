"""How the CPU loops are compiled: registered by `kernel`, taken from a cache by `load`, which sees to filling it.

A process that compiles a loop runs other machine code than one that takes it from the cache. The body of a `prange`
loop is compiled alone, and again as a part of its function: the compiling process runs the first, the cache holds the
second, which is optimised further, and sums differ in their last bits. So that every run gives the same bits, the first
one too, processes of their own fill the cache.

The cache is numba's, in a folder of its own for each state of the sources and of the libraries that compile (KEY): by
itself numba would only notice a change of the file that a kernel stands in. Folders of other states are removed, unless
a process of such a state still runs.
"""

import runtime

import collections
import contextlib
import ctypes
import fcntl
import functools
import hashlib
import importlib.util
import os
import selectors
import shutil
import subprocess
import sys
from pathlib import Path

import llvmlite
import numba
import numpy as np
from numba import config, njit, prange, types
from numba.core import caching, event, sigutils
from numba.extending import overload
from tqdm import tqdm

from cpu import calls

ROOT = Path(__file__).resolve().parents[1]
SOURCES = "compiler.py", "calls.py", "arithmetic.py", "*_kernels.py"  # of this package: all that kernels are made of
MOST_PROCESSES = 4  # that compile at once
SOON_AFTER = {"float32": ["inference-float32"]}  # version → those that a first run wants next: behind the same bar
FOLDER = "loops-"  # and KEY: a cache's name
# "nnan" and "ninf" are left out on purpose: with them a NaN would be optimised away.
FAST_MATH = {"reassoc", "contract", "arcp", "nsz", "afn"}
PARTS = 32  # partial sums over rows: enough for any machine's threads to share, few enough to be cheap
BLOCK = 2**14  # elements of one array that a thread works on at a time

F1, F2, F3, F4 = "float32[::1]", "float32[:,::1]", "float32[:,:,::1]", "float32[:,:,:,::1]"
B2, B4 = "uint16[:,::1]", "uint16[:,:,:,::1]"  # bfloat16
I1 = "int64[::1]"
DROPOUT = "uint32", "uint32", "uint32", "float32"  # operands.Dropout


def _key():
    """A name for the sources as they are, and for what compiles them."""
    versions = numba.__version__, llvmlite.__version__, np.__version__
    state = hashlib.sha256("\n".join(versions).encode())
    for path in sorted(path for pattern in SOURCES for path in Path(__file__).parent.glob(pattern)):
        state.update(path.name.encode() + path.read_bytes())
    return state.hexdigest()[:16]


KEY = _key()  # now, as the kernels are about to be imported

# version, or version-group → (Python function, numba types of its arguments)
_kernels = collections.defaultdict(list)


class Loop:
    """A compiled loop, called with arrays and numbers: kernel's types, strictly.

    Attributes:
        address: of the same as a C function, void(address of words); see calls.
    """

    def __init__(self, name, kinds, address):
        self.name, self.kinds, self.address = name, kinds, address
        self._function = ctypes.CFUNCTYPE(None, ctypes.c_int64)(address)

    def words(self, *arguments):
        """The arguments as what `address` takes; arrays may be (address, shape). Raises TypeError, see calls."""
        try:
            return calls.words_of(self.kinds, arguments)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{self.name}: {error}") from None

    def __call__(self, *arguments):
        self.call(np.array(self.words(*arguments)))

    def call(self, words):
        """words: an array of int64."""
        self._function(words.ctypes.data)


class Loops:
    """The loops of a version as attributes, each a Loop. A group's are compiled when the first of them is asked for."""

    def __init__(self, version):
        self._version = version

    def __getattr__(self, name):
        for key in [key for key in _kernels if key.startswith(f"{self._version}-")]:
            if name in {function.__name__ for function, _ in _kernels[key]}:
                vars(self).update({name: loop for name, loop in vars(load(key)).items() if isinstance(loop, Loop)})
                return vars(self)[name]
        raise AttributeError(name)


def kernel(*signature, bfloat16=None, group=""):
    """Registers a loop to be compiled for exactly these argument types.

    bfloat16: other types for a second version, whose arrays of bfloat16 are bits as uint16; the loop reads them with
    `read` and writes what `written` makes. group: the name of a few that many runs do without, and that are therefore
    compiled apart, see Loops.
    """
    return kernel_of(group, float32=signature, **({"bfloat16": bfloat16} if bfloat16 else {}))


def kernel_of(group="", **signatures):
    """The same for versions of any names: name → argument types."""

    def register(function):
        for version, signature in signatures.items():
            _kernels[f"{version}-{group}" if group else version].append((function, _kinds(signature)))
        return function

    return register


def _kinds(signature):
    return sigutils.normalize_signature(f"void({', '.join(signature)})")[0]


inline = njit(fastmath=FAST_MATH, error_model="numpy", forceinline=True)


def read(element):
    """An element of an array as float32."""


@overload(read, jit_options={"fastmath": FAST_MATH})
def _read(element):
    if element == types.uint16:
        return lambda element: np.uint32(np.uint32(element) << np.uint32(16)).view(np.float32)
    return lambda element: element


def written(array, value):
    """float32 `value` as an element of `array`: for bfloat16 rounded to the nearest, ties to even; NaN stays NaN."""


@overload(written, jit_options={"fastmath": FAST_MATH})
def _written(array, value):
    if array.dtype == types.uint16:
        return lambda array, value: _rounded(value)
    return lambda array, value: value


@inline
def _rounded(value):
    bits = np.float32(value).view(np.uint32)
    odd = np.uint32(np.uint32(bits >> np.uint32(16)) & np.uint32(1))
    upper = np.uint16(np.uint32(np.uint32(bits + np.uint32(0x7FFF)) + odd) >> np.uint32(16))
    return upper if value == value else np.uint16(0x7FC0)


@inline
def part_of(part, rows):
    """First and last + 1 of the rows that belong to one of PARTS parts."""
    return part * rows // PARTS, (part + 1) * rows // PARTS


@functools.cache
def load(version="float32"):
    """The Loops of that version (or version-group). What no cache holds is compiled first, with a progress line.

    Raises RuntimeError, ValueError or OSError where kernels can't be used: no writable folder for the cache, or no
    threading layer that bears calls from several Python threads.
    """
    try:
        with event.install_listener("numba:compile", _Refusal()):
            compiled = compile_all(version)
    except _NotCached:
        _compile_in_other_processes([version, *SOON_AFTER.get(version, ())])
        compiled = compile_all(version)  # takes them from the cache, or, had the others failed, tells why
    return compiled


def compile_all(version, part=0, parts=1, done=lambda: None):
    """The Loops of that version (or version-group) but for its groups, from the cache or compiled here.

    part, parts: which of so many parts of them; done: is called after each.
    """
    _choose_threads()
    compiled, cache = Loops(version), _cache_class(version)
    started = _compiled(njit(parallel=True)(_start), "void(float32[::1])", _cache_class("all")(_start))
    started(np.zeros(1, np.float32))  # numba's threads, or raises
    by_size = sorted(_kernels[version], key=lambda each: len(each[0].__code__.co_code), reverse=True)
    for function, kinds in by_size[part::parts]:  # so that each has large and small ones
        entry = _compiled(_entry(function, kinds), "void(int64)", cache(function))
        code = entry.overloads[(types.int64,)]
        address = code.library.get_pointer_to_function(code.fndesc.llvm_cfunc_wrapper_name)
        loop = Loop(function.__name__, kinds, address)
        loop.code = entry  # which the address is valid as long as
        setattr(compiled, function.__name__, loop)
        done()
    clear_others(started._cache.cache_path)
    return compiled


def _start(x):
    """A first loop: numba starts its threads for it."""
    for i in prange(x.size):
        x[i] = 0


def _compiled(dispatcher, signature, cache):
    dispatcher._cache = cache
    dispatcher.compile(signature)
    dispatcher.disable_compile()
    return dispatcher


def _entry(function, kinds):
    """The kernel as a function of one number, the address of its arguments' words."""
    parallel = "prange" in function.__code__.co_names
    settings = dict(error_model="numpy", nogil=True, no_cpython_wrapper=True)  # without it, a tenth faster compiled
    loop = njit(parallel=parallel, fastmath=FAST_MATH, no_cfunc_wrapper=True, **settings)(function)
    unpack = calls.unpacker(kinds)

    @njit(**settings)
    def entry(address):
        loop(*unpack(address))

    return entry


class _OwnFolder:
    """Puts a numba locator's cache into the folder of KEY below the one that it finds."""

    def get_cache_path(self):
        return os.path.join(super().get_cache_path(), f"{FOLDER}{KEY}")

    def get_source_stamp(self):
        return KEY

    def ensure_cache_path(self):
        super().ensure_cache_path()
        _hold(self.get_cache_path())


def _cache_class(version):
    """numba's cache of functions, which looks where numba looks: NUMBA_CACHE_DIR, beside the sources, the user's."""

    def name(self, fullname, flags):
        return f"{caching.CompileResultCacheImpl.get_filename_base(self, fullname, flags)}-{version}"

    places = [type(place.__name__, (_OwnFolder, place), {}) for place in caching.CacheImpl._locator_classes]
    parts = {"_locator_classes": places, "get_filename_base": name}
    results = type("Results", (caching.CompileResultCacheImpl,), parts)
    return type("Cache", (caching.FunctionCache,), {"_impl_class": results})


_held = {}  # folder → open file


def _hold(folder):
    """Keeps others from clearing a folder as long as this process lives."""
    while folder not in _held:
        os.makedirs(folder, exist_ok=True)
        file = open(os.path.join(folder, "in_use"), "a")  # noqa: SIM115  (its lock lasts as long as it is open)
        with contextlib.suppress(OSError):  # a file system without locks: nothing is cleared there
            fcntl.flock(file, fcntl.LOCK_SH)
        with contextlib.suppress(FileNotFoundError):  # cleared in between: once more
            if os.path.samestat(os.fstat(file.fileno()), os.stat(file.name)):
                _held[folder] = file


def clear_others(folder):
    """Removes the caches beside `folder` that no process uses."""
    for other in Path(folder).parent.glob(f"{FOLDER}*"):
        if other.name != Path(folder).name:
            with contextlib.suppress(OSError), open(other / "in_use", "a") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(other, ignore_errors=True)


class _NotCached(Exception):
    """The cache lacks a kernel."""


class _Refusal(event.Listener):
    """Stops numba when, not having found a function in the cache, it sets out to compile it."""

    def on_start(self, _):
        raise _NotCached

    def on_end(self, _):
        pass


def _compile_in_other_processes(versions):
    """Fills the cache, in as many processes as there are cores, up to MOST_PROCESSES, behind one progress bar."""
    kernels = [kernel for version in versions for kernel in _kernels[version]]
    modules = ", ".join(sorted({function.__module__ for function, _ in kernels}))
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); sys.path.insert(0, sys.argv[1]); "
        f"import {modules}; from cpu import compiler; "
        "part, parts, *versions = sys.argv[2:]; dot = lambda: print(end='.', flush=True); "
        "[compiler.compile_all(version, int(part), int(parts), dot) for version in versions]"
    )
    count = min(runtime.cores(), MOST_PROCESSES, len(kernels))
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as pipes:
        bar = stack.enter_context(
            tqdm(total=len(kernels), desc="compiling CPU loops, once", delay=2, leave=False, file=sys.stderr)
        )
        for part in range(count):
            command = [sys.executable, "-c", code, ROOT, str(part), str(count), *versions]
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
            stack.callback(process.kill)  # where this one is interrupted
            pipes.register(process.stdout, selectors.EVENT_READ)
        while pipes.get_map():
            for ready, _ in pipes.select():
                dots = os.read(ready.fd, 2**10)
                bar.update(len(dots))
                if not dots:
                    pipes.unregister(ready.fileobj)


def _choose_threads():
    """One pool of threads for the matrix products and the loops, where that is possible.

    Paddle's matrix library keeps its OpenMP threads spinning for a while after a product, in the way of any other pool.
    numba's "omp" layer asks for GNU's OpenMP; with Paddle's libiomp5 in the global namespace it gets that one.
    """
    if config.THREADING_LAYER == "workqueue":
        raise RuntimeError("numba's workqueue threads abort when two Python threads use them")
    if config.THREADING_LAYER != "default":
        return
    paddle = Path(importlib.util.find_spec("paddle").origin).parent
    library = paddle / "libs" / "libiomp5.so"
    config.THREADING_LAYER = "threadsafe"  # tbb or omp
    if library.exists():
        ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
        config.THREADING_LAYER = "omp"
