"""predict.py: the same answers whatever the format, the order or the batch."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

import predict
from family.architectures import MODEL_TYPES, config_class, model_class
from layers import inference
from modeling import ConvBertForSequenceClassification
from serving import arriving
from serving.predictor import Predictor

TEXTS = ["A fine film.", "Dull, and far too long; nobody wants that.", "", "word " * 300, "好看的电影", "a, b\tc"]
SETTINGS = dict(
    vocab_size=1176, embedding_size=16, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
    intermediate_size=48, max_position_embeddings=64,
)  # fmt: skip


def made(folder, model_type="convbert", **settings):
    import paddle

    paddle.seed(1)
    config = config_class(model_type).from_dict(SETTINGS | settings)
    model = model_class(model_type, "ForSequenceClassification")(config)
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


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_every_text_is_answered_in_order(tmp_path, capsys, model_type):
    settings = dict(num_labels=3, label_names=["bad", "so-so", "good"], mask_conv_padding=True)
    folder = made(tmp_path, model_type, **settings)
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


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_shorter_numbers(tmp_path, capsys, model_type, dtype):
    if reason := inference.obstacle(dtype):
        pytest.skip(reason)
    folder, found = made(tmp_path, model_type, num_labels=3), {}
    for name in ("float32", dtype):
        lines = answers(capsys, "--model", folder, "--dtype", name, *TEXTS).splitlines()
        found[name] = np.array([[*json.loads(line)["probabilities"].values()] for line in lines])
    assert 0 < np.abs(found[dtype] - found["float32"]).max() < 0.02


def test_shorter_numbers_that_can_t_be(folder, one_line, monkeypatch):
    monkeypatch.setenv("CONVBERT_KERNELS", "paddle")
    for dtype in ("bfloat16", "int8"):
        one_line(predict.main(["--model", str(folder), "--dtype", dtype, "a"]), f"--dtype {dtype} on a CPU: ")


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
    monkeypatch.setattr(arriving, "CHUNK", 5)
    predictor = Predictor(folder)
    texts = [f"{'very ' * (7 * number % 11)}good number {number}" for number in range(23)]
    lines = list(predict.answers(predictor, ((text, None) for text in texts), "jsonl"))
    assert [json.loads(line)["text"] for line in lines] == texts
    assert predictor([]) == []


TOPICS = dict(num_labels=3, label_names=["art", "war", "law"], problem_type="multi_label_classification")


@pytest.fixture(scope="module")
def topics(tmp_path_factory):
    """A model by which a text may have any number of labels; each holds for about half of the texts."""
    folder = made(tmp_path_factory.mktemp("topics"), mask_conv_padding=True, **TOPICS)
    model = ConvBertForSequenceClassification.from_pretrained(str(folder))
    bias = model.classifier.out_proj.bias
    bias.set_value(bias.numpy() - np.median(Predictor(folder).logits(TEXTS), axis=0))
    model.save_pretrained(folder)
    return folder


def test_any_number_of_labels(topics, capsys):
    texts = [*TEXTS, "war and law", "art", "a film of the war"]
    predictor = Predictor(topics)
    expected = 1 / (1 + np.exp(-predictor.logits(texts).astype(np.float64)))
    lines = [json.loads(line) for line in answers(capsys, "--model", topics, *texts).splitlines()]
    for line, row in zip(lines, expected, strict=True):
        assert set(line) == {"text", "labels", "probabilities"}
        assert list(line["probabilities"]) == TOPICS["label_names"]
        assert list(line["probabilities"].values()) == pytest.approx(row, abs=1e-6)
        assert line["labels"] == [name for name, chance in line["probabilities"].items() if chance > 0.5]
    assert any(abs(row.sum() - 1) > 0.1 for row in expected)
    assert len({len(line["labels"]) for line in lines}) > 1
    header, *rows = csv.reader(io.StringIO(answers(capsys, "--model", topics, *texts, "--format", "csv")))
    assert header == ["text", "labels", "probability art", "probability war", "probability law"]
    assert [row[1] for row in rows] == ["|".join(line["labels"]) for line in lines]


def test_one_label_by_itself(tmp_path, capsys):
    folder = made(tmp_path, num_labels=1, label_names=["spam"], problem_type="multi_label_classification")
    answer = json.loads(answers(capsys, "--model", folder, "a"))
    chance = answer["probabilities"]["spam"]
    assert 0 < chance < 1
    assert answer["labels"] == ["spam"] * (chance > 0.5)


def test_a_regression_with_a_name_answers_too(tmp_path, capsys):
    folder = made(tmp_path, num_labels=1, label_names=["stars"], problem_type="regression")
    assert set(json.loads(answers(capsys, "--model", folder, "a"))) == {"text", "score"}


HEADS = [
    (dict(num_labels=3, problem_type="regression"), r"config\.json: a regression of 3 numbers"),
    (dict(num_labels=1, problem_type="single_label_classification"), r"but of one label, which is no choice"),
    (dict(num_labels=2, label_names=["a", "a"]), r"config\.json: .*two labels .*name.* \(a, a\)"),
]


@pytest.mark.parametrize(("settings", "message"), HEADS)
def test_heads_that_can_not_be_answered_with(tmp_path, one_line, settings, message):
    one_line(predict.main(["--model", str(made(tmp_path, **settings)), "--device", "cpu", "a"]), message)


@pytest.mark.parametrize("model_type", ["convbert", "bert"])
def test_an_unknown_problem(topics, tmp_path, one_line, model_type):
    shutil.copytree(topics, tmp_path, dirs_exist_ok=True)
    changed = json.loads((tmp_path / "config.json").read_text()) | {"problem_type": "ranking", "model_type": model_type}
    (tmp_path / "config.json").write_text(json.dumps(changed))
    one_line(predict.main(["--model", str(tmp_path), "--device", "cpu", "a"]), "problem_type 'ranking' is unknown")


LENGTHS = [  # tokenizer_config.json, flag, what texts are cut to; the model has 64 positions
    (None, None, 64),
    ({}, None, 64),
    ({"model_max_length": 16}, None, 16),
    ({"model_max_length": 16.0}, None, 16),
    ({"max_len": 16}, None, 16),
    ({"model_max_length": 16}, 40, 40),
    ({"model_max_length": 200}, None, 64),
    ({"model_max_length": None}, None, 64),
    ({"model_max_length": 1000000000000000019884624838656}, None, 64),
    ({"model_max_length": 1e20}, None, 64),
    ({}, 500, 64),
]


@pytest.mark.parametrize(("stored", "flag", "expected"), LENGTHS)
def test_texts_are_cut_as_in_training(folder, tmp_path, capsys, stored, flag, expected):
    shutil.copytree(folder, tmp_path / "model")
    if stored is not None:
        (tmp_path / "model/tokenizer_config.json").write_text(json.dumps(stored))
    flags = [] if flag is None else ["--max_seq_length", str(flag)]
    long, fits = "film " * 100, "film " * (expected - 2)
    assert predict.main(["--model", str(tmp_path / "model"), "--device", "cpu", long, fits, *flags]) == 0
    cut, whole = capsys.readouterr()
    first, second = (json.loads(line)["probabilities"] for line in cut.splitlines())
    assert first == pytest.approx(second, abs=1e-6)
    (line,) = [line for line in whole.splitlines() if "warning" in line]
    assert f"1 text has more than {expected} tokens and was cut" in line
    assert ("--max_seq_length" in line) == (expected < 64)


def test_a_text_that_fits_is_not_called_cut(folder, capsys):
    assert predict.main(["--model", str(folder), "--device", "cpu", "film " * 62]) == 0
    assert "cut" not in capsys.readouterr().err


@pytest.mark.parametrize("length", ["64", [64], -5, True])
def test_a_length_that_is_none(folder, tmp_path, one_line, length):
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model/tokenizer_config.json").write_text(json.dumps({"model_max_length": length}))
    status = predict.main(["--model", str(tmp_path / "model"), "--device", "cpu", "a"])
    one_line(status, r"tokenizer_config\.json: model_max_length is .*, not a number of tokens")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("settings", [dict(num_labels=2), dict(num_labels=1), TOPICS], ids=["classes", "number", "any"])
def test_damaged_weights_are_one_line(tmp_path, one_line, value, settings):
    model = ConvBertForSequenceClassification.from_pretrained(str(made(tmp_path / "model", **settings)))
    bias = model.classifier.out_proj.bias
    bias.set_value(np.full(bias.shape, value, np.float32))
    model.save_pretrained(tmp_path / "model")
    flags = f"--model {tmp_path / 'model'} --device cpu --output_file {tmp_path / 'out'}".split()
    one_line(predict.main([*flags, "a good film"]), r"no number \(NaN or infinity\) comes out for 'a good film'")
    assert not (tmp_path / "out").exists()


DASHES = ["-bad", "-hello", "-m", "--nice try", "-1", "-1.5 stars", "---", "--:(", "- no", "-"]


def test_texts_that_begin_with_a_dash(folder, capsys):
    for texts in (DASHES, DASHES[:1], ["good", *DASHES]):
        lines = answers(capsys, *texts, "--model", folder).splitlines()
        assert [json.loads(line)["text"] for line in lines] == texts
    (line,) = answers(capsys, "--model", folder, "-a", "--text_pair", "-b").splitlines()
    assert (json.loads(line)["text"], json.loads(line)["text_pair"]) == ("-a", "-b")
    assert predict.main([f"--model={folder}", "--device", "cpu", "--", "--good"]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == "--good"


@pytest.mark.parametrize("flag", ["--batchsize", "--batchsize=8", "--nice", "--max-seq-length"])
def test_a_misspelt_flag_is_no_text(folder, capsys, flag):
    with pytest.raises(SystemExit) as error:
        predict.main(["--model", str(folder), "text", flag, "8"])
    assert error.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"unknown flag {flag}; if it is a text, write -- before the texts" in line


def test_a_pipe_is_answered_line_by_line(folder):
    command = [sys.executable, ROOT / "predict.py", "--model", folder, "--input_file", "-", "--device", "cpu"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        for text in ("a good film", "", "a bad film"):
            process.stdin.write(f"{text}\n".encode())
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["text"] == text  # while the pipe stays open
        process.stdin.write(b"no line end")
        process.stdin.close()
        assert json.loads(process.stdout.readline())["text"] == "no line end"
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_what_is_there_is_answered_together(tmp_path, monkeypatch):
    texts = [f"text {number} " + "long " * (number % 50) for number in range(10_000)]
    (tmp_path / "a.txt").write_text("\n".join(texts))
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    process = subprocess.Popen(["sh", "-c", f"exec cat {tmp_path / 'a.txt'} > {fifo}"])
    try:
        for path in (tmp_path / "a.txt", fifo):
            lines = predict.ArrivingLines(path)
            found = list(predict.chunks(predict.read_texts(path, lines=lines), lines.ready))
            assert [text for chunk in found for text, _ in chunk] == texts
            assert len(found[0]) == arriving.CHUNK
            assert len(found) <= 6
    finally:
        process.kill()
        process.wait()


def test_files_that_are_there_stay(folder, tmp_path, capsys, one_line, monkeypatch):
    flags = ["--model", str(folder), "--device", "cpu", "a"]
    for flag, name in (("--output_file", "a.csv"), ("--explain", "a.png")):
        path = tmp_path / name
        path.write_text("mine")
        with monkeypatch.context() as patch:
            patch.setattr(predict, "make_predictor", None)  # refused before any work
            one_line(predict.main([*flags, flag, str(path)]), rf"{flag} .*{name}: is there already; add --overwrite")
        assert path.read_text() == "mine"
        assert predict.main([*flags, flag, str(path), "--overwrite"]) == 0
        assert path.read_bytes() != b"mine"
        capsys.readouterr()
    one_line(predict.main([*flags, "--output_file", str(tmp_path / "no/a.csv")]), "its folder does not exist")
    one_line(predict.main([*flags, "--output_file", str(tmp_path), "--overwrite"]), "is there, and no file")


BAD = [
    ([], r"give either texts, --input_file, or --question and --context"),
    (["x", "--input_file", "y"], r"give either texts, --input_file, or --question and --context"),
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
