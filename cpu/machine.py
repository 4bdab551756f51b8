"""What this processor is called and can do."""

import runtime

import platform


def processor_name():
    """The processor as its maker calls it, as far as the system tells."""
    return runtime.processor().get("model name") or platform.processor() or platform.machine()


def has_bfloat16():
    """Whether the processor has instructions for bfloat16 products; without, oneDNN would be slower than in float32."""
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(runtime.processor().get("flags", "").split())
