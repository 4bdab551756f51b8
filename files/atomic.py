"""Files and folders that appear under their names complete and synced, or, after an error or a kill, not at all."""

import contextlib
import os
import re
import shutil
import sys
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


_LEFT = re.compile(r"\.(.+)\.[a-z0-9_]{8}\.(old|tmp)")


def is_leftover(path):
    """Whether a path has a name that only what is being written here has, or a lock on that."""
    return _LEFT.fullmatch(path.name) is not None or re.fullmatch(r"\..+\.lock", path.name) is not None


def clear_leftovers(folder):
    """Ends what kills left half done in `folder`: brings back what atomic_folder was replacing, removes the rest.

    What a process that is alive makes there under a lock stays.
    """
    for name in sorted({match[1] for path in Path(folder).iterdir() if (match := _LEFT.fullmatch(path.name))}):
        with locked(Path(folder) / name, wait=False):
            pass


@contextlib.contextmanager
def locked(path, wait=True):
    """Only one process at a time is in this block for `path`, which it finds without what killed ones left half done.

    The lock, on `.NAME.lock` beside it, ends with the process, whatever ends that. Yields whether it was had, which it
    always is if others are waited for.
    """
    import fcntl

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.parent / f".{path.name}.lock"
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                os.close(handle)
                yield False
                return
            print(f"{path}: another process is making it; waiting", file=sys.stderr)
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            break
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), lock.stat()):
                break
        os.close(handle)  # that of one who is done and has removed it
    try:
        _clear(path)
        yield True
    finally:
        lock.unlink(missing_ok=True)
        os.close(handle)


def _clear(path):
    for left in sorted(path.parent.iterdir()):
        match = _LEFT.fullmatch(left.name)
        if not match or match[1] != path.name:
            continue
        if match[2] == "old" and (left / path.name).is_dir() and not path.exists():
            os.rename(left / path.name, path)
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink()
