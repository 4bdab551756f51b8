"""Models from elsewhere: Paddle's zoo, the Hugging Face hub, downloaded once each; and what comes with this project.

What is downloaded appears under its name whole, checked by the length and checksum that its source states and by its
own format. What lies in a cache is checked too, and fetched again when it is cut off.
"""

import contextlib
import hashlib
import http.client
import json
import os
import queue
import re
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from files.atomic import atomic_file
from files.errors import InputError
from files.weights import WEIGHT_FILES, missing_files, require_whole, shards_of

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


def _open(url, token=None):
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
        _open(url).close()


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
        with _open(url, token) as answer, atomic_file(target) as file:
            _receive(url, answer, file, size)
            file.flush()
            with os.fdopen(os.dup(file.fileno()), "rb") as written:
                require_whole(written, name or target.name)
                if checksum and _checksum(written, checksum) != checksum:
                    raise InputError(f"its checksum is not the stated one, {checksum}")
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise InputError(f"{url}: can't be downloaded ({_reason(error)})") from None


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


def _checksum(file, like):
    """Of an open file, in the kind of the checksum `like`: SHA-256, or the shorter SHA-1 of git."""
    digest = hashlib.sha256()
    if len(like) == 40:
        digest = hashlib.sha1(f"blob {os.fstat(file.fileno()).st_size}\0".encode())
    file.seek(0)
    while piece := file.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest()


def _reason(error):
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
        return _reason(error)
    try:
        stated = int(length.read_text())
    except (OSError, ValueError):
        stated = None
        if not offline():
            with contextlib.suppress(OSError, ValueError), _open(url) as answer:
                stated = int(answer.headers["Content-Length"] or size)
                if stated == size:
                    _note(length, size)
    if stated is None and lines and path.suffix == ".txt":
        found = len(path.read_bytes().splitlines())
        if found != lines or not ends_well:
            words = f"{found:,} lines where {lines:,} belong" if ends_well else "its last line has no end"
            print(f"{path}: {words}; it may be cut off: remove it to have it fetched again", file=sys.stderr)
    return None if stated in (None, size) else f"cut off or damaged: {size:,} of {stated:,} bytes"


# ------------------------------------------------------------------------------------------------------------ the hub


def offline():
    """Whether the environment forbids to ask a hub."""
    setting = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return setting.upper() in ("1", "ON", "YES", "TRUE")


def hub_cache():
    """The folder where Hugging Face's libraries keep what they download."""
    if folder := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(folder).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("HF_HOME") or f"{cache}/huggingface").expanduser() / "hub"


def fetch(name):
    """Folder with the files of "OWNER/NAME" or "OWNER/NAME@REVISION" on the Hugging Face hub, downloaded once.

    It lies in the cache of Hugging Face's libraries. Of the formats of its weights one is fetched, the first of
    WEIGHT_FILES that it has. HF_TOKEN and HF_ENDPOINT are respected. Raises InputError.
    """
    model, _, revision = name.partition("@")
    revision = revision or "main"
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model) or not re.fullmatch(r"[\w./-]+", revision) or ".." in name:
        raise InputError(f"hf:{name}: a model on the hub is called hf:OWNER/NAME or hf:OWNER/NAME@REVISION")
    endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    root = hub_cache() / f"models--{model.replace('/', '--')}"
    folder = _snapshot(root, revision)
    missing = _missing(folder) if folder else []
    if folder and not missing:
        return str(folder)
    try:
        if offline():
            raise OSError("HF_HUB_OFFLINE is set")
        return str(_fetch_snapshot(f"{endpoint}/{{}}{model}", root, revision))
    except (OSError, ValueError, http.client.HTTPException) as error:
        if missing == [VOCABULARY]:
            print(f"hf:{name}: no {VOCABULARY} in {folder}, nor from {endpoint}", file=sys.stderr)
            return str(folder)
        there = f"; {folder} lacks {', '.join(missing)}" if missing else ""
        reason = f"{_reason(error)}{_advice(error, endpoint, model, revision)}"
        raise InputError(f"hf:{name}: can't be had from {endpoint} ({reason}){there}") from None


VOCABULARY = "vocab.txt or tokenizer.json"


def _advice(error, endpoint, model, revision):
    status = getattr(error, "code", None)
    if status == 401:
        return f": no such model, or a private one, for which HF_TOKEN is {'wrong' if _token() else 'not set'}"
    if status == 403:
        return f": not open to everybody; ask for access at {endpoint}/{model} and set HF_TOKEN"
    return f": no such model, or it has no revision {revision}" if status == 404 else ""


def _token():
    import huggingface_hub

    return huggingface_hub.get_token()  # HF_TOKEN, or what its login stored


def _snapshot(root, revision):
    """The folder of a revision in the cache, or None."""
    with contextlib.suppress(OSError):
        revision = (root / "refs" / revision).read_text().strip()
    folder = root / "snapshots" / revision
    return folder if folder.is_dir() else None


def _missing(folder):
    """What a folder of the cache lacks, with what is cut off."""
    missing = [] if (folder / "config.json").exists() else ["config.json"]
    missing += missing_files(folder)
    files = [path for path in folder.iterdir() if path.suffix == ".json" or path.name == "vocab.txt"]
    missing += sorted(f"{path.name} (cut off or damaged)" for path in files if not _whole(path))
    if not any(path.name in ("vocab.txt", "tokenizer.json") for path in files):
        missing.append(VOCABULARY)
    return missing


def _whole(path, size=None, checksum=None):
    """Whether a cached file is there whole; the cache names what a link leads to by its checksum."""
    if not path.is_file() or (size is not None and path.stat().st_size != size):
        return False
    blob = path.resolve().name
    if not checksum and re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", blob):
        checksum = blob
    try:
        with open(path, "rb") as file:
            require_whole(file, path.name)
            return not checksum or _checksum(file, checksum) == checksum
    except InputError:
        return False


def _is_listed(entry):
    """Whether a hub's word on a file has the types that it should have; all but its name may be absent or null."""
    lfs = entry.get("lfs")
    if not isinstance(entry["rfilename"], str) or not isinstance(lfs, dict | None):
        return False
    sizes, checksums = (entry.get("size"), (lfs or {}).get("size")), (entry.get("blobId"), (lfs or {}).get("sha256"))
    return all(isinstance(size, int | None) for size in sizes) and all(isinstance(c, str | None) for c in checksums)


def _fetch_snapshot(address, root, revision):
    """Fetches what is missing of a revision. address: of the model, with {} where "api/models/" can stand."""
    token = _token()
    about = address.format("api/models/") + f"/revision/{urllib.parse.quote(revision, safe='')}?blobs=true"
    with _open(about, token) as answer:
        content = answer.read()
    if content.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<"):
        raise InputError(f"{about}: a web page, not the answer of a hub; a login page, or a proxy's, is in between")
    try:
        content = json.loads(content)
        commit, listed = content["sha"], {entry["rfilename"]: entry for entry in content["siblings"]}
        as_a_hub_s = re.fullmatch(r"\w+", commit) and all(_is_listed(entry) for entry in listed.values())
    except (ValueError, LookupError, TypeError):
        as_a_hub_s = False
    if not as_a_hub_s:
        raise InputError(f"{about}: not the answer of a hub")
    folder = root / "snapshots" / commit
    folder.mkdir(parents=True, exist_ok=True)

    def get(name):
        """Puts one file into the folder: as a link to a blob that is named by its checksum, if one is stated."""
        entry = listed.get(name, {})
        lfs = entry.get("lfs") or {}
        size, checksum = lfs.get("size", entry.get("size")), lfs.get("sha256") or entry.get("blobId")
        if checksum and not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", checksum):
            checksum = None
        path = folder / name
        if _whole(path, size, checksum) and (size or checksum or path.is_symlink() or not name.endswith(".txt")):
            return
        url = f"{address.format('')}/resolve/{commit}/{urllib.parse.quote(name)}"
        blob = root / "blobs" / checksum if checksum else path
        if not _whole(blob, size, checksum):
            download(url, blob, token, size, checksum, name)
        if blob != path:
            link = folder / f".{name}.{os.getpid()}.tmp"
            link.unlink(missing_ok=True)
            link.symlink_to(Path("../../blobs") / checksum)
            os.replace(link, path)

    weights = next((name for name in WEIGHT_FILES if name in listed), None)
    for name in sorted(listed):
        if name == "vocab.txt" or (re.fullmatch(r"[^/\\]+\.json", name) and name not in WEIGHT_FILES):
            get(name)
    if weights:  # the last, so that a folder with weights has the rest
        shards = []
        if weights.endswith(".index.json"):
            get(weights)
            shards = shards_of(folder / weights)
        for name in shards or [weights]:
            get(name)
    if revision != commit:
        (root / "refs" / revision).parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(root / "refs" / revision) as file:
            file.write(commit.encode())
    return folder


# ---------------------------------------------------------------------------------------- what comes with this project

SHIPPED = (
    Path(__file__).resolve().parents[1] / "pretrained" / "convbert-tiny"
)  # the weights that come with this project


def shipped(source):
    """The folder that a user means who names the model that comes with this project; any other source as it is."""
    return str(SHIPPED) if str(source) == SHIPPED.name and not os.path.isdir(source) else source
