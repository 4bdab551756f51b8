"""docs/claim.py: three models of one size, and all its steps on the samples, stopped and gone on with."""

import json
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

from files.json_files import read_json, write_json

sys.path.insert(0, str(ROOT / "docs"))
FLAGS = dict(
    texts=ROOT / "samples/corpus.txt", data_dir=ROOT / "samples", steps=20, decay_steps=10, eval_steps=10,
    models=["convbert", "bert"], tasks=["MRPC"], seeds=[1],
)  # fmt: skip


def command(output, **flags):
    words = [word for name, value in (FLAGS | flags | {"output_dir": output}).items() for word in _words(name, value)]
    return [sys.executable, str(ROOT / "docs/claim.py"), *words]


def _words(name, value):
    return [f"--{name}", *map(str, value if isinstance(value, list) else [value])]


def test_encoders_have_as_many_weights():
    import claim

    counts = {model: claim.parameters(model) for model in claim.SIZES}
    assert max(counts.values()) / min(counts.values()) < 1.03
    assert 3.5e6 < counts["convbert"] < 5e6


def test_operations_are_counted_for_each_objective():
    """Masked words by a model of the full size, replaced ones with a generator beside it."""
    import claim

    training, forward = zip(*(claim.flops(model) for model in claim.SIZES), strict=True)
    assert all(3 * once < whole < 6 * once for whole, once in zip(training, forward, strict=True))
    assert forward[0] < forward[1]  # ConvBERT's layers multiply less than ELECTRA's; BERT here is narrower


def test_each_model_gets_as_many_seconds(tmp_path):
    import claim

    args = claim.parse_args(command(tmp_path)[2:])
    seconds = {"convbert": 0.2, "electra": 0.1999, "bert": 0.16}
    rows = [claim.Row(model, kind) for model in seconds for kind in KINDS]
    steps = {row: claim.steps_of(args, seconds, row) for row in rows}
    assert {steps[model, "tokens"] for model in seconds} == {20}
    assert [steps[model, "seconds"] for model in seconds] == [20, 20, 25]


KINDS = "tokens", "seconds"


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (dict(steps=25), "--steps 25: no multiple of --decay_steps 10, where a run is kept"),
        (dict(texts="none.txt"), "none.txt: is not there"),
        (dict(seeds=-1), "--seeds must be at least 0, not -1"),
    ],
)
def test_bad_flags_are_one_line(tmp_path, flags, line):
    done = subprocess.run(command(tmp_path, **flags), capture_output=True, text=True)
    assert done.returncode == 2
    assert line in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_the_whole_on_samples(tmp_path):
    write_json(tmp_path / "seconds.json", dict(seconds={"convbert": 0.2, "electra": 0.2, "bert": 0.1}))
    stopped = subprocess.Popen(command(tmp_path, jobs=2), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("*/tokens/last")):
        time.sleep(0.2)
        assert stopped.poll() is None, stopped.stderr.read()
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(120) == 143
    assert not (tmp_path / "claim.md").exists()

    done = subprocess.run(command(tmp_path, jobs=2), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "claim.json").read_text())
    assert [(row["model"], row["kind"], row["steps"]) for row in found] == [
        ("convbert", "tokens", 20), ("bert", "tokens", 20), ("bert", "seconds", 40),
    ]  # fmt: skip
    assert all(len(row["scores"]["MRPC"]) == 1 for row in found)
    assert found[0]["tokens"] == found[1]["tokens"]  # the same text
    assert (tmp_path / "claim.md").read_text().strip() in done.stdout
    assert (tmp_path / "claim.png").stat().st_size > 10_000

    short, long = (read_json(tmp_path / "bert" / kind / "last/training_state.json") for kind in KINDS)
    assert [e for e in long["evaluations"] if e["step"] <= 10] == [e for e in short["evaluations"] if e["step"] <= 10]
    at_20 = [next(e["loss"] for e in state["evaluations"] if e["step"] == 20) for state in (short, long)]
    assert at_20[0] != at_20[1]  # there one of them had come down
