"""Matrix products in float32, bfloat16 and 8-bit integers by the oneDNN library that Paddle's CPU wheel brings along.

Paddle itself has no bfloat16 products on a CPU. This is the thinnest possible binding of oneDNN's C interface, version
3 (uxlfoundation.github.io/oneDNN): one engine, one stream, and a primitive for every shape, of which the KEPT that were
used last are kept. Products accumulate in float32, those of integers in int32, whatever goes in and comes out.
"""

import collections
import contextlib
import ctypes
import functools
import threading
import weakref
from ctypes import byref, c_int, c_int64, c_size_t, c_uint, c_void_p
from pathlib import Path
from typing import NamedTuple

FLOAT32, BFLOAT16, INT8, UINT8 = 3, 2, 5, 6  # dnnl_data_type_t
_CPU, _IN_ORDER = 1, 1  # dnnl_engine_kind_t, dnnl_stream_flags_t
_SOURCE, _WEIGHTS, _BIAS, _DESTINATION, _SCALES = 1, 33, 41, 17, 4096  # arguments of a primitive's execution
_ANY_LAYOUT, _WEIGHTS_LAYOUT = 1, 131  # dnnl_format_tag_t, dnnl_query_t
_Dims = c_int64 * 12  # DNNL_MAX_NDIMS
ANY = -(2**63)  # DNNL_RUNTIME_DIM_VAL: a length that only an execution tells
KEPT = 48  # primitives of about 0.2 MB, each 0.3 ms to make
_GELU = 0x31  # dnnl_alg_kind_t: dnnl_eltwise_gelu_erf, the exact one
_USUAL_ROWS = 64  # that a layout is asked for with; it is the same for any number
_DESTROYED_BY = {  # what makes a handle → what takes its memory back
    "memory_desc_create_with_strides": "memory_desc_destroy",
    "memory_desc_create_with_tag": "memory_desc_destroy",
    "memory_desc_clone": "memory_desc_destroy",
    "post_ops_create": "post_ops_destroy",
    "primitive_attr_create": "primitive_attr_destroy",
    "matmul_primitive_desc_create": "primitive_desc_destroy",
    "reorder_primitive_desc_create": "primitive_desc_destroy",
    "memory_create": "memory_destroy",
    "primitive_create": "primitive_destroy",
}


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
    type: int  # FLOAT32, BFLOAT16, INT8 or UINT8
    shape: tuple  # (rows, columns) or (batch, rows, columns)
    strides: tuple | None  # in elements; None: weights in the layout that `pack` writes

    @property
    def t(self):
        """The matrices transposed, by their strides."""
        *batch, rows, columns = self.shape
        *steps, down, across = self.strides
        return self._replace(shape=(*batch, columns, rows), strides=(*steps, across, down)).plain

    @property
    def plain(self):
        """The same with the stride that a row-major matrix has wherever an axis is of length 1.

        With any other, oneDNN 3.6 reads beyond products of inner length 1.
        """
        *_, rows, columns = self.shape
        if self.strides is None:
            return self
        *steps, down, across = self.strides
        down = columns * across if rows == 1 else down
        across = 1 if columns == 1 else across
        return self._replace(strides=(*steps, down, across))

    def for_any(self, lengths):
        """The same with ANY in the place of these lengths, and of the strides that depend on them."""
        shape = tuple(ANY if length in lengths else length for length in self.shape)
        *step, down, across = self.strides
        down, across = (ANY if len(shape) == 3 and stride in lengths else stride for stride in (down, across))
        between = [ANY if ANY in shape[1:] and step[0] not in self.shape else step[0]] if step else []
        return self._replace(shape=shape, strides=(*between, down, across))


class _Owner:
    """Some of oneDNN's objects, which are destroyed with this one."""

    def __init__(self, owner):
        weakref.finalize(self, owner.close).atexit = False


class Primitive(_Owner):
    """The code of a product."""

    def __init__(self, handle, owner):
        super().__init__(owner)
        self.handle = handle


class Operands(_Owner):
    """What an execution reads and writes: descriptions, whose addresses are set before it."""

    def __init__(self, memories, owner):
        super().__init__(owner)
        kinds = _SOURCE, _WEIGHTS, _DESTINATION, _BIAS, _SCALES | _WEIGHTS
        self.memories = memories  # handles
        self.arguments = (_Argument * len(memories))(*zip(kinds, memories))  # noqa: B905  (without bias and scales there are three)


lock = threading.RLock()  # a primitive has memory of its own, so one thread at a time


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
        self._engine, self._stream = c_void_p(), c_void_p()  # as long as the process
        self._call("engine_create", byref(self._engine), _CPU, c_size_t(0))
        self._call("stream_create", byref(self._stream), self._engine, c_uint(_IN_ORDER))
        self._call("set_primitive_cache_capacity", c_int(KEPT))  # oneDNN's own, which keeps what was destroyed
        self._layouts = {}  # of weights: (type, shape) → description, as long as the process
        self._primitives = weakref.WeakValueDictionary()  # shapes → Primitive, as long as somebody has it
        self._recent = collections.OrderedDict()  # shapes → what `matmul` used, the last one at the end

    def matmul(self, a, b, out, add=False):
        """out = a @ b.

        Args:
            a, b, out: Matrix, all with or all without a batch; a and b of one type, `out` of that or float32.
            add: out += a @ b instead.

        Raises:
            OSError: oneDNN refuses, as for shapes that do not fit.
        """
        matrices = a, b, out
        key = (*(matrix[1:] for matrix in matrices), add)
        with lock:
            if key in self._recent:
                self._recent.move_to_end(key)
            else:
                self._recent[key] = self.primitive(*matrices, add=add), self.operands(*matrices)
                if len(self._recent) > KEPT:
                    self._recent.popitem(last=False)
            primitive, operands = self._recent[key]
            for memory, matrix in zip(operands.memories, matrices, strict=True):
                self._call("memory_set_data_handle", memory, c_void_p(matrix.address))
            self._call("primitive_execute", primitive.handle, self._stream, len(matrices), operands.arguments)
            self._call("stream_wait", self._stream)

    def primitive(self, *matrices, add=False, gelu=False):
        """The Primitive of out = a @ b for matrices of these shapes, of which lengths may be ANY, and strides.

        matrices: a, b, out; with a bias, a row [1, N], out = a @ b + bias; and of integers, UINT8 a and INT8 b, with
        scales [N] as well float32 or bfloat16 out = (a @ b) · scales + bias. add: to what `out` holds. gelu: of all.
        """
        key = (*(matrix[1:] for matrix in matrices), add, gelu)
        with lock:
            primitive = self._primitives.get(key)
            if primitive is None:
                primitive = self._primitives[key] = self._matmul_primitive(matrices, add, gelu)
            return primitive

    def operands(self, *matrices):
        """The Operands for an execution on such matrices."""
        with contextlib.ExitStack() as kept:
            descriptions = self._descriptions(kept, matrices)
            memories = [self._make(kept, "memory_create", each, self._engine, None) for each in descriptions]
            return Operands(memories, kept.pop_all())

    def words(self, primitive, operands):
        """What product_kernels.onednn_product takes before the matrices."""
        functions = "memory_set_data_handle", "primitive_execute", "stream_wait"
        addresses = [ctypes.cast(getattr(self._library, f"dnnl_{name}"), c_void_p).value for name in functions]
        return *addresses, primitive.handle.value, self._stream.value, ctypes.addressof(operands.arguments)

    def packed_size(self, type, shape):
        """Bytes of a weight [K, N] in the layout that its products are fastest with."""
        size = self._library.dnnl_memory_desc_get_size
        size.restype = c_size_t
        return size(self._layout(type, shape))

    def pack(self, matrix, address):
        """Writes a Matrix [K, N], row by row, to an address in that layout."""
        with lock, contextlib.ExitStack() as passing:
            ends = first, last = self._descriptions(passing, [matrix, matrix._replace(strides=None)])
            places = zip(ends, (matrix.address, address), strict=True)
            memories = [self._make(passing, "memory_create", end, self._engine, c_void_p(at)) for end, at in places]
            wanted = self._make(passing, "reorder_primitive_desc_create", first, self._engine, last, self._engine, None)
            primitive = self._make(passing, "primitive_create", wanted)
            arguments = (_Argument * 2)(*zip((_SOURCE, _DESTINATION), memories, strict=True))
            self._call("primitive_execute", primitive, self._stream, 2, arguments)
            self._call("stream_wait", self._stream)

    def _layout(self, type, shape):
        """The description of weights as oneDNN wants them."""
        key = type, shape
        with lock:
            if key not in self._layouts:
                with contextlib.ExitStack() as passing:
                    rows, columns = (_USUAL_ROWS, shape[0]), (_USUAL_ROWS, shape[1])
                    source = UINT8 if type == INT8 else type
                    plain = [(0, source, rows, (shape[0], 1)), (0, FLOAT32, columns, (shape[1], 1))]
                    a, out = self._descriptions(passing, plain)
                    b = self._make(passing, "memory_desc_create_with_tag", 2, _Dims(*shape), type, _ANY_LAYOUT)
                    wanted = self._make(passing, "matmul_primitive_desc_create", self._engine, a, b, None, out, None)
                    query = self._library.dnnl_primitive_desc_query_md
                    query.restype = c_void_p
                    found = c_void_p(query(wanted, _WEIGHTS_LAYOUT, 0))
                    self._layouts[key] = self._make(contextlib.ExitStack(), "memory_desc_clone", found)
            return self._layouts[key]

    def _descriptions(self, owner, matrices):
        return [
            self._layout(kind, shape)
            if strides is None
            else self._make(owner, "memory_desc_create_with_strides", len(shape), _Dims(*shape), kind, _Dims(*strides))
            for _, kind, shape, strides in matrices
        ]

    def _matmul_primitive(self, matrices, add, gelu):
        with contextlib.ExitStack() as kept, contextlib.ExitStack() as passing:
            a, b, out, *others = self._descriptions(passing, matrices)
            scaled = len(others) > 1
            attributes = self._attributes(passing, add, gelu, scaled) if add or gelu or scaled else None
            bias = others[0] if others else None
            wanted = self._make(passing, "matmul_primitive_desc_create", self._engine, a, b, bias, out, attributes)
            return Primitive(self._make(kept, "primitive_create", wanted), kept.pop_all())

    def _attributes(self, passing, add, gelu, scaled):
        attributes = self._make(passing, "primitive_attr_create")
        if scaled:
            self._call("primitive_attr_set_scales_mask", attributes, _WEIGHTS, c_int(2))  # one for each column
        operations = self._make(passing, "post_ops_create")
        if add:
            self._call("post_ops_append_sum", operations, ctypes.c_float(1), c_int(0), c_int(0))  # of out's own type
        if gelu:
            self._call("post_ops_append_eltwise", operations, _GELU, ctypes.c_float(0), ctypes.c_float(0))
        self._call("primitive_attr_set_post_ops", attributes, operations)
        return attributes

    def _make(self, owner, function, *arguments):
        """Calls dnnl_<function>, which writes a handle to its first argument. It lives until the ExitStack closes."""
        handle = c_void_p()
        self._call(function, byref(handle), *arguments)
        owner.callback(self._call, _DESTROYED_BY[function], handle)
        return handle

    def _call(self, function, *arguments):
        status = getattr(self._library, f"dnnl_{function}")(*arguments)
        if status:
            raise OSError(f"oneDNN {self.version}: {function} failed with status {status}")


@functools.cache
def load():
    """The OneDNN of this process. Raises OSError when it can't be used."""
    return OneDNN()
