"""The compiled loops, as attributes of `loops`; those of bfloat16 are compiled when a step first works in it."""

from cpu import compiler, optimizer_kernels, row_kernels, token_kernels, word_kernels  # noqa: F401  (register)

loops = compiler.load()
