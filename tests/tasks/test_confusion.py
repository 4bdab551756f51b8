import runtime  # noqa: F401  (before Paddle)

import csv
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT
from matplotlib import rc_context

import run_glue
from comparison.report import draw_layers
from layers.configuration import ConvBertConfig
from serving import explanation
from tasks.confusion import draw_confusion
from tasks.sweep_table import draw_sweep
from training.curves import draw_curves

NAMES = ("$5_$10", "_a^2", "正面", "\\frac{")


def words(path):
    return re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text("utf-8"))


def confusion(path, labels):
    random = np.random.default_rng(0)
    task = SimpleNamespace(
        labels=labels, names=labels, num_labels=len(labels), name="own data", is_regression=False, several=False
    )
    texts = SimpleNamespace(labels=random.integers(0, len(labels), 50))
    draw_confusion(task, [("dev", [], texts)], {"dev": random.normal(size=(50, len(labels)))}, path)


def curves(path, names):
    entries = [{"step": step, "loss": 1 / step, "lr": 1e-5 / step} for step in (1, 2, 3)]
    evaluations = [{"step": 3, "dev": {"loss": 0.1, "acc": 0.5}}]
    draw_curves(names[0], dict(log=entries, evaluations=evaluations, best_step=3, best_score=0.5), path)


def explained(path, names):
    length, random = len(names), np.random.default_rng(0)
    maps = random.random((2, length, length)), random.random((2, length, 9))
    answers = dict.fromkeys(names, 1 / length)
    found = dict(tokens=list(names), layer=1, layers=2, attention=maps[0], kernels=maps[1], answers=answers)
    more = {name: [] for name in explanation.Explanation._fields if name not in found}
    explanation.draw_explanation(explanation.Explanation(**found, **more), path)


def layers(path, names):
    findings = [SimpleNamespace(max=value, mean=value / 10, allowed=1e-5) for value in (1e-7, 2e-7, 4e-6)]
    draw_layers(dict.fromkeys(names, findings), path)


def sweep(path, names):
    metrics = {"acc": dict(median=0.5)}
    entry = dict(main_metric="acc", metrics=metrics, seeds={1: {"acc": 0.5}, 2: {"acc": 0.4}})
    draw_sweep(dict(tasks=dict.fromkeys(names, entry)), path)


@pytest.mark.parametrize(
    ("draw", "shown"),
    [
        (confusion, NAMES), (curves, ["$5_$10: dev set", "acc"]), (explained, NAMES),
        (layers, ["_a^2, largest", "$5_$10, mean", "正面, mean", "1e−06"]), (sweep, ["$5_$10", "_a^2"]),
    ],
)  # fmt: skip
def test_names_are_drawn_as_they_are(tmp_path, draw, shown):
    with rc_context({"svg.fonttype": "none"}):
        draw(tmp_path / "a.svg", NAMES)
    found = words(tmp_path / "a.svg")
    assert set(shown) <= set(found), found


@pytest.mark.parametrize("labels", [("a", "b"), ("正" * 20, "负", "b"), tuple(map(str, range(40)))])
def test_a_confusion_matrix_has_a_tick_for_each_class(tmp_path, labels):
    with rc_context({"svg.fonttype": "none"}):
        confusion(tmp_path / "a.svg", labels)
    found = words(tmp_path / "a.svg")
    assert found.count(labels[1]) >= 2
    assert "正" * 15 + "…" in found or len(labels[0]) == 1


def test_of_several_labels_each_is_counted(tmp_path):
    labels = ("a", "b", "c")
    task = SimpleNamespace(
        labels=labels, names=labels, num_labels=3, name="own data", is_regression=False, several=True
    )
    texts = SimpleNamespace(labels=np.float32([[1, 0, 1]] * 11 + [[1, 1, 0]] * 23))
    logits = np.where(np.arange(3) < 2, 1.0, -1.0) * np.ones([34, 1])  # a and b are given to all, c to none
    with rc_context({"svg.fonttype": "none"}):
        draw_confusion(task, [("dev", [], texts)], {"dev": logits}, tmp_path / "a.svg")
    found = words(tmp_path / "a.svg")
    shown = ["found", "missed", "extra", *labels, "34", "0", "0", "23", "0", "11", "0", "11", "0"]
    assert sorted(word for word in found if word in shown) == sorted(shown)


def test_a_run_with_such_classes_ends_well(tmp_path, capsys):
    config = ConvBertConfig(
        vocab_size=1176, embedding_size=16, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=48, max_position_embeddings=64,
    )  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    (tmp_path / "vocab.txt").write_bytes((ROOT / "samples" / "vocab.txt").read_bytes())
    with open(tmp_path / "a.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([f"a film of {number}", NAMES[number % len(NAMES)]] for number in range(24))
    data = f"--train_file {tmp_path}/a.csv --validation_file {tmp_path}/a.csv --output_dir {tmp_path}/out"
    flags = f"--from_scratch --model_name_or_path {tmp_path} --max_seq_length 16 --max_steps 2 --device cpu"
    assert run_glue.main([*data.split(), *flags.split()]) == 0
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written >= {"confusion.png", "curves.png", "last", "results.json"}
    assert "Glyph" not in capsys.readouterr().err
