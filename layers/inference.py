"""Inference of its own on a CPU's fast path: encoders whose weights are packed once, in the type of their products.

    with inference(Packing("int8")), paddle.no_grad():
        model(…)

Elsewhere, and where gradients are wanted, a model computes as ever.
"""

import contextlib
import contextvars
from typing import NamedTuple

import paddle

from cpu.machine import has_int8
from files.errors import InputError
from layers.fast_path import bfloat16, bfloat16_obstacle, compiled, on_fast_path, short_products_obstacle

DTYPES = "float32", "bfloat16", "int8"

_packing = contextvars.ContextVar("packing", default=None)


class Layer(NamedTuple):
    """What a layer computes with."""

    mixed: bool  # its attention: ConvBERT's, or self-attention alone
    attention: tuple  # the weights as mixed_attention or self_attention takes them
    feed_forward: tuple  # functions.FeedForwardWeights
    heads: int
    activation: str
    epsilon: float


class Packing:
    """Encoders' packed weights, each as it was when it first computed: who changes a weight takes another Packing.

    dtype: of DTYPES. Raises InputError: that is impossible here.
    """

    def __init__(self, dtype):
        if reason := obstacle(dtype):
            raise InputError(f"{dtype} on a CPU: {reason}")
        self.dtype, self._encoders = dtype, {}

    def of(self, encoder):
        """The cpu.inference.Encoder; None where layers must be called one by one. Raises InputError: int8 can't be."""
        if id(encoder) not in self._encoders:
            self._encoders[id(encoder)] = encoder, self._packed(encoder)
        return self._encoders[id(encoder)][1]

    def _packed(self, encoder):
        layers = encoder.for_inference()
        problem = None
        if layers and layers[0].activation in compiled().inference.ACTIVATIONS:
            try:
                return compiled().inference.Encoder(layers, self.dtype)
            except OSError as error:
                problem = str(error)
        if self.dtype == "int8":
            raise InputError(
                f"int8: {problem or 'this encoder has hooks, other modules or an activation without loops'}"
            )
        return None


@contextlib.contextmanager
def inference(packing):
    """A context in which encoders compute packed, and the products of the rest in float32, or in bfloat16 with them."""
    token = _packing.set(packing)
    try:
        with bfloat16() if packing.dtype == "bfloat16" else contextlib.nullcontext():
            yield
    finally:
        _packing.reset(token)


def packed(encoder, *tensors):
    """What computes in an encoder's place, from these tensors: a cpu.inference.Encoder; None: nothing does."""
    packing = _packing.get()
    if packing is None or encoder.training or paddle.is_grad_enabled() or not on_fast_path(*tensors):
        return None
    return packing.of(encoder)


def obstacle(dtype):
    """Why a CPU can't compute in it here; None if it can."""
    if dtype == "float32":
        return None
    if dtype == "bfloat16":
        return bfloat16_obstacle()
    if not has_int8():
        return "this processor has no instructions for it (avx512_vnni, avx_vnni or amx_int8)"
    return short_products_obstacle()
