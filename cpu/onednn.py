"""Matrix products in float32 and bfloat16 by the oneDNN library that Paddle's CPU wheel brings along.

Paddle itself has no bfloat16 products on a CPU. This is the thinnest possible binding of oneDNN's C interface, version
3 (uxlfoundation.github.io/oneDNN): one engine, one stream, and primitives that are made once for every shape. Products
accumulate in float32 whatever goes in and comes out.
"""

import ctypes
import functools
import threading
from ctypes import byref, c_int, c_int64, c_size_t, c_uint, c_void_p
from pathlib import Path
from typing import NamedTuple

FLOAT32, BFLOAT16 = 3, 2  # dnnl_data_type_t
_CPU, _IN_ORDER = 1, 1  # dnnl_engine_kind_t, dnnl_stream_flags_t
_GELU = 0x31  # dnnl_alg_kind_t: dnnl_eltwise_gelu_erf, the exact one
_SOURCE, _WEIGHTS, _BIAS, _DESTINATION = 1, 33, 41, 17  # arguments of a primitive's execution
_Dims = c_int64 * 12  # DNNL_MAX_NDIMS


class _Version(ctypes.Structure):
    _fields_ = [
        ("major", c_int),
        ("minor", c_int),
        ("patch", c_int),
        ("hash", ctypes.c_char_p),
        ("runtimes", c_uint * 2),
    ]


class _Argument(ctypes.Structure):
    _fields_ = [("kind", c_int), ("memory", c_void_p)]


class Matrix(NamedTuple):
    """A matrix, or a batch of them, somewhere in memory."""

    address: int
    type: int  # FLOAT32 or BFLOAT16
    shape: tuple  # (rows, columns) or (batch, rows, columns)
    strides: tuple  # in elements

    @property
    def t(self):
        """The matrices transposed, by their strides.

        An axis of length 1 gets the stride that a plain row-major matrix has there: with any other, oneDNN 3.6 reads
        beyond products of inner length 1.
        """
        *batch, columns, rows = self.shape
        *steps, across, down = self.strides
        down = columns * across if rows == 1 else down
        across = 1 if columns == 1 else across
        return self._replace(shape=(*batch, rows, columns), strides=(*steps, down, across))


class OneDNN:
    """The library, loaded and checked. Raises OSError when it can't be used here."""

    def __init__(self):
        import paddle

        self._library = ctypes.CDLL(str(Path(paddle.__file__).parent / "libs" / "libdnnl.so.3"))
        self._library.dnnl_version.restype = ctypes.POINTER(_Version)
        version = self._library.dnnl_version().contents
        self.version = f"{version.major}.{version.minor}.{version.patch}"
        if version.major != 3:
            raise OSError(f"oneDNN {self.version}; its interface is known for version 3")
        self._engine = self._make("engine_create", _CPU, c_size_t(0))
        self._stream = self._make("stream_create", self._engine, c_uint(_IN_ORDER))
        self._primitives = {}
        self._lock = threading.Lock()  # a primitive has memory of its own, so one thread at a time

    def matmul(self, a, b, out, bias=None, gelu=False):
        """out = a @ b, with bias (a row, of `out`'s type or float32) and GELU on top if asked for.

        Args:
            a, b, out: Matrix, all with or all without a batch; a and b of one type, `out` of that or float32.

        Raises:
            OSError: oneDNN refuses, as for shapes that do not fit.
        """
        operands = (a, b, out) if bias is None else (a, b, out, bias)
        key = (*(operand[1:] for operand in operands), gelu)
        with self._lock:
            if key not in self._primitives:
                self._primitives[key] = self._matmul_primitive(operands, gelu)
            primitive, memories, arguments = self._primitives[key]
            for memory, operand in zip(memories, operands, strict=True):
                self._call("memory_set_data_handle", memory, c_void_p(operand.address))
            self._call("primitive_execute", primitive, self._stream, len(operands), arguments)
            self._call("stream_wait", self._stream)

    def _matmul_primitive(self, operands, gelu):
        descriptions = [
            self._make("memory_desc_create_with_strides", len(shape), _Dims(*shape), kind, _Dims(*strides))
            for _, kind, shape, strides in operands
        ]
        attributes = self._gelu() if gelu else None
        a, b, out, *bias = descriptions
        wanted = self._make(
            "matmul_primitive_desc_create", self._engine, a, b, bias[0] if bias else None, out, attributes
        )
        memories = [self._make("memory_create", description, self._engine, None) for description in descriptions]
        kinds = _SOURCE, _WEIGHTS, _DESTINATION, _BIAS
        arguments = (_Argument * len(memories))(*zip(kinds, memories))  # noqa: B905  (without bias there are three)
        return self._make("primitive_create", wanted), memories, arguments

    def _gelu(self):
        operations, attributes = self._make("post_ops_create"), self._make("primitive_attr_create")
        self._call("post_ops_append_eltwise", operations, _GELU, ctypes.c_float(0), ctypes.c_float(0))
        self._call("primitive_attr_set_post_ops", attributes, operations)
        return attributes

    def _make(self, function, *arguments):
        """Calls dnnl_<function>, which writes a handle to its first argument. (Handles live as long as the process.)"""
        handle = c_void_p()
        self._call(function, byref(handle), *arguments)
        return handle

    def _call(self, function, *arguments):
        status = getattr(self._library, f"dnnl_{function}")(*arguments)
        if status:
            raise OSError(f"oneDNN {self.version}: {function} failed with status {status}")


@functools.cache
def load():
    """The OneDNN of this process. Raises OSError when it can't be used."""
    return OneDNN()
