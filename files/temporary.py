"""Folders for copies that nobody shall find again."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

_WATCHER = 'trap "" HUP INT TERM; read -r _; rm -rf -- "$1"'  # the read ends with the process that could write


@contextlib.contextmanager
def temporary_folder():
    """An empty folder, a Path, that is removed after the block and does not outlive the process, whatever ends that.

    A shell waits for this process to end, as nothing of it runs after SIGKILL.
    """
    owner, folder = os.getpid(), tempfile.mkdtemp(prefix="convbert-")
    quiet = dict.fromkeys(("stdout", "stderr"), subprocess.DEVNULL)
    watcher = None
    with contextlib.suppress(OSError):  # no shell
        command = ["sh", "-c", _WATCHER, "sh", folder]
        watcher = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, cwd="/", **quiet)
    try:
        yield Path(folder)
    finally:
        if os.getpid() == owner:  # and not a process that was forked from it
            shutil.rmtree(folder, ignore_errors=True)
            if watcher:
                watcher.kill()
                watcher.wait()
                watcher.stdin.close()
