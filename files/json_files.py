"""JSON files: read with errors that name file and line, written whole or not at all."""

import json
import math
from pathlib import Path

from files.atomic import atomic_file
from files.errors import InputError
from files.stand_ins import refuse_stand_in


def read_json(path):
    """Parses a JSON file. Raises InputError naming the file and the line."""
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.start})") from None
    except json.JSONDecodeError as error:
        refuse_stand_in(path, Path(path).read_bytes())
        raise InputError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from None


def read_json_object(path):
    """The same, of a file that must hold a JSON object."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a JSON object")
    return content


def write_json(path, content):
    """Writes `content` as indented JSON in UTF-8, atomically; NaN and infinity, which JSON has not, become null."""
    with atomic_file(path) as file:
        file.write((json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def _finite(content):
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    return [_finite(value) for value in content] if isinstance(content, (list, tuple)) else content
