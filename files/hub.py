"""The Hugging Face hub: a model, or files of a dataset, downloaded once each.

They lie in the cache of Hugging Face's libraries, and what these put there is found. HF_TOKEN, HF_ENDPOINT,
HF_HUB_CACHE and HF_HUB_OFFLINE are respected. What lies there cut off is fetched again.
"""

import contextlib
import fnmatch
import http.client
import json
import os
import re
import sys
import urllib.parse
from pathlib import Path
from typing import NamedTuple

from files.atomic import atomic_file
from files.downloads import checksum_of, download, offline, open_url, reason_of
from files.errors import InputError
from files.weights import WEIGHT_FILES, missing_files, require_whole, shards_of

VOCABULARY = "vocab.txt or tokenizer.json"


class Repository(NamedTuple):
    """A model or a dataset on the hub."""

    kind: str  # "models" or "datasets"
    name: str  # OWNER/NAME
    revision: str = "main"

    def root(self):
        """Where it lies in the cache."""
        if folder := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
            cache = Path(folder).expanduser()
        else:
            home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
            cache = Path(os.environ.get("HF_HOME") or f"{home}/huggingface").expanduser() / "hub"
        return cache / f"{self.kind}--{self.name.replace('/', '--')}"

    def snapshot(self):
        """Its folder in the cache, or None."""
        commit = self.revision
        with contextlib.suppress(OSError):
            commit = (self.root() / "refs" / self.revision).read_text().strip()
        folder = self.root() / "snapshots" / commit
        return folder if folder.is_dir() else None

    def about(self):
        revision = urllib.parse.quote(self.revision, safe="")
        return f"{endpoint()}/api/{self.kind}/{self.name}/revision/{revision}?blobs=true"

    def page(self):
        return f"{endpoint()}/{'' if self.kind == 'models' else 'datasets/'}{self.name}"


def endpoint():
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


# ---------------------------------------------------------------------------------------------------------- what is had


def fetch(name):
    """Folder with the files of the model "OWNER/NAME" or "OWNER/NAME@REVISION".

    Of the formats of its weights one is fetched, the first of WEIGHT_FILES that it has. Raises InputError.
    """
    model, _, revision = name.partition("@")
    repository = Repository("models", model, revision or "main")
    plain = re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model) and re.fullmatch(r"[\w./-]+", repository.revision)
    if not plain or ".." in name:
        raise InputError(f"hf:{name}: a model on the hub is called hf:OWNER/NAME or hf:OWNER/NAME@REVISION")
    folder = repository.snapshot()
    missing = _missing(folder) if folder else []
    if folder and not missing:
        return str(folder)
    try:
        return str(_fetch_snapshot(repository, _model_files))
    except (OSError, ValueError, http.client.HTTPException) as error:
        if missing == [VOCABULARY]:
            print(f"hf:{name}: no {VOCABULARY} in {folder}, nor from {endpoint()}", file=sys.stderr)
            return str(folder)
        there = f"; {folder} lacks {', '.join(missing)}" if missing else ""
        raise InputError(f"hf:{name}: {_why_not(error, repository)}{there}") from None


def _model_files(listed, get):
    """Gets what belongs to a model. listed: names; get: name → path."""
    weights = next((name for name in WEIGHT_FILES if name in listed), None)
    for name in sorted(listed):
        if name == "vocab.txt" or (re.fullmatch(r"[^/\\]+\.json", name) and name not in WEIGHT_FILES):
            get(name)
    if weights:  # the last, so that a folder with weights has the rest
        shards = shards_of(get(weights)) if weights.endswith(".index.json") else []
        for name in shards or [weights]:
            get(name)


def fetch_data(name, pattern):
    """The files of the dataset "OWNER/NAME" whose names fit `pattern`, paths in their order; there is at least one.

    Of names that end in -00000-of-00002 and a suffix all parts are had. Raises InputError.
    """
    repository = Repository("datasets", name)
    if found := _parts(repository.snapshot(), pattern):
        return found

    def get_parts(listed, get):
        for file in sorted(fnmatch.filter(listed, pattern)):
            get(file)

    try:
        found = _parts(_fetch_snapshot(repository, get_parts), pattern)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise InputError(f"{name}: {_why_not(error, repository)}") from None
    if not found:
        raise InputError(f"{repository.page()} has no {pattern}, or not all of its parts")
    return found


def _parts(folder, pattern):
    """The files in a folder of the cache that fit, [] where some are missing or damaged."""
    found = sorted(folder.glob(pattern)) if folder else []
    stated = re.search(r"-of-(\d+)\.\w+$", found[0].name) if found else None
    complete = not stated or len(found) == int(stated[1])
    return found if complete and all(_whole(path) for path in found) else []


def _why_not(error, repository):
    status = getattr(error, "code", None)
    what, page = repository.kind.removesuffix("s"), repository.page()
    advice = ""
    if status == 401:
        advice = f": no such {what}, or a private one, for which HF_TOKEN is {'wrong' if _token() else 'not set'}"
    elif status == 403:
        advice = f": not open to everybody; ask for access at {page} and set HF_TOKEN"
    elif status == 404:
        advice = f": no such {what}, or it has no revision {repository.revision}"
    return f"can't be had from {endpoint()} ({reason_of(error)}{advice})"


def _token():
    import huggingface_hub

    return huggingface_hub.get_token()  # HF_TOKEN, or what its login stored


# ------------------------------------------------------------------------------------------------------------ the cache


def _missing(folder):
    """What a model's folder of the cache lacks, with what is cut off."""
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
            return not checksum or checksum_of(file, checksum) == checksum
    except InputError:
        return False


def _is_listed(entry):
    """Whether a hub's word on a file has the types that it should have; all but its name may be absent or null."""
    lfs = entry.get("lfs")
    if not isinstance(entry["rfilename"], str) or not isinstance(lfs, dict | None):
        return False
    sizes, checksums = (entry.get("size"), (lfs or {}).get("size")), (entry.get("blobId"), (lfs or {}).get("sha256"))
    return all(isinstance(size, int | None) for size in sizes) and all(isinstance(c, str | None) for c in checksums)


def _listing(repository, token):
    """Commit, and file's name → the hub's word on it."""
    about = repository.about()
    with open_url(about, token) as answer:
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
    return commit, listed


def _fetch_snapshot(repository, choose):
    """Fetches what is missing of a repository; choose(names, get) calls get(name) for each file that is wanted."""
    if offline():
        raise OSError("HF_HUB_OFFLINE is set")
    token, root = _token(), repository.root()
    commit, listed = _listing(repository, token)
    folder = root / "snapshots" / commit
    folder.mkdir(parents=True, exist_ok=True)

    def get(name):
        """Puts one file into the folder: as a link to a blob that is named by its checksum, if one is stated."""
        path = folder / name
        if folder.resolve() not in (path.parent.resolve(), *path.parent.resolve().parents):
            raise InputError(f"{repository.page()}: names a file {name!r}, which would lie elsewhere")
        entry = listed.get(name, {})
        lfs = entry.get("lfs") or {}
        size, checksum = lfs.get("size", entry.get("size")), lfs.get("sha256") or entry.get("blobId")
        if checksum and not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", checksum):
            checksum = None
        if _whole(path, size, checksum) and (size or checksum or path.is_symlink() or not name.endswith(".txt")):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        blob = root / "blobs" / checksum if checksum else path
        if not _whole(blob, size, checksum):
            url = f"{repository.page()}/resolve/{commit}/{urllib.parse.quote(name)}"
            download(url, blob, token, size, checksum, name)
        if blob != path:
            link = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            link.unlink(missing_ok=True)
            link.symlink_to(os.path.relpath(blob, path.parent))
            os.replace(link, path)
        return path

    choose(listed, get)
    if repository.revision != commit:
        (root / "refs" / repository.revision).parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(root / "refs" / repository.revision) as file:
            file.write(commit.encode())
    return folder
