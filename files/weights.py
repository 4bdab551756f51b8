"""Weight files of every format, read without running code.

Formats: `model.safetensors`, Paddle's `model_state.pdparams`, PyTorch's `pytorch_model.bin`; the first and the last
also in shards with an index. The two that are pickles go through `pickles`, which runs nothing.
"""

from pathlib import Path

import numpy as np

from files.atomic import atomic_file
from files.errors import InputError
from files.json_files import read_json
from files.pickles import read_paddle_weights, read_torch_weights, to_float32

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


def write_safetensors(path, weights, metadata_format="np"):
    """Writes name → array, atomically.

    Args:
        metadata_format: the file's word on its origin: "np" (PaddleNLP refuses "pd" and "pt"), "pt" for Hugging Face.
    """
    from safetensors.numpy import save

    with atomic_file(path) as file:
        arrays = {name: np.ascontiguousarray(array) for name, array in weights.items()}
        file.write(save(arrays, metadata={"format": metadata_format}))
