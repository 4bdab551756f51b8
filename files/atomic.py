"""Files and folders that appear under their names complete and synced, or, after an error or a kill, not at all."""

import contextlib
import os
import re
import shutil
import tempfile
from pathlib import Path


@contextlib.contextmanager
def atomic_file(path):
    """Opens a binary file that appears under its name complete and synced, or, after an error or a kill, not at all."""
    path = Path(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def atomic_folder(path):
    """Yields an empty folder beside `path` that, complete and synced, takes its place when the block succeeds.

    After a kill between its last two steps `path` is gone; clear_leftovers brings the old one back.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        yield temporary
        for written in (*temporary.rglob("*"), temporary):
            _sync(written)
        os.chmod(temporary, 0o777 & ~_umask())
        if path.exists():
            discarded = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
            os.rename(path, discarded / path.name)
            os.rename(temporary, path)
            shutil.rmtree(discarded)
        else:
            os.rename(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _sync(path):
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def clear_leftovers(folder):
    """Ends what kills left half done in `folder`: brings back what atomic_folder was replacing, removes the rest."""
    for left in sorted(Path(folder).iterdir()):
        match = re.fullmatch(r"\.(.+)\.[a-z0-9_]{8}\.(old|tmp)", left.name)
        if match and match[2] == "old" and (left / match[1]).is_dir() and not (left.parent / match[1]).exists():
            os.rename(left / match[1], left.parent / match[1])
        if match and left.is_dir():
            shutil.rmtree(left)
        elif match:
            left.unlink()
