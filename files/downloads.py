"""Models from elsewhere: Paddle's zoo, the Hugging Face hub, downloaded once each; and what comes with this project."""

import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from files.atomic import atomic_file
from files.errors import InputError

HUB_TIMEOUT = 10  # seconds without an answer before an attempt to reach a hub is given up


def download(url, target):
    """Fetches `url` into the file `target`, whole or not at all. Raises InputError when the host can't be reached."""
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with urllib.request.urlopen(url, timeout=HUB_TIMEOUT) as answer, atomic_file(target) as file:
            shutil.copyfileobj(answer, file)
    except (OSError, urllib.error.URLError) as error:
        raise InputError(f"{url}: can't be downloaded ({error})") from None


_ZOO = "https://bj.bcebos.com/paddlenlp/models/transformers/convbert"  # Paddle's model zoo
_PUBLISHED = ("convbert-small", "convbert-medium-small", "convbert-base")


def zoo_file(name, file):
    """Path of a preset's file ("model_state.pdparams", "vocab.txt") in PaddleNLP's cache, downloaded when absent."""
    if name not in _PUBLISHED:
        raise InputError(f"{name}: neither a folder nor a published model ({', '.join(_PUBLISHED)})")
    home = os.environ.get("PPNLP_HOME") or Path.home() / ".paddlenlp"
    path = Path(home) / "models" / name / file
    if not path.is_file():
        download(f"{_ZOO}/{name}/{file}", path)
    return path


HUB_FILES = ("*.json", "vocab.txt", "*.safetensors", "pytorch_model*.bin")


def fetch(name):
    """Folder with the files of "OWNER/NAME" on the Hugging Face hub, downloaded once. Raises InputError."""
    import huggingface_hub

    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        return huggingface_hub.snapshot_download(name, allow_patterns=HUB_FILES, local_files_only=True)
    except (OSError, ValueError):
        pass  # not there yet
    try:
        urllib.request.urlopen(f"{endpoint}/api/models/{name}", timeout=HUB_TIMEOUT).close()
        return huggingface_hub.snapshot_download(name, allow_patterns=HUB_FILES, etag_timeout=HUB_TIMEOUT)
    except (OSError, ValueError) as error:
        raise InputError(f"hf:{name}: can't be had from {endpoint} ({error})") from None


SHIPPED = (
    Path(__file__).resolve().parents[1] / "pretrained" / "convbert-tiny"
)  # the weights that come with this project


def shipped(source):
    """The folder that a user means who names the model that comes with this project; any other source as it is."""
    return str(SHIPPED) if source == SHIPPED.name and not os.path.isdir(source) else source
