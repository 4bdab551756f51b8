"""The frame of both training scripts: what --resume refuses, what saving by the clock and a signal leave alone."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from conftest import ROOT
from test_run_glue import command, tiny  # noqa: F401  (a fixture)
from test_run_pretrain import command as pretraining_command
from test_run_pretrain import tiny as pretraining_tiny  # noqa: F401

import run_glue
import run_pretrain
from files.json_files import read_json, write_json
from files.weights import read_weights
from tasks import confusion
from training import curves, fine_tuning, loop, signals

SHORT = dict(max_steps=4, save_steps=2, logging_steps=2, learning_rate=1e-3, max_seq_length=32)
PRETRAINING = dict(max_steps=4, save_steps=2, max_seq_length=32)


@pytest.fixture(scope="module")
def stopped(tiny, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("stopped") / "out"
    assert run_glue.main(command(tiny, folder, **SHORT)) == 0
    return folder


@pytest.fixture(scope="module")
def pretrained(pretraining_tiny, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("pretrained") / "out"
    assert run_pretrain.main(pretraining_command(pretraining_tiny, folder, **PRETRAINING)) == 0
    return folder


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# what is listed; None: it goes on
CHANGES = [
    (dict(seed=43), r"--seed 42, now 43"),
    (dict(learning_rate=1e-4), r"--learning_rate 0\.001, now 0\.0001"),
    (dict(lr_scheduler_type="cosine"), r"--lr_scheduler_type linear, now cosine"),
    (dict(warmup_steps=1), r"--warmup_steps 0, now 1"),
    (dict(weight_decay=0.1, adam_epsilon=1e-8), r"--weight_decay 0\.0, now 0\.1; --adam_epsilon 1e-06, now 1e-08"),
    (dict(batch_size=16), r"examples of a step 32, now 16"),
    (dict(gradient_accumulation_steps=2), r"examples of a step 32, now 64"),
    (dict(max_seq_length=48), r"--max_seq_length 32, now 48"),
    (dict(task_name="RTE"), r"train examples .*; task SST-2, now RTE; labels 0, 1, now entailment, not_entailment"),
    (dict(task_name="STS-B", learning_rate=1e-4), r"--learning_rate .* task SST-2, now STS-B"),
    (dict(model_type="bert"), r"a convbert model, not a BERT; take --model_type convbert"),
    (
        dict(model_type="bert", model_name_or_path="bert-base-uncased"),
        r"--model_type convbert, now bert; model .*, now bert-base-uncased",
    ),
    (dict(model_name_or_path="convbert-tiny"), r"model .*, now convbert-tiny"),
    (dict(vocab_file="other.txt"), r"vocabulary 1,\d+ words \(\w+\), now 1,\d+ words"),
    (dict(data_dir="data"), r"train examples [\d,]+ examples \(\w+\), now [\d,]+ examples"),
    (dict(bucket=False), r"--bucket True, now False"),
    (dict(max_steps=3), r"a run of 4 steps, now 3; --max_steps and epochs may only grow"),
    (dict(batch_size=16, gradient_accumulation_steps=2), None),
    (dict(logging_steps=1, save_steps=3, eval_steps=1, save_minutes=1, keep_checkpoints=1), None),
    (dict(task_name="sst-2", data_dir="same", do_predict=True, early_stopping_patience=3, recompute=True), None),
    (dict(vocab_file="same.txt", verbose=True), None),
]


@pytest.mark.parametrize(
    ("flags", "message"), CHANGES, ids=lambda value: "-".join(value) if isinstance(value, dict) else ""
)
def test_what_a_run_that_goes_on_may_change(tiny, stopped, tmp_path, monkeypatch, capsys, flags, message):  # noqa: F811
    out = tmp_path / "out"
    shutil.copytree(stopped, out)
    monkeypatch.chdir(tmp_path)
    words = (tiny / "vocab.txt").read_text().splitlines()
    (tmp_path / "same.txt").write_text("\n".join(words) + "\n")
    (tmp_path / "other.txt").write_text("\n".join([*words[:-2], words[-1], words[-2]]) + "\n")
    for name in ("same", "data"):
        shutil.copytree(ROOT / "samples/SST-2", tmp_path / name / "SST-2", copy_function=shutil.copyfile)
    text = (tmp_path / "data/SST-2/train.tsv").read_text()
    (tmp_path / "data/SST-2/train.tsv").write_text(text.replace(" film", " movie"))
    before = content(out)
    status = run_glue.main(command(tiny, out, **{**SHORT, **flags}, resume=True))
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("device: ")]
    if message is None:
        assert status == 0, lines
        return
    assert status == 2
    assert len(lines) == 1, lines
    assert re.search(message, lines[0]), lines
    if "changed: " in lines[0] and ".*" not in message:
        flags_and_facts = lines[0].partition("changed: ")[2].partition("; give these")[0]
        assert flags_and_facts.count(", now ") == message.count("now"), lines[0]  # and nothing else
    assert content(out) == before


def test_own_folders_by_any_name_are_the_same(tiny, stopped, tmp_path, monkeypatch):  # noqa: F811
    shutil.copytree(stopped, tmp_path / "out")
    monkeypatch.chdir(tiny.parent)
    assert run_glue.main(command(tiny.name, tmp_path / "out", **SHORT, resume=True)) == 0


def test_a_longer_run_goes_on_with_its_own_schedule(tiny, stopped, tmp_path, capsys):  # noqa: F811
    """Which is said; from where it goes on every rate is that of the longer run."""
    longer = {**SHORT, "max_steps": 8, "logging_steps": 1}
    assert run_glue.main(command(tiny, tmp_path / "whole", **longer)) == 0
    shutil.copytree(stopped, tmp_path / "out")
    capsys.readouterr()
    assert run_glue.main(command(tiny, tmp_path / "out", **longer, resume=True)) == 0
    assert "goes on after step 4 to 8 steps instead of 4: the learning rate is that of a run of 8" in (
        capsys.readouterr().err
    )
    whole, out = (read_json(tmp_path / name / "results.json") for name in ("whole", "out"))
    rates = [[(e["step"], e["lr"]) for e in run["log"] if e["step"] > 4] for run in (whole, out)]
    assert rates[0] == rates[1]
    assert [step for step, _ in rates[0]] == [5, 6, 7, 8]
    assert run_glue.main(command(tiny, tmp_path / "out", **SHORT, resume=True)) == 2  # it is one of 8 steps now


def test_another_number_of_processes_is_said(tiny, stopped, tmp_path, capsys):  # noqa: F811
    """Examples of a step, which are compared, are those of all processes together."""
    out = tmp_path / "out"
    shutil.copytree(stopped, out)
    state = read_json(out / "last/training_state.json")
    assert state["processes"] == 1
    write_json(out / "last/training_state.json", state | {"processes": 2})
    assert run_glue.main(command(tiny, out, **SHORT, resume=True)) == 0
    assert "goes on in 1 processes instead of 2: a step has the same examples" in capsys.readouterr().err


def test_a_last_checkpoint_without_flags_goes_on_with_a_line(tiny, stopped, tmp_path, capsys):  # noqa: F811
    shutil.copytree(stopped, tmp_path / "out")
    path = tmp_path / "out/last/training_state.json"
    state = read_json(path)
    for name in ("settings", "total_steps", "best_loss"):  # as an older version wrote it
        del state[name]
    write_json(path, state)
    longer = {**SHORT, "max_steps": 6}
    assert run_glue.main(command(tiny, tmp_path / "out", **longer, resume=True)) == 0
    assert "of a version that stored no flags" in capsys.readouterr().err
    assert run_glue.main(command(tiny, tmp_path / "out", **longer, seed=1, resume=True)) == 2


def test_a_missing_last_checkpoint_is_said(tiny, tmp_path, capsys):  # noqa: F811
    assert run_glue.main(command(tiny, tmp_path / "out", **SHORT, resume=True)) == 0
    assert "out holds no last/ to go on from; starts from the beginning" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (dict(vocab_file="other.txt"), r"vocabulary .*, now 1,\d+ words"),
        (dict(seed=1, mask_prob=0.2), r"--mask_prob 0\.15, now 0\.2; --seed 42, now 1;"),
        (dict(input_dir="other.txt"), r"text 1 files \(\w+\), now 1 files"),
        (dict(train_batch_size=4), r"examples of a step 8, now 4"),
        (dict(mlm_only=True), r"--mlm_only False, now True"),
        (dict(max_steps=2), r"a run of 4 steps, now 2"),
        (dict(model_name_or_path="copy"), r"model .*, now "),
        (dict(train_batch_size=4, gradient_accumulation_steps=2), None),
        (dict(vocab_file="same.txt", input_dir="same-corpus.txt"), None),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_pre_training_may_change(
    pretraining_tiny, pretrained, tmp_path, monkeypatch, capsys, flags, message  # noqa: F811
):  # fmt: skip
    out = tmp_path / "out"
    shutil.copytree(pretrained, out)
    shutil.copytree(pretraining_tiny, tmp_path / "copy")
    monkeypatch.chdir(tmp_path)
    words = (pretraining_tiny / "vocab.txt").read_text().splitlines()
    shutil.copyfile(pretraining_tiny / "vocab.txt", "same.txt")
    shutil.copyfile(ROOT / "samples/corpus.txt", "same-corpus.txt")
    (tmp_path / "other.txt").write_text("\n".join([*words[:-2], words[-1], words[-2]]) + "\n")
    before = content(out)
    status = run_pretrain.main(pretraining_command(pretraining_tiny, out, **{**PRETRAINING, **flags}, resume=True))
    printed = capsys.readouterr().err
    if message is None:
        assert status == 0, printed
        return
    assert status == 2
    assert re.search(message, printed.splitlines()[-1]), printed
    after = content(out)
    assert {path for path in before if after[path] != before[path]} == set()  # the store of tokens among them


def test_pre_training_goes_on_with_its_own_vocabulary(pretraining_tiny, tmp_path):  # noqa: F811
    words = (ROOT / "samples/vocab.txt").read_text().splitlines()
    own = tmp_path / "own.txt"
    own.write_text("\n".join(words[:1200]) + "\n")
    first = pretraining_command(pretraining_tiny, tmp_path / "out", vocab_file=own, **PRETRAINING)
    assert run_pretrain.main(first) == 0
    store = (tmp_path / "out/data/tokens.bin").stat().st_mtime_ns
    longer = {**PRETRAINING, "max_steps": 6}
    assert run_pretrain.main(pretraining_command(pretraining_tiny, tmp_path / "out", **longer, resume=True)) == 0
    assert (tmp_path / "out/data/tokens.bin").stat().st_mtime_ns == store
    assert (tmp_path / "out/discriminator/vocab.txt").read_text().split() == own.read_text().split()


# ------------------------------------------------------------------------------------------------- --overwrite, checks

WRONG = [
    dict(max_seq_length=65),
    dict(vocab_file="nothing.txt"),
    dict(visualdl_dir="/proc/no/such"),
    dict(data_dir="nothing"),
    dict(model_name_or_path="nothing"),
]


@pytest.mark.parametrize("flags", WRONG, ids=lambda flags: next(iter(flags)))
def test_overwrite_removes_nothing_before_all_is_checked(tiny, stopped, tmp_path, capsys, flags):  # noqa: F811
    shutil.copytree(stopped, tmp_path / "out")
    before = content(tmp_path / "out")
    assert run_glue.main(command(tiny, tmp_path / "out", **{**SHORT, **flags}, overwrite=True)) == 2
    assert content(tmp_path / "out") == before


def test_pre_training_removes_nothing_either(pretraining_tiny, pretrained, tmp_path):  # noqa: F811
    shutil.copytree(pretrained, tmp_path / "out")
    before = content(tmp_path / "out")
    text = tmp_path / "text.txt"
    text.write_text("Another text. It would become another store.\n")
    flags = {**PRETRAINING, "max_seq_length": 65, "input_dir": text}
    assert run_pretrain.main(pretraining_command(pretraining_tiny, tmp_path / "out", **flags, overwrite=True)) == 2
    assert content(tmp_path / "out") == before


def test_old_checkpoints_do_not_count_as_a_new_run_s(tiny, stopped, tmp_path, monkeypatch):  # noqa: F811
    out = tmp_path / "out"
    shutil.copytree(stopped, out)
    shutil.copytree(out / "last", out / "checkpoint-900")
    (out / "notes.txt").touch()
    monkeypatch.setattr(fine_tuning, "backward", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run_glue.main(command(tiny, out, **SHORT, overwrite=True)) == 130
    assert [path.name for path in out.iterdir()] == ["notes.txt"]  # no model, no results of the old one
    monkeypatch.undo()
    assert run_glue.main(command(tiny, out, **SHORT, keep_checkpoints=2, resume=True)) == 0
    assert sorted(path.name for path in out.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]


def test_an_evaluation_overwrites_no_model(tiny, stopped, tmp_path):  # noqa: F811
    out = tmp_path / "out"
    shutil.copytree(stopped, out)
    flags = {**SHORT, "do_train": False, "from_scratch": False}
    assert run_glue.main(command(out, out, **flags, overwrite=True)) == 0
    assert (out / "model.safetensors").read_bytes() == (stopped / "model.safetensors").read_bytes()
    assert (out / "last").is_dir()


@pytest.mark.parametrize("steps", ["0", "-2"])
def test_a_number_of_steps_that_makes_no_run(steps, capsys):
    for script in (run_glue, run_pretrain):
        with pytest.raises(SystemExit) as stop:
            script.main(["--max_steps", steps, "--output_dir", "out"])
        assert stop.value.code == 2
        assert f"--max_steps must be at least 1, or -1 for all of --num_train_epochs, not {steps}" in (
            capsys.readouterr().err
        )


# --------------------------------------------------------------------------------------- saving by the clock, by signal


def same_weights(first, second):
    first, second = read_weights(first), read_weights(second)
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name], err_msg=name)


@pytest.mark.parametrize("kind", ["fine-tuning", "pre-training"])
def test_saving_by_the_clock_changes_nothing_else(tiny, pretraining_tiny, tmp_path, monkeypatch, kind):  # noqa: F811
    script, make, model = run_glue, command, tiny
    if kind == "pre-training":
        script, make, model = run_pretrain, pretraining_command, pretraining_tiny
    flags = dict(max_steps=6, save_steps=4, logging_steps=4, keep_checkpoints=9, learning_rate=1e-3, max_seq_length=32)
    saved = []
    save_last = loop.save_last
    monkeypatch.setattr(loop, "save_last", lambda *args: (saved.append(args[4]["step"]), save_last(*args)))
    found = {}
    for name, minutes in (("never", 0), ("always", 1e-9)):
        saved.clear()
        assert script.main(make(model, tmp_path / name, save_minutes=minutes, **flags)) == 0
        found[name] = list(saved)
    assert found == {"never": [4, 6], "always": [1, 2, 3, 4, 5, 6]}
    same_weights(tmp_path / "never/last", tmp_path / "always/last")
    never, always = (read_json(tmp_path / name / "results.json") for name in found)
    assert never["log"] == always["log"]
    assert never["evaluations"] == always["evaluations"]
    for name in found:
        assert sorted(path.name for path in (tmp_path / name).glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-6"]


def test_evaluations_of_their_own(tiny, tmp_path):  # noqa: F811
    flags = dict(max_steps=7, save_steps=3, eval_steps=2, keep_checkpoints=9)
    assert run_glue.main(command(tiny, tmp_path / "out", **flags)) == 0
    results = read_json(tmp_path / "out/results.json")
    assert [entry["step"] for entry in results["evaluations"]] == [2, 4, 6, 7]
    assert sorted(path.name for path in (tmp_path / "out").glob("checkpoint-*")) == [
        "checkpoint-3", "checkpoint-6", "checkpoint-7",
    ]  # fmt: skip


def test_the_evaluation_that_ends_a_run_saves_it(tiny, tmp_path):  # noqa: F811
    flags = dict(max_steps=40, save_steps=30, eval_steps=2, early_stopping_patience=2, learning_rate=0.0)
    assert run_glue.main(command(tiny, tmp_path / "out", **flags)) == 0
    assert read_json(tmp_path / "out/last/training_state.json")["step"] == 6


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("kind", ["fine-tuning", "pre-training"])
def test_a_signal_saves_and_the_run_goes_on_bit_for_bit(
    tiny, pretraining_tiny, tmp_path, monkeypatch, capsys, kind, number, status  # noqa: F811
):  # fmt: skip
    script, make, model, module = run_glue, command, tiny, fine_tuning
    if kind == "pre-training":
        script, make, model, module = run_pretrain, pretraining_command, pretraining_tiny, run_pretrain
    flags = dict(max_steps=8, save_steps=7, logging_steps=3, learning_rate=1e-3, max_seq_length=32)
    assert script.main(make(model, tmp_path / "whole", **flags)) == 0
    real, handlers = module.backward, [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)]

    def backward(run, data, *rest):
        if rest[-1] == 5:
            os.kill(os.getpid(), number)
        return real(run, data, *rest)

    monkeypatch.setattr(module, "backward", backward)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        script.main(make(model, tmp_path / "parts", **flags))
    monkeypatch.setattr(module, "backward", real)
    assert stop.value.code == status
    assert [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)] == handlers
    name = "SIGTERM" if number == signal.SIGTERM else "Ctrl-C"
    printed = capsys.readouterr()
    assert f"ended by {name} after step 5, which {tmp_path / 'parts/last'} holds" in printed.err
    assert "eval" not in printed.out
    assert [path.name for path in (tmp_path / "parts").iterdir() if path.name != "data"] == ["last"]
    assert script.main(make(model, tmp_path / "parts", **flags, resume=True)) == 0
    same_weights(tmp_path / "whole/last", tmp_path / "parts/last")
    whole, parts = (read_json(tmp_path / name / "results.json") for name in ("whole", "parts"))
    assert whole["log"] == parts["log"]
    assert whole["evaluations"] == parts["evaluations"]


def test_a_signal_while_an_evaluation_is_saved_needs_no_further_step(tiny, tmp_path, monkeypatch):  # noqa: F811
    evaluate = run_glue.evaluate_dev
    monkeypatch.setattr(run_glue, "evaluate_dev", lambda *args: (os.kill(os.getpid(), 15), evaluate(*args))[1])
    with pytest.raises(SystemExit) as stop:
        run_glue.main(command(tiny, tmp_path / "out", **SHORT))
    assert stop.value.code == 143
    assert read_json(tmp_path / "out/last/training_state.json")["step"] == 2


def test_a_signal_before_the_first_step_just_ends(tiny, tmp_path, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setattr(run_glue, "train", lambda *args: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as stop:
        run_glue.main(command(tiny, tmp_path / "out", **SHORT))
    assert stop.value.code == 143
    monkeypatch.setattr(run_glue, "train", lambda *args: os.kill(os.getpid(), signal.SIGINT))
    assert run_glue.main(command(tiny, tmp_path / "out", **SHORT)) == 130
    assert list((tmp_path / "out").iterdir()) == []


TWICE = """
import os, signal, sys, time
from training.signals import end_with_status, finished_steps
number = int(sys.argv[1])
with end_with_status(), finished_steps() as noted:
    os.kill(os.getpid(), number)
    print(noted() == number, flush=True)
    time.sleep(float(sys.argv[2]))
    os.kill(os.getpid(), number)
    print("still there")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(number):
    command = [sys.executable, "-c", TWICE, str(int(number)), "0.01"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (128 + number, "True\n"), done.stderr
    assert done.stderr.splitlines()[-1].endswith("ends after this step, once more at once")


def test_the_launcher_s_repetitions_are_one_signal():
    """It sends three within 0.6 seconds to every process."""
    command = [sys.executable, "-c", TWICE, str(int(signal.SIGTERM)), "0.2"]
    launched = {**os.environ, "PADDLE_TRAINER_ID": "0", "PADDLE_LOCAL_SIZE": "2"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=launched)
    assert (done.returncode, done.stdout) == (0, "True\nstill there\n"), done.stderr


def test_what_ignores_a_signal_goes_on_doing_so():
    """As with nohup."""
    code = "import signal; signal.signal(2, signal.SIG_IGN)\n" + TWICE.replace("noted() == number", "noted()")
    done = subprocess.run([sys.executable, "-c", code, "2", "0"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "None\nstill there\n"), done.stderr


CHILD = """
import pathlib, signal, sys, time
def end(*_):
    time.sleep(0.5)
    pathlib.Path(sys.argv[1]).write_text("saved")
    sys.exit(143)
signal.signal(signal.SIGTERM, end)
pathlib.Path(sys.argv[1]).write_text("ready")
time.sleep(60)
"""


def test_a_sweep_ends_when_its_run_has_saved(tmp_path):
    note = tmp_path / "note"

    def stop():
        while not (note.exists() and note.read_text()):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop).start()
    with pytest.raises(signals.Ended) as ended:
        signals.run_to_its_end([sys.executable, "-c", CHILD, str(note)])
    assert ended.value.code == 143
    assert note.read_text() == "saved"
    assert signals.run_to_its_end([sys.executable, "-c", "raise SystemExit(7)"]) == 7


# ----------------------------------------------------------------------------------------------------- scores, pictures


def test_of_equal_scores_the_lower_loss_is_the_best(tiny, tmp_path, monkeypatch):  # noqa: F811
    found = iter([(0.5, 0.9), (0.5, 0.7), (0.5, 0.8), (0.4, 0.1)])

    def evaluate_dev(*args):
        score, loss = next(found)
        return {"dev": {"loss": loss, "acc": score}}, {}, score

    monkeypatch.setattr(run_glue, "evaluate_dev", evaluate_dev)
    monkeypatch.setattr(run_glue, "write_dev_reports", lambda *args: None)
    monkeypatch.setattr(run_glue, "draw_dev_reports", lambda *args: None)
    assert run_glue.main(command(tiny, tmp_path / "out", max_steps=4, save_steps=1)) == 0
    results = read_json(tmp_path / "out/results.json")
    assert (results["best_step"], results["best_score"], results["best_loss"]) == (2, 0.5, 0.7)
    assert results["evaluations_since_best"] == 2


def test_what_is_no_number_is_never_the_best():
    nan = float("nan")
    assert loop._better((0.1, 1.0), (nan, 0.5))
    assert not loop._better((nan, 0.1), (0.1, 1.0))
    assert loop._better((0.1, 1.0), (0.1, nan))
    assert not loop._better((0.1, nan), (0.1, 1.0))
    assert loop._better((0.1, 1.0), (0.1, None))  # NaN as last/ holds it: a run that goes on chooses as the whole one


def test_a_picture_never_ends_a_run(tiny, tmp_path, monkeypatch, capsys):  # noqa: F811
    """And is drawn when all is saved."""

    def broken(*args):
        assert (tmp_path / "out/last").is_dir()
        raise ValueError("Unknown symbol:\n  \\frac")

    monkeypatch.setattr(confusion, "write_picture", broken)
    monkeypatch.setattr(curves, "write_picture", broken)
    assert run_glue.main(command(tiny, tmp_path / "out", **SHORT)) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert len(warnings) >= 2
    assert set(warnings) == {r"warning: a picture could not be drawn (ValueError: Unknown symbol: \frac)"}
    assert (tmp_path / "out/results.json").exists()


def test_evaluations_and_savings_by_the_epoch(tiny, tmp_path):  # noqa: F811
    flags = dict(max_train_samples=40, num_train_epochs=2.5, eval_steps="epoch", save_steps="epoch", keep_checkpoints=9)
    assert (
        run_glue.main(command(tiny, tmp_path / "out", max_steps=-1, batch_size=8, logging_first_step=True, **flags))
        == 0
    )
    results = read_json(tmp_path / "out/results.json")
    assert (results["total_steps"], [entry["step"] for entry in results["evaluations"]]) == (13, [5, 10, 13])
    assert [entry["step"] for entry in results["log"]] == [1, 2, 4, 6, 8, 10, 12, 13]
    kept = {path.name for path in (tmp_path / "out").glob("checkpoint-*")}
    assert kept == {"checkpoint-5", "checkpoint-10", "checkpoint-13"}


def test_left_out_evaluations_come_every_hundred_steps_and_only_the_clock_saves(tiny, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(loop, "EVALUATED_EVERY", 2)
    saved = []
    save_last = loop.save_last
    monkeypatch.setattr(loop, "save_last", lambda *args: (saved.append(args[4]["step"]), save_last(*args)))
    flags = command(tiny, tmp_path / "out", max_steps=5)
    at = flags.index("--save_steps")
    assert run_glue.main(flags[:at] + flags[at + 2 :]) == 0
    assert saved == [5]
    evaluations = read_json(tmp_path / "out/results.json")["evaluations"]
    assert [entry["step"] for entry in evaluations] == [2, 4, 5]
    saved.clear()
    kept = [*flags[:at], *flags[at + 2 :], "--keep_checkpoints", "9", "--overwrite"]
    assert run_glue.main(kept) == 0
    assert saved == [2, 4, 5]


def test_some_examples_and_other_batches_of_evaluation(tiny, pretraining_tiny, tmp_path, capsys):  # noqa: F811
    flags = dict(max_train_samples=16, max_eval_samples=10, eval_batch_size=3, max_steps=2, save_steps=2)
    assert run_glue.main(command(tiny, tmp_path / "a", do_predict=True, **flags)) == 0
    rows = (tmp_path / "a/predictions_dev.tsv").read_text().splitlines()
    assert len(rows) == 11
    assert read_json(tmp_path / "a/results.json")["examples"] == 32  # two epochs of one batch
    found = {}
    for name, size in (("a", 5), ("b", None)):
        more = dict(max_train_samples=12, max_eval_samples=20, max_steps=2, save_steps=2)
        more |= dict(eval_batch_size=size) if size else {}
        assert run_pretrain.main(pretraining_command(pretraining_tiny, tmp_path / f"p{name}", **more)) == 0
        found[name] = read_json(tmp_path / f"p{name}/results.json")
        capsys.readouterr()
    assert found["a"]["log"] == found["b"]["log"]
    one, other = (found[name]["evaluations"][-1] for name in "ab")
    assert one == pytest.approx(other, rel=1e-5)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (dict(save_steps="epochs"), "--save_steps must be a number of steps from 1, or epoch, not epochs"),
        (dict(eval_steps=0), "--eval_steps must be a number of steps from 1, or epoch, not 0"),
        (dict(num_train_epochs=0), "--num_train_epochs must be a number above 0, not 0"),
        (dict(num_train_epochs="nan"), "--num_train_epochs must be a number above 0, not nan"),
        (dict(max_train_samples=0), "--max_train_samples must be at least 1, not 0"),
    ],
)
def test_steps_and_epochs_that_are_none(tiny, tmp_path, capsys, flags, message):  # noqa: F811
    with pytest.raises(SystemExit):
        run_glue.main(command(tiny, tmp_path / "out", **flags))
    assert message in capsys.readouterr().err
