"""Other implementations, and how ours is held against them.

`parity` in numbers, for compare.py; `peers`, each in a process of its own, in speed, for benchmark.py.
"""
