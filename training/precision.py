"""In what a training step computes: float32, bfloat16 on a CPU by our own products, or Paddle's mixed precision.

    precision = choose_precision("O1", "bfloat16", device)
    with precision.training():
        loss = model(...)
        precision.backward(loss)
    precision.step(optimizer)

is one training step; an evaluation runs in precision.context().
"""

import contextlib
import warnings

import numpy as np
import paddle

from cpu import products
from files.errors import InputError
from layers.fast_path import (
    bfloat16,
    bfloat16_obstacle,
    bfloat16_operands,
    compiled,
    kernels_wanted,
    product_library,
)
from layers.inference import Packing, inference


class Precision:
    """float32; the base of the others."""

    dtype = "float32"  # of layers.inference

    def context(self):
        """Opens what an evaluation runs in; weights must not change meanwhile."""
        return inference(Packing(self.dtype))

    def training(self):
        """Opens what forward and backward of a step run in."""
        return contextlib.nullcontext()

    def prepare(self, model, optimizer):
        """To be called once, before the first step."""

    def backward(self, loss):
        loss.backward()

    def step(self, optimizer):
        optimizer.step()

    def state(self):
        """What a checkpoint must hold, as dict for JSON."""
        return {}

    def restore(self, state):
        pass


class OwnBfloat16(Precision):
    """Our own products in bfloat16; between steps nothing but `step` may change the weights."""

    dtype = "bfloat16"

    def __init__(self):
        self._operands = bfloat16_operands()  # of the weights, which the optimizer keeps right

    def training(self):
        return bfloat16(self._operands)

    def step(self, optimizer):
        optimizer.operands = self._operands
        optimizer.step()


class OwnInference(Precision):
    """Our own inference, of weights that do not change. dtype: of layers.inference. Raises InputError: not here."""

    def __init__(self, dtype):
        self.dtype, self._packing = dtype, Packing(dtype)

    def context(self):
        return inference(self._packing)


class PaddlePrecision(Precision):
    """Paddle's automatic mixed precision; with float16 the loss is scaled, so that small gradients stay above zero."""

    def __init__(self, level, dtype):
        self._level, self._dtype = level, dtype
        self.scaler = paddle.amp.GradScaler(enable=dtype == "float16", init_loss_scaling=2.0**15)

    def context(self):
        return paddle.amp.auto_cast(level=self._level, dtype=self._dtype)

    def training(self):
        return self.context()

    def prepare(self, model, optimizer):
        if self._level == "O2":  # weights in `dtype`, their float32 originals in the optimizer
            paddle.amp.decorate(model, optimizer, level="O2", dtype=self._dtype, save_dtype="float32")

    def backward(self, loss):
        with paddle.amp.auto_cast(enable=False):  # in float16 a scaled loss would be infinite
            loss = self.scaler.scale(loss)
        loss.backward()

    def step(self, optimizer):
        self.scaler.step(optimizer)
        self.scaler.update()

    def state(self):
        return {name: np.asarray(value).tolist() for name, value in self.scaler.state_dict().items()}

    def restore(self, state):
        if state:
            self.scaler.load_state_dict(state)


def choose_precision(level, dtype, device):
    """The Precision that `--amp level --amp_dtype dtype` asks for.

    Args:
        level: None for float32; "O1": matrix products in `dtype`; "O2": weights too.
        dtype: "bfloat16" or "float16".
        device: full name, as of device.choose_device.

    Raises:
        InputError: not possible on this device.
    """
    if level is None:
        return Precision()
    asked = f"--amp {level} --amp_dtype {dtype}"
    if device == "cpu" and level == "O1" and dtype == "bfloat16":
        if reason := bfloat16_obstacle():
            raise InputError(f"{asked}: {reason}")
        return OwnBfloat16()
    found = _type_under_auto_cast(dtype)
    if found != dtype:
        also = "; a CPU has --amp O1 --amp_dtype bfloat16" if device == "cpu" else ""
        raise InputError(f"{asked}: products on {device} come back as {found}{also}")
    return PaddlePrecision(level, dtype)


def choose_inference(dtype, level, amp_dtype, device):
    """The Precision that `--dtype dtype`, or `--amp level --amp_dtype amp_dtype`, asks for where nothing is trained.

    Raises InputError: not possible on this device, or both are given.
    """
    if dtype and level:
        raise InputError(f"--dtype {dtype} and --amp {level} both say in what to compute; give one of them")
    if device != "cpu":
        if dtype == "int8":
            raise InputError(f"--dtype int8: a CPU has it, and {device} is none")
        return choose_precision("O1" if dtype == "bfloat16" else level, "bfloat16" if dtype else amp_dtype, device)
    if level:
        choose_precision(level, amp_dtype, device)  # or raises
    dtype = dtype or (amp_dtype if level else "float32")
    try:
        return OwnInference(dtype)
    except InputError as error:
        raise InputError(f"--dtype {error}") from None


def settle_products(stored, processes):
    """The library of a whole run's float32 products on a CPU's fast path, in all processes; None where there is none.

    stored: the one that a run which goes on was begun with; None: the first process chooses.
    """
    if paddle.get_device() != "cpu" or not kernels_wanted() or compiled() is None:
        return stored
    name = products.choose(stored) if stored in products.WAYS else product_library()
    processes.wait()  # for loops to be compiled
    number = processes.add(np.array([products.WAYS.index(name) * processes.writes], np.float32))
    return products.choose(products.WAYS[int(number[0])])


def _type_under_auto_cast(dtype):
    """The type in which a product comes back: Paddle's CPU wheels promise bfloat16 and stay silently in float32."""
    x = paddle.ones([2, 2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with paddle.amp.auto_cast(dtype=dtype):
                return str(paddle.matmul(x, x).dtype).removeprefix("paddle.")
        except (RuntimeError, ValueError, NotImplementedError) as error:
            return f"an error ({str(error).strip().splitlines()[-1]})"
