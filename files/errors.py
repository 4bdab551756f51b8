"""The error for what the user gave wrong."""


class InputError(ValueError):
    """Something the user gave can't be used. The message is one line: which file, which line, what to do."""
