"""Text files to learn from: finding them, and reading their documents with every damage named."""

import glob
import gzip
import json
import zlib
from pathlib import Path

from files.errors import InputError

TEXT_ENDINGS = (".txt", ".text", ".jsonl", ".json")  # of files in a folder, also with .gz behind them


def find_files(inputs):
    """Files, folders (their text files, at any depth) and glob patterns → list of Paths, sorted within each."""
    found = []
    for given in map(str, inputs):
        path = Path(given)
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.is_file())
            files = [file for file in inside if file.name.removesuffix(".gz").endswith(TEXT_ENDINGS)]
        elif path.exists():
            files = [path]
        else:
            files = sorted(Path(name) for name in glob.glob(given, recursive=True) if Path(name).is_file())
        if not files:
            wanted = f"no files that end in {', '.join(TEXT_ENDINGS)}, .gz" if path.is_dir() else "no such file"
            raise InputError(f"{given}: {wanted}")
        found += files
    return list(dict.fromkeys(found))


class Lines:
    """The lines of a file, decoded, one by one. `position`: bytes of the file that were read; `number`: of the line."""

    def __init__(self, path):
        self.path, self.position, self.number = path, 0, 0

    def __iter__(self):
        self.number = 1
        try:
            with open(self.path, "rb") as raw:
                for line in gzip.GzipFile(fileobj=raw) if str(self.path).endswith(".gz") else raw:
                    self.position = raw.tell()
                    yield line.decode("utf-8-sig" if self.number == 1 else "utf-8").strip()
                    self.number += 1
        except UnicodeDecodeError as error:
            raise InputError(
                f"{self.path}, line {self.number}: byte {error.start + 1} is not UTF-8; convert the file"
            ) from None
        except (OSError, EOFError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{self.path}, line {self.number}: can't be read ({reason})") from None


SNIFFED = 10_000  # lines among which an empty one says that documents end at empty lines


def paragraphs(lines):
    """Yields the paragraphs of a file's documents, and None after each document.

    Files named .json or .jsonl hold a JSON object with "text" in each line. Other text has a paragraph a line and empty
    lines between documents or, where its first lines hold no empty one, a document a line.
    """
    if str(lines.path).removesuffix(".gz").endswith((".json", ".jsonl")):
        for line in lines:
            if line:
                yield from _text_of(line, lines)
                yield None
        return
    first = [line for line, _ in zip(lines, range(SNIFFED), strict=False)]
    document_a_line = "" not in first
    for line in lines:
        if line:
            yield line
        if document_a_line or not line:
            yield None
    yield None


def _text_of(line, lines):
    try:
        entry = json.loads(line)
        text = entry["text"]
    except json.JSONDecodeError as error:
        raise InputError(f"{lines.path}, line {lines.number}: not JSON ({error.msg})") from None
    except (KeyError, TypeError):
        raise InputError(f'{lines.path}, line {lines.number}: no object with a "text"') from None
    if not isinstance(text, str):
        raise InputError(f'{lines.path}, line {lines.number}: "text" is no string')
    return [part.strip() for part in text.splitlines() if part.strip()]
