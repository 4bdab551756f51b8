"""JSON files: read with errors that name file and line, written whole or not at all."""

import json
from pathlib import Path

from files.atomic import atomic_file
from files.errors import InputError


def read_json(path):
    """Parses a JSON file. Raises InputError naming the file and the line."""
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from None


def write_json(path, content):
    """Writes `content` as indented JSON in UTF-8, atomically."""
    with atomic_file(path) as file:
        file.write((json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
