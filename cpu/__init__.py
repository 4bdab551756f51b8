"""The fast path on a CPU: loops that numba compiles, matrix products, and the functions made of both.

`layers.fast_path` decides when they run and is the only one to import them. How a kernel is written and registered is
in `compiler`; how half a layer is made of kernels and products, one call without Python, in `programs` and `steps`.
"""
