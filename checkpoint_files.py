"""Checkpoint files: every weight format is read without running code, every file is written whole or not at all.

Formats: `model.safetensors`, Paddle's `model_state.pdparams`, PyTorch's `pytorch_model.bin`; the first and the last
also in shards with an index. The two that are pickles go through `pickled_weights`, which runs nothing.
"""

import contextlib
import json
import os
import re
import shutil
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np

from pickled_weights import read_paddle_weights, read_torch_weights, to_float32


class InputError(ValueError):
    """Something the user gave can't be used. The message is one line: which file, which line, what to do."""


# ---------------------------------------------------------------------------------------------------- reading weights

WEIGHT_FILES = (  # in the order in which a folder is searched
    "model.safetensors",
    "model.safetensors.index.json",
    "model_state.pdparams",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


def find_weights(folder):
    """The weight file of a checkpoint folder as a Path. Raises InputError when there is none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"{folder}: no weights here; looked for {', '.join(WEIGHT_FILES)}")


def read_weights(path):
    """Reads the weights of a folder or file.

    Args:
        path: a checkpoint folder, or one weight file of a known format.

    Returns:
        dict: name → numpy array in the file's order; float16 and bfloat16 are up-cast to float32.

    Raises:
        InputError: no such file, a damaged file, or a pickle that asks for anything but arrays.
    """
    path = Path(path)
    if path.is_dir():
        path = find_weights(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        if path.name.endswith(".index.json"):
            return _read_shards(path)
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        if path.suffix == ".pdparams":
            return read_paddle_weights(path)
        if path.suffix == ".bin":
            return read_torch_weights(path)
    except InputError:
        raise
    except Exception as error:  # a damaged file can fail in any way; the user needs its name, not our stack
        reason = str(error).splitlines()[0] if str(error) else ""
        raise InputError(f"{path}: damaged or not a weight file ({type(error).__name__}: {reason})") from error
    raise InputError(f"{path}: unknown weight format; known are {', '.join(WEIGHT_FILES)}")


def is_hugging_face(weights):
    """Whether these are Hugging Face's names (`encoder.layer.N`) and not Paddle's (`encoder.layers.N`)."""
    return any("encoder.layer." in name for name in weights)


def _read_shards(index):
    shards = dict.fromkeys(read_json(index)["weight_map"].values())
    weights = {}
    for name in shards:
        if Path(name).name != name:
            raise InputError(f"{index}: shard {name!r} is not a plain file name")
        weights.update(read_weights(index.parent / name))
    return weights


_SAFETENSORS_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U8": "u1", "BOOL": "?",
}  # fmt: skip


def _read_safetensors(path):
    from safetensors import deserialize

    weights = {}
    for name, entry in deserialize(path.read_bytes()):
        array = np.frombuffer(entry["data"], _SAFETENSORS_DTYPES[entry["dtype"]]).reshape(entry["shape"])
        weights[name] = to_float32(array, bfloat16=entry["dtype"] == "BF16")
    return weights


# --------------------------------------------------------------------------------------------------- reading the rest


def read_json(path):
    """Parses a JSON file. Raises InputError naming the file and the line."""
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from None


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


SHIPPED = Path(__file__).with_name("pretrained") / "convbert-tiny"  # the weights that come with this project


def shipped(source):
    """The folder that a user means who names the model that comes with this project; any other source as it is."""
    return str(SHIPPED) if source == SHIPPED.name and not os.path.isdir(source) else source


# ------------------------------------------------------------------------------------------------------------ writing


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


def write_json(path, content):
    """Writes `content` as indented JSON in UTF-8, atomically."""
    with atomic_file(path) as file:
        file.write((json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def write_safetensors(path, weights, metadata_format="np"):
    """Writes name → array, atomically.

    Args:
        metadata_format: the file's word on its origin: "np" (PaddleNLP refuses "pd" and "pt"), "pt" for Hugging Face.
    """
    from safetensors.numpy import save

    with atomic_file(path) as file:
        arrays = {name: np.ascontiguousarray(array) for name, array in weights.items()}
        file.write(save(arrays, metadata={"format": metadata_format}))
