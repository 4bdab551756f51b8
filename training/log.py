"""The published lines on stdout, and the progress bar on stderr."""

import sys

from tqdm import tqdm


def progress(total, start=0, shown=True):
    """A tqdm bar on stderr with speed and remaining time; none when stderr is not a terminal."""
    hidden = not (shown and sys.stderr.isatty())
    return tqdm(total=total, initial=start, unit="step", disable=hidden, file=sys.stderr)


def log(line):
    """Prints one of the published lines to stdout, above the progress bar."""
    tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()
