"""Checkpoints of other libraries: names, formats, and where they come from.

`formats.convert` and `formats.read_checkpoint` are what scripts call; `sources.resolve` makes a folder that
`from_pretrained` loads of anything that a user may name. `weight_names` is the table of all architectures.
"""
