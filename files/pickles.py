"""Weights out of pickles (Paddle's `.pdparams`, PyTorch's `.bin`) without running what the pickle says.

A pickle is a program. The unpicklers here know the few names that arrays and tensors need; any other name raises
`pickle.UnpicklingError` before anything was called.
"""

import collections
import io
import math
import os
import pickle
import pickletools
import struct
import zipfile

import numpy as np

STATES = ("state_dict", "model_state_dict", "model", "module")  # where training tools keep a model's weights


def _state(content, kind):
    """The weights, a dict of name → `kind`: all of a file, or what a training tool keeps beside other things."""
    if not isinstance(content, dict):
        raise pickle.UnpicklingError(f"it holds a {type(content).__name__}, not weights by their names")
    for key in STATES:
        if isinstance(content.get(key), dict) and any(isinstance(value, kind) for value in content[key].values()):
            return content[key]
    return content


class _ArrayUnpickler(pickle.Unpickler):
    allowed = {}  # noqa: RUF012  (module, name) → what stands in for it

    def __init__(self, file):
        super().__init__(file)
        self.file = file

    def load(self):
        start, puts = self.file.tell(), 0
        for opcode, place, _ in pickletools.genops(self.file):
            puts += "PUT" in opcode.name or opcode.name == "MEMOIZE"
            if "PUT" in opcode.name and place > 100 * puts:  # Python makes room for that many objects at once
                raise pickle.UnpicklingError(f"it numbers an object {place:,}; nothing was run")
        self.file.seek(start)
        return super().load()

    def find_class(self, module, name):
        if (module, name) in self.allowed:
            return self.allowed[module, name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no array; nothing was run")


def to_float32(array, bfloat16=False):
    """Up-casts float16 and (given as uint16) bfloat16; returns other arrays as they are."""
    if bfloat16:  # the upper half of a float32
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32) if array.dtype == np.float16 else array


# ------------------------------------------------------------------------------------------------------------- Paddle


def _empty_array(*_):
    return np.ndarray((0,), "b")  # the pickle then sets its type, shape and numbers


class _PaddleUnpickler(_ArrayUnpickler):
    allowed = {  # noqa: RUF012
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("numpy.core.multiarray", "_reconstruct"): _empty_array,
        ("numpy._core.multiarray", "_reconstruct"): _empty_array,
        ("_codecs", "encode"): lambda text, encoding="latin1": text.encode("latin1"),
    }


def read_paddle(path):
    """Reads what `paddle.save` wrote: arrays, numbers, strings and containers of them, as they were."""
    with open(path, "rb") as file:
        return _PaddleUnpickler(file).load()


def read_paddle_weights(path):
    """Reads a `.pdparams` file: dict of name → numpy array, half precisions up-cast to float32."""
    weights = {}
    for name, value in _state(read_paddle(path), np.ndarray).items():
        if name == "StructuredToParameterName@@":  # Paddle's own book-keeping
            continue
        if not isinstance(value, np.ndarray):
            raise pickle.UnpicklingError(f"{name} is a {type(value).__name__}, not an array")
        weights[name] = to_float32(value, bfloat16=value.dtype == np.uint16)  # Paddle keeps bfloat16 as uint16
    return weights


# ------------------------------------------------------------------------------------------------------------ PyTorch

_STORAGES = {
    "DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "BFloat16Storage": "<u2",
    "LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1",
    "BoolStorage": "?",
}  # fmt: skip


class _Tensor:
    """A tensor as the pickle describes it; its numbers lie elsewhere in the file."""

    def __init__(self, storage, offset, shape, strides, *_):
        (self.kind, self.key), self.offset, self.shape, self.strides = storage, offset, shape, strides

    def to_array(self, storage_bytes):
        flat = np.frombuffer(storage_bytes, _STORAGES[self.kind])
        if min((self.offset, *self.shape, *self.strides)) < 0:
            raise pickle.UnpicklingError("a tensor has a negative offset, size or stride")
        if 0 not in self.shape:
            last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
            if last >= len(flat):  # a forged file could otherwise read memory that is not its own
                raise pickle.UnpicklingError("a tensor reaches beyond its storage")
        steps = [step * flat.itemsize for step in self.strides]
        array = np.lib.stride_tricks.as_strided(flat[self.offset :], self.shape, steps, writeable=False).copy()
        return to_float32(array, bfloat16=self.kind == "BFloat16Storage")


class _TorchUnpickler(_ArrayUnpickler):
    allowed = {  # noqa: RUF012
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
        ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
        **{("torch", name): name for name in _STORAGES},
    }

    def __init__(self, file):
        super().__init__(file)
        self.kinds = {}  # of every storage that it mentions

    def persistent_load(self, reference):
        _, kind, key, *_ = reference  # "storage", kind, key, device, number of elements
        self.kinds[key] = kind
        return kind, key


def read_torch_weights(path):
    """Reads a `pytorch_model.bin`: dict of name → numpy array, half precisions up-cast to float32."""
    tensors, storage_bytes = (_read_zip if zipfile.is_zipfile(path) else _read_stream)(path)
    arrays, weights, left = {}, {}, 2 * os.path.getsize(path)
    for name, tensor in tensors.items():
        view = tensor.key, tensor.offset, tensor.shape, tensor.strides  # of tied weights it is the same
        if view not in arrays:
            left -= math.prod(tensor.shape) * np.dtype(_STORAGES[tensor.kind]).itemsize
            if left < 0:
                raise pickle.UnpicklingError("its tensors are larger than the file")
            arrays[view] = tensor.to_array(storage_bytes(tensor.key))
        weights[name] = arrays[view]
    return weights


def torch_names(path):
    """The names in a `pytorch_model.bin`; of those written since PyTorch 1.6 nothing else is read."""
    if not zipfile.is_zipfile(path):
        with open(path, "rb") as file:
            return list(_load_stream(file, skip=True)[0])
    with zipfile.ZipFile(path) as archive:
        members = _plain_members(archive, os.path.getsize(path))
        return list(_tensors(_TorchUnpickler(io.BytesIO(archive.read(members["data.pkl"]))).load()))


def require_whole_torch(file):
    """Raises an error of some kind unless an open binary file ends as PyTorch's do."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            _plain_members(archive, os.fstat(file.fileno()).st_size)
    else:
        file.seek(0)
        _load_stream(file, skip=True)


def _tensors(content):
    state = _state(content, _Tensor)
    for name, value in state.items():
        if not isinstance(value, _Tensor):
            raise pickle.UnpicklingError(f"{name} is a {type(value).__name__}, not a tensor")
    return state


def _plain_members(archive, size):
    """Name below the archive's folder → member. Refuses what PyTorch does not write and what can be a bomb."""
    members = {member.filename.partition("/")[2]: member for member in archive.infolist()}
    if any(member.compress_type != zipfile.ZIP_STORED for member in members.values()):
        raise pickle.UnpicklingError("a member of its zip is compressed, which PyTorch's never are")
    if len(members) < len(archive.infolist()) or sum(member.file_size for member in members.values()) > size:
        raise pickle.UnpicklingError("the members of its zip are larger than the file")
    return members


def _read_zip(path):
    """The layout since PyTorch 1.6: a zip with the pickle and one member per storage."""
    with zipfile.ZipFile(path) as archive:
        members = _plain_members(archive, os.path.getsize(path))
        contents = {name: archive.read(member) for name, member in members.items()}
    if contents.get("byteorder", b"little") != b"little":
        raise pickle.UnpicklingError("its numbers are big-endian")
    return _tensors(_TorchUnpickler(io.BytesIO(contents["data.pkl"])).load()), lambda key: contents[f"data/{key}"]


def _read_stream(path):
    with open(path, "rb") as file:
        tensors, storages = _load_stream(file)
    return tensors, storages.__getitem__


def _load_stream(file, skip=False):
    """The layout before PyTorch 1.6: magic number, version, machine, objects, storage keys, then each storage.

    skip: leave the storages unread.
    """
    size = os.fstat(file.fileno()).st_size
    if file.read(4) == b"PK\3\4":
        raise pickle.UnpicklingError("cut off: a zip without its end")
    file.seek(0)
    if _TorchUnpickler(file).load() != 0x1950A86A20F9469CFC6C:
        raise pickle.UnpicklingError("it does not start as PyTorch's files do")
    unpicklers = [_TorchUnpickler(file) for _ in range(4)]
    _version, _machine, content, keys = (unpickler.load() for unpickler in unpicklers)
    kinds = unpicklers[2].kinds
    storages = {}
    for key in keys:
        (numel,) = struct.unpack("<q", file.read(8))
        length = numel * np.dtype(_STORAGES[kinds[key]]).itemsize
        if not 0 <= length <= size - file.tell():
            raise pickle.UnpicklingError("a storage reaches beyond the end of the file")
        storages[key] = file.seek(length, os.SEEK_CUR) if skip else file.read(length)
    return _tensors(content), storages
