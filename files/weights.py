"""Weight files of every format, read without running code.

Formats: `model.safetensors`, Paddle's `model_state.pdparams`, PyTorch's `pytorch_model.bin`; the first and the last
also in shards with an index. The two that are pickles go through `pickles`, which runs nothing.
"""

import contextlib
import ctypes
import json
import logging
import math
import mmap
import os
import pickle
import re
import struct
import zipfile
from pathlib import Path

import numpy as np

from files.atomic import atomic_file
from files.errors import InputError
from files.json_files import read_json
from files.pickles import read_paddle_weights, read_torch_weights, require_whole_torch, to_float32, torch_names
from files.stand_ins import refuse_stand_in

logger = logging.getLogger("convbert")

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
        dict: name → numpy array in the file's order; float16 and bfloat16 are up-cast to float32. The names are
        without what wrappers (DataParallel, torch.compile, Lightning) add, and LayerNorm's are today's; a line says so.

    Raises:
        InputError: no such file, a damaged file, or a pickle that asks for anything but arrays.
    """
    return with_plain_names(read_stored(path), path)


def read_stored(path):
    """The same, with the names as the file has them."""
    return _read(path, weights=True)


def read_names(path):
    """dict: name in the file → the name that read_weights gives. Reads no more of the file than its format asks for."""
    return plain_names(_read(path, weights=False))


def with_plain_names(stored, source):
    """What read_stored gave as read_weights gives it; `source` is named in the line."""
    plain = plain_names(stored)
    if other := next((name for name in stored if plain[name] != name), None):
        logger.warning("%s: names as of a wrapper or an older library: %s is read as %s", source, other, plain[other])
    return {plain[name]: array for name, array in stored.items()}


def _read(path, weights):
    path = Path(path)
    if path.is_dir():
        path = find_weights(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with open(path, "rb") as file:
            refuse_stand_in(path, file.read(1024))
        if path.name.endswith(".index.json"):
            return _read_shards(path) if weights else list(_weight_map(path))
        if path.suffix == ".safetensors":
            return (_read_safetensors if weights else _read_header)(path)
        if path.suffix == ".pdparams":
            return read_paddle_weights(path)
        if path.suffix in (".bin", ".pt", ".pth", ".ckpt"):
            return (read_torch_weights if weights else torch_names)(path)
    except InputError:
        raise
    except Exception as error:  # a damaged file can fail in any way; the user needs its name, not our stack
        raise InputError(f"{path}: damaged or not a weight file ({_reason(error)})") from error
    raise InputError(f"{path}: unknown weight format; known are {', '.join(WEIGHT_FILES)}")


def _reason(error):
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def is_hugging_face(names):
    """Whether these are Hugging Face's names (`encoder.layer.N`) and not Paddle's (`encoder.layers.N`)."""
    return any("encoder.layer." in name for name in names)


_WORDS = "embeddings.word_embeddings.weight"
_ENCODERS = re.compile(r"\b((discriminator|generator)\.)?(\w*(bert|electra|ernie|nezha|mpnet)\w*\.)?$")  # no wrappers
_WRAPPERS = re.compile(r"\b(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")  # also amid a name


_OLD = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}  # as TensorFlow calls them
_OLD_NORM = re.compile(r"\bLayerNorm\.(gamma|beta)$")


def plain_names(names):
    """dict: stored name → the name without what all share and no model has, torch.compile's, and old LayerNorms'."""
    plain = {name: _OLD_NORM.sub(lambda old: _OLD[old[0]], _WRAPPERS.sub("", name)) for name in names}
    words = next((name for name in plain.values() if name.endswith(f".{_WORDS}")), _WORDS)
    prefix = _ENCODERS.sub("", words.removesuffix(_WORDS))
    if all(name.startswith(prefix) for name in plain.values()):
        plain = {name: short.removeprefix(prefix) for name, short in plain.items()}
    return plain if len(set(plain.values())) == len(plain) else {name: name for name in names}


def in_full(name, model_type):
    """The name of an encoder's weight with the encoder's own name before it, as a bare encoder hasn't; others as is."""
    bare = name.startswith(("embeddings.", "embeddings_project.", "encoder.", "pooler."))
    return f"{model_type}.{name}" if bare else name


def missing_files(folder):
    """What a checkpoint folder lacks of its weights: names of files, among them any that is cut off."""
    folder = Path(folder)
    try:
        path = find_weights(folder)
    except InputError:
        return [f"weights ({' or '.join(WEIGHT_FILES)})"]
    files = [path.name]
    if path.name.endswith(".index.json"):
        with contextlib.suppress(InputError):
            files += shards_of(path)
    missing = []
    for name in files:
        try:
            with open(folder / name, "rb") as file:
                require_whole(file, name)
        except FileNotFoundError:
            missing.append(name)
        except InputError as error:
            missing.append(str(error))
    return missing


def require_whole(file, name):
    """Raises InputError unless an open binary file ends where its own format, told by `name`, says that it ends."""
    file.seek(0)
    refuse_stand_in(name, file.read(1024))
    file.seek(0)
    try:
        if name.endswith(".json"):
            json.load(file)
        elif name.endswith(".safetensors"):
            _parse_header(file)
        elif name.endswith(".bin"):
            require_whole_torch(file)
        elif name.endswith(".zip"):
            zipfile.ZipFile(file).close()
        elif name.endswith(".parquet"):
            ends = file.read(4)
            file.seek(-4, os.SEEK_END)
            if (ends, file.read()) != (b"PAR1", b"PAR1"):
                raise ValueError("it does not begin and end as a parquet file")
        elif name.endswith(".pdparams"):
            file.seek(-1, os.SEEK_END)
            if file.read() != pickle.STOP:
                raise ValueError("its end is missing")
    except Exception as error:
        raise InputError(f"{name}: cut off or damaged ({_reason(error)})") from None


def _read_shards(index):
    weights = {}
    for name in shards_of(index):
        weights.update(read_stored(index.parent / name))
    return weights


def shards_of(index):
    """The names of the files that an index is of. Raises InputError."""
    return list(dict.fromkeys(_weight_map(index).values()))


def _weight_map(index):
    content = read_json(index)
    shards = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(shards, dict):
        raise InputError(f"{index}: no index of weights: it has no weight_map")
    for name in shards.values():
        if not isinstance(name, str) or name in ("", "..") or "\0" in name or Path(name).name != name:
            raise InputError(f"{index}: shard {name!r} is not a plain file name")
        if name.endswith(".index.json"):
            which = "itself" if name == index.name else f"another index, {name},"
            raise InputError(f"{index}: names {which} as a shard")
    return shards


_SAFETENSORS_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U8": "u1", "U16": "<u2", "U32": "<u4", "U64": "<u8", "BOOL": "?",
}  # fmt: skip


def _read_header(path):
    with open(path, "rb") as file:
        return _parse_header(file)


def _parse_header(file):
    """The header at the start of an open file: name → type, shape and place, in the order in which they lie there."""
    size = os.fstat(file.fileno()).st_size
    if size < 8:
        raise ValueError(f"cut off: it has {size} bytes, a header begins with 8")
    (length,) = struct.unpack("<Q", file.read(8))
    if length > size - 8:
        raise ValueError("the file ends before its header does")
    entries = json.loads(file.read(length))
    entries.pop("__metadata__", None)
    entries = dict(sorted(entries.items(), key=lambda item: item[1]["data_offsets"]))
    end = 0
    for name, entry in entries.items():
        begin, stop = entry["data_offsets"]
        if entry["dtype"] not in _SAFETENSORS_DTYPES:
            raise ValueError(f"{name}: type {entry['dtype']} is not read here")
        width = np.dtype(_SAFETENSORS_DTYPES[entry["dtype"]]).itemsize
        if min(entry["shape"], default=0) < 0 or begin != end or stop - begin != math.prod(entry["shape"]) * width:
            raise ValueError(f"{name} does not lie where its shape says")
        end = stop
    if end != size - 8 - length:
        raise ValueError(f"its header is for {8 + length + end:,} bytes, the file has {size:,}")
    return entries


def _read_safetensors(path):
    with open(path, "rb") as file:
        entries = _parse_header(file)
        length = os.fstat(file.fileno()).st_size - file.tell()
        data = mmap.mmap(-1, max(length, 1))  # memory that is given back at once when the last array is let go
        if file.readinto(memoryview(data)[:length]) != length:
            raise ValueError("it was cut off while it was read")
    weights = {}
    for name, entry in entries.items():
        dtype = np.dtype(_SAFETENSORS_DTYPES[entry["dtype"]])
        array = np.frombuffer(data, dtype, math.prod(entry["shape"]), entry["data_offsets"][0]).reshape(entry["shape"])
        weights[name] = to_float32(np.require(array, requirements="A"), bfloat16=entry["dtype"] == "BF16")
    return weights


def release_memory():
    """Gives the system back what was freed: glibc keeps it, and after a checkpoint was read it is as large as that."""
    with contextlib.suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def write_safetensors(path, weights, metadata_format="np"):
    """Writes name → array, atomically.

    Args:
        metadata_format: the file's word on its origin: "np" (PaddleNLP refuses "pd" and "pt"), "pt" for Hugging Face.
    """
    from safetensors.numpy import save

    with atomic_file(path) as file:
        arrays = {name: np.ascontiguousarray(array) for name, array in weights.items()}
        file.write(save(arrays, metadata={"format": metadata_format}))
