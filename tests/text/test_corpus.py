"""Text files: which are found, and what is a document in them."""

import gzip

import pytest
from conftest import documents

from files.errors import InputError
from text.corpus import find_files

EXPECTED = [["First paragraph.", "Second one."], ["Another document."]]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "First paragraph.\nSecond one.\n\nAnother document.\n"),
        ("a.txt", "\n\nFirst paragraph.\r\n  Second one.\r\n\r\n\r\nAnother document."),
        ("a.jsonl", '{"text": "First paragraph.\\nSecond one.", "id": 1}\n\n{"text": "Another document."}\n'),
        ("a.json", '{"text": "First paragraph.\\n\\nSecond one."}\n{"text": "Another document."}\n{"text": ""}'),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_documents(tmp_path, name, content, packed, mark):
    data = mark + content.encode()
    path = tmp_path / (f"{name}.gz" if packed else name)
    path.write_bytes(gzip.compress(data) if packed else data)
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
