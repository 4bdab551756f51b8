"""One file from elsewhere, Paddle's model zoo, and what comes with this project. (The Hugging Face hub: `hub`.)

What is downloaded appears under its name whole, checked by the length and checksum that its source states and by its
own format. What lies in a cache is checked too, and fetched again when it is cut off.
"""

import contextlib
import hashlib
import http.client
import os
import queue
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from files.atomic import atomic_file
from files.errors import InputError
from files.weights import require_whole

HUB_TIMEOUT = 10  # seconds without an answer before an attempt to reach a hub is given up
LARGE = 20e6  # bytes; the download of more is said


# ------------------------------------------------------------------------------------------------------ one file


class _Redirects(urllib.request.HTTPRedirectHandler):
    """The token goes on within its host, and to no other."""

    def redirect_request(self, request, *answer):
        new = super().redirect_request(request, *answer)
        if new and urllib.parse.urlsplit(new.full_url)[:2] == urllib.parse.urlsplit(request.full_url)[:2]:
            new.unredirected_hdrs.update(request.unredirected_hdrs)
        return new


def open_url(url, token=None):
    """The answer to GET, which has to begin within HUB_TIMEOUT; its body may not pause for longer. Raises OSError."""
    request = urllib.request.Request(url, headers={"User-Agent": "convbert"})
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    answers = queue.SimpleQueue()

    def ask():
        try:
            answers.put(urllib.request.build_opener(_Redirects).open(request, timeout=HUB_TIMEOUT))
        except Exception as error:  # any, for the thread that waits
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()  # looking up a host's name knows no timeout
    try:
        answer = answers.get(timeout=HUB_TIMEOUT)
    except queue.Empty:
        raise TimeoutError("timed out") from None
    if isinstance(answer, http.client.HTTPException):
        raise OSError(f"no HTTP: {answer!r}")
    if isinstance(answer, Exception):
        raise answer
    return answer


def require_host(url):
    """Raises OSError when nobody answers at `url`. Any answer will do, "not allowed" and "no such file" too."""
    with contextlib.suppress(urllib.error.HTTPError):
        open_url(url).close()


def offline():
    """Whether the environment forbids to ask a hub."""
    setting = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return setting.upper() in ("1", "ON", "YES", "TRUE")


def download(url, target, token=None, size=None, checksum=None, name=None):
    """Fetches `url` into the file `target`, whole and checked, or not at all.

    Args:
        token: for the host of `url`.
        size: in bytes, and
        checksum: a SHA-256 or the SHA-1 of a git blob, as the source states them.
        name: tells the file's format; left out, `target` does.

    Raises:
        InputError: the host can't be reached, or sends something else.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open_url(url, token) as answer, atomic_file(target) as file:
            _receive(url, answer, file, size)
            file.flush()
            with os.fdopen(os.dup(file.fileno()), "rb") as written:
                require_whole(written, name or target.name)
                if checksum and checksum_of(written, checksum) != checksum:
                    raise InputError(f"its checksum is not the stated one, {checksum}")
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise InputError(f"{url}: can't be downloaded ({reason_of(error)})") from None


def _receive(url, answer, file, size):
    length = answer.headers.get("Content-Length", size)
    if length is not None and int(length) > LARGE:
        print(f"downloading {url} ({int(length) / 1e6:.0f} MB)", file=sys.stderr)
    received = 0
    while piece := answer.read(1 << 20):
        file.write(piece)
        received += len(piece)
    for stated in (length, size):
        if stated is not None and received != int(stated):
            raise InputError(f"cut off: {received:,} of {int(stated):,} bytes came")


def checksum_of(file, like):
    """Of an open file, in the kind of the checksum `like`: SHA-256, or the shorter SHA-1 of git."""
    digest = hashlib.sha256()
    if len(like) == 40:
        digest = hashlib.sha1(f"blob {os.fstat(file.fileno()).st_size}\0".encode())
    file.seek(0)
    while piece := file.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest()


def reason_of(error):
    return str(error).splitlines()[0] if str(error) else type(error).__name__


# ------------------------------------------------------------------------------------------------------------ the zoo

_ZOO = "https://bj.bcebos.com/paddlenlp/models/transformers/convbert"  # Paddle's model zoo
VOCABULARY_SIZE = 30522  # of each of these
_PUBLISHED = ("convbert-small", "convbert-medium-small", "convbert-base")


def zoo_file(name, file, url=None):
    """Path of a model's file ("model_state.pdparams", "vocab.txt") in PaddleNLP's cache, downloaded when absent.

    url: where it is; left out, `name` is one of ConvBERT's published ones.
    """
    if not url and name not in _PUBLISHED:
        raise InputError(f"{name}: neither a folder nor a published model ({', '.join(_PUBLISHED)})")
    home = os.environ.get("PPNLP_HOME") or Path.home() / ".paddlenlp"
    path, url = Path(home) / "models" / name / file, url or f"{_ZOO}/{name}/{file}"
    if not path.is_file() and (own := path.with_name(url.rpartition("/")[2])).is_file():
        path = own  # PaddleNLP keeps some vocabularies by the name of their address
    length = path.with_name(f".{path.name}.length")  # of a file that was compared with the zoo's
    found = f"{path}: " if path.is_file() else ""
    if found:
        problem = _zoo_problem(path, url, length, VOCABULARY_SIZE if name in _PUBLISHED else None)
        if not problem:
            return path
        found += f"{problem}; "
    try:
        download(url, path)
    except InputError as error:
        raise InputError(f"{found}{error}") from None
    if found:
        print(f"{found}fetched again", file=sys.stderr)
    _note(length, path.stat().st_size)
    return path


def _note(path, size):
    with contextlib.suppress(OSError):  # a cache that can only be read
        path.write_text(f"{size}\n")


def _zoo_problem(path, url, length, lines):
    """What is wrong with a cached file, or None. One that PaddleNLP left is compared with the zoo's once.

    lines: how many a vocabulary has, if that is known.
    """
    size = path.stat().st_size
    try:
        with open(path, "rb") as file:
            require_whole(file, path.name)
            file.seek(-min(size, 1), os.SEEK_END)
            ends_well = path.suffix != ".txt" or file.read() == b"\n"
    except InputError as error:
        return reason_of(error)
    try:
        stated = int(length.read_text())
    except (OSError, ValueError):
        stated = None
        if not offline():
            with contextlib.suppress(OSError, ValueError), open_url(url) as answer:
                stated = int(answer.headers["Content-Length"] or size)
                if stated == size:
                    _note(length, size)
    if stated is None and lines and path.suffix == ".txt":
        found = len(path.read_bytes().splitlines())
        if found != lines or not ends_well:
            words = f"{found:,} lines where {lines:,} belong" if ends_well else "its last line has no end"
            print(f"{path}: {words}; it may be cut off: remove it to have it fetched again", file=sys.stderr)
    return None if stated in (None, size) else f"cut off or damaged: {size:,} of {stated:,} bytes"


# ---------------------------------------------------------------------------------------- what comes with this project

SHIPPED = (
    Path(__file__).resolve().parents[1] / "pretrained" / "convbert-tiny"
)  # the weights that come with this project


def shipped(source):
    """The folder that a user means who names the model that comes with this project; any other source as it is."""
    return str(SHIPPED) if str(source) == SHIPPED.name and not os.path.isdir(source) else source
