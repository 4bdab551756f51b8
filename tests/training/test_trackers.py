"""What a run tells TensorBoard, VisualDL, Weights & Biases and SwanLab: their own writers, read back, offline."""

import glob
import struct
import sys
from pathlib import Path

import pytest
from conftest import needs
from test_run_glue import command, tiny  # noqa: F401  (a fixture)
from test_run_pretrain import command as pretraining_command
from test_run_pretrain import tiny as pretraining_tiny  # noqa: F401

import run_glue
import run_pretrain
from files.json_files import read_json
from training import fine_tuning, trackers

FLAGS = dict(max_steps=6, save_steps=3, logging_steps=2, learning_rate=1e-3)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("SWANLAB_MODE", "offline")


def of_tensorboard(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return {name: [(entry.step, entry.value) for entry in found.Scalars(name)] for name in found.Tags()["scalars"]}


def of_visualdl(folder):
    from visualdl import LogReader

    found = {}
    for path in sorted(glob.glob(f"{folder}/vdlrecords*")):
        reader = LogReader(file_path=path)
        for name in reader.get_tags().get("scalar", ()):
            found[name] = [(entry.id, entry.value) for entry in reader.get_data("scalar", name)]
    return found


def of_wandb(folder):
    """The records of LevelDB's log format that its offline file has."""
    import json

    from wandb.proto import wandb_internal_pb2

    found = {}
    for path in sorted(glob.glob(f"{folder}/wandb/offline-run-*/*.wandb")):
        data, place, record = Path(path).read_bytes(), 7, b""
        while place + 7 <= len(data):
            if 2**15 - place % 2**15 < 7:
                place += 2**15 - place % 2**15
                continue
            _, length, kind = struct.unpack("<IHB", data[place : place + 7])
            record += data[place + 7 : place + 7 + length]
            place += 7 + length
            if kind in (1, 4):  # whole, or the last part
                entry = wandb_internal_pb2.Record()
                entry.ParseFromString(record)
                record = b""
                items = {item.key or "/".join(item.nested_key): item.value_json for item in entry.history.item}
                for name in items.keys() - {"_step", "_timestamp", "_runtime"}:
                    found.setdefault(name, []).append((int(items["_step"]), json.loads(items[name])))
    return found


READERS = {"tensorboard": of_tensorboard, "visualdl": of_visualdl, "wandb": of_wandb}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=[needs(name), *([pytest.mark.slow] if name == "wandb" else [])]
        )  # it takes 10 s to begin
        for name in READERS
    ],
)
def test_a_tracker_holds_the_run_s_numbers(tiny, tmp_path, name):  # noqa: F811
    out = tmp_path / "out"
    assert run_glue.main([*command(tiny, out, **FLAGS), "--report_to", name]) == 0
    results = read_json(out / "results.json")
    found = READERS[name](out / "logs" / name)
    assert found["train/loss"] == [(entry["step"], pytest.approx(entry["loss"])) for entry in results["log"]]
    assert found["train/lr"] == [(entry["step"], pytest.approx(entry["lr"])) for entry in results["log"]]
    for metric in ("loss", "acc"):
        scores = [(entry["step"], pytest.approx(entry["dev"][metric])) for entry in results["evaluations"]]
        assert found[f"dev/{metric}"] == scores
    again = [*command(tiny, out, **FLAGS, overwrite=True), "--report_to", "none"]
    assert run_glue.main(again) == 0
    assert not (out / "logs" / name).exists()  # of the run that was overwritten


@needs("tensorboard", "visualdl")
def test_several_at_once_and_of_pre_training(pretraining_tiny, tmp_path):  # noqa: F811
    out = tmp_path / "out"
    flags = pretraining_command(pretraining_tiny, out, max_steps=4, save_steps=2, logging_steps=1)
    assert run_pretrain.main([*flags, "--report_to", "tensorboard", "visualdl"]) == 0
    log = read_json(out / "results.json")["log"]
    for name in ("tensorboard", "visualdl"):
        found = READERS[name](out / "logs" / name)
        assert found["train/disc_loss"] == [(entry["step"], pytest.approx(entry["disc_loss"])) for entry in log]


@needs("tensorboard")
def test_a_run_that_goes_on_is_one_in_tensorboard(tiny, tmp_path, monkeypatch):  # noqa: F811
    out, real = tmp_path / "out", fine_tuning.backward

    def backward(*arguments):
        if arguments[-1] == 5:  # the step
            raise KeyboardInterrupt
        return real(*arguments)

    flags = [*command(tiny, out, **FLAGS), "--report_to", "tensorboard"]
    monkeypatch.setattr(fine_tuning, "backward", backward)
    assert run_glue.main(flags) == 130  # after step 4 was told, and step 3 saved
    monkeypatch.setattr(fine_tuning, "backward", real)
    assert run_glue.main([*flags, "--resume"]) == 0
    found = of_tensorboard(out / "logs/tensorboard")
    assert [step for step, _ in found["train/loss"]] == [2, 4, 6]


def test_a_missing_tracker_is_one_line_before_anything_is_removed(tiny, tmp_path, monkeypatch, capsys, one_line):  # noqa: F811
    out = tmp_path / "out"
    assert run_glue.main(command(tiny, out, **FLAGS)) == 0
    capsys.readouterr()
    monkeypatch.setitem(sys.modules, "swanlab", None)
    status = run_glue.main([*command(tiny, out, **FLAGS, overwrite=True), "--report_to", "swanlab"])
    one_line(status, r"--report_to swanlab: needs swanlab \(.*\): pip install swanlab")
    assert (out / "results.json").is_file()


def test_a_tracker_that_fails_ends_alone(tiny, tmp_path, monkeypatch, capsys):  # noqa: F811
    class Full:
        def __init__(self, folder, name, settings, step):
            self.taken = 0

        def add(self, step, values):
            self.taken += 1
            if self.taken > 1:
                raise OSError(28, "No space left on device")

    monkeypatch.setitem(trackers.TRACKERS, "visualdl", Full)
    monkeypatch.setitem(sys.modules, "visualdl", trackers)
    assert run_glue.main([*command(tiny, tmp_path / "out", **FLAGS), "--report_to", "visualdl"]) == 0
    said = capsys.readouterr().err
    assert said.count("warning: visualdl takes no more figures (OSError: [Errno 28] No space left on device)") == 1


def test_a_tracker_that_can_not_begin_is_one_line(tiny, tmp_path, monkeypatch, one_line):  # noqa: F811
    class LoggedOut:
        def __init__(self, folder, name, settings, step):
            raise RuntimeError("api_key not configured\n  log in")

    monkeypatch.setitem(trackers.TRACKERS, "visualdl", LoggedOut)
    monkeypatch.setitem(sys.modules, "visualdl", trackers)
    status = run_glue.main([*command(tiny, tmp_path / "out", **FLAGS), "--report_to", "visualdl"])
    one_line(status, r"--report_to visualdl: can't begin \(api_key not configured log in\)")


@needs("tensorboard")
def test_a_tracker_that_can_not_begin_removes_nothing(tiny, tmp_path, monkeypatch, capsys):  # noqa: F811
    class LoggedOut:
        def __init__(self, folder, name, settings, step):
            raise RuntimeError("log in")

    out = tmp_path / "out"
    assert run_glue.main([*command(tiny, out, **FLAGS), "--report_to", "tensorboard"]) == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    monkeypatch.setitem(trackers.TRACKERS, "visualdl", LoggedOut)
    monkeypatch.setitem(sys.modules, "visualdl", trackers)
    flags = [*command(tiny, out, **FLAGS, overwrite=True), "--report_to", "tensorboard", "visualdl"]
    assert run_glue.main(flags) == 2
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
