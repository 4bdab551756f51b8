"""Weights out of pickles (Paddle's `.pdparams`, PyTorch's `.bin`) without running what the pickle says.

A pickle is a program. The unpicklers here know the few names that arrays and tensors need; any other name raises
`pickle.UnpicklingError` before anything was called.
"""

import collections
import io
import pickle
import struct
import zipfile

import numpy as np


class _ArrayUnpickler(pickle.Unpickler):
    allowed = {}  # noqa: RUF012  (module, name) → what stands in for it

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
    for name, value in read_paddle(path).items():
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

    def persistent_load(self, reference):
        _, kind, key, *_ = reference  # "storage", kind, key, device, number of elements
        return kind, key


def read_torch_weights(path):
    """Reads a `pytorch_model.bin`: dict of name → numpy array, half precisions up-cast to float32."""
    state, storage_bytes = (_read_zip if zipfile.is_zipfile(path) else _read_stream)(path)
    weights = {}
    for name, value in state.items():
        if not isinstance(value, _Tensor):
            raise pickle.UnpicklingError(f"{name} is a {type(value).__name__}, not a tensor")
        weights[name] = value.to_array(storage_bytes(value.key))
    return weights


def _read_zip(path):
    """The layout since PyTorch 1.6: a zip with the pickle and one member per storage."""
    with zipfile.ZipFile(path) as archive:
        contents = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    if contents.get("byteorder", b"little") != b"little":
        raise pickle.UnpicklingError("its numbers are big-endian")
    return _TorchUnpickler(io.BytesIO(contents["data.pkl"])).load(), lambda key: contents[f"data/{key}"]


def _read_stream(path):
    """The layout before PyTorch 1.6: magic number, version, machine, objects, storage keys, then each storage."""
    with open(path, "rb") as file:
        if _TorchUnpickler(file).load() != 0x1950A86A20F9469CFC6C:
            raise pickle.UnpicklingError("it does not start as PyTorch's files do")
        _version, _machine, state, keys = (_TorchUnpickler(file).load() for _ in range(4))
        itemsize = {t.key: np.dtype(_STORAGES[t.kind]).itemsize for t in state.values() if isinstance(t, _Tensor)}
        storages = {}
        for key in keys:
            (numel,) = struct.unpack("<q", file.read(8))
            storages[key] = file.read(numel * itemsize[key])
    return state, storages.__getitem__
