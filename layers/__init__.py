"""What models are built of: configuration, functions, dense layers, the choice of path, loading and saving.

Nothing here knows `modeling`; `configuration` and `fast_path` are for others too.
"""
