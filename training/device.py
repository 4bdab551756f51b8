"""Which devices this Paddle has, and the one that a run uses."""

import runtime

import logging
import os
import sys

import paddle

from files.errors import InputError


def devices():
    """The devices of this Paddle: "cpu", and "gpu:N" or "xpu:N" where it has them."""
    found = ["cpu"]
    if paddle.is_compiled_with_cuda():
        found += [f"gpu:{index}" for index in range(paddle.device.cuda.device_count())]
    if paddle.is_compiled_with_xpu():
        found += [f"xpu:{index}" for index in range(paddle.device.xpu.device_count())]
    return found


def find_device(asked=None):
    """The full name of the device `asked` for ("gpu", "gpu:1", "cpu", "xpu"), or None where it is absent.

    Left out: the first GPU, else the CPU.
    """
    found = devices()
    if asked is None:
        return next((device for device in found if device.startswith("gpu")), "cpu")
    return next((device for device in found if asked.lower() in (device, device.partition(":")[0])), None)


def choose_device(asked, verbose=False):
    """Makes Paddle use `asked` ("gpu", "gpu:1", "cpu", "xpu"; None: the best there is) and says so. → its full name.

    verbose: also say why the process is set up as it is.
    """
    _plain_warnings()
    device = find_device(asked)
    if device is None:
        raise InputError(f"--device {asked}: this Paddle sees {', '.join(devices())}")
    launched = "PADDLE_TRAINER_ID" in os.environ and ":" not in (asked or "")
    paddle.set_device(device.partition(":")[0] if launched else device)  # a launcher says which one
    device = paddle.get_device()
    print(f"device: {device} ({runtime.summary()})", file=sys.stderr)
    if verbose:
        for setting, reason in runtime.SETTINGS:
            print(f"  {setting}: {reason}", file=sys.stderr)
    return device


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
