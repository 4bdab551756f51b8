"""What lies under a file's name in place of the file: Git LFS pointers, and web pages that a network answered with."""

import re

from files.errors import InputError


def refuse_stand_in(name, start):
    """Raises InputError where the file `name` starts, in bytes, as what only stands in for such a file."""
    if start.startswith(b"version https://git-lfs.github.com/spec/"):
        size = re.search(rb"^size (\d+)", start, re.MULTILINE)
        there = f" of {int(size[1]):,} bytes" if size else ""
        raise InputError(
            f"{name}: a Git LFS pointer, not the file{there} that it stands for; run git lfs pull where it was cloned, "
            "or download it again"
        )
    if re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype\s+)?html", start, re.IGNORECASE):
        raise InputError(f"{name}: a web page, not the file of that name; download it again")
