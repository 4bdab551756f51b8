"""SIGTERM and Ctrl-C while a script begins: its status, and no traceback or report of a crash."""

import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT


@pytest.mark.parametrize(("number", "status", "said"), [("SIGTERM", 143, ""), ("SIGINT", 130, "interrupted\n")])
@pytest.mark.parametrize("moment", [0.25, 0.45, 0.65, 0.85])
def test_a_signal_while_paddle_is_imported(tmp_path, number, status, said, moment):
    """At moments within the imports on most machines; at any other the same must come, or the default's silence."""
    command = [sys.executable, "run_glue.py", "--model_name_or_path", "convbert-tiny", "--task_name", "SST-2"]
    command += ["--data_dir", "samples", "--output_dir", str(tmp_path / "out"), "--device", "cpu"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    time.sleep(moment)
    process.send_signal(getattr(signal, number))
    error = process.communicate()[1]
    if process.returncode == -getattr(signal, number):  # Python itself was starting
        return
    assert process.returncode == status
    assert "Traceback" not in error
    assert "FatalError" not in error
    assert error.endswith(said)


@pytest.mark.parametrize(("number", "status", "said"), [("SIGTERM", 143, ""), ("SIGINT", 130, "interrupted\n")])
def test_a_signal_that_comes_amid_paddle_s_import(tmp_path, number, status, said):
    """At one known moment: right after Paddle has taken the signals for itself."""
    script = tmp_path / "probe.py"
    script.write_text(
        f"""
import os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
sys.modules["__main__"].__file__ = {str(ROOT / "run_glue.py")!r}
import runtime

class Kill:
    def find_spec(self, name, path, target=None):
        if name == "paddle.hapi":
            os.kill(os.getpid(), signal.{number})

from training.signals import end_with_status
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Kill())
with end_with_status():
    print("not reached")
"""
    )
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, env=os.environ, check=False)
    assert (run.returncode, run.stderr, run.stdout) == (status, said, "")


def test_other_programs_keep_their_handlers():
    code = "import signal, runtime, paddle; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "True\n"


def test_paddle_leaves_sigterm_alone():
    code = "import os, signal, runtime, paddle; os.kill(os.getpid(), signal.SIGTERM)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (-signal.SIGTERM, "")
