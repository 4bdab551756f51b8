"""What is wrong with questions, tags, and flags of theirs: one line that says so, status 2, nothing half-written."""

import json
import shutil

import pytest
from conftest import ROOT
from test_bad_inputs import SIZES, change

import run_squad
import run_tagging
from layers.configuration import ConvBertConfig
from modeling import ConvBertForSequenceClassification

QUESTION = dict(id="1", question="Where?", context="In the mill.", answers=[dict(text="the mill", answer_start=3)])
LINES = "the\tO\nred\tB-thing\nhat\tI-thing\n\nit\tO\n"
BASE = "--model_name_or_path model --device cpu --max_steps 2 --output_dir out"
SQUAD = f"{BASE} --max_seq_length 32 --doc_stride 4 --max_query_length 8"
SQUAD += " --train_file train.jsonl --validation_file dev.jsonl"
TAGGING = f"{BASE} --max_seq_length 32 --stride 4 --train_file train.conll --validation_file dev.conll"


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    ConvBertForSequenceClassification(ConvBertConfig(**SIZES)).save_pretrained(folder / "model")
    shutil.copy(ROOT / "samples/vocab.txt", folder / "model/vocab.txt")
    for split in ("train", "dev"):
        (folder / f"{split}.jsonl").write_text(json.dumps(QUESTION) + "\n")
        (folder / f"{split}.conll").write_text(LINES)
    return folder


@pytest.fixture
def here(template, tmp_path, monkeypatch):
    shutil.copytree(template, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_what_the_tables_change_is_right_without_it(here):
    assert run_squad.main(SQUAD.split()) == 0
    assert run_tagging.main(f"{TAGGING} --output_dir tags".split()) == 0


def record(**changes):
    content = {**QUESTION, **changes}
    return {"train.jsonl": json.dumps({name: value for name, value in content.items() if value is not None})}


def answer(**changes):
    return record(answers=[{**QUESTION["answers"][0], **changes}])


ANSWERS = [
    (SQUAD, {"train.jsonl": None}, "train.jsonl: no such file"),
    (SQUAD, {"train.jsonl": ""}, "train.jsonl, line 1: not JSON"),
    (SQUAD, {"train.jsonl": "{"}, "train.jsonl, line 1: not JSON"),
    (SQUAD, {"train.jsonl": json.dumps(QUESTION) + "\n{"}, "train.jsonl, line 2: not JSON"),
    (SQUAD, {"train.jsonl": json.dumps(QUESTION) + "\n[1]"}, r"train.jsonl, line 2: must be a JSON object, not \[1\]"),
    (SQUAD, {"train.jsonl": '{"data": 3}'}, "train.jsonl: no list 'data' there"),
    (SQUAD, {"train.jsonl": '{"data": [{}]}'}, r"train.jsonl, data\[0\]: no list 'paragraphs' there"),
    (SQUAD, {"train.jsonl": '{"data": [{"paragraphs": [{}]}]}'}, r"data\[0\].paragraphs\[0\]: no list 'qas' there"),
    (SQUAD, {"train.jsonl": '{"data": []}'}, "train.jsonl: no question there"),
    (SQUAD, {"train.jsonl": "[3]"}, "train.jsonl, entry 0: must be a JSON object, not 3"),
    (SQUAD, {"train.jsonl": b'{"id": "\xff"}\n'}, "train.jsonl: not UTF-8"),
    (SQUAD, {"train.jsonl": json.dumps(QUESTION).encode() + b'\n{"id": "\xff"}\n'}, "line 2: not UTF-8"),
    (SQUAD, record(question="a\ud800"), r"line 1: \\ud800 is half a character"),
    (SQUAD, record(context=None), "line 1: 'context' must be a text, not null"),
    (SQUAD, record(question=3), "line 1: 'question' must be a text, not 3"),
    (SQUAD, record(id=[1]), r"line 1: 'id' must be a text, not \[1\]"),
    (SQUAD, {"train.jsonl": f"{json.dumps(QUESTION)}\n" * 2}, "line 2: the id '1' is train.jsonl, line 1's already"),
    (SQUAD, record(answers=None), "line 1: 'answers' must be a list, not null"),
    (SQUAD, record(answers="mill"), "line 1: 'answers' must be a list, not \"mill\""),
    (SQUAD, record(answers=["mill"]), "line 1: an answer must be an object of 'text'"),
    (SQUAD, answer(text=""), "line 1: an answer must be an object of 'text', with a word"),
    (SQUAD, answer(answer_start="3"), "'answer_start', a whole number"),
    (SQUAD, answer(answer_start=True), "'answer_start', a whole number"),
    (SQUAD, record(answers={"text": ["mill"], "answer_start": []}), "lists 'text' and 'answer_start' of one length"),
    (SQUAD, record(answers=[]), "line 1: has no answer; --version_2_with_negative is for such questions"),
    (SQUAD, record(is_impossible=True), "line 1: has no answer; --version_2_with_negative"),
    (f"{SQUAD} --max_query_length 26", {}, "--doc_stride 4: of --max_seq_length 32 tokens a question"),
    (f"{SQUAD} --max_seq_length 64", {}, "--max_seq_length 64: .*model has only 32 positions"),
    (f"{SQUAD} --model_name_or_path nowhere", {}, "nowhere"),
    (f"{SQUAD} --no-do_train", {}, "model: a head for texts, which can't give answers; train first"),
    (f"{SQUAD} --model_type bert", {}, "a convbert model, not a BERT"),
]
ANSWER_USAGE = [
    (f"{SQUAD} --doc_stride -1", "--doc_stride must be at least 0, not -1"),
    (f"{SQUAD} --metric rouge", "--metric: invalid choice: 'rouge'"),
    (f"{SQUAD} --do_predict", "--do_predict needs --test_file"),
    (BASE, "the following arguments are required: --validation_file"),
    (f"{BASE} --validation_file dev.jsonl", "training needs --train_file"),
    (f"{SQUAD} --dtype int8", "--dtype is for --no-do_train"),
]
TAGS = [
    (TAGGING, {"train.conll": None}, "train.conll: no such file"),
    (TAGGING, {"train.conll": "\n\n"}, "train.conll: no sentence there"),
    (TAGGING, {"train.conll": "a\tO\nb\n"}, "line 2: 1 columns between tabs, but 2 before"),
    (TAGGING, {"train.conll": "a O\nb x O\n"}, "line 2: 3 columns between blanks, but 2 before"),
    (TAGGING, {"train.conll": "a\nb\n"}, "line 1: one column; a word and its tag are wanted"),
    (TAGGING, {"train.conll": "a\tO\n \tO\n"}, "line 2: no word in the first column"),
    (TAGGING, {"train.conll": "a\tO\nb\t\n"}, "line 2: no tag in the last column"),
    (TAGGING, {"train.conll": b"\xff\tO\n"}, "train.conll: not UTF-8"),
    (
        TAGGING,
        {"train.conll": "a\tB-x\nb\tNN\n"},
        r"train.conll, line 1, word 2 \('b'\): the tag 'NN' is neither O nor",
    ),
    (f"{TAGGING} --scheme bio", {"train.conll": "a\tE-x\n"}, "the tag 'E-x' is neither O nor B-…, I-…"),
    (f"{TAGGING} --scheme bioes", {"train.conll": "a\tnoun\n"}, "the tag 'noun' is neither O nor B-…, I-…, E-…, S-…"),
    (f"{TAGGING} --max_seq_length 64", {}, "--max_seq_length 64: .*model has only 32 positions"),
    (f"{TAGGING} --model_name_or_path nowhere", {}, "nowhere"),
    (f"{TAGGING} --no-do_train", {}, "model: a head for texts, which can't give O, B-thing, I-thing; train first"),
    (f"{TAGGING} --model_type electra", {}, "a convbert model, not an ELECTRA"),
    (f"{TAGGING} --train_file .", {}, r"^\S+: \.: a folder, not a file"),
]
JSON_TAGS = [
    ("{", "train.jsonl, line 1: not JSON"),
    ("[1]", r"line 1: must be a JSON object, not \[1\]"),
    ('{"tokens": ["\\udc00"], "tags": ["O"]}', r"line 1: \\udc00 is half a character"),
    ('{"tokens": "a", "tags": ["O"]}', "line 1: 'tokens' must be a list of texts"),
    ('{"tokens": ["a"]}', "line 1: no 'tags' there; there are tokens"),
    ('{"tokens": ["a"], "tags": []}', "line 1: 1 tokens, but 0 tags"),
    ('{"tokens": ["a"], "ner_tags": [1]}', "write the tags' names instead of their numbers"),
    ('{"tokens": ["a", ""], "tags": ["O", "O"]}', "line 1: a text of 'tokens' is empty"),
]
TAGS += [(f"{TAGGING} --train_file train.jsonl", {"train.jsonl": content}, message) for content, message in JSON_TAGS]
TAG_USAGE = [
    (f"{TAGGING} --scheme xyz", "--scheme: invalid choice: 'xyz'"),
    (f"{TAGGING} --stride 30", "--stride 30 leaves nothing new in windows of --max_seq_length 32"),
    (f"{TAGGING} --do_predict", "--do_predict needs --test_file"),
    (f"{BASE} --validation_file dev.conll", "training needs --train_file"),
]
CASES = [(run_squad, *case) for case in ANSWERS] + [(run_tagging, *case) for case in TAGS]
USAGE = [(run_squad, *case) for case in ANSWER_USAGE] + [(run_tagging, *case) for case in TAG_USAGE]


@pytest.mark.parametrize(("script", "flags", "files", "message"), CASES)
def test_bad_files_and_flags(here, one_line, script, flags, files, message):
    change(here, files)
    before = sorted(here.rglob("*"))
    one_line(script.main(flags.split()), message)
    left = [path for path in sorted(here.rglob("*")) if path not in before]
    assert all(path.is_dir() and path.name == "out" for path in left), left


@pytest.mark.parametrize(("script", "flags", "message"), USAGE)
def test_bad_usage(here, capsys, script, flags, message):
    with pytest.raises(SystemExit) as error:
        script.main(flags.split())
    assert error.value.code == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1
    assert not (here / "out").exists()


def test_there_are_enough_of_them():
    assert len(ANSWERS) + len(ANSWER_USAGE) >= 25
    assert len(TAGS) + len(TAG_USAGE) >= 25


def test_answers_that_are_elsewhere_are_counted_and_taken(here, capsys):
    change(here, answer(answer_start=0))
    assert run_squad.main(SQUAD.split()) == 0
    assert "warning: train.jsonl: 1 answers are not at their answer_start" in capsys.readouterr().err


def test_answers_that_are_nowhere_are_counted_and_left_out(here, capsys):
    lost = json.dumps({**QUESTION, "id": "2", "answers": [dict(text="river", answer_start=3)]})
    change(here, {"train.jsonl": f"{json.dumps(QUESTION)}\n{lost}\n", "dev.jsonl": f"{json.dumps(QUESTION)}\n{lost}\n"})
    assert run_squad.main(SQUAD.split()) == 0
    printed = capsys.readouterr().err
    assert "warning: train.jsonl: 1 answers are nowhere in their context; these questions are left out (2)" in printed
    assert "train: 1 questions, 1 windows" in printed
    assert "warning: dev.jsonl: 1 answers are nowhere in their context (2)" in printed


def test_empty_contexts_and_long_questions(here, capsys):
    long = {**QUESTION, "id": "2", "question": "where " * 40 + "?"}
    empty = {**QUESTION, "id": "3", "context": " ", "answers": []}
    wordless = {**QUESTION, "id": "4", "question": " "}
    change(here, {"dev.jsonl": "\n".join(map(json.dumps, (QUESTION, long, empty, wordless)))})
    assert run_squad.main(f"{SQUAD} --version_2_with_negative".split()) == 0
    printed = capsys.readouterr().err
    assert "dev: 1 questions cut to --max_query_length" in printed
    assert "warning: dev.jsonl: 1 contexts without a word" in printed
    assert "warning: dev.jsonl: 1 questions without a word" in printed
    assert json.loads((here / "out/predictions.json").read_text())["3"] == ""
