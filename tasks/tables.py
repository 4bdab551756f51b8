"""Tables of anyone's own: CSV, TSV, JSON lines and arrays of JSON records, as rows of text.

CSV knows quotes, which may hold separators and line ends, and is separated by what its header is: commas, semicolons,
tabs or bars. In TSV, as in GLUE, quotes are data. Both begin with a header.
"""

import codecs
import csv
import io
import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from files.errors import InputError
from files.json_files import half_character
from files.stand_ins import refuse_stand_in
from tasks.labels import tidy

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
ROWS_TO_TELL = 1000  # of a CSV file, from which its separator is told
ARRAYS = ("data", "rows", "examples", "records")  # what an object may call its array of records, among other entries
NO_LABEL, BAD = "without a label", "bad"  # why rows are left out


class Row(NamedTuple):
    line: int  # where it begins in its file
    values: dict  # column → text


class Rows(list):
    """Row after Row, and what was found on the way.

    columns: all names, in order of appearance; header: the line that has them, 0 if each row has its own; note: what
    was guessed of the form, or ""; left_out: BAD → how many rows that can't be used; first_bad: what is wrong with the
    first of them.
    """

    def __init__(self, skip_bad_rows=False):
        super().__init__()
        self.columns, self.header, self.note, self.left_out, self.first_bad = [], 0, "", Counter(), ""
        self._skip = skip_bad_rows

    def refuse(self, path, line, message):
        """A row that can't be used: counted, or an InputError."""
        if not self._skip:
            raise InputError(f"{path}, line {line}: {message}")
        self.left_out[BAD] += 1
        self.first_bad = self.first_bad or f"line {line}: {message}"


def read_rows(path, skip_bad_rows=False):
    """The Rows of a .csv, .tsv, .jsonl or .json file. Raises InputError naming file and line.

    skip_bad_rows: those with a wrong number of columns, or that aren't JSON, are left out and counted.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise InputError(f"{path}: unknown kind of file; known are {', '.join(READERS)}{_hint_for_text(path)}")
    try:
        content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror})") from None
    refuse_stand_in(path, content)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line}: not UTF-8; convert the file") from None
    rows = Rows(skip_bad_rows)
    if text.strip():
        if suffix in (".csv", ".tsv") and "\r" in text.partition("\n")[0].rstrip("\r"):
            raise InputError(f"{path}, line 1: its lines end in \\r alone, as on old Macs; save it with \\n")
        READERS[suffix](path, text, rows)
    if not rows:
        left = f"; {rows.left_out[BAD]} can't be used ({rows.first_bad})" if rows.left_out else ""
        raise InputError(f"{path}: no examples in it{left}")
    return rows


def _hint_for_text(path):
    """For SNLI's and MNLI's own .txt."""
    try:
        with open(path, "rb") as file:
            header = file.readline(2000)
    except OSError:
        return ""
    return f"; {SNLI_HINT}" if header.startswith(b"gold_label\t") else ""


SNLI_HINT = "SNLI's and MNLI's text files have rows of many lengths: take the .jsonl that comes with them"

# ---------------------------------------------------------------------------------------------------------- CSV and TSV


def _read_csv(path, text, rows):
    csv.field_size_limit(sys.maxsize)
    first, _, rest = text.partition("\n")
    skipped = 0
    if named := re.fullmatch(r"sep=(.)\r?", first, re.IGNORECASE):  # Excel's own first line
        separator, text, skipped = named[1], rest, 1
    else:
        separator = _separator(text)
    if separator != ",":
        rows.note = f"separated by {SEPARATORS.get(separator, repr(separator))}"
    reader = _csv_reader(text, separator)
    try:
        header = next(reader, [""])
        columns = _columns(path, 1 + skipped, header, rows)
        begin, blank = reader.line_num + 1, []
        for cells in reader:
            if len(cells) <= 1 and not "".join(cells).strip() and (len(header) > 1 or not cells):
                blank.append(begin + skipped)
            else:
                _empty_texts(blank, columns, rows)
                _add(path, begin + skipped, columns, cells, rows)
            begin = reader.line_num + 1
        _empty_texts(blank, columns, rows)
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num + skipped}: not CSV ({error})") from None


def _csv_reader(text, separator):
    header = text.partition("\n")[0]
    blanks = re.search(re.escape(separator) + r' +"', header) is not None  # else those quotes would be data
    return csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator, skipinitialspace=blanks)


def _separator(text):
    """A comma if there is one in the header and the rows agree, else what splits header and rows alike."""
    widths = {}
    for separator in SEPARATORS:
        reader, found = _csv_reader(text, separator), set()
        try:
            header = next(reader)
            for _, cells in zip(range(ROWS_TO_TELL), reader, strict=False):
                if cells:
                    found.add(len(cells))
        except csv.Error:
            found.add(-1)
            header = next(csv.reader([text.partition("\n")[0]], delimiter=separator))
        if len(header) > 1:
            widths[separator] = len(header), found <= {len(header)}
    agreeing = [separator for separator, (_, agrees) in widths.items() if agrees]
    if agreeing:
        return agreeing[0]
    return "," if "," in widths or not widths else max(widths, key=lambda separator: widths[separator][0])


def _read_tsv(path, text, rows):
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    header = lines[0].split("\t")
    if any(len(name) > 1 and name[0] == name[-1] == '"' for name in header):
        raise InputError(f"{path}, line 1: {QUOTED}")
    if len(header) == 1 and any(mark in lines[0] for mark in ",;|"):
        raise InputError(f"{path}, line 1: no tab in it; separated otherwise, it is CSV: call it .csv")
    columns, blank, quoted, always = _columns(path, 1, header, rows), [], 0, set(range(len(header)))
    for number, line in enumerate(lines[1:], start=2):
        if not line or (len(header) > 1 and not line.strip(" ")):
            blank.append(number)
            continue
        _empty_texts(blank, columns, rows)
        cells = line.split("\t")
        hint = ""
        if len(cells) != len(header) and any(cell.count('"') % 2 for cell in cells):
            hint = f"; {QUOTED}"
        elif len(cells) != len(header) and {"gold_label", "sentence1"} <= set(columns):
            hint = f"; {SNLI_HINT}"
        quoted = quoted or (number if any(_spreadsheet_quoted(cell) for cell in cells) else 0)
        always &= {index for index, cell in enumerate(cells) if _quoted(cell)}
        _add(path, number, columns, cells, rows, hint)
    _empty_texts(blank, columns, rows)
    if quoted:
        rows.note = f"line {quoted} looks quoted by a spreadsheet: {QUOTED}"
    elif rows and always and (len(rows) > 1 or len(always) == len(header)):
        rows.note = f"all of {', '.join(repr(columns[index]) for index in sorted(always))} is in quotes: {QUOTED}"


QUOTED = "quotes are data in a .tsv; if a spreadsheet put them there, call the file .csv (tabs are recognised)"


def _quoted(cell):
    """Whether a cell is in quotes as a whole."""
    return len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in cell[1:-1].replace('""', "")


def _spreadsheet_quoted(cell):
    """Whether a cell is one that a spreadsheet's quotes were put around, as its own had to be doubled."""
    return _quoted(cell) and '""' in cell[1:-1]


def _columns(path, line, header, rows):
    """The names of a header, without blanks around them; columns without a name, as spreadsheets leave, stay ""."""
    columns = [tidy(name) for name in header]
    names = [name for name in columns if name]
    if not names:
        raise InputError(f"{path}, line {line}: no names of columns; they belong here")
    if len(set(names)) < len(names):
        raise InputError(f"{path}, line {line}: two columns have the same name ({', '.join(names)})")
    rows.columns, rows.header = names, line
    return columns


def _empty_texts(blank, columns, rows):
    """Empty lines between rows and at the end: of a single column they are empty texts."""
    if len(columns) == 1:
        rows += [Row(line, {columns[0]: ""}) for line in blank]
    blank.clear()


def _add(path, line, columns, cells, rows, hint=""):
    if len(cells) != len(columns):
        wrong = f"{len(cells)} columns where {len(columns)} belong ({', '.join(columns)})"
        rows.refuse(path, line, wrong + hint)
    else:
        rows.append(Row(line, {name: cell for name, cell in zip(columns, cells, strict=True) if name}))


# ----------------------------------------------------------------------------------------------------------------- JSON


def _read_json(path, text, rows):
    """One object a line, or one array of them, however it is laid out, also as `data` of one object."""
    if text.lstrip().startswith("["):
        _read_array(path, text, rows, text.index("["))
    elif (begin := _inner_array(text)) is not None:
        _read_array(path, text, rows, begin)
    else:
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                try:
                    _add_object(path, number, json.loads(line), rows)
                except json.JSONDecodeError as error:
                    rows.refuse(path, number, f"not JSON ({error.msg}); one object a line, or an array of objects")
                except RecursionError:
                    rows.refuse(path, number, "nested too deeply")
    rows.columns = list(dict.fromkeys(name for _, values in rows for name in values))


def _skipped(text, position):
    """The position after blanks and line ends."""
    return re.compile(r"[ \t\r\n]*").match(text, position).end()


def _inner_array(text):
    """Where in one object, which is the whole file, the one array of records begins; None if it is no such file."""
    try:
        whole = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return None
    if not isinstance(whole, dict):
        return None
    arrays = [key for key, value in whole.items() if _are_records(value)]
    if len(whole) > 1:  # a row of its own may have such a column
        arrays = [key for key in arrays if key.lower() in ARRAYS]
    if len(arrays) != 1:
        return None
    decoder, position = json.JSONDecoder(), text.index("{") + 1
    while True:
        key, position = decoder.raw_decode(text, _skipped(text, position))
        begin = _skipped(text, _skipped(text, position) + 1)
        if key == arrays[0] and text[begin] == "[":
            return begin
        position = _skipped(text, decoder.raw_decode(text, begin)[1]) + 1


def _are_records(value):
    return isinstance(value, list) and any(isinstance(record, dict) for record in value)


def _read_array(path, text, rows, begin):
    decoder, line, seen, position = json.JSONDecoder(), 1, 0, begin + 1

    def skip(position):
        return _skipped(text, position)

    try:
        position = skip(position)
        while text[position : position + 1] != "]":
            line, seen = line + text.count("\n", seen, position), position
            value, position = decoder.raw_decode(text, position)
            _add_object(path, line, value, rows)
            position = skip(position)
            if text[position : position + 1] == ",":
                position = skip(position + 1)
            elif text[position : position + 1] != "]":
                raise json.JSONDecodeError("a comma or ] is missing", text, position)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from None
    except RecursionError:
        raise InputError(f"{path}, line {line}: nested too deeply") from None
    if text[:begin].strip():
        rows.note = "one object: its array of records is read"
    elif text[position + 1 :].strip():
        line = text.count("\n", 0, skip(position + 1)) + 1
        raise InputError(f"{path}, line {line}: not JSON (something follows the array)")


def _add_object(path, line, value, rows):
    if not isinstance(value, dict):
        rows.refuse(path, line, 'not an object like {"text": …, "label": …}')
        return
    values = {tidy(key): _words(part) for key, part in value.items()}
    for word in (word for entry in values.items() for word in entry):
        if message := half_character(word):
            rows.refuse(path, line, message)
            return
    rows.append(Row(line, values))


def _words(value):
    """A JSON value as a file of text would have it."""
    if isinstance(value, str):
        return value
    return "" if value is None else str(value) if isinstance(value, (int, float)) else json.dumps(value)


READERS = {".csv": _read_csv, ".tsv": _read_tsv, ".jsonl": _read_json, ".json": _read_json, ".ndjson": _read_json}
