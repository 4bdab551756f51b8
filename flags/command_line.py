"""What every script's command line shares: flags whose help shows defaults, and errors that are one line.

Exit status: 0 done; 1 a check failed; 2 bad usage or bad input; 130 interrupted.
"""

import argparse
import functools
import json
import math
import os
import re
import signal
import sys

from files.errors import InputError

FLAG = argparse.BooleanOptionalAction  # --flag/--no-flag
MOST_WITHOUT = 5  # flags of a script that takes no file of them


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action):
        return action.help if action.default is None else super()._get_help_string(action)


class ArgumentParser(argparse.ArgumentParser):
    """argparse with defaults in the help, no abbreviations, and one line instead of a screen for a wrong flag.

    With more than MOST_WITHOUT flags it takes them from a file too, --config, such as --print_config writes.

    texts: arguments are texts, which may begin with a dash; what looks like a misspelt flag is still refused.
    """

    def __init__(self, description, texts=False):
        super().__init__(description=description, allow_abbrev=False, formatter_class=_HelpFormatter)
        self._texts, self._settings = texts, None

    def parse_args(self, args=None, namespace=None):
        """As argparse does; raises InputError where --config names a file that is no such, or ends with its flags."""
        found = self.first_look(args)
        wanted = vars(found).pop("print_config", False)
        vars(found).pop("config", None)
        if wanted:
            names = [action.dest for action in self._actions if action.option_strings and action.dest in vars(found)]
            print(json.dumps({name: getattr(found, name) for name in names}, indent=2, ensure_ascii=False))
            self.exit()
        return found

    def first_look(self, args=None):
        """The same, but for what --print_config does."""
        if self._settings is None and sum(bool(action.option_strings) for action in self._actions) > MOST_WITHOUT + 1:
            self._settings = self.add_argument_group("settings in a file")
            self._settings.add_argument(
                "--config", metavar="FILE", help=".json, .yaml or .toml of flags, or a run's results.json"
            )
            self._settings.add_argument(
                "--print_config", action="store_true", default=False, help="print the flags as such a file, and end"
            )
        if self._settings is not None:
            look = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
            look.add_argument("--config", nargs="?")
            path = look.parse_known_args(args)[0].config
            if path:
                from flags.settings_file import defaults, read_settings

                values = defaults(path, read_settings(path), self._actions)
                self.set_defaults(**values)
                for action in self._actions:
                    action.required = action.required and action.dest not in values
        return super().parse_args(args)

    def _parse_optional(self, arg_string):
        known = arg_string.partition("=")[0] in self._option_string_actions
        if self._texts and arg_string.startswith("-") and not known:
            if re.fullmatch(r"--[A-Za-z][\w-]*(=.*)?", arg_string, re.DOTALL):
                self.error(f"unknown flag {arg_string}; if it is a text, write -- before the texts")
            return None  # what argparse calls a positional argument
        return super()._parse_optional(arg_string)

    def error(self, message):
        message = re.sub(r"^argument (--\w+)\S*: must", r"\1 must", message)  # what the types below say
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def at_least(smallest):
    """A flag's type: a whole number from `smallest` on."""

    def parse(text):
        value = int(text)
        if value < smallest:
            raise argparse.ArgumentTypeError(f"must be at least {smallest}, not {value}")
        return value

    parse.__name__ = "int"  # what argparse calls anything else
    return parse


def from_zero(text):
    """A flag's type: a finite number from 0 on."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number from 0, not {value}")
    return value


from_zero.__name__ = "float"


def within(interval):
    """A flag's type: a number from an interval, written as in "[0, 1)"."""
    lowest, highest = (float(word) for word in interval[1:-1].split(","))

    def parse(text):
        value = float(text)
        above = lowest <= value if interval[0] == "[" else lowest < value
        below = value <= highest if interval[-1] == "]" else value < highest
        if not (above and below):
            raise argparse.ArgumentTypeError(f"must lie in {interval}, not {value}")
        return value

    parse.__name__ = "float"
    return parse


def is_picture(path):
    """Whether a picture can be drawn into a file of this name."""
    return path.lower().endswith((".png", ".svg"))


def add_overwrite(group):
    group.add_argument("--overwrite", action=FLAG, default=False, help="replace files that are there already")


def require_new(overwrite, **files):
    """Raises InputError where a file can't be written or, without `overwrite`, is there; flag's name → path or None."""
    for flag, path in files.items():
        if path is None:
            continue
        if os.path.lexists(path):
            if not os.path.isfile(path):
                raise InputError(f"--{flag} {path}: is there, and no file; take another name")
            if not overwrite:
                raise InputError(f"--{flag} {path}: is there already; add --overwrite, or take another name")
        if not os.path.isdir(os.path.dirname(path) or "."):
            raise InputError(f"--{flag} {path}: its folder does not exist; make it first")


_command = []


def command_line():
    """The script that this process runs, and its arguments; [] outside of one."""
    if not _command:
        return []
    name, argv = _command
    return [name, *(sys.argv[1:] if argv is None else argv)]


def script(main):
    """Decorates a script's `main(argv=None)`: bad input and what the system refuses become one line and status 2."""

    @functools.wraps(main)
    def guarded(argv=None):
        import runtime  # which ends the process on Windows, and says what to do there

        _command[:] = os.path.basename(main.__code__.co_filename), argv
        try:
            if signal.getsignal(signal.SIGINT) is runtime.end_at_once:
                signal.signal(signal.SIGINT, signal.default_int_handler)
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
        finally:
            _command.clear()

    return guarded
