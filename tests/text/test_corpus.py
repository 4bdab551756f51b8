"""Text files: which are found, and what is a document in them."""

import bz2
import gzip
import json
import os
import re
import tracemalloc

import numpy as np
import pytest
from conftest import ROOT, documents

from files.errors import InputError
from text import corpus
from text.corpus import Lines, find_files, left_out, paragraphs, reading_of
from text.vocabulary import train_vocabulary

EXPECTED = [["First paragraph.", "Second one."], ["Another document."]]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "First paragraph.\nSecond one.\n\nAnother document.\n"),
        ("a.txt", "\n\nFirst paragraph.\r\n  Second one.\r\n\r\n\r\nAnother document."),
        ("a.jsonl", '{"text": "First paragraph.\\nSecond one.", "id": 1}\n\n{"text": "Another document."}\n'),
        ("a.json", '{"text": "First paragraph.\\n\\nSecond one."}\n{"text": "Another document."}\n{"text": ""}'),
        ("a.json", '[{"text": "First paragraph.\\nSecond one."}, {"text": "Another document."}]'),
        (
            "a.json",
            '[\n  {\n    "text": "First paragraph.\\nSecond one."\n  },\n  {\n    "text": "Another document."\n  }\n]',
        ),
        ("a.NDJSON", '{"text": "First paragraph.\\nSecond one."}\n{"text": "Another document."}'),
        (
            "wiki_00",
            '{"id": "1", "text": "First paragraph.\\nSecond one."}\n{"id": "2", "text": "Another document."}\n',
        ),
        ("a.txt", '{"text": "First paragraph.\\nSecond one."}\n{"text": "Another document."}\n'),
        (
            "wiki_00",
            '<doc id="1" url="https://x.org/?a=1" title="A > B">\nFirst paragraph.\n\nSecond one.\n\n</doc>\n'
            '<doc id="2" url="" title="">\n\nAnother document.\n</doc>\n',
        ),
        (
            "a.txt",
            "First paragraph.\nSecond one.</doc>\n<doc id='2'>\nAnother document.",  # cut at both ends
        ),
    ],
)
@pytest.mark.parametrize(("packed", "pack"), [("", bytes), (".gz", gzip.compress), (".BZ2", bz2.compress)])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_documents(tmp_path, name, content, packed, pack, mark):
    path = tmp_path / f"{name}{packed}"
    path.write_bytes(pack(mark + content.encode()))
    assert documents(path) == EXPECTED


def test_without_empty_lines_a_document_is_a_line(tmp_path):
    (tmp_path / "a.txt").write_text("One document.\nAnother.\n")
    assert documents(tmp_path / "a.txt") == [["One document."], ["Another."]]


def test_files_folders_and_patterns(tmp_path):
    for name in ("b/c/two.txt", "b/one.txt.gz", "b/three.jsonl", "b/not.csv", "d.text", "e"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    names = [path.relative_to(tmp_path).as_posix() for path in find_files([tmp_path / "b", tmp_path / "e"])]
    assert names == ["b/c/two.txt", "b/one.txt.gz", "b/three.jsonl", "e"]
    assert find_files([tmp_path / "b/*.jsonl", tmp_path / "b/three.jsonl"]) == [tmp_path / "b/three.jsonl"]
    (tmp_path / "empty").mkdir()
    for given, message in (("nothing", "no such file"), ("*.xyz", "no such file"), ("empty", "no files that end in")):
        with pytest.raises(InputError, match=message):
            find_files([tmp_path / given])


# ------------------------------------------------------------------------------------------------------- plain text


LINES = [f"Document number {number}." for number in range(200)]
ARTICLES = [f"{line}\nIts second paragraph.\n" for line in LINES]


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        (LINES, "line"),
        ([*LINES, ""], "line"),
        (["", "", *LINES, "", " ", ""], "line"),
        ([*LINES[:90], "", *LINES[90:]], "line"),
        ([*LINES[:90], "", " ", "\t", "", *LINES[90:], ""], "line"),
        ([*LINES[:20], "", *LINES[20:90], "", *LINES[90:]], "line"),
        (["", *LINES[:30], "", *LINES[30:50]], "line"),
        ([*LINES[:50], "", *LINES[50:90], "", *LINES[90:130], "", *LINES[130:]], "blank"),
        (LINES[:1], "line"),
        ([*LINES[:1], "", ""], "line"),
        (["one", "two", "", "three"], "blank"),
        (ARTICLES, "blank"),
        (["", *ARTICLES, ""], "blank"),
        (["\n".join(LINES[:60]) + "\n"] * 8, "blank"),  # long documents
    ],
)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_share_of_empty_lines_says_what_a_document_is(tmp_path, lines, kind, packed, end):
    data = "".join(f"{line}\n" for line in lines).replace("\n", end).encode()
    path = tmp_path / ("a.txt.gz" if packed else "a.txt")
    path.write_bytes(gzip.compress(data) if packed else data)
    assert reading_of(path).kind == kind
    assert {reading_of(path, given).kind for given in ("line", "blank")} == {"line", "blank"}  # the flag decides
    text = data.decode().split(end)
    wanted = sum(bool(line.strip()) for line in text)
    if kind == "blank":
        wanted = len(re.split(r"\n(?:\s*\n)+", "\n".join(text).strip()))
    assert len(documents(path)) == wanted


def with_empty(line, count, empty):
    """`count` lines with `empty` ones between them, evenly."""
    lines = [f"{line} {number}" for number in range(count)]
    return "\n".join("\n".join(map(str, part)) + "\n" for part in np.array_split(lines, empty + 1))


@pytest.mark.parametrize(
    ("line", "count", "empty", "kind", "unsure"),
    [
        *(
            ("The film is good. The plot is new. So is number", *numbers, "line", True)
            for numbers in ((200, 3), (200, 4), (200, 5), (200, 8), (100, 3), (50, 2), (20, 2), (10, 1), (1000, 12))
        ),
        ("电影很好。情节新颖。", 200, 8, "line", True),
        ("The film is good. The plot is new.", 2000, 10, "line", False),
        ("The film is good. The plot is new.", 200, 19, "blank", False),
        ("The film is good. The plot is new.", 1000, 40, "blank", True),
        ("The film is good, says number", 200, 3, "blank", True),  # documents of 50 lines, a sentence each
        ("The film is good, says number", 200, 19, "blank", False),
        ("The film is good, says number", 2000, 10, "line", False),
        ("word " * 100, 200, 8, "line", True),  # without full stops
    ],
)
def test_whole_documents_are_longer_than_a_sentence(tmp_path, line, count, empty, kind, unsure):
    (tmp_path / "a.txt").write_text(with_empty(line, count, empty))
    reading = reading_of(tmp_path / "a.txt")
    assert (reading.kind, reading.lines, reading.empty, reading.unsure) == (kind, count, empty, unsure)
    assert ("; unsure; --documents decides" in str(reading)) == unsure
    assert not reading_of(tmp_path / "a.txt", "line").unsure


def test_the_sample_s_documents_end_at_empty_lines():
    reading = reading_of(ROOT / "samples/corpus.txt")
    assert (reading.kind, reading.unsure) == ("blank", False)


@pytest.mark.parametrize(
    "content",
    [
        '[{"text": "One."}, {"text": "Two."}]',
        '\n [ \n\n {\n"text": "One."},\n{"text": "Two."}\n]\n',
        '[{"text": "One."},\n{"text": "Two."}]',
        '[\n {\n "text":\n "One."}, {"text": "Two."}]',
    ],
)
def test_an_array_by_any_name(tmp_path, content):
    (tmp_path / "a.txt").write_text(content)
    assert documents(tmp_path / "a.txt") == [["One."], ["Two."]]


def test_brackets_in_plain_text(tmp_path):
    (tmp_path / "a.txt").write_text("[1] A note.\n{x} and [y]\n[\nword\n")
    assert len(documents(tmp_path / "a.txt")) == 4


def test_what_was_read_is_said(tmp_path):
    (tmp_path / "a.txt").write_text("".join(f"{line}\n" for line in [*LINES[:90], "", *LINES[90:], ""]))
    (tmp_path / "b.txt").write_text("one\ntwo\n\nthree\n")
    assert str(reading_of(tmp_path / "a.txt")) == "a document a line (1 empty between 200 lines; --documents decides)"
    assert str(reading_of(tmp_path / "b.txt")).startswith("documents end at empty lines (1 empty between 3 lines; ")


def test_only_the_beginning_of_a_file_decides(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "SNIFFED", 2000)
    (tmp_path / "a.txt").write_text("\n".join([*LINES, *ARTICLES]))
    assert reading_of(tmp_path / "a.txt").kind == "line"
    assert reading_of(tmp_path / "a.txt").lines < 120
    assert "lines of the first 0 MB; " in str(reading_of(tmp_path / "a.txt"))
    (tmp_path / "b.txt").write_text("\n".join([*ARTICLES, *LINES]))
    assert reading_of(tmp_path / "b.txt").kind == "blank"


def test_json_and_tags_stay_what_they_are(tmp_path):
    for name, content, kind in (("a.txt", "<doc id='1'>\n\na\n\nb\n</doc>\n", "tags"), ("b", '{"text": "a"}', "json")):
        (tmp_path / name).write_text(content)
        assert {reading_of(tmp_path / name, given).kind for given in corpus.DOCUMENTS} == {kind}


def test_memory_does_not_grow_with_the_text(tmp_path):
    with gzip.open(tmp_path / "a.txt.gz", "wb", compresslevel=1) as file:
        for _ in range(120):
            file.write("".join(f"{line}\n" for line in LINES * 2).encode())
    with open(tmp_path / "b.json", "w") as file:
        file.write("[\n" + ",\n".join([json.dumps({"text": "\n".join(LINES)}, indent=1)] * 200) + "\n]")
    tracemalloc.start()
    assert sum(1 for _ in paragraphs(Lines(tmp_path / "b.json"))) == 40_200
    assert reading_of(tmp_path / "a.txt.gz").kind == "line"
    assert next(paragraphs(Lines(tmp_path / "a.txt.gz"))) == LINES[0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**18  # of 1 MB each


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"one\rtwo\rthree\r", r"a\.txt: its lines end in CR alone; convert it"),
        ("a.txt", b"o\0n\0e\0\n\0", r"a\.txt, line 1: a NUL byte; is this UTF-8"),
        ("a.txt", "one".encode("utf-16"), r"a\.txt, line 1: byte 1 is not UTF-8"),
        ("a.txt.xz", b"", r"a\.txt\.xz: packed in a way that is not read here \(\.gz, \.bz2\); unpack it"),
        ("a.tar.gz", b"", r"a\.tar\.gz: packed in a way"),
        ("a.txt.bz2", b"no", r"a\.txt\.bz2, line 1: can't be read"),
        ("a.txt.bz2", bz2.compress(b"good\n" * 9999)[:40], r"a\.txt\.bz2, line 1: can't be read"),
        ("a.json", b'[\n{"text": "good"},\n{"text": bad}\n]', r"a\.json, line 3: not JSON"),
        (
            "a.json",
            b'[\n{"text": "good"},\n{"text":\n"good"}\n',
            r"a\.json, line \d: not JSON \(its array does not end",
        ),
        ("a.json", b'[\n{"text": "good"},\n{"words": "x"}]', r'a\.json, line 3: no object with a "text"'),
        ("a.jsonl", b'{"text": "\\ud83d"}', r'a\.jsonl, line 1: "text" holds half a character'),
        ("wiki_00", b'{"text": "good"}\n{"title": "x"}\n', r'wiki_00, line 2: no object with a "text"'),
        ("a.txt", b'{"title": "x"}\n{"title": "y"}\n', r'a\.txt, line 1: no object with a "text"'),
        ("a.txt", b'{\n  "text": "good"\n}\n', r"a\.txt, line 1: not JSON"),
        *(
            (name, b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 1234\n", "Git LFS pointer.*1,234")
            for name in ("a.txt", "a.txt.gz", "a.txt.bz2", "a.jsonl", "wiki_00")
        ),
        ("a.txt", b"\n<!DOCTYPE html>\n<html>\n", r"a\.txt: a web page"),
    ],
)
def test_damage_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        documents(tmp_path / name)


# ----------------------------------------------------------------------------------------------------------- finding


def test_wikiextractor_s_folders(tmp_path):
    for name in ("AA/wiki_00", "AA/wiki_01.bz2", "AB/wiki_00.gz", "AB/part-00000", "README", "AA/log.csv"):
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).touch()
    files = find_files([tmp_path / "out"])
    names = [path.relative_to(tmp_path / "out").as_posix() for path in files]
    assert names == ["AA/wiki_00", "AA/wiki_01.bz2", "AB/part-00000", "AB/wiki_00.gz"]
    assert [path.name for path in left_out([tmp_path / "out"], files)] == ["log.csv", "README"]
    assert find_files([tmp_path / "out/A*"]) == files  # a pattern of folders
    assert left_out(files, files) == []


def test_a_vocabulary_is_made_of_the_same_texts(tmp_path):
    (tmp_path / "plain.txt").write_text("Anarchism\nA philosophy.\n\nAutism\nA spectrum.\n" * 20)
    (tmp_path / "out/AA").mkdir(parents=True)
    articles = "".join(
        f'<doc id="{number}" url="" title="{title}">\n{title}\n\n{text}\n\n</doc>\n'
        for number, (title, text) in enumerate([("Anarchism", "A philosophy."), ("Autism", "A spectrum.")] * 20)
    )
    (tmp_path / "out/AA/wiki_00.bz2").write_bytes(bz2.compress(articles.encode()))
    assert train_vocabulary([tmp_path / "out"], 60) == train_vocabulary([tmp_path / "plain.txt"], 60)


def test_what_lies_beside_texts_is_no_text(tmp_path):
    for name in ("a.txt", "vocab.txt", ".hidden.txt", ".git/b.txt", "__MACOSX/a.txt", "run/last/words.txt", "c/d.TXT"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_files([tmp_path], [tmp_path / "run"]) == [tmp_path / "a.txt", tmp_path / "c/d.TXT"]
    assert find_files([tmp_path], [tmp_path / "c/../run/", tmp_path / "a.txt"]) == [tmp_path / "c/d.TXT"]
    assert find_files([tmp_path / "vocab.txt"]) == [tmp_path / "vocab.txt"]  # named
    assert find_files([tmp_path / "run"], [tmp_path / "run"]) == [tmp_path / "run/last/words.txt"]


def test_a_file_is_read_once_however_it_is_named(tmp_path, monkeypatch):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/b.txt").touch()
    (tmp_path / "texts/linked").symlink_to("../elsewhere")
    (tmp_path / "texts/linked/round").symlink_to("../texts")
    (tmp_path / "other").symlink_to("texts")
    monkeypatch.chdir(tmp_path)
    given = ["texts/", tmp_path / "texts/a.txt", "other/../texts", "other", "texts/*.txt", "elsewhere/b.txt"]
    names = [path.as_posix() for path in find_files(given)]
    assert names == ["texts/a.txt", "texts/linked/b.txt"]


def test_pipes_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"pipe: a pipe or device, which can't be read twice"):
        find_files([tmp_path / "pipe"])
