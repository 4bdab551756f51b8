"""What must happen before Paddle starts, and the hardware it depends on. The first import of every script.

Importing it sets up the process for a CPU: threads, memory, matrix library. What the user's environment already says
stays as it is. Nothing heavy is imported: Paddle may follow or not. On Windows it ends the process with one line.
"""

import contextlib
import ctypes
import importlib.abc
import importlib.util
import math
import os
import signal
import sys
import threading
import warnings
from pathlib import Path

if sys.platform == "win32":  # files that appear whole or not at all, several processes, the compiled loops
    print("Windows is not supported; run this in WSL, the Windows Subsystem for Linux: wsl --install", file=sys.stderr)
    sys.exit(2)

# ------------------------------------------------------------------------------------------------------------- signals


def end_at_once(number, frame):
    """A handler for the time of imports, in which an exception would come out as anything."""
    if number == signal.SIGINT:
        os.write(2, b"interrupted\n")
    os._exit(128 + number)


def _is_ours():
    """Whether this process runs one of our scripts, and we are in the thread that may set handlers."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    ours = bool(file) and Path(file).resolve().parent == Path(__file__).resolve().parent
    return ours and threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def _ending_at_once():
    """In this block the signals that have a handler in Python end our scripts at once."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)} if _is_ours() else {}
    before = {number: handler for number, handler in before.items() if callable(handler)}
    for number in before:
        signal.signal(number, end_at_once)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if _is_ours() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, end_at_once)  # until flags.command_line.script takes over

# ------------------------------------------------------------------------------------------------------------ hardware


def processor():
    """The first processor's fields in /proc/cpuinfo ("vendor_id", "flags", …); empty where there is no such file."""
    try:
        first = Path("/proc/cpuinfo").read_text("utf-8").split("\n\n")[0]
    except OSError:
        return {}
    fields = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in fields}


def cores():
    """Physical cores that this process may use: those of its affinity mask, no more than its cgroup's share of time."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    siblings = set()
    for cpu in os.sched_getaffinity(0):
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        siblings.add(topology.read_text() if topology.exists() else cpu)
    return max(1, math.ceil(min(len(siblings), _cgroup_cpus())))


def _cgroup_cpus():
    """The processors' worth of time that the control group grants; infinite without a limit."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()  # version 2
        return int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError):
        folder = Path("/sys/fs/cgroup/cpu")  # version 1
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        return quota / int((folder / "cpu.cfs_period_us").read_text()) if quota > 0 else math.inf
    return math.inf


# -------------------------------------------------------------------------------------------------------------- set-up


def threads():
    """Threads for one process: the cores, shared by the processes that paddle.distributed.launch starts here."""
    return max(1, cores() // int(os.environ.get("PADDLE_LOCAL_SIZE", "1")))


def matrix_library_switch(fields):
    """MKL_DEBUG_CPU_TYPE for an AMD processor, on which Paddle's old MKL takes its slowest path; else None."""
    if fields.get("vendor_id") != "AuthenticAMD":
        return None
    flags = fields.get("flags", "").split()
    return "7" if "avx512f" in flags else "5" if "avx2" in flags else None


def keep_freed_memory():
    """Has glibc keep freed memory, so that an operator's output is no fresh page faults. Returns whether it agreed.

    On 16 MB ReLU took 6 ms without and 1.5 ms with it (2 cores, Xeon; every operator of Paddle allocates its output).
    """
    mmap_threshold, trim_threshold, mmap_max, all_of_it = -3, -1, -4, 2**31 - 1
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # not glibc
        return False
    if mallopt(mmap_threshold, all_of_it) == 1:
        return mallopt(trim_threshold, all_of_it) == 1
    return mallopt(mmap_max, 0) == 1 and mallopt(trim_threshold, all_of_it) == 1  # older glibc refuses the threshold


class _QuietImport(importlib.abc.MetaPathFinder):
    """Keeps Paddle from warning of the thread count that was set here, and from taking SIGTERM.

    Its other messages pass, and its reports of crashes.
    """

    def find_spec(self, name, path, target=None):
        if name not in ("paddle", "paddle.base.core"):
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if name == "paddle":
            sys.meta_path.insert(0, self)
        if spec is not None:
            load = spec.loader.exec_module
            change = self._load if name == "paddle" else self._load_core
            spec.loader.exec_module = lambda module: change(load, module)
        return spec

    def _load(self, load, module):
        stderr = sys.stderr
        sys.stderr = _WithoutThreadAdvice(stderr)
        try:
            with _ending_at_once():
                load(module)
        finally:
            sys.stderr = stderr

    def _load_core(self, load, module):
        load(module)
        take_signals = module.init_glog

        def init_glog(name):
            take_signals(name)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM) or signal.SIG_DFL)  # as Python knows it

        module.init_glog = init_glog


class _WithoutThreadAdvice:
    """stderr during `import paddle`. Logging handlers that are made then keep it, so it goes on to pass messages."""

    def __init__(self, stream):
        self._stream = stream
        self._skip_newline = False

    def write(self, text):
        if "OMP_NUM_THREADS" in text:
            self._skip_newline = True
        elif not (self._skip_newline and text == "\n"):
            self._skip_newline = False
            self._stream.write(text)
        return len(text)

    def __getattr__(self, name):
        return getattr(self._stream, name)


def _set_up():
    """Sets what the environment does not say. Returns what is in force and why: list of (setting, reason)."""
    os.environ.setdefault("GLOG_minloglevel", "2")  # Paddle's C++ side: errors only
    warnings.filterwarnings("ignore", message="No ccache found")  # import paddle looks for a compiler cache
    warnings.filterwarnings("ignore", message="Setuptools is replacing distutils")
    settings = []
    sys.meta_path.insert(0, _QuietImport())
    if "OMP_NUM_THREADS" in os.environ:
        reason = "OMP_NUM_THREADS in the environment"
    else:  # Paddle's own default is one thread
        os.environ["OMP_NUM_THREADS"] = str(threads())
        reason = "physical cores in the affinity mask and the control group, shared by the processes of one launch"
    count = os.environ["OMP_NUM_THREADS"]
    os.environ.setdefault("NUMBA_NUM_THREADS", count.partition(",")[0])
    settings.append((f"{count} threads", reason))
    if switch := matrix_library_switch(processor()):
        os.environ.setdefault("MKL_DEBUG_CPU_TYPE", switch)
    if "MKL_DEBUG_CPU_TYPE" in os.environ:
        reason = "keeps Paddle's matrix library from its slowest path on an AMD processor"
        settings.append((f"MKL_DEBUG_CPU_TYPE={os.environ['MKL_DEBUG_CPU_TYPE']}", reason))
    if keep_freed_memory():
        settings.append(("freed memory kept", "mallopt: else every operator's output is page faults"))
    else:
        settings.append(("freed memory returned", "no glibc, or mallopt refused"))
    return settings


FOUND = dict(os.environ)  # the environment as the user has it, for processes that are not to be set up
SETTINGS = _set_up()


def summary():
    """What was set, in a few words."""
    return ", ".join(setting for setting, _ in SETTINGS)
