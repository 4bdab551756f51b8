"""Which devices this Paddle has, and the one that a run uses."""

import runtime

import logging
import os
import sys

import paddle

from files.errors import InputError


def devices():
    """The devices of this Paddle by their full names: "cpu", and "gpu:N", "xpu:N", "npu:N", … where it has them."""
    counts = {}
    if paddle.is_compiled_with_cuda():
        counts["gpu"] = paddle.device.cuda.device_count()
    if paddle.is_compiled_with_xpu():
        counts["xpu"] = paddle.device.xpu.device_count()
    for kind in paddle.device.get_all_custom_device_type():  # of plug-ins: npu, mlu, gcu, …
        names = paddle.device.get_available_custom_device()  # a kind's only device has no number there
        counts[kind] = sum(name.partition(":")[0] == kind for name in names)
    return ["cpu", *(f"{kind}:{index}" for kind, count in counts.items() for index in range(count))]


def find_device(asked=None):
    """The full name of the device `asked` for ("gpu", "gpu:1", "cpu", "npu", …), or None where it is absent.

    Left out: the first of those that are no CPU, else the CPU.
    """
    found = devices()
    if asked is None:
        return found[1] if len(found) > 1 else "cpu"
    return next((device for device in found if asked.lower() in (device, device.partition(":")[0])), None)


def use_device(asked):
    """Makes Paddle use `asked`, as of find_device. → its full name. Raises InputError, which says what there is."""
    device = find_device(asked)
    if device is None:
        raise InputError(f"--device {asked}: this Paddle sees {', '.join(devices())}")
    launched = "PADDLE_TRAINER_ID" in os.environ and ":" not in (asked or "")
    paddle.set_device(device.partition(":")[0] if launched else device)  # a launcher says which one
    return paddle.get_device()


def choose_device(asked, verbose=False):
    """The same, and says which it is; verbose: and why the process is set up as it is."""
    _plain_warnings()
    device = use_device(asked)
    print(f"device: {device} ({runtime.summary()})", file=sys.stderr)
    if verbose:
        for setting, reason in runtime.SETTINGS:
            print(f"  {setting}: {reason}", file=sys.stderr)
    return device


def compare_on(asked):
    """use_device for what is compared with numbers from elsewhere: the CPU if not told otherwise, in full float32.

    A GPU's products may otherwise be of TF32, 10 bits of mantissa, in which a right model looks wrong.
    """
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"  # read when the first product is computed
    return use_device(asked or "cpu")


def figures(values):
    """Figures that can be added up without waiting for the device: of a CPU's tensor, or an array, a float64 array.

    Elsewhere a tensor, float64, which holds on to nothing; who reads it waits until it is computed.
    """
    if isinstance(values, paddle.Tensor):
        return values.numpy().astype("float64") if values.place.is_cpu_place() else values.detach().astype("float64")
    return values if paddle.get_device() == "cpu" else paddle.to_tensor(values)


class _Plain(logging.Formatter):
    """Our own warnings as scripts print theirs; all others as before."""

    def __init__(self, usual):
        super().__init__()
        self._usual = usual

    def format(self, record):
        if record.name == "convbert":
            return f"{record.levelname.lower()}: {record.getMessage()}"
        return self._usual.format(record)


def _plain_warnings():
    """Paddle gives the root logger a handler, whose lines begin with time, file and line."""
    for handler in logging.getLogger().handlers:
        usual = handler.formatter
        if type(handler) is logging.StreamHandler and usual is not None and not isinstance(usual, _Plain):
            handler.setFormatter(_Plain(usual))
