"""Other implementations, and how ours is held against them: in numbers (`parity`, for compare.py), in speed (`peers`, for
benchmark.py).
"""
