"""The fast path on a CPU: loops that numba compiles, matrix products, and the functions made of both.

`layers.fast_path` decides when they run and is the only one to import them; how a kernel is written and registered is
in `compiler`.
"""
