"""predict.py: the same answers whatever the format, the order or the batch."""

import csv
import io
import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

import predict
from layers.configuration import ConvBertConfig
from modeling import ConvBertForSequenceClassification
from serving.predictor import Predictor

TEXTS = ["A fine film.", "Dull, and far too long; nobody wants that.", "", "word " * 300, "好看的电影", "a, b\tc"]
SETTINGS = dict(
    vocab_size=1500, embedding_size=16, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
    intermediate_size=48, max_position_embeddings=64,
)  # fmt: skip


def made(folder, **settings):
    import paddle

    paddle.seed(1)
    model = ConvBertForSequenceClassification(ConvBertConfig(**SETTINGS, **settings))
    random = np.random.default_rng(0)
    for weight in model.parameters():
        weight.set_value(weight.numpy() + random.normal(0, 0.1, weight.shape).astype("f"))
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_bytes((ROOT / "samples/vocab.txt").read_bytes())
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return made(
        tmp_path_factory.mktemp("model"), num_labels=3, label_names=["bad", "so-so", "good"], mask_conv_padding=True
    )


def answers(capsys, *arguments):
    assert predict.main([str(argument) for argument in (*arguments, "--device", "cpu")]) == 0
    return capsys.readouterr().out


def assert_same(lines, expected):
    """The same answers in the same order, up to the last bits, which depend on where in memory things lie."""
    for line, other in zip(lines.splitlines(), expected.splitlines(), strict=True):
        ours, theirs = json.loads(line), json.loads(other)
        assert ours.pop("probabilities") == pytest.approx(theirs.pop("probabilities"), abs=1e-6)
        assert ours == theirs


def test_every_text_is_answered_in_order(folder, capsys):
    lines = [json.loads(line) for line in answers(capsys, "--model", folder, *TEXTS).splitlines()]
    assert [line["text"] for line in lines] == TEXTS
    for line in lines:
        assert list(line["probabilities"]) == ["bad", "so-so", "good"]
        assert sum(line["probabilities"].values()) == pytest.approx(1)
        assert line["label"] == max(line["probabilities"], key=line["probabilities"].get)
    alone = [json.loads(answers(capsys, "--model", folder, "--batch_size", 1, text)) for text in TEXTS]
    for together, single in zip(lines, alone, strict=True):
        for label, chance in together["probabilities"].items():
            assert single["probabilities"][label] == pytest.approx(chance, abs=1e-5)


def test_csv_holds_the_same(folder, capsys, tmp_path):
    lines = [json.loads(line) for line in answers(capsys, "--model", folder, *TEXTS).splitlines()]
    assert answers(capsys, "--model", folder, *TEXTS, "--output_file", tmp_path / "a.csv") == ""
    header, *rows = csv.reader(io.StringIO((tmp_path / "a.csv").read_text("utf-8")))
    assert header == ["text", "label", "probability bad", "probability so-so", "probability good"]
    assert [row[0] for row in rows] == TEXTS
    assert [row[1] for row in rows] == [line["label"] for line in lines]
    assert [float(row[4]) for row in rows] == pytest.approx([line["probabilities"]["good"] for line in lines], abs=1e-6)


def test_files_and_standard_input(folder, capsys, tmp_path):
    lines = [text for text in TEXTS if "\t" not in text]
    expected = answers(capsys, "--model", folder, *lines)
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    assert_same(answers(capsys, "--model", folder, "--input_file", tmp_path / "a.txt"), expected)
    rows = "".join(json.dumps({"sentence": text, "label": "?"}) + "\n" for text in lines)
    (tmp_path / "a.jsonl").write_text(rows)
    assert_same(answers(capsys, "--model", folder, "--input_file", tmp_path / "a.jsonl"), expected)
    done = subprocess.run(
        [sys.executable, ROOT / "predict.py", "--model", folder, "--input_file", "-", "--device", "cpu"],
        input="\n".join(lines).encode(), capture_output=True, check=True,
    )  # fmt: skip
    assert_same(done.stdout.decode(), expected)


def test_pairs(folder, capsys, tmp_path):
    expected = answers(capsys, "--model", folder, "a", "b", "--text_pair", "c", "d")
    assert [json.loads(line)["text_pair"] for line in expected.splitlines()] == ["c", "d"]
    (tmp_path / "a.txt").write_text("a\tc\nb\td\n")
    assert_same(answers(capsys, "--model", folder, "--input_file", tmp_path / "a.txt"), expected)
    (tmp_path / "a.csv").write_text("premise,hypothesis\na,c\nb,d\n")
    assert_same(answers(capsys, "--model", folder, "--input_file", tmp_path / "a.csv"), expected)
    (tmp_path / "b.csv").write_text("one,two,label\nc,a,0\nd,b,1\n")
    columns = "--text_column", "two", "--text_pair_column", "one"
    assert_same(answers(capsys, "--model", folder, "--input_file", tmp_path / "b.csv", *columns), expected)


def test_a_regression_answers_with_a_score(tmp_path, capsys):
    folder = made(tmp_path, num_labels=1)
    (line,) = answers(capsys, "--model", folder, "a").splitlines()
    assert set(json.loads(line)) == {"text", "score"}
    header, row = csv.reader(io.StringIO(answers(capsys, "--model", folder, "a", "--format", "csv")))
    assert header == ["text", "score"]
    assert float(row[1]) == pytest.approx(json.loads(line)["score"], abs=1e-6)


def test_many_texts_in_chunks(folder, monkeypatch):
    monkeypatch.setattr(predict, "CHUNK", 5)
    predictor = Predictor(folder)
    texts = [f"{'very ' * (7 * number % 11)}good number {number}" for number in range(23)]
    lines = list(predict.answers(predictor, ((text, None) for text in texts), "jsonl"))
    assert [json.loads(line)["text"] for line in lines] == texts
    assert predictor([]) == []


BAD = [
    ([], r"give either texts or --input_file"),
    (["x", "--input_file", "y"], r"give either texts or --input_file"),
    (["x", "--text_pair", "a", "b"], r"--text_pair: 2 texts for 1"),
    (["x", "--batch_size", "0"], r"--batch_size must be at least 1, not 0"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_usage_is_one_line(capsys, arguments, message):
    with pytest.raises(SystemExit) as error:
        predict.main(["--model", "x", *arguments])
    assert error.value.code == 2
    assert message in capsys.readouterr().err


FILES = [
    ("a.txt", None, r"a\.txt: can't be read \(No such file"),
    ("a.csv", None, r"a\.csv: can't be read \(No such file"),
    ("a.txt", b"a\n\xff\n", r"a\.txt, line 2: not UTF-8"),
    ("a.txt", b"a\tb\nc\n", r"a\.txt, line 2: 1 texts between tabs; every line must have one, or every line two"),
    ("a.txt", b"a\tb\tc\n", r"a\.txt, line 1: 3 texts between tabs"),
    ("a.csv", b"x,y\n1,2\n", r"a\.csv, line 1: which column is the text\? Name it with --text_column: x, y"),
    ("a.jsonl", b'{"text": "a"}\n{"body": "b"}\n', r"a\.jsonl, line 2: no 'text'"),
]


@pytest.mark.parametrize(("name", "content", "message"), FILES)
def test_bad_files_are_one_line(folder, tmp_path, one_line, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    arguments = f"--model {folder} --input_file {tmp_path / name} --output_file {tmp_path / 'out'} --device cpu"
    one_line(predict.main(arguments.split()), message)
    assert not (tmp_path / "out").exists()


def test_bad_folders_are_one_line(folder, tmp_path, one_line):
    def run(model):
        return predict.main(["--model", str(model), "--device", "cpu", "text"])

    one_line(run(tmp_path / "nowhere"), r"nowhere.*: no such")
    (tmp_path / "gpt").mkdir()
    (tmp_path / "gpt/config.json").write_text('{"model_type": "gpt2"}')
    one_line(run(tmp_path / "gpt"), r"a gpt2 model; known are convbert, bert, electra, ernie")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/config.json").write_text((folder / "config.json").read_text())
    one_line(run(tmp_path / "empty"), r"no weights here|vocab")
