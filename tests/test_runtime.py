import runtime

import math
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import ROOT


def fresh(code, **environment):
    """What `code` prints in a new process with no thread count or library switch but those given."""
    names = ("GLOG_minloglevel", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_DEBUG_CPU_TYPE", "PADDLE_LOCAL_SIZE")
    kept = {key: value for key, value in os.environ.items() if key not in names}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=kept | environment, capture_output=True, text=True, check=True
    )
    return run.stdout.strip(), run.stderr


def test_the_user_s_environment_wins():
    code = "import os, runtime, paddle; print(os.environ['GLOG_minloglevel'], os.environ['OMP_NUM_THREADS'])"
    assert fresh(code)[0] == f"2 {runtime.cores()}"
    assert fresh(code, GLOG_minloglevel="0", OMP_NUM_THREADS="1")[0] == "0 1"


def test_processes_of_one_launch_share_the_cores():
    code = "import os, runtime; print(os.environ['OMP_NUM_THREADS'])"
    assert fresh(code, PADDLE_LOCAL_SIZE="2")[0] == str(max(1, runtime.cores() // 2))
    assert fresh(code, PADDLE_LOCAL_SIZE="64")[0] == "1"


def test_paddle_is_quiet_about_the_threads_and_about_nothing_else():
    code = "import runtime, sys, paddle; print(runtime.summary()); print('own', file=sys.stderr)"
    out, err = fresh(code)
    assert out.startswith(f"{runtime.cores()} threads")
    assert err == "own\n"
    code = "import runtime, sys; sys.path.insert(0, %r); import paddle; print(paddle.found)"
    with tempfile.TemporaryDirectory() as folder:
        text = "import sys; print('careful', file=sys.stderr); print('OMP_NUM_THREADS', file=sys.stderr); found = 1"
        Path(folder, "paddle.py").write_text(text)
        assert fresh(code % folder) == ("1", "careful\n")
        Path(folder, "paddle.py").write_text("1 / 0")
        with pytest.raises(subprocess.CalledProcessError) as error:
            fresh(code % folder)
        assert "ZeroDivisionError" in error.value.stderr


def test_the_matrix_library_is_switched_on_amd_only():
    amd = {"vendor_id": "AuthenticAMD"}
    assert runtime.matrix_library_switch({**amd, "flags": "sse avx2 avx512f"}) == "7"
    assert runtime.matrix_library_switch({**amd, "flags": "sse avx2"}) == "5"
    assert runtime.matrix_library_switch({**amd, "flags": "sse"}) is None
    assert runtime.matrix_library_switch({"vendor_id": "GenuineIntel", "flags": "avx2 avx512f"}) is None
    assert runtime.matrix_library_switch({}) is None


def test_cores_are_those_of_the_affinity_mask_and_the_control_group(monkeypatch):
    everything = runtime.cores()
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    assert runtime.cores() == 1
    monkeypatch.undo()
    for cpus, expected in ((0.5, 1), (1.0, 1), (1000.0, everything), (math.inf, everything)):
        monkeypatch.setattr(runtime, "_cgroup_cpus", lambda cpus=cpus: cpus)
        assert runtime.cores() == expected


def test_memory_is_kept_on_glibc_and_harmless_elsewhere(monkeypatch):
    if platform.libc_ver()[0] == "glibc":
        assert runtime.keep_freed_memory()
    monkeypatch.setattr(runtime.ctypes, "CDLL", lambda name: object())
    assert runtime.keep_freed_memory() is False


def test_a_refused_threshold_has_a_second_way(monkeypatch):
    asked = []

    class OldGlibc:
        @staticmethod
        def mallopt(parameter, value):
            asked.append(parameter)
            return 0 if parameter == -3 else 1

    monkeypatch.setattr(runtime.ctypes, "CDLL", lambda name: OldGlibc)
    assert runtime.keep_freed_memory()
    assert -4 in asked


def test_importing_it_does_not_import_paddle():
    assert fresh("import sys, runtime; print('paddle' in sys.modules)")[0] == "False"


def test_there_is_a_core():
    assert 1 <= runtime.cores() <= (os.cpu_count() or 1)


def test_every_setting_has_its_reason():
    code = "import runtime; from training import device; device.choose_device('cpu', verbose=True)"
    lines = fresh(code, OMP_NUM_THREADS="1")[1].splitlines()
    assert lines[0].startswith("device: cpu (1 threads, ")
    assert lines[1] == "  1 threads: OMP_NUM_THREADS in the environment"
    assert len(lines) == 1 + lines[0].count(", ") + 1


def test_the_loops_get_as_many_threads_as_the_products():
    code = "import os, runtime; print(os.environ['NUMBA_NUM_THREADS'])"
    assert fresh(code)[0] == str(runtime.cores())
    assert fresh(code, OMP_NUM_THREADS="1")[0] == "1"
    assert fresh(code, OMP_NUM_THREADS="2", NUMBA_NUM_THREADS="1")[0] == "1"


@pytest.mark.parametrize("script", sorted(path.name for path in ROOT.glob("*.py") if path.stem != "modeling"))
def test_on_windows_every_script_says_what_to_do(script):
    """In one line, and before anything that only this system has can fail."""
    late = {"benchmark.py", "glue_sweep.py", "tokenizer.py"}  # these import others first, which know this system only
    code = (
        f"import runpy, sys{', subprocess, numpy, tokenizers' * (script in late)}\n"
        "sys.platform, sys.argv = 'win32', [sys.argv[1], '--overwrite']\n"
        "sys.modules['resource'] = sys.modules['fcntl'] = None\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code, script], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (line,) = done.stderr.splitlines()
    assert "Windows" in line
    assert "WSL" in line
