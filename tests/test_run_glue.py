import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from conftest import ROOT, needs

import predict
import run_glue
from family.architectures import ARCHITECTURES, MODEL_TYPES, config_class, model_class
from files.json_files import read_json, write_json
from files.weights import read_weights
from layers.configuration import ConvBertConfig
from layers.fast_path import bfloat16_obstacle
from tasks.glue import TASKS, find_task
from tasks.glue_files import read_examples
from tokenizer import ConvBertTokenizer
from training.optimizer import layer_depth
from training.precision import Precision
from training.processes import Processes

SAMPLES = ROOT / "samples"
VOCABULARY = SAMPLES / "vocab.txt"
bfloat16_needed = pytest.mark.skipif(bfloat16_obstacle() is not None, reason=str(bfloat16_obstacle()))
TINY = dict(
    vocab_size=1176, embedding_size=16, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
    intermediate_size=48, max_position_embeddings=64,
)  # fmt: skip


def configured(folder, model_type="convbert", **changes):
    """The folder with a very small configuration and the samples' vocabulary."""
    folder.mkdir(exist_ok=True)
    write_json(folder / "config.json", config_class(model_type).from_dict({**TINY, **changes}).to_dict())
    (folder / "vocab.txt").write_bytes((VOCABULARY).read_bytes())
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return configured(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def tinies(tmp_path_factory):
    """Model type → such a folder."""
    return {model_type: configured(tmp_path_factory.mktemp(model_type), model_type) for model_type in MODEL_TYPES}


def command(model, output, **flags):
    """Arguments of a short run on the samples; a flag that is True or False is a switch, None leaves one out."""
    settings = dict(
        model_name_or_path=model, output_dir=output, from_scratch=True, task_name="SST-2", data_dir=SAMPLES,
        max_seq_length=64, max_steps=4, save_steps=2, logging_steps=2, device="cpu",
    )  # fmt: skip
    arguments = []
    for name, value in {**settings, **flags}.items():
        if isinstance(value, bool):
            arguments.append(f"--{name}" if value else f"--no-{name}")
        elif value is not None:
            arguments += [f"--{name}", str(value)]
    return arguments


STEP_LINE = (
    r"global step \d+/4, epoch: \d+, batch: \d+, rank_id: 0, loss: \d+\.\d{6}, lr: 0\.\d{10}, speed: \d+\.\d{4} step/s"
)
NUMBER = r"-?\d+(?:\.\d+)?(?:e-\d+)?"
SCORES = {
    "acc": f"acc: {NUMBER}, ",
    "mcc": f"mcc: {NUMBER}, ",
    "acc and f1": "".join(f"{name}: {NUMBER}, " for name in ("acc", "precision", "recall", "f1", "acc and f1")),
    "pearson and spearman": "".join(f"{name}: {NUMBER}, " for name in ("pearson", "spearman", "pearson and spearman")),
}


@pytest.mark.parametrize(
    ("name", "model_type"),
    [*((name, "convbert") for name in TASKS), ("RTE", "bert"), ("STS-B", "electra"), ("MNLI", "ernie")],
)
def test_every_task_trains_evaluates_and_saves(tinies, tmp_path, capsys, name, model_type):
    flags = dict(task_name=name.lower(), model_type=model_type)
    assert run_glue.main(command(tinies[model_type], tmp_path / "out", **flags)) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    task = find_task(name)
    evaluation = rf"eval loss: \d+\.\d{{6}}, {SCORES[task.metric]}" * len(task.dev_splits)
    for line, pattern in zip(lines, [STEP_LINE, rf"{evaluation}eval done total : \d+\.\d+ s"] * 2, strict=True):
        assert re.fullmatch(pattern, line), line
    assert printed.err.splitlines()[0].startswith("device: cpu (")

    results = read_json(tmp_path / "out/results.json")
    assert results["task"] == name
    assert results["best_step"] in (2, 4)
    assert results["examples_per_second"] > 0
    assert results["arguments"]["max_steps"] == 4
    assert results["arguments"]["device"] == "cpu"
    assert [entry["step"] for entry in results["evaluations"]] == [2, 4]
    assert set(results["evaluations"][0]) == {"step", *task.dev_splits}
    config = config_class(model_type).from_pretrained(tmp_path / "out")
    assert config.num_labels == task.num_labels
    assert config.label_names == (list(task.names) or None)

    folder = tmp_path / "out"  # the best model scores the same when it is loaded again
    again = command(folder, tmp_path / "again", **flags, from_scratch=False, do_train=False)
    assert run_glue.main(again) == 0
    best = next(entry for entry in results["evaluations"] if entry["step"] == results["best_step"])
    found = read_json(tmp_path / "again/results.json")["evaluations"][0]
    for split in task.dev_splits:
        assert found[split] == best[split]


class PublishedRun:
    """Stands for the model and the data of the published SST-2 log: 67,349 examples, and nothing to compute."""

    def __init__(self):
        self.lengths = np.random.default_rng(0).integers(3, 60, 67349)
        self.labels = np.zeros(67349, "int64")
        self.weight = paddle.create_parameter([2], "float32")
        self.config = config_class("convbert").from_preset("convbert-small")

    def __len__(self):
        return len(self.lengths)

    def arrays(self, indices):
        self.size = len(indices)
        return {}

    def __call__(self):
        return self.weight.expand([self.size, 2])

    def train(self):
        pass

    def save_pretrained(self, folder):
        pass

    def parameters(self):
        return [self.weight]

    def named_parameters(self):
        return [("weight", self.weight)]


def test_the_published_log_is_reproduced_digit_for_digit(tmp_path, capsys, monkeypatch):
    run = PublishedRun()
    monkeypatch.setattr(run_glue, "evaluate_dev", lambda *args: ({"dev": {"loss": 0.3, "acc": 0.9}}, {}, 0.9))
    monkeypatch.setattr(run_glue, "write_dev_reports", lambda *args: None)
    arguments = ["--task_name", "SST-2", "--batch_size", "256", "--output_dir", str(tmp_path)]
    settings = run_glue.parse_args(arguments), TASKS["SST-2"], run, run, tmp_path, Precision(), Processes()
    run_glue.train(run_glue.Run(*settings), run, [])
    found = re.findall(r"global step (\d+)/792, epoch: (\d), batch: (\d+), .* lr: ([\d.]+)", capsys.readouterr().out)
    assert [" ".join(line) for line in found] == [
        "100 0 99 0.0000970547",
        "200 0 199 0.0000830295",
        "300 1 35 0.0000690042",
        "400 1 135 0.0000549790",
        "500 1 235 0.0000409537",
        "600 2 71 0.0000269285",
        "700 2 171 0.0000129032",
        "792 2 263 0.0000000000",
    ]


def test_evaluation_is_over_the_whole_dev_set(tiny, tmp_path):
    """Loss averaged over examples and scores do not depend on the batch size."""
    assert run_glue.main(command(tiny, tmp_path / "out", task_name="MRPC", max_steps=2)) == 0
    found = []
    for size in (7, 64):
        output = tmp_path / f"{size}"
        arguments = command(
            tmp_path / "out", output, task_name="MRPC", from_scratch=False, do_train=False, batch_size=size
        )
        assert run_glue.main(arguments) == 0
        found.append(read_json(output / "results.json")["evaluations"][0]["dev"])
    assert found[0]["loss"] == pytest.approx(found[1]["loss"], abs=1e-4)  # padding changes outputs a little
    assert found[0]["acc"] == pytest.approx(found[1]["acc"], abs=0.02)


def test_a_precision_that_is_not_there_is_refused(tiny, tmp_path, monkeypatch, one_line):
    monkeypatch.setenv("CONVBERT_KERNELS", "paddle")
    one_line(run_glue.main(command(tiny, tmp_path / "out", amp="O1")), "--amp O1 --amp_dtype bfloat16: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("model_type", ["convbert", "bert"])
@pytest.mark.parametrize("amp", [{}, pytest.param({"amp": "O1"}, marks=bfloat16_needed)])
def test_a_stopped_run_resumes_bit_for_bit(tinies, tmp_path, monkeypatch, amp, model_type):
    arguments = dict(max_steps=70, save_steps=20, task_name="STS-B", learning_rate=1e-3)  # five epochs of 13 steps
    arguments |= dict(model_type=model_type, **amp)
    tiny = tinies[model_type]
    assert run_glue.main(command(tiny, tmp_path / "whole", **arguments)) == 0

    evaluate_dev, evaluations = run_glue.evaluate_dev, []

    def stop_at_the_third(*args):
        evaluations.append(1)
        if len(evaluations) == 3:
            raise KeyboardInterrupt
        return evaluate_dev(*args)

    monkeypatch.setattr(run_glue, "evaluate_dev", stop_at_the_third)
    assert run_glue.main(command(tiny, tmp_path / "parts", **arguments)) == 130
    monkeypatch.setattr(run_glue, "evaluate_dev", evaluate_dev)
    assert read_json(tmp_path / "parts/last/training_state.json")["step"] == 40
    assert run_glue.main(command(tiny, tmp_path / "parts", resume=True, **arguments)) == 0

    for folder in ("", "last"):
        whole, parts = (read_weights(tmp_path / run / folder) for run in ("whole", "parts"))
        for name, array in whole.items():
            np.testing.assert_array_equal(array, parts[name], err_msg=name)
    whole, parts = (read_json(tmp_path / run / "results.json") for run in ("whole", "parts"))
    assert whole["evaluations"] == parts["evaluations"]
    assert whole["best_step"] == parts["best_step"]
    assert parts["arguments"]["from_scratch"] is True  # as it was given, though this process loaded last/


def test_a_head_for_another_task_is_replaced(tiny, tmp_path, caplog):
    assert run_glue.main(command(tiny, tmp_path / "mnli", task_name="MNLI")) == 0
    for task in ("RTE", "STS-B"):
        output = tmp_path / task
        assert run_glue.main(command(tmp_path / "mnli", output, task_name=task, from_scratch=False)) == 0
        assert "starting anew: classifier" in caplog.text
        assert ConvBertConfig.from_pretrained(output).num_labels == TASKS[task].num_labels


def weights_after(folder):
    return read_weights(folder / "last")


def assert_close(first, second, tolerance):
    for name, array in first.items():
        np.testing.assert_allclose(array, second[name], rtol=0, atol=tolerance, err_msg=name)


@pytest.fixture
def without_dropout(tmp_path):
    return configured(tmp_path / "model", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


def test_accumulated_batches_learn_as_one(without_dropout, tmp_path):
    flags = dict(task_name="STS-B", max_steps=14, learning_rate=1e-3)  # the 13th step has a partial batch
    assert run_glue.main(command(without_dropout, tmp_path / "one", batch_size=32, **flags)) == 0
    flags |= dict(batch_size=8, gradient_accumulation_steps=4)
    assert run_glue.main(command(without_dropout, tmp_path / "four", **flags)) == 0
    one, four = (read_json(tmp_path / name / "results.json") for name in ("one", "four"))
    for first, second in zip(one["log"], four["log"], strict=True):
        assert second["loss"] == pytest.approx(first["loss"], abs=1e-5)
    assert_close(weights_after(tmp_path / "one"), weights_after(tmp_path / "four"), 1e-5)
    assert one["examples"] == four["examples"]


@pytest.mark.parametrize("model_type", ["convbert", "bert"])
def test_recompute_changes_nothing(tinies, tmp_path, model_type):
    for name, recompute in (("plain", False), ("again", True)):
        flags = dict(model_type=model_type, recompute=recompute, learning_rate=1e-3)
        assert run_glue.main(command(tinies[model_type], tmp_path / name, **flags)) == 0
    assert_close(weights_after(tmp_path / "plain"), weights_after(tmp_path / "again"), 0)


@bfloat16_needed
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_bfloat16_computes_otherwise_but_nearly_the_same(tinies, tmp_path, model_type):
    losses = []
    for name, amp in (("float32", None), ("bfloat16", "O1")):
        flags = dict(model_type=model_type, amp=amp, logging_steps=1, learning_rate=1e-3)
        assert run_glue.main(command(tinies[model_type], tmp_path / name, **flags)) == 0
        losses.append([entry["loss"] for entry in read_json(tmp_path / name / "results.json")["log"]])
    assert losses[0] != losses[1]
    np.testing.assert_allclose(*losses, rtol=0, atol=0.02)


def test_a_run_stops_when_it_gets_no_better(tiny, tmp_path, capsys):
    flags = dict(max_steps=40, save_steps=2, early_stopping_patience=3, learning_rate=0.0)
    assert run_glue.main(command(tiny, tmp_path / "out", **flags)) == 0
    results = read_json(tmp_path / "out/results.json")
    assert [entry["step"] for entry in results["evaluations"]] == [2, 4, 6, 8]
    assert results["best_step"] == 2
    assert "stopped early: no better than at step 2 since" in capsys.readouterr().err
    assert run_glue.main(command(tiny, tmp_path / "out", resume=True, **flags)) == 0  # and stays so
    assert read_json(tmp_path / "out/results.json")["evaluations"] == results["evaluations"]


@needs("visualdl")
def test_what_a_run_leaves(tiny, tmp_path):
    flags = dict(task_name="MNLI", max_steps=8, keep_checkpoints=2, do_predict=True, visualdl_dir=tmp_path / "vdl")
    assert run_glue.main(command(tiny, tmp_path / "out", **flags)) == 0
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {
        "last", "checkpoint-6", "checkpoint-8", "predictions", "config.json", "model.safetensors", "vocab.txt",
        "tokenizer_config.json", "results.json", "curves.png", "confusion.png", "predictions_dev.tsv", "README.md",
    }  # fmt: skip
    for picture in ("curves.png", "confusion.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")
    assert any(path.name.startswith("vdlrecords") for path in (tmp_path / "vdl").iterdir())

    header, *rows = [line.split("\t") for line in (out / "predictions_dev.tsv").read_text().splitlines()]
    assert header == ["split", "row", "loss", "label", "prediction", "probability", "text", "text_pair"]
    found = {(row[0], int(row[1])): row for row in rows}
    assert len(found) == len(rows) == 320
    losses = [float(row[2]) for row in rows]
    assert losses == sorted(losses, reverse=True)
    results = read_json(out / "results.json")
    best = next(entry for entry in results["evaluations"] if entry["step"] == results["best_step"])
    for split in ("dev_matched", "dev_mismatched"):
        examples = read_examples(TASKS["MNLI"], split, SAMPLES)
        mine = [found[split, number + 1] for number in range(len(examples))]
        assert np.mean([row[3] == row[4] for row in mine]) == pytest.approx(best[split]["acc"])
        assert np.mean([float(row[2]) for row in mine]) == pytest.approx(best[split]["loss"], abs=1e-5)
        for row, example in zip(mine, examples, strict=True):
            assert row[3] == TASKS["MNLI"].labels[example.label]
            assert row[6:] == [example.text, example.text_pair]

    for name in ("MNLI-m.tsv", "MNLI-mm.tsv", "AX.tsv"):
        lines = (out / "predictions" / name).read_text().splitlines()
        assert lines[0] == "index\tprediction"
        assert {line.split("\t")[1] for line in lines[1:]} <= {"contradiction", "entailment", "neutral"}
        assert len(lines) == 41


def test_predictions_are_the_best_model_s(tiny, tmp_path, capsys):
    """And not those of the last one, which has unlearnt all."""
    flags = dict(task_name="STS-B", max_steps=6, save_steps=3, do_predict=True)
    assert run_glue.main(command(tiny, tmp_path / "out", learning_rate=1e-3, **flags)) == 0
    again = command(tmp_path / "out", tmp_path / "again", **flags, from_scratch=False, do_train=False)
    assert run_glue.main(again) == 0
    for name in ("predictions/STS-B.tsv", "predictions_dev.tsv"):
        assert (tmp_path / "out" / name).read_text() == (tmp_path / "again" / name).read_text()


def test_missing_test_files_are_said(tiny, tmp_path, capsys):
    data = tmp_path / "RTE"
    data.mkdir()
    for split in ("train", "dev"):
        (data / f"{split}.tsv").write_bytes((SAMPLES / f"RTE/{split}.tsv").read_bytes())
    flags = dict(task_name="RTE", data_dir=data, do_predict=True)
    assert run_glue.main(command(tiny, tmp_path / "out", **flags)) == 0
    assert "warning: no RTE/test.tsv: nothing to predict for RTE.tsv" in capsys.readouterr().err
    assert not (tmp_path / "out/predictions").exists()


@pytest.mark.parametrize(
    ("labels", "num_labels"),
    [("red green blue", 3), ("0.5 1 2.5", 1), ("1 2 3 4 5", 5)],
    ids=["words", "numbers", "stars"],
)
def test_own_data(tiny, tmp_path, labels, num_labels):
    words = labels.split()
    for name in ("train", "dev"):
        rows = [f"text {index},{words[index % len(words)]}" for index in range(40)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *rows]))
    (tmp_path / "test.jsonl").write_text('{"text": "text 1"}\n{"text": "text 2"}\n')
    files = dict(task_name=None, data_dir=None, train_file=tmp_path / "train.csv", validation_file=tmp_path / "dev.csv")
    files |= dict(test_file=tmp_path / "test.jsonl", do_predict=True)
    assert run_glue.main(command(tiny, tmp_path / "out", **files)) == 0
    config = ConvBertConfig.from_pretrained(tmp_path / "out")
    assert config.num_labels == num_labels
    assert config.label_names == (None if num_labels == 1 else sorted(words))
    lines = (tmp_path / "out/predictions/test.tsv").read_text().splitlines()
    assert len(lines) == 3
    again = command(tmp_path / "out", tmp_path / "again", **files, from_scratch=False, do_train=False)
    assert run_glue.main(again) == 0
    assert (tmp_path / "again/predictions/test.tsv").read_text().splitlines() == lines


def test_both_orders_of_a_pair(tiny, tmp_path, monkeypatch):
    seen = []
    train = run_glue.train
    monkeypatch.setattr(run_glue, "train", lambda run, texts, *rest: seen.append(texts) or train(run, texts, *rest))
    for task, count in (("MRPC", 800), ("RTE", 400)):
        assert run_glue.main(command(tiny, tmp_path / task, task_name=task, double_unordered=True)) == 0
        assert len(seen.pop()) == count


def test_mnli_s_model_begins_another_task(tiny, tmp_path, caplog):
    """The body is MNLI's, the head is new even where the labels are the same."""
    assert run_glue.main(command(tiny, tmp_path / "rte", task_name="RTE")) == 0
    flags = dict(task_name="RTE", from_scratch=False, init_from=tmp_path / "rte", learning_rate=0.0)
    assert run_glue.main(command("convbert-giant", tmp_path / "out", **flags)) == 0
    before, after = (read_weights(tmp_path / name) for name in ("rte", "out"))
    for name, array in before.items():
        if not name.startswith("classifier"):
            np.testing.assert_array_equal(array, after[name], err_msg=name)
        elif array.ndim == 2:
            assert (array != after[name]).any(), name


def test_the_paper_s_recipe(tmp_path):
    def chosen(task, model, *more):
        flags = f"--recipe paper --task_name {task} --model_name_or_path {model} --output_dir x"
        return vars(run_glue.parse_args([*flags.split(), *more]))

    small = chosen("rte", "convbert-medium-small")
    assert (small["learning_rate"], small["num_train_epochs"], small["layer_lr_decay"]) == (3e-4, 10, 0.8)
    assert (small["weight_decay"], small["warmup_proportion"], small["batch_size"]) == (0.01, 0.1, 32)
    base = chosen("MRPC", "convbert-base")
    assert (base["learning_rate"], base["num_train_epochs"], base["double_unordered"]) == (1e-4, 3, True)
    assert chosen("sts-b", "convbert-small")["num_train_epochs"] == 10
    assert chosen("sts-b", "convbert-small", "--num_train_epochs", "2")["num_train_epochs"] == 2
    (tmp_path / "config.json").write_text('{"hidden_size": 768}')
    assert chosen("CoLA", tmp_path)["learning_rate"] == 1e-4
    plain = vars(run_glue.parse_args(["--task_name", "RTE", "--output_dir", "x"]))
    assert (plain["learning_rate"], plain["weight_decay"], plain["layer_lr_decay"]) == (1e-4, 0.0, 1.0)


def test_settings_of_the_paper_s_code_train(tiny, tmp_path):
    flags = dict(recipe="paper", tf_compat=True, task_name="MRPC", mask_conv_padding=True, lr_scheduler_type="cosine")
    assert run_glue.main(command(tiny, tmp_path / "out", **flags)) == 0
    arguments = read_json(tmp_path / "out/results.json")["arguments"]
    assert (arguments["learning_rate"], arguments["max_grad_norm"]) == (3e-4, 1.0)
    assert ConvBertConfig.from_pretrained(tmp_path / "out").mask_conv_padding is True


def test_without_buckets_and_with_a_schedule_of_one_step(tiny, tmp_path, capsys):
    flags = dict(bucket=False, max_steps=1, save_steps=100, logging_steps=100)
    assert run_glue.main(command(tiny, tmp_path / "out", **flags)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["global step 1/1", lines[1].split(",")[0]]


def reference_folder(folder, model_type):
    import transformers

    name = {"bert": "Bert", "electra": "Electra", "ernie": "Ernie"}[model_type]
    settings = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, vocab_size=1176)
    settings |= {"embedding_size": 16} if model_type == "electra" else {}
    model = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**settings))
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_bytes((VOCABULARY).read_bytes())
    return folder


@needs("transformers", "torch")
def test_a_hugging_face_convbert_is_converted_on_the_way(tmp_path):
    import transformers

    settings = {**TINY, "pad_token_id": 1, "id2label": {0: "LABEL_0", 1: "LABEL_1"}}
    model = transformers.ConvBertForSequenceClassification(transformers.ConvBertConfig(**settings))
    model.save_pretrained(tmp_path / "hf")
    (tmp_path / "hf/vocab.txt").write_bytes((VOCABULARY).read_bytes())
    flags = dict(from_scratch=False, max_steps=1, learning_rate=0.0)
    assert run_glue.main(command(tmp_path / "hf", tmp_path / "out", **flags)) == 0
    assert ConvBertConfig.from_pretrained(tmp_path / "out").pad_token_id == 0
    theirs = model.classifier.out_proj.weight.detach().numpy()  # the head of an unnamed task with two classes is kept
    np.testing.assert_array_equal(read_weights(tmp_path / "out")["classifier.out_proj.weight"], theirs.T)


@needs("transformers", "torch")
@pytest.mark.parametrize("model_type", ["bert", "electra", "ernie"])
def test_other_models_train_from_hugging_face_folders(tmp_path, capsys, model_type):
    source = reference_folder(tmp_path / "hf", model_type)
    before = sorted(path.name for path in source.iterdir())
    flags = dict(model_type=model_type, from_scratch=False, task_name="RTE")
    assert run_glue.main(command(source, tmp_path / "out", **flags)) == 0
    assert sorted(path.name for path in source.iterdir()) == before
    assert run_glue.main(command(tmp_path / "out", tmp_path / "again", do_train=False, **flags)) == 0
    results, again = (read_json(tmp_path / run / "results.json") for run in ("out", "again"))
    best = next(entry for entry in results["evaluations"] if entry["step"] == results["best_step"])
    assert again["evaluations"][0]["dev"]["loss"] == pytest.approx(best["dev"]["loss"], abs=1e-6)
    assert run_glue.main(command(source, tmp_path / "new", model_type=model_type, task_name="RTE")) == 0

    flags |= dict(
        task_name="STS-B", layer_lr_decay=0.8, max_grad_norm=1.0, gradient_accumulation_steps=2, recompute=True
    )
    flags |= dict(do_predict=True, tf_compat=True, init_from=tmp_path / "out", max_steps=6)
    assert run_glue.main(command(source, tmp_path / "sts", **flags)) == 0
    assert len((tmp_path / "sts/predictions/STS-B.tsv").read_text().splitlines()) == 41
    capsys.readouterr()
    assert predict.main(["--model", str(tmp_path / "out"), "a", "--text_pair", "b", "--device", "cpu"]) == 0
    assert set(json.loads(capsys.readouterr().out)["probabilities"]) == {"entailment", "not_entailment"}
    depths = {layer_depth(name, 2) for name in read_weights(tmp_path / "sts")}
    assert depths == {0, 1, 2, 3}


def paddlenlp_s(model_type, kind):
    import paddlenlp.transformers

    return getattr(paddlenlp.transformers, ARCHITECTURES[model_type].prefix + kind)


@needs("paddlenlp")
@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("model_type", ["bert", "electra", "ernie"])
def test_folders_that_paddlenlp_s_models_left(tmp_path, capsys, model_type, safe):
    """As run_glue.py saved them when it trained these: the same answers, evaluated as well as further trained."""
    names = dict(id2label={0: "entailment", 1: "not_entailment"}, label2id={"entailment": 0, "not_entailment": 1})
    settings = {**TINY, **names, "type_vocab_size": 2, "use_cache": False}
    theirs = paddlenlp_s(model_type, "ForSequenceClassification")(paddlenlp_s(model_type, "Config")(**settings))
    theirs.eval()
    for weight in theirs.parameters():
        weight.set_value(weight + 0.1 * paddle.randn(weight.shape))
    theirs.save_pretrained(str(tmp_path / "old"), safe_serialization=safe)
    tokenizer = ConvBertTokenizer(VOCABULARY)
    tokenizer.save_pretrained(tmp_path / "old")
    encoded = tokenizer(["a good film"], ["a bad one"])
    with paddle.no_grad():
        expected = theirs(*(paddle.to_tensor(encoded[name]) for name in ("input_ids", "token_type_ids"))).numpy()
    assert predict.main(["--model", str(tmp_path / "old"), "a good film", "--text_pair", "a bad one"]) == 0
    found = json.loads(capsys.readouterr().out)["probabilities"]
    assert list(found) == ["entailment", "not_entailment"]
    assert np.log(found["entailment"] / found["not_entailment"]) == pytest.approx(-np.diff(expected[0])[0], abs=1e-4)

    flags = dict(model_type=model_type, from_scratch=False, task_name="RTE", max_steps=2, learning_rate=0.0)
    assert run_glue.main(command(tmp_path / "old", tmp_path / "out", **flags)) == 0
    before, after = (read_weights(tmp_path / name) for name in ("old", "out"))
    assert before.keys() == after.keys()
    assert_close(before, after, 0)  # the head too
    assert "not bit for bit" not in capsys.readouterr().err


@needs("paddlenlp")
@pytest.mark.parametrize("model_type", ["bert", "electra", "ernie"])
def test_a_run_that_paddlenlp_s_model_began_goes_on(tinies, tmp_path, capsys, model_type):
    """With its optimizer's state and all; that the dropout is not the same is said once."""
    flags = dict(model_type=model_type, task_name="RTE", learning_rate=1e-3, keep_checkpoints=2)
    assert run_glue.main(command(tinies[model_type], tmp_path / "whole", **flags)) == 0
    shutil.copytree(tmp_path / "whole/checkpoint-2", tmp_path / "parts/last")
    theirs = paddlenlp_s(model_type, "ForSequenceClassification").from_pretrained(str(tmp_path / "parts/last"))
    (tmp_path / "parts/last/model.safetensors").unlink()
    for folder in ("parts", "parts/last"):
        theirs.save_pretrained(str(tmp_path / folder))
    state = read_json(tmp_path / "parts/last/training_state.json")
    write_json(tmp_path / "parts/last/training_state.json", {**state, "best_score": 0.0})
    capsys.readouterr()
    assert run_glue.main(command(tinies[model_type], tmp_path / "parts", resume=True, **flags)) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert "parts/last: of a version that trained PaddleNLP's model; goes on" in line
    assert "not bit for bit the same run" in line
    assert_close(weights_after(tmp_path / "whole"), weights_after(tmp_path / "parts"), 0)
    assert (tmp_path / "parts/model.safetensors").exists()  # a new best one, and no other beside it
    assert not (tmp_path / "parts/model_state.pdparams").exists()
    assert run_glue.main(command(tinies[model_type], tmp_path / "parts", resume=True, **flags)) == 0
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize("model_type", ["bert", "ernie"])
def test_from_scratch_of_a_tagger_s_configuration_has_the_pooler_of_the_head(tmp_path, model_type):
    configured(tmp_path / "model", model_type, has_pooler=False)
    assert run_glue.main(command(tmp_path / "model", tmp_path / "out", model_type=model_type)) == 0
    assert f"{model_type}.pooler.dense.weight" in read_weights(tmp_path / "out")


BAD = [  # flags that differ from a good run → what the one line says
    (dict(task_name="GLUE"), r"unknown task 'GLUE'; known are CoLA, SST-2"),
    (dict(device="gpu:7"), "--device gpu:7: this Paddle sees cpu"),
    (dict(data_dir="nowhere"), r"nowhere.train\.tsv: no such file|nowhere.dev\.tsv: no such file"),
    (dict(model_name_or_path="convbert-giant"), "convbert-giant: neither a folder nor"),
    (dict(model_name_or_path="convbert-giant", from_scratch=False), "convbert-giant: neither a folder nor"),
    (dict(model_name_or_path="bert-base-uncased"), "bert-base-uncased: a bert model, not a ConvBERT; take "),
    (dict(model_name_or_path="convbert-small", model_type="ernie"), "convbert-small: a convbert model, not an ERNIE"),
    (dict(model_name_or_path="electra-small-generator", model_type="electra", from_scratch=False), "hf:google/electra"),
    (dict(model_name_or_path="bert-big", model_type="bert", vocab_file=VOCABULARY), "bert-big: neither a folder nor a"),
    (dict(vocab_file="nowhere.txt"), "nowhere.txt: can't be read"),
    (dict(max_seq_length=65), "--max_seq_length 65: .* has only 64 positions"),
    (dict(from_scratch=False), "no weights here"),
    (dict(output_dir=ROOT / "samples"), "--output_dir .*samples: not empty; add --resume"),
    (dict(output_dir=ROOT / "LICENSE"), "not a folder"),
    (dict(output_dir="/proc/no/such"), "No such file or directory: .*/proc/no"),
]


@pytest.mark.parametrize(("flags", "message"), BAD)
def test_bad_input_is_one_line(tiny, tmp_path, one_line, flags, message):
    one_line(run_glue.main(command(tiny, tmp_path / "out", **flags)), message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: --output_dir"),
        (["--task_name", "RTE", "--output_dir", "x", "--batch_size", "0"], "--batch_size must be at least 1, not 0"),
        (["--task_name", "RTE", "--output_dir", "x", "--batch_size", "a"], "invalid int value: 'a'"),
        (["--task_name", "RTE", "--output_dir", "x", "--warmup_proportion", "2"], r"must lie in \[0, 1\], not 2"),
        (["--task_name", "RTE", "--output_dir", "x", "--modle_type", "bert"], "unrecognized arguments: --modle_type"),
        (["--task_name", "RTE", "--output_dir", "x", "--model_type", "gpt"], "invalid choice: 'gpt'"),
    ],
)
def test_bad_usage_is_one_line(capsys, arguments, message):
    with pytest.raises(SystemExit) as error:
        run_glue.main(arguments)
    assert error.value.code == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert re.search(message, printed)


def test_a_folder_with_too_small_a_vocabulary(tiny, tmp_path, one_line):
    from modeling import ConvBertModel

    ConvBertModel(ConvBertConfig(**{**TINY, "vocab_size": 50})).save_pretrained(tmp_path / "model")
    flags = dict(vocab_file=VOCABULARY, from_scratch=False)
    one_line(run_glue.main(command(tmp_path / "model", tmp_path / "out", **flags)), r"vocabulary has \d+ .* only 50")


def test_help_needs_no_paddle():
    code = (
        "import sys, run_glue\n"
        "try: run_glue.main(['--help'])\n"
        "except SystemExit: print([m for m in ('paddle', 'torch', 'paddlenlp', 'scipy') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"
    assert "[default: 0.0001]" in run.stdout or "(default: 0.0001)" in run.stdout


def test_the_script_reports_through_its_exit_status(tmp_path):
    command = [sys.executable, str(ROOT / "run_glue.py"), "--task_name", "nope", "--output_dir", str(tmp_path)]
    run = subprocess.run(command, cwd=Path("/"), capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.startswith("run_glue.py: unknown task 'nope'")
    assert run.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_published_model_from_the_zoo_s_cache(tmp_path, monkeypatch):
    """By its name alone; with --from_scratch its size without any file of it."""
    monkeypatch.setenv("PPNLP_HOME", str(tmp_path))
    folder = tmp_path / "models/electra-small"
    folder.mkdir(parents=True)
    model = model_class("electra", "Discriminator")(config_class("electra").from_preset("electra-small"))
    paddle.save(model.state_dict(), str(folder / "model_state.pdparams"))
    (folder / "vocab.txt").write_bytes(VOCABULARY.read_bytes())
    flags = dict(model_type="electra", task_name="RTE", max_steps=1, save_steps=1, learning_rate=0.0)
    assert run_glue.main(command("electra-small", tmp_path / "out", from_scratch=False, **flags)) == 0
    found = read_weights(tmp_path / "out")
    for name, weight in model.electra.state_dict().items():
        np.testing.assert_array_equal(found[f"electra.{name}"], weight.numpy(), err_msg=name)
    shutil.rmtree(folder)
    assert run_glue.main(command("electra-small", tmp_path / "new", vocab_file=VOCABULARY, **flags)) == 0
    assert config_class("electra").from_pretrained(tmp_path / "new").hidden_size == 256


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TASKS if name != "WNLI"])
def test_real_glue(shared, tmp_path, name):
    """convbert-small from scratch with the published vocabulary, on the first steps of every real task."""
    vocabulary = shared / "vocab/bert-base-uncased-vocab.txt"
    flags = dict(task_name=name, data_dir=shared / "glue", vocab_file=vocabulary, max_seq_length=128, max_steps=3)
    assert run_glue.main(command("convbert-small", tmp_path / "out", save_steps=3, **flags)) == 0
