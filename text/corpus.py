"""Text files to learn from: finding them, telling what a document is, and reading them with every damage named."""

import glob
import gzip
import json
import os
import re
import zlib
from pathlib import Path
from typing import NamedTuple

from files.errors import InputError
from files.stand_ins import refuse_stand_in

TEXT_ENDINGS = (".txt", ".text", ".jsonl", ".json", ".ndjson")  # of files in a folder, also with one of PACKED behind
JSON_ENDINGS = (".jsonl", ".json", ".ndjson")
PACKED = (".gz", ".bz2")
PACKED_OTHERWISE = (".xz", ".zst", ".lz4", ".zip", ".7z", ".rar", ".tar", ".tgz", ".tar.gz", ".tar.bz2")
NUMBERED = r"[a-z]+[_-]\d+"  # names without an ending that are read too: WikiExtractor's wiki_00, Spark's part-00000
NO_TEXT = ("vocab.txt",)  # what lies beside texts and looks like one


def find_files(inputs, without=()):
    """Files, folders (their text files, at any depth) and glob patterns → list of Paths, each file once.

    Sorted within each input; of folders, hidden names, vocab.txt and what lies in the paths `without` are left out.
    """
    found, barred = {}, {Path(path).resolve() for path in without}
    for given in map(str, inputs):
        path = Path(given)
        if path.exists():
            files = [path]
        else:
            files = sorted(Path(name) for name in glob.glob(given, recursive=True))
        texts = []
        for file in files:
            if file.is_dir():
                texts += [inner for inner in _inside(file, barred) if _is_text(inner)]
            elif file.is_file():
                texts.append(file)
            elif file.exists():
                raise InputError(f"{file}: a pipe or device, which can't be read twice; write the text to a file first")
        if not texts:
            wanted = f"no files that end in {', '.join(TEXT_ENDINGS + PACKED)}" if files else "no such file"
            raise InputError(f"{given}: {wanted}")
        for text in texts:
            found.setdefault(text.resolve(), text)
    return list(found.values())


def left_out(inputs, files, without=()):
    """The files in the folders among `inputs` that find_files does not take for text."""
    barred, taken = {Path(path).resolve() for path in without}, {path.resolve() for path in files}
    others = {path.resolve(): path for given in inputs for path in _inside(given, barred)}
    return [path for resolved, path in others.items() if resolved not in taken]


def _inside(folder, barred):
    """The files in a folder that are not hidden, links followed, none of them below one of the paths `barred`."""
    found, seen, folder = [], set(), str(folder)
    for place, folders, files in os.walk(folder, followlinks=True):
        home = Path(place).resolve()
        if home in seen or (home in barred and place != folder):
            folders.clear()
            continue
        seen.add(home)
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        paths = (Path(place, name) for name in files if not name.startswith("."))
        found += [path for path in paths if path.is_file() and path.resolve() not in barred]
    return sorted(found)


def _is_text(path):
    name = _unpacked(path)
    return name not in NO_TEXT and (name.endswith(TEXT_ENDINGS) or re.fullmatch(NUMBERED, name) is not None)


def _unpacked(path):
    """A file's name in lower case, without what says how it is packed."""
    name = Path(path).name.lower()
    return name.removesuffix(next((ending for ending in PACKED if name.endswith(ending)), ""))


class Lines:
    """The lines of a file, decoded, one by one. `position`: bytes of the file that were read; `number`: of the line."""

    def __init__(self, path):
        self.path, self.position, self.number = path, 0, 0

    def __iter__(self):
        self.number = 1
        try:
            with open(self.path, "rb") as raw:
                refuse_stand_in(self.path, raw.peek(512)[:512])
                for line in self._unpack(raw):
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

    def _unpack(self, raw):
        name = str(self.path).lower()
        if name.endswith(PACKED_OTHERWISE):
            raise InputError(f"{self.path}: packed in a way that is not read here ({', '.join(PACKED)}); unpack it")
        if name.endswith(".gz"):
            return gzip.GzipFile(fileobj=raw)
        if name.endswith(".bz2"):
            try:
                from bz2 import BZ2File
            except ImportError:  # a Python that was built without it
                raise InputError(f"{self.path}: this Python has no bz2; unpack the file") from None
            return BZ2File(raw)
        return raw


# ------------------------------------------------------------------------------------------------ what is a document

SNIFFED = 2**23  # bytes of text at a file's beginning by which it is decided
STRAY = 200  # lines or more for an empty one: it means nothing
FEW = 10  # empty lines; less of them between long lines mean nothing, unless they are one for ten
SEVERAL = re.compile(r"[.!?…][\"')\]”’»]*\s+\S|[。！？][」』”’）]*\S")  # in a line of several sentences
LONG_LINE = 400  # characters of a line that counts as several sentences
DOCUMENTS = ("auto", "line", "blank")  # what a document may be said to be in plain text
_TAG = re.compile(r"<doc\s+\w+=.*>")  # WikiExtractor's
_BETWEEN = re.compile(r"[\s,]*")  # the values of an array


class Reading(NamedTuple):
    """What a document of a file is: "json" (an object), "tags" (<doc> to </doc>), "line", "blank" (to an empty one)."""

    kind: str
    lines: int = 0  # of text among those that were looked at
    empty: int = 0  # places between these lines that are empty
    cut: bool = False  # whether there is more in the file
    unsure: bool = False  # whether the other one of "line" and "blank" may be meant

    def __str__(self):
        if self.kind in ("json", "tags"):
            return {"json": "an object with a text each", "tags": "each from <doc> to </doc>"}[self.kind]
        words = {"line": "a document a line", "blank": "documents end at empty lines"}[self.kind]
        where = f"{self.lines:,} lines" + (f" of the first {SNIFFED // 2**20} MB" if self.cut else "")
        return f"{words} ({self.empty:,} empty between {where}{'; unsure' * self.unsure}; --documents decides)"


def reading_of(path, documents="auto"):
    """The Reading of a file, by its name and its first SNIFFED bytes.

    JSON is told by the name or how the text begins, WikiExtractor's files by a line <doc id=…>. In other text, for
    "auto", the empty lines tell, and whether most lines hold several sentences, as a document does: see _by_lines.
    Empty lines at the file's ends never count, nor do several in a row count as more than one.
    """
    if _unpacked(path).endswith(JSON_ENDINGS):
        return Reading("json")
    count, empty, after_empty, size, cut, line, opened, several = 0, 0, False, 0, False, "", "", 0
    lines = Lines(path)
    for line in lines:
        size += len(line) + 1
        if line:
            if _opens_json(opened + line) if opened else not count and _is_record(line):
                return Reading("json")
            opened = line if not count and line in ("[", "{") else ""
            if _TAG.fullmatch(line):
                return Reading("tags")
            if "\0" in line:
                raise InputError(f"{path}, line {lines.number}: a NUL byte; is this UTF-8 text? convert the file")
            empty += bool(count and after_empty)
            count += 1
            several += len(line) > LONG_LINE or SEVERAL.search(line) is not None
        after_empty = not line
        if cut := size > SNIFFED:
            break
    if count == 1 and line.count("\r") > 1:
        raise InputError(f"{path}: its lines end in CR alone; convert it: tr '\\r' '\\n' < FILE > NEW")
    unsure = False
    if documents == "auto":
        documents, unsure = _by_lines(count, empty, 2 * several > count)
    return Reading(documents, count, empty, cut, unsure)


def _by_lines(count, empty, long):
    """What a document is in a text of `count` lines, and whether that is unsure.

    Args:
        empty: places between the lines that are empty.
        long: whether most lines hold several sentences: they may be documents, or the paragraphs of some.
    """
    if empty * STRAY <= count:
        return "line", False
    if long:
        ends = 10 * empty > count or (empty >= FEW and 50 * empty > count)
    else:
        ends = 10 * empty >= count or 100 * (empty - 1) >= count
    rare = 20 * empty < count or (empty < 3 and 3 * empty < count)
    return "blank" if ends else "line", rare or not ends


def _is_record(line):
    """Whether a text that begins with this line is JSON: an object a line, or an array of objects."""
    if line.startswith("["):
        return _opens_json(line)
    try:
        return line.startswith("{") and isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _opens_json(text):
    return re.match(r'\[\s*\{\s*("|\}|$)|\{\s*"', text) is not None


def paragraphs(lines, kind=None):
    """Yields the paragraphs of a file's documents, and None after each document.

    kind: of a Reading; left out, that of reading_of.
    """
    kind = kind or reading_of(lines.path).kind
    if kind == "json":
        for entry, number in _records(lines):
            yield from _text_of(entry, f"{lines.path}, line {number}")
            yield None
        return
    for line in lines:
        if kind == "tags" and _TAG.fullmatch(line):
            yield None
            continue
        ends = kind == "line" or (line.endswith("</doc>") if kind == "tags" else not line)
        if text := line.removesuffix("</doc>").rstrip() if kind == "tags" else line:
            yield text
        if ends:
            yield None
    yield None


def _records(lines):
    """The values of JSON lines, or of an array that the file holds, each with the number of the line it begins in."""
    more = iter(lines)
    for line in more:
        if line.startswith("["):
            yield from _elements(line[1:], more, lines)
        elif line:
            try:
                yield json.loads(line), lines.number
            except json.JSONDecodeError as error:
                raise InputError(f"{lines.path}, line {lines.number}: not JSON ({error.msg})") from None


def _elements(text, more, lines):
    """The values of an array, one in memory at a time: `text` behind its bracket, then `more` lines."""
    decoder, start = json.JSONDecoder(), lines.number
    while True:
        place, problem = 0, None
        while (place := _BETWEEN.match(text, place).end()) < len(text):
            if text[place] == "]":
                return
            try:
                value, after = decoder.raw_decode(text, place)
            except json.JSONDecodeError as error:
                problem = error
                break
            yield value, start + text.count("\n", 0, place)
            place = after
        start += text.count("\n", 0, place)
        whole = problem and problem.pos < len(text.rstrip()) - 1 and not problem.msg.startswith("Unterminated")
        text = text[place:]
        line = None if whole else next(more, None)
        while line and "}" not in line and "]" not in line:  # nothing ends here
            text, line = f"{text}\n{line}", next(more, None)
        if line is None:
            reason = problem.msg if problem else "its array does not end"
            raise InputError(f"{lines.path}, line {start}: not JSON ({reason})")
        if not text:
            start = lines.number
        text = f"{text}\n{line}" if text else line


def _text_of(entry, where):
    if not isinstance(entry, dict) or "text" not in entry:
        raise InputError(f'{where}: no object with a "text"')
    text = entry["text"]
    if not isinstance(text, str):
        raise InputError(f'{where}: "text" is no string')
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f'{where}: "text" holds half a character (a lone surrogate)') from None
    return [part.strip() for part in text.splitlines() if part.strip()]
