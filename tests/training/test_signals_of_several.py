"""Two processes and a signal: both stop after the same step, and the first one has saved it."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from test_run_glue import command, tiny  # noqa: F401  (a fixture)

from files.json_files import read_json
from files.weights import read_weights

LAUNCH = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--backend", "gloo"]
FLAGS = dict(task_name="RTE", max_steps=150, save_steps=140, logging_steps=1, learning_rate=1e-3)


def start(arguments, folder):
    return subprocess.Popen(
        [*LAUNCH, "--log_dir", str(folder / "log"), str(ROOT / "run_glue.py"), *arguments],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def child_of(launcher, rank):
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int(re.search(r"PPid:\s*(\d+)", (path / "status").read_text())[1])
            if parent == launcher and f"PADDLE_TRAINER_ID={rank}".encode() in (path / "environ").read_bytes():
                return int(path.name)
        except (OSError, TypeError):
            continue
    raise AssertionError(f"no process {rank}")


@pytest.mark.slow
@pytest.mark.parametrize("to", ["launcher", "process 1"])
def test_all_stop_at_the_same_step(tiny, tmp_path, to):  # noqa: F811
    arguments = command(tiny, tmp_path / "out", **FLAGS)
    launcher, log = start(arguments, tmp_path), tmp_path / "log/workerlog.0"
    deadline = time.time() + 300
    while not (log.exists() and "global step 20/" in log.read_text()) and time.time() < deadline:
        time.sleep(0.05)
    both = [child_of(launcher.pid, rank) for rank in range(2)]
    os.kill(launcher.pid if to == "launcher" else both[1], signal.SIGTERM)
    assert launcher.wait(120) != 0
    while any(Path(f"/proc/{pid}").exists() for pid in both) and time.time() < deadline:
        time.sleep(0.05)
    first, second = ((tmp_path / f"log/workerlog.{rank}").read_text() for rank in range(2))
    step = int(re.search(r"ended by SIGTERM after step (\d+), which", first)[1])
    assert read_json(tmp_path / "out/last/training_state.json")["step"] == step > 19
    for words in ("Traceback", "Error Message", "stopped:"):
        assert words not in first + second
    assert start([*arguments, "--resume"], tmp_path).wait(300) == 0
    assert start(command(tiny, tmp_path / "whole", **FLAGS), tmp_path).wait(300) == 0
    whole, parts = (read_weights(tmp_path / name / "last") for name in ("whole", "out"))
    for name, array in whole.items():
        np.testing.assert_array_equal(array, parts[name], err_msg=name)
    whole, parts = (read_json(tmp_path / name / "results.json") for name in ("whole", "out"))
    assert whole["log"] == parts["log"]
