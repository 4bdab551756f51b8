import csv
import gc
import json

import paddle
import pytest
from conftest import ROOT

import run_glue
from files.json_files import read_json
from layers.configuration import ConvBertConfig
from tasks.glue import TASKS, Example
from tasks.glue_files import read_examples
from tasks.tables import Row
from training import fine_tuning

SAMPLES = ROOT / "samples"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    sizes = dict(vocab_size=1176, embedding_size=16, hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
    config = ConvBertConfig(**sizes, intermediate_size=48, max_position_embeddings=64)
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    (folder / "vocab.txt").write_bytes((SAMPLES / "vocab.txt").read_bytes())
    return folder


def alive(*kinds):
    gc.collect()
    return sum(issubclass(type(thing), kinds) for thing in gc.get_objects())  # a dead proxy has no class to ask for


def write_csv(path, split):
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sentence1", "sentence2", "score"])
        writer.writerows(read_examples(TASKS["STS-B"], split, SAMPLES)[:60])
    return str(path)


@pytest.mark.parametrize("own", [False, True], ids=["task", "own files"])
def test_only_the_dev_rows_are_there_while_a_run_learns(tiny, tmp_path, monkeypatch, own):
    if own:
        files = {f"{name}_file": write_csv(tmp_path / f"{name}.csv", split) for name, split in
                 (("train", "train"), ("validation", "dev"), ("test", "dev"))}  # fmt: skip
        data = [word for name, path in files.items() for word in (f"--{name}", path)]
        dev_rows = 60
    else:
        data = ["--task_name", "STS-B", "--data_dir", str(SAMPLES), "--double_unordered"]
        dev_rows = len(read_examples(TASKS["STS-B"], "dev", SAMPLES))
    before, found, real = alive(Example, Row), [], fine_tuning.backward

    def backward(*args):
        found.append(alive(Example, Row) - before)
        return real(*args)

    monkeypatch.setattr(fine_tuning, "backward", backward)
    flags = f"--from_scratch --max_steps 1 --max_seq_length 32 --device cpu --model_name_or_path {tiny}".split()
    assert run_glue.main([*flags, *data, "--do_predict", "--output_dir", str(tmp_path / "out")]) == 0
    assert found == [dev_rows]
    predicted = next((tmp_path / "out" / "predictions").iterdir()).read_text("utf-8").splitlines()
    assert len(predicted) == 1 + (60 if own else 40)


def test_an_evaluation_makes_no_optimizer(tiny, tmp_path, monkeypatch):
    flags = f"--task_name SST-2 --data_dir {SAMPLES} --max_seq_length 32 --device cpu".split()
    begin = f"--from_scratch --max_steps 1 --model_name_or_path {tiny} --output_dir {tmp_path}/a".split()
    assert run_glue.main([*flags, *begin]) == 0
    before, found, real = alive(paddle.optimizer.Optimizer), [], run_glue.evaluate_dev

    def evaluate_dev(*args):
        found.append(alive(paddle.optimizer.Optimizer) - before)
        return real(*args)

    monkeypatch.setattr(run_glue, "evaluate_dev", evaluate_dev)
    end = f"--no-do_train --model_name_or_path {tmp_path}/a --output_dir {tmp_path}/b".split()
    assert run_glue.main([*flags, *end]) == 0
    assert found == [0]
    assert read_json(tmp_path / "b" / "results.json")["step"] == 0
