"""run_glue.py on texts with any number of labels, by any metric, with weighted classes; and who takes what it saves."""

import csv
import json
import re

import numpy as np
import pytest
from conftest import ROOT
from test_export import model_folder

import export
import predict
import run_glue
from files.json_files import read_json
from tasks.glue import find_task
from tasks.glue_files import read_examples

WORDS = ["and", "film", "honest", "is", "think"]


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """Sentences of the samples, each with those of some words that it has as its labels, in two forms; and a model."""
    folder = tmp_path_factory.mktemp("data")
    for split, most in (("train", 300), ("dev", 60)):
        texts = [example.text for example in read_examples(find_task("SST-2"), split, ROOT / "samples")[:most]]
        rows = [(text, [word for word in WORDS if word in text.split()]) for text in texts]
        lines = [json.dumps({"text": text, "kinds": kinds}) for text, kinds in rows]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
        with open(folder / f"{split}.csv", "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["text", *WORDS])
            table.writerows([text, *(int(name in kinds) for name in WORDS)] for text, kinds in rows)
    model_folder(folder / "model", hidden_dropout_prob=0.0)
    return folder


def run(here, output, flags, files="jsonl"):
    begin = f"--model_name_or_path {here / 'model'} --output_dir {output} --device cpu --max_seq_length 32"
    data = f"--train_file {here}/train.{files} --validation_file {here}/dev.{files}"
    return run_glue.main(f"{begin} {data} {flags}".split())


LEARN = "--learning_rate 1e-2 --num_train_epochs 20 --batch_size 16 --logging_steps 100 --save_steps 100"


@pytest.fixture(scope="module")
def trained(here, tmp_path_factory):
    output = tmp_path_factory.mktemp("out") / "run"
    assert run(here, output, f"{LEARN} --label_column kinds") == 0
    return output


def test_a_list_of_labels_is_learnt(trained, here, tmp_path, capsys):
    results = read_json(trained / "results.json")
    assert results["data"]["kind"] == "multi-label classification"
    labels = results["data"]["labels"]
    assert sorted(labels) == labels
    best = max(found["dev"]["micro_f1"] for found in results["evaluations"])
    assert results["best_score"] == best > 0.7
    rows = results["by_class"]["dev"]
    assert list(rows) == labels
    config = read_json(trained / "config.json")
    assert (config["problem_type"], config["data_columns"]["label"]) == ("multi_label_classification", "kinds")
    assert (trained / "confusion.png").is_file()
    again = tmp_path / "again"
    flags = f"--no-do_train --model_name_or_path {trained} --output_dir {again}"
    assert run_glue.main(f"{flags} --validation_file {here / 'dev.jsonl'} --device cpu".split()) == 0
    assert read_json(again / "results.json")["by_class"] == results["by_class"]
    out = capsys.readouterr().out
    assert re.search(r"eval loss: [\d.]+, micro_f1: [\d.]+, macro_f1: [\d.]+, acc: [\d.]+, eval done total", out)
    assert re.search(r"^dev by class, step \d+:\nclass +precision", out, re.MULTILINE)
    assert "mean, and all" in out


def test_the_answers_are_those_of_predict_and_of_a_program(trained, here, tmp_path, capsys):
    lines = [json.loads(line) for line in (here / "dev.jsonl").read_text("utf-8").splitlines()]
    table = (trained / "predictions_dev.tsv").read_text("utf-8").splitlines()
    columns = table[0].split("\t")
    assert columns == ["split", "row", "loss", "label", "prediction", "probability", "text"]
    said = {int(cells[1]): cells for cells in (line.split("\t") for line in table[1:])}
    capsys.readouterr()
    files = f"--input_file {here / 'dev.jsonl'} --device cpu --batch_size 1"
    assert predict.main(f"--model {trained} {files}".split()) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for number, (line, answer) in enumerate(zip(lines, found, strict=True), 1):
        assert said[number][3] == "|".join(line["kinds"])
        assert len(said[number][5].split("|")) == max(1, len(said[number][4].split("|")))
        assert answer["labels"] == [name for name, chance in answer["probabilities"].items() if chance > 0.5]
    agree = [said[number][4] == "|".join(answer["labels"]) for number, answer in enumerate(found, 1)]
    assert np.mean(agree) > 0.9  # padding, which a ConvBERT reads, is another here
    out = tmp_path / "program"
    kind = "--format paddle_inference"
    assert export.main(f"--model {trained} --output {out} {kind} --validation_file {here / 'dev.jsonl'}".split()) == 0
    dev = read_json(out / "program.json")["dev"]
    assert dev["agreement"] == 1
    assert dev["model"] == dev["program"]
    assert dev["model"]["micro_f1"] > 0.7


def test_columns_of_0_and_1_are_the_same_data(trained, here, tmp_path, capsys):
    names = read_json(trained / "results.json")["data"]["labels"]
    assert run(here, tmp_path / "out", f"{LEARN} --label_column {' '.join(names)}", "csv") == 0
    first, second = (read_json(folder / "results.json") for folder in (trained, tmp_path / "out"))
    assert first["log"] == second["log"]
    assert first["by_class"] == second["by_class"]
    assert read_json(tmp_path / "out/config.json")["data_columns"] == {"text": ["text"], "label": names}
    flags = f"--no-do_train --model_name_or_path {tmp_path / 'out'} --output_dir {tmp_path / 'again'} --device cpu"
    assert run_glue.main(f"{flags} --validation_file {here / 'dev.csv'}".split()) == 0  # the columns are stored


def test_a_metric_chooses_the_best_and_weights_change_the_loss(here, tmp_path, capsys):
    rows = [json.loads(line) for line in (here / "train.jsonl").read_text("utf-8").splitlines()]
    for split, part in (("train", rows[:200]), ("dev", rows[200:])):
        text = "".join(json.dumps({"text": row["text"], "stars": 1 + len(row["kinds"])}) + "\n" for row in part)
        (tmp_path / f"{split}.jsonl").write_text(text, "utf-8")
    losses = {}
    for name, flags in (("plain", ""), ("weighted", "--class_weights balanced"), ("by", "--metric macro_f1")):
        given = f"--label_column stars {LEARN} --num_train_epochs 4 --logging_steps 10 --save_steps 10 {flags}"
        assert run_files(here, tmp_path, tmp_path / name, given) == 0
        results = read_json(tmp_path / name / "results.json")
        losses[name] = [entry["loss"] for entry in results["log"]]
        metric = "macro_f1" if name == "by" else "acc"
        assert results["best_score"] == max(found["dev"][metric] for found in results["evaluations"])
        assert ("macro_f1" in results["evaluations"][0]["dev"]) == (name == "by")
        mean = np.mean([row["f1"] for row in results["by_class"]["dev"].values()])
        if name == "by":
            assert mean == pytest.approx(results["best_score"])
    assert losses["plain"] == losses["by"] != losses["weighted"]
    assert re.search(r"best macro_f1: [\d.]+ at step", capsys.readouterr().err)


def run_files(here, data, output, flags):
    begin = f"--model_name_or_path {here / 'model'} --output_dir {output} --device cpu --max_seq_length 32"
    files = f"--train_file {data}/train.jsonl --validation_file {data}/dev.jsonl"
    return run_glue.main(f"{begin} {files} {flags}".split())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--label_column kinds --no-multi_label", r"train\.jsonl, line 1: kinds is \[.*a text can have one label here"),
        (
            "--label_column kinds --metric f1",
            r"--metric f1: not for own data, any number of 5 labels; there are micro_f1",
        ),
        ("--label_column kinds --class_weights balanced --no-do_train", r"--class_weights is for training"),
        ("--label_column kinds text --no-multi_label", r"--no-multi_label: one --label_column gives the one label"),
        ("--label_column kinds --multi_label --regression", r"--regression: a text gets one number, not any number"),
    ],
)
def test_what_does_not_go_together(here, tmp_path, one_line, flags, message):
    try:
        status = run(here, tmp_path / "out", flags)
    except SystemExit as error:
        status = error.code
    one_line(status, message)


def test_weights_of_numbers(here, tmp_path, one_line):
    rows = "".join(json.dumps({"text": "a", "score": 0.5 * number}) + "\n" for number in range(9))
    for split in ("train", "dev"):
        (tmp_path / f"{split}.jsonl").write_text(rows)
    one_line(run_files(here, tmp_path, tmp_path / "out", "--class_weights balanced"), "has numbers, no classes")
