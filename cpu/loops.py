"""The compiled loops, as attributes of `loops`; those of bfloat16 are compiled when a step first works in it."""

from cpu import (  # noqa: F401  (register)
    attention_kernels,
    compiler,
    inference_kernels,
    optimizer_kernels,
    product_kernels,
    program_kernels,
    row_kernels,
    token_kernels,
    word_kernels,
)

loops = compiler.load()
