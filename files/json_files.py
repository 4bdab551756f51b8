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


def json_lines(name, lines):
    """(where, dict) of every line that is not empty. lines: an iterable of bytes; name: of their file, for messages.

    Raises InputError: a line is not UTF-8, not JSON, no object, or holds half a character.
    """
    for number, line in enumerate(lines, 1):
        where = f"{name}, line {number}"
        try:
            line = line.decode("utf-8-sig" if number == 1 else "utf-8")
            if not line.strip():
                continue
            record = json.loads(line)
        except UnicodeDecodeError:
            raise InputError(f"{where}: not UTF-8; convert the file") from None
        except json.JSONDecodeError as error:
            raise InputError(f"{where}: not JSON ({error.msg}); an object a line is wanted") from None
        except RecursionError:
            raise InputError(f"{where}: nested too deeply") from None
        if not isinstance(record, dict):
            raise InputError(f"{where}: must be a JSON object, not {shortened(record)}")
        require_whole_characters(where, json.dumps(record, ensure_ascii=False))
        yield where, record


def require_whole_characters(where, text):
    """Raises InputError where a text has one half of a character alone, as JSON can say it: it is no Unicode."""
    if message := half_character(text):
        raise InputError(f"{where}: {message}")


def half_character(text):
    """What is wrong with a text that has one, else None."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"\\u{ord(text[error.start]):04x} is half a character, cut apart by whatever wrote the file; mend it"
    return None


def shortened(value, most=40):
    """JSON of a value, for messages."""
    words = json.dumps(value, ensure_ascii=False)
    return words if len(words) <= most else f"{words[:most]}…"


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
