"""What run_glue.py keeps with a model, and with which models it does not begin: lengths, kinds of heads, no numbers."""

import json
import re

import numpy as np
import pytest
from conftest import ROOT
from test_export import model_folder

import run_glue
from conversion.formats import convert
from files.errors import InputError
from files.json_files import read_json
from modeling import ConvBertForSequenceClassification
from serving.predictor import Predictor
from tokenizer import ConvBertTokenizer

SAMPLES = ROOT / "samples"
DATA = f"--task_name SST-2 --data_dir {SAMPLES} --device cpu"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Fine-tuned with 48 tokens; the model has 64 positions."""
    folder = tmp_path_factory.mktemp("trained")
    model_folder(folder / "model")
    flags = f"--model_name_or_path {folder / 'model'} --output_dir {folder / 'out'} --max_seq_length 48 --max_steps 1"
    assert run_glue.main(f"{DATA} {flags}".split()) == 0
    return folder / "out"


def evaluated(folder, output, *flags):
    """results.json of an evaluation."""
    command = f"{DATA} --model_name_or_path {folder} --output_dir {output} --no-do_train".split()
    assert run_glue.main([*command, *flags]) == 0
    return strict(output / "results.json")


def strict(path):
    def refuse(word):
        raise AssertionError(f"{path}: {word} is not JSON")

    return json.loads(path.read_text("utf-8"), parse_constant=refuse)


def test_the_length_of_training_is_kept(trained):
    for folder in (trained, trained / "last"):
        assert read_json(folder / "tokenizer_config.json")["model_max_length"] == 48
    assert Predictor(trained).max_seq_length == 48
    assert ConvBertTokenizer.from_pretrained(trained).model_max_length == 48


def test_the_length_goes_through_conversions(trained, tmp_path):
    convert(trained, tmp_path / "hf", to="hf")
    convert(tmp_path / "hf", tmp_path / "back")
    for folder in (tmp_path / "hf", tmp_path / "back"):
        assert read_json(folder / "tokenizer_config.json")["model_max_length"] == 48
        assert Predictor(folder).max_seq_length == 48


@pytest.mark.parametrize("stored", [None, {}, {"model_max_length": 1e30}])
def test_a_conversion_of_a_folder_without_one_keeps_the_positions(tmp_path, stored):
    model_folder(tmp_path / "model", max_position_embeddings=640)
    if stored is not None:
        (tmp_path / "model/tokenizer_config.json").write_text(json.dumps(stored))
    convert(tmp_path / "model", tmp_path / "hf", to="hf")
    convert(tmp_path / "hf", tmp_path / "back")
    for name in ("model", "hf", "back"):
        assert Predictor(tmp_path / name).max_seq_length == 640


def test_evaluations_read_as_far_as_training(trained, tmp_path, capsys):
    assert evaluated(trained, tmp_path / "a")["arguments"]["max_seq_length"] == 48
    assert "cut" not in capsys.readouterr().err
    assert evaluated(trained, tmp_path / "b", "--max_seq_length", "8")["arguments"]["max_seq_length"] == 8
    assert re.search(r"more than 8 tokens, and cut \(--max_seq_length\): \d+ of 200 in dev", capsys.readouterr().err)
    model_folder(tmp_path / "model")
    assert evaluated(tmp_path / "model", tmp_path / "c")["arguments"]["max_seq_length"] == 64


def test_without_the_flag_training_still_cuts_at_128():
    flags = ["--task_name", "RTE", "--output_dir", "x"]
    assert run_glue.parse_args(flags).max_seq_length == 128


def test_a_model_of_any_number_of_labels_does_not_answer_a_task(tmp_path, one_line):
    model = model_folder(tmp_path / "model", problem_type="multi_label_classification")
    begin = f"--model_name_or_path {model} --output_dir {tmp_path / 'out'} --max_seq_length 16 --no-do_train"
    one_line(run_glue.main(f"{DATA} {begin}".split()), r"any number of them for a text, but SST-2 needs labels 0, 1")
    assert not (tmp_path / "out/results.json").exists()


@pytest.mark.parametrize("flags", ["", "--from_scratch", "--init_from {model}"])
def test_a_model_of_any_number_of_labels_learns_a_task_anew(tmp_path, flags):
    model = model_folder(tmp_path / "model", problem_type="multi_label_classification")
    begin = f"--model_name_or_path {model} --output_dir {tmp_path / 'out'} --max_seq_length 16 --max_steps 1"
    assert run_glue.main(f"{DATA} {begin} {flags.format(model=model)}".split()) == 0
    assert read_json(tmp_path / "out/config.json")["problem_type"] is None


@pytest.mark.parametrize("flags", ["", "--init_from {model}", "--from_scratch"])
def test_a_new_head_has_a_new_kind(tmp_path, flags):
    """A regression's folder that learns classes says so: predict.py would answer with one of its numbers."""
    model = model_folder(tmp_path / "model", num_labels=1, label_names=None, problem_type="regression")
    begin = f"--model_name_or_path {model} --output_dir {tmp_path / 'out'} --max_seq_length 16 --max_steps 1"
    assert run_glue.main(f"{DATA} {begin} {flags.format(model=model)}".split()) == 0
    (answer,) = Predictor(tmp_path / "out")(["a"])
    assert answer.label in ("negative", "positive")


def test_a_head_of_two_numbers_is_none_of_two_classes(tmp_path, one_line):
    model = model_folder(tmp_path / "model", label_names=None, problem_type="regression")
    command = f"{DATA} --model_name_or_path {model} --output_dir {tmp_path / 'out'} --no-do_train"
    one_line(run_glue.main(command.split()), r"config\.json: a regression of 2 numbers; here a text gets one")


@pytest.mark.parametrize("task", ["SST-2", "STS-B"])
def test_results_of_damaged_weights_are_json(tmp_path, capsys, task):
    number = dict(num_labels=1, label_names=None)
    folder = model_folder(tmp_path / "model", **(number if task == "STS-B" else {}))
    model = ConvBertForSequenceClassification.from_pretrained(str(folder))
    model.classifier.out_proj.bias.set_value(np.full(model.classifier.out_proj.bias.shape, np.nan, np.float32))
    model.save_pretrained(folder)
    out = tmp_path / "out"
    command = f"--task_name {task} --data_dir {SAMPLES} --max_seq_length 16 --device cpu --no-do_train --do_predict"
    assert run_glue.main(f"{command} --model_name_or_path {folder} --output_dir {out}".split()) == 2
    results = strict(out / "results.json")
    assert results["evaluations"][0]["dev"]["loss"] is None
    assert results["best_score"] is None
    assert not (out / "predictions").exists()
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith("warning: no number (NaN or infinity) comes out for") for line in lines)
    assert lines[-1].endswith(f"{folder}: no evaluation gave a number (but NaN or infinity); its weights are damaged")


def test_a_run_with_a_loss_that_is_no_number_leaves_json(tmp_path, capsys):
    folder = model_folder(tmp_path / "model")
    model = ConvBertForSequenceClassification.from_pretrained(str(folder))
    model.classifier.out_proj.bias.set_value(np.array([np.nan, 0], np.float32))
    model.save_pretrained(folder)
    flags = f"--model_name_or_path {folder} --output_dir {tmp_path / 'out'} --max_seq_length 16 --save_steps 1"
    for more in ("--max_steps 2", "--max_steps 3 --resume"):
        assert run_glue.main(f"{DATA} {flags} --logging_steps 1 {more}".split()) == 2
        results = strict(tmp_path / "out/results.json")
        assert {entry["loss"] for entry in results["log"]} == {None}
        assert results["best_score"] is None
        strict(tmp_path / "out/last/training_state.json")
        assert not (tmp_path / "out/model.safetensors").exists()  # none was the best
        last_line = capsys.readouterr().err.splitlines()[-1]
        assert re.search(r"no evaluation gave a number .*; .*last holds step \d$", last_line), last_line


def test_an_evaluation_goes_on_with_nothing(trained, capsys):
    before = (trained / "results.json").read_bytes()
    with pytest.raises(SystemExit):
        run_glue.main(f"{DATA} --model_name_or_path {trained} --output_dir {trained} --no-do_train --resume".split())
    assert "--resume goes on with a training" in capsys.readouterr().err
    assert (trained / "results.json").read_bytes() == before


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"step": "x"}', '{"step": 400, "log": [], "evaluations": [], "precision": {}}']
)
def test_a_damaged_state_is_named(trained, tmp_path, capsys, content):
    out = tmp_path / "out"
    flags = f"--model_name_or_path {trained} --output_dir {out} --max_seq_length 16 --max_steps 1"
    assert run_glue.main(f"{DATA} {flags}".split()) == 0
    (out / "last/training_state.json").write_text(content)
    assert run_glue.main(f"{DATA} {flags} --resume".split()) == 2
    last_line = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"last(/training_state\.json: damaged|: holds step 400 of)", last_line), last_line


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id2label": {}, "label2id": {}, "num_labels": "2"}, "num_labels must be a whole number from 1, not '2'"),
        ({"id2label": {}, "label2id": {}, "num_labels": None}, "num_labels must be a whole number from 1, not None"),
        ({"id2label": {"0": "a", "2": "b"}}, "labels are numbered 0, 2, not from 0 on without a gap"),
        ({"id2label": {}, "label2id": {"a": 1, "b": 2}}, "labels are numbered 1, 2"),
        ({"id2label": {"0": "", "1": "b"}}, "a name that is empty"),
        ({"id2label": {"0": " b", "1": "b"}}, "two labels have the same name"),
        ({"problem_type": "Multi-Label"}, "problem_type 'Multi-Label' is unknown"),
    ],
)
def test_heads_that_are_not_described(tmp_path, one_line, changes, words):
    folder = model_folder(tmp_path / "model")
    (folder / "config.json").write_text(json.dumps(read_json(folder / "config.json") | changes))
    flags = f"--model_name_or_path {folder} --output_dir {tmp_path / 'out'} --no-do_train"
    one_line(run_glue.main(f"{DATA} {flags}".split()), re.escape(words))
    with pytest.raises(InputError, match=re.escape(words)):
        Predictor(folder)
