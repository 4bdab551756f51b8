"""What this processor is called and can do."""

import runtime

import platform


def processor_name():
    """The processor as its maker calls it, as far as the system tells."""
    return runtime.processor().get("model name") or platform.processor() or platform.machine()


def has_bfloat16():
    """Whether the processor has instructions for bfloat16 products; without, oneDNN would be slower than in float32."""
    return _has("avx512_bf16", "amx_bf16")


def has_int8():
    """Whether it has instructions for products of 8-bit integers that add up without cutting sums off."""
    return _has("avx512_vnni", "avx_vnni", "amx_int8")


def _has(*flags):
    return not set(flags).isdisjoint(runtime.processor().get("flags", "").split())
