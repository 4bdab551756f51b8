"""ModelScope's hub, through its own package, which is no requirement: a model is downloaded once, into its cache."""

import importlib.util
import os

from files.downloads import offline, require_host
from files.errors import InputError
from files.weights import missing_files

TEXTS = ["*.json", "vocab.txt"]
WEIGHTS = ["*.safetensors"], ["pytorch_model*.bin"], ["*.pdparams"]  # the first of these that it has


def fetch(name):
    """Folder with the files of "OWNER/NAME" or "OWNER/NAME@REVISION" there. Raises InputError."""
    model, _, revision = name.partition("@")
    if model.count("/") != 1 or not all(model.split("/")):
        raise InputError(f"ms:{name}: a model on ModelScope is called ms:OWNER/NAME or ms:OWNER/NAME@REVISION")
    if not importlib.util.find_spec("modelscope"):
        raise InputError(f"ms:{name}: needs ModelScope's package: pip install modelscope")
    from modelscope import snapshot_download

    host = os.environ.get("MODELSCOPE_ENDPOINT") or os.environ.get("MODELSCOPE_DOMAIN") or "www.modelscope.cn"
    problem = "HF_HUB_OFFLINE is set" if offline() else None
    try:
        if not problem:
            require_host(host if "://" in host else f"https://{host}")
    except OSError as error:
        problem = _first_line(error)
    try:
        for weights in WEIGHTS:
            folder = snapshot_download(
                model, revision or None, allow_patterns=TEXTS + weights, local_files_only=bool(problem)
            )
            if not missing_files(folder):
                return folder
    except Exception as error:  # of any kind: what fails is another library
        raise InputError(f"ms:{name}: can't be had from ModelScope ({problem or _first_line(error)})") from None
    raise InputError(f"ms:{name}: {folder} lacks weights{f' ({problem})' if problem else ''}")


def _first_line(error):
    return str(error).partition("\n")[0][:200] or type(error).__name__
