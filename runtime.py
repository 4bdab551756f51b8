"""What must happen before Paddle starts, and which devices it has. The first import of every script.

Importing it sets nothing that the user's environment already says.
"""

import os
import platform
import warnings


def cores():
    """Number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor_name():
    """The processor as its maker calls it, as far as the system tells."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def devices():
    """The devices of this Paddle: "cpu", and "gpu:N" or "xpu:N" where it has them."""
    import paddle

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


os.environ.setdefault("GLOG_minloglevel", "2")  # Paddle's C++ side: errors only
warnings.filterwarnings("ignore", message="No ccache found")  # import paddle looks for a compiler cache
warnings.filterwarnings("ignore", message="Setuptools is replacing distutils")
