"""Temporary copies are gone when their process is, whatever ends it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

from files.temporary import temporary_folder

HOLDS = """
import sys, time
from files.temporary import temporary_folder
with temporary_folder() as folder:
    (folder / "deep").mkdir()
    (folder / "deep/model.safetensors").write_bytes(b"weights")
    print(folder, flush=True)
    sys.stdin.read()
"""


def gone(folder):
    """Whether it is, or is soon."""
    for _ in range(1000):
        if not folder.exists():
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, None])
@pytest.mark.parametrize("whole_group", [True, False])
def test_the_folder_goes_with_the_process(tmp_path, end, whole_group):
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", HOLDS], env=environment, start_new_session=True, **pipes) as process:
        folder = Path(process.stdout.readline().strip())
        assert (folder / "deep/model.safetensors").read_bytes() == b"weights"
        assert folder.parent == tmp_path
        if end:
            (os.killpg if whole_group else os.kill)(process.pid, end)
        else:
            process.stdin.close()
        process.wait()
    assert gone(folder)
    assert not list(tmp_path.iterdir())


def test_the_folder_goes_with_the_block_and_no_process_stays():
    with temporary_folder() as folder:
        (folder / "file").write_text("a")
    assert not folder.exists()
    with pytest.raises(KeyError), temporary_folder() as folder:
        raise KeyError
    assert not folder.exists()
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            assert str(folder).encode() not in process.read_bytes()


def test_it_works_without_a_shell(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with temporary_folder() as folder:
        assert folder.is_dir()
    assert not folder.exists()


def test_a_forked_process_leaves_the_folder_alone():
    held = temporary_folder()
    folder = held.__enter__()
    child = os.fork()
    if not child:
        held.__exit__(None, None, None)
        os._exit(0)
    os.waitpid(child, 0)
    assert folder.is_dir()
    held.__exit__(None, None, None)
    assert not folder.exists()
