"""Flags from a file: JSON, YAML or TOML of their names and values, or the results.json of a run that shall be repeated.

A file's values are a parser's defaults, so the command line wins.
"""

import argparse
import difflib
import json
import re
from pathlib import Path

from files.errors import InputError

FORMATS = ".json", ".yaml", ".yml", ".toml"
NOT_REPEATED = "output_dir", "resume", "overwrite", "config", "print_config"  # of a run's own arguments


def read_settings(path):
    """name → value of a file of flags. Raises InputError: it can't be read, or holds anything else."""
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"--config {path}: unknown kind of file; known are {', '.join(FORMATS)}")
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise InputError(f"--config {path}: can't be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise InputError(f"--config {path}: not UTF-8 (byte {error.start})") from None
    content = _parsed(path, text)
    if not isinstance(content, dict):
        raise InputError(f"--config {path}: must hold names of flags and their values")
    if isinstance(content.get("arguments"), dict):
        content = {name: value for name, value in content["arguments"].items() if name not in NOT_REPEATED}
    return content


def _parsed(path, text):
    suffix = path.suffix.lower()
    try:
        if suffix == ".json":
            return json.loads(text, object_pairs_hook=lambda pairs: _once(path, pairs))
        if suffix == ".toml":
            import tomllib

            return tomllib.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"--config {path}, line {error.lineno}: not JSON ({error.msg})") from None
    except ValueError as error:  # tomllib's, which names the line itself
        raise InputError(f"--config {path}: not TOML ({error})") from None
    return _yaml(path, text)


def _yaml(path, text):
    try:
        import yaml
    except ImportError:
        raise InputError(f"--config {path}: needs PyYAML: pip install pyyaml") from None

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node, deep=False):
            _once(path, [(self.construct_object(key, True), None) for key, _ in node.value])
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader) or {}
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"--config {path}{line}: not YAML ({error.problem})") from None
    except yaml.YAMLError as error:
        raise InputError(f"--config {path}: not YAML ({' '.join(str(error).split())})") from None


def _once(path, pairs):
    names = [str(name) for name, _ in pairs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"--config {path}: {twice} is there twice")
    return dict(pairs)


def defaults(path, settings, actions):
    """dest → value for a parser's defaults.

    Args:
        settings: name → value, with _ or - in names; None: left out.
        actions: the parser's, of flags.

    Raises:
        InputError: an unknown name, or a value that its flag does not take.
    """
    known = {option.lstrip("-").replace("-", "_"): action for action in actions for option in action.option_strings}
    known = {name: action for name, action in known.items() if not name.startswith("no_") and name not in ("h", "help")}
    found = {}
    for name, value in settings.items():
        plain = str(name).lstrip("-").replace("-", "_")
        action = known.get(plain)
        if action is None or plain in ("config", "print_config"):
            near = difflib.get_close_matches(plain, known, 1)
            hint = f"; did you mean {near[0]}?" if near else "; --help names the flags"
            raise InputError(f"--config {path}: unknown flag {name}{hint}")
        if action.dest in found:
            raise InputError(f"--config {path}: {name} is there twice, also by another name")
        if value is not None:
            found[action.dest] = _value(f"--config {path}: {name}", action, value)
    return found


def _value(where, action, value):
    if isinstance(action, argparse.BooleanOptionalAction) or action.nargs == 0:
        if not isinstance(value, bool):
            raise InputError(f"{where} must be true or false, not {_shown(value)}")
        return value
    if action.nargs is None:
        return _single(where, action, value)
    values = value if isinstance(value, list) else [value]
    if not values:
        raise InputError(f"{where} must hold at least one value")
    return [_single(where, action, each) for each in values]


def _single(where, action, value):
    kind = getattr(action.type, "__name__", "str") if action.type else "str"
    wanted = {"int": "a whole number", "float": "a number"}.get(kind, "a text")
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    text = isinstance(value, str)
    if not (text or number) or (number and wanted == "a text") or (isinstance(value, float) and kind == "int"):
        raise InputError(f"{where} must be {wanted}, not {_shown(value)}")
    if not (action.type and callable(action.type)):
        converted = value
    else:
        try:
            converted = action.type(value if text else repr(value))
        except argparse.ArgumentTypeError as error:
            raise InputError(f"{where} {re.sub('^(?!must)', 'is wrong: ', str(error))}") from None
        except ValueError:
            raise InputError(f"{where} must be {wanted}, not {_shown(value)}") from None
    if action.choices is not None and converted not in action.choices:
        raise InputError(f"{where} must be one of {', '.join(map(str, action.choices))}, not {_shown(value)}")
    return converted


def _shown(value):
    words = json.dumps(value, ensure_ascii=False, default=str)
    return words if len(words) <= 40 else f"{words[:40]}…"
