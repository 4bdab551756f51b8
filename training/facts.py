"""What results are kept beside: versions, hardware, memory."""

import runtime

import platform
import resource
import sys
from importlib.metadata import PackageNotFoundError, version

import paddle

from cpu.machine import processor_name
from layers import fast_path


def run_facts():
    """Versions, hardware and peak memory of this process, to be kept beside results."""
    packages = {}
    for package in ("paddlepaddle", "paddlepaddle-gpu", "paddlenlp", "numpy", "tokenizers"):
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            continue
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB; bytes on macOS
    return {
        "versions": {"python": platform.python_version(), **packages},
        "machine": {
            "processor": processor_name(),
            "cores": runtime.cores(),
            "device": paddle.get_device(),
            "setup": runtime.summary(),
            "compiled_loops": fast_path.loaded(),
            "products": fast_path.product_library(),
        },
        **_device_peak(),
        "peak_memory_mb": round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1),
    }


def _device_peak():
    """Most memory that was allocated on a device that is no CPU, where Paddle counts it."""
    if paddle.get_device() == "cpu":
        return {}
    counted = getattr(paddle.device, "max_memory_allocated", None)  # Paddle 3's, for every kind
    if counted is None and paddle.get_device().startswith("gpu"):
        counted = paddle.device.cuda.max_memory_allocated
    return {"device_peak_memory_mb": round(counted() / 2**20, 1)} if counted else {}
