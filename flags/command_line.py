"""What every script's command line shares: flags whose help shows defaults, and errors that are one line.

Exit status: 0 done; 1 a check failed; 2 bad usage or bad input; 130 interrupted.
"""

import argparse
import functools
import os
import sys

from files.errors import InputError


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action):
        return action.help if action.default is None else super()._get_help_string(action)


class ArgumentParser(argparse.ArgumentParser):
    """argparse with defaults in the help, no abbreviations, and one line instead of a screen for a wrong flag."""

    def __init__(self, description):
        super().__init__(description=description, allow_abbrev=False, formatter_class=_HelpFormatter)

    def error(self, message):
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def script(main):
    """Decorates a script's `main(argv=None)`: bad input and what the system refuses become one line and status 2."""

    @functools.wraps(main)
    def guarded(argv=None):
        try:
            return main(argv) or 0
        except InputError as error:
            print(f"{os.path.basename(sys.argv[0])}: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        except BrokenPipeError:  # the reader of our output went away, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except OSError as error:
            if error.errno is None:  # Paddle's own errors, which are defects
                raise
            where = f": {error.filename}" if error.filename else ""
            print(f"{os.path.basename(sys.argv[0])}: {error.strerror}{where}", file=sys.stderr)
            return 2

    return guarded
