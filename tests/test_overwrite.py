"""Files that are there stay, unless --overwrite is given; whatever can't be written is refused before any work."""

import pytest
from conftest import ROOT

import benchmark
import compare
import tokenizer

SAMPLE = str(ROOT / "samples/corpus.txt")
SCRIPTS = [  # module, command, flag, the file that is there, what the flag is given
    (tokenizer, f"--input {SAMPLE} --size 1000", "--output", "vocab.txt", "vocab.txt"),
    (benchmark, "--modes infer", "--json", "speed.json", "speed.json"),
    (benchmark, "--modes infer", "--plot", "speed.png", "speed.png"),
    (compare, "--models convbert-tiny --weights random --checks hidden", "--plot", "a.svg", "a.svg"),
    (compare, "--models convbert-tiny --weights random --checks hidden", "--report", "a.json", "a"),
    (compare, "--models convbert-tiny --weights random --checks hidden", "--report", "a.md", "a.json"),
]
WORK = {tokenizer: "train_vocabulary", benchmark: "PeerProcess", compare: "subjects"}


def call(script, command):
    try:
        return script.main(command.split())
    except SystemExit as stop:
        return stop.code


@pytest.mark.parametrize(("script", "command", "flag", "name", "given"), SCRIPTS)
def test_a_file_that_is_there_stays(tmp_path, monkeypatch, one_line, script, command, flag, name, given):
    if script is compare:
        pytest.importorskip("torch"), pytest.importorskip("transformers")
    monkeypatch.setattr(script, WORK[script], None)  # nothing is computed before
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("mine")
    one_line(call(script, f"{command} {flag} {given}"), rf"{flag} {name}: is there already; add --overwrite")
    assert (tmp_path / name).read_text() == "mine"
    one_line(call(script, f"{command} {flag} nowhere/{given}"), "its folder does not exist")


def test_overwrite_replaces_a_vocabulary(tmp_path, capsys):
    (tmp_path / "vocab.txt").write_text("mine")
    command = f"--input {SAMPLE} --size 1000 --output {tmp_path / 'vocab.txt'} --overwrite"
    assert call(tokenizer, command) == 0
    assert (tmp_path / "vocab.txt").read_text().startswith("[PAD]\n")


@pytest.mark.parametrize(("given", "output"), [("de.txt", "de.txt"), (".", "./de.txt"), ("de.txt", "link.txt")])
def test_a_vocabulary_does_not_replace_its_text(tmp_path, monkeypatch, one_line, given, output):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "de.txt").write_text("der Fluss stieg.\n" * 50)
    (tmp_path / "link.txt").symlink_to("de.txt")
    one_line(call(tokenizer, f"--input {given} --output {output} --overwrite"), "would replace .*, a text of --input")
    assert (tmp_path / "de.txt").read_text().startswith("der Fluss")


@pytest.mark.parametrize("script", [benchmark, compare])
def test_a_picture_of_an_unknown_kind_is_refused_at_once(one_line, script):
    one_line(call(script, "--plot a.jpeg"), "--plot takes a .png or .svg")
