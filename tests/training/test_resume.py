"""A run that is killed or stopped, at any moment, and goes on ends with the same bits as one that never was."""

import random
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
from test_run_pretrain import command as pretraining_command
from test_run_pretrain import tiny as pretraining_tiny  # noqa: F401

from files.json_files import read_json
from files.weights import read_weights

KILL_BETWEEN_RENAMES = """
import os, signal, sys
import run_glue
from pathlib import Path

last, rename, replaced = Path(sys.argv[-1]) / "last", os.rename, 0

def rename_or_die(source, target):
    global replaced
    rename(source, target)
    replaced += Path(source) == last
    if replaced == 2:  # step 20's is away, step 30's not yet in its place
        os.kill(os.getpid(), signal.SIGKILL)

os.rename = rename_or_die
run_glue.main(sys.argv[1:-1])
"""


def run(arguments, code=None):
    start = ["-c", code] if code else [str(ROOT / "run_glue.py")]
    return subprocess.run([sys.executable, *start, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def assert_same_run(whole, parts):
    for folder in ("", "last"):
        first, second = (read_weights(path / folder) for path in (whole, parts))
        assert first.keys() == second.keys()
        for name, array in first.items():
            np.testing.assert_array_equal(array, second[name], err_msg=name)
    first, second = (read_json(path / "results.json") for path in (whole, parts))
    for key in ("evaluations", "best_step", "log", "examples"):
        assert first[key] == second[key], key
    for name in ("predictions_dev.tsv", "predictions/SST-2.tsv"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes()
    assert not [path.name for path in parts.iterdir() if path.name.startswith(".")]


FLAGS = dict(max_steps=40, save_steps=10, logging_steps=5, learning_rate=1e-3, do_predict=True)


@pytest.mark.slow
def test_a_kill_while_a_checkpoint_takes_the_place_of_another(tiny, tmp_path):  # noqa: F811
    assert run(command(tiny, tmp_path / "whole", **FLAGS)).returncode == 0
    parts = command(tiny, tmp_path / "parts", **FLAGS)
    assert run([*parts, str(tmp_path / "parts")], KILL_BETWEEN_RENAMES).returncode == -signal.SIGKILL
    assert not (tmp_path / "parts/last").exists()  # the worst moment
    done = run([*parts, "--resume"])
    assert done.returncode == 0, done.stderr
    assert "global step 25/40" in done.stdout
    assert "global step 20/40" not in done.stdout
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def stop_ten_times(script, arguments, length):
    """Sends SIGTERM at random moments of a run, and lets it end after that. Every end is quiet and loses no step.

    length: seconds that a whole run takes.
    """
    started = [sys.executable, str(ROOT / script), *arguments, "--resume"]
    last = Path(arguments[arguments.index("--output_dir") + 1]) / "last/training_state.json"
    seed = time.time_ns()
    draw = random.Random(seed)
    print(f"seed {seed}, one run takes {length:.1f} s")
    stops, saved = 0, 0
    for attempt in range(40):
        before = read_json(last)["step"] if last.exists() else 0
        process = subprocess.Popen(started, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if attempt % 3:
            process.stdout.readline()  # steps are being made
            time.sleep(draw.uniform(0, 0.5))
        else:
            time.sleep(draw.uniform(0, 6.0))
        process.send_signal(signal.SIGTERM)
        printed = process.communicate()[1]
        assert "Traceback" not in printed, printed
        assert "Error Message" not in printed, printed  # Paddle's report
        stops += process.returncode != 0
        if process.returncode:  # negative where Python itself was starting; a shell calls it 143, too
            assert process.returncode == 143 or (process.returncode, printed) == (-signal.SIGTERM, "")
        if found := re.search(r"ended by SIGTERM after step (\d+), which", printed):
            saved += 1
            assert read_json(last)["step"] == int(found[1]) > before
        if stops >= 10 or process.returncode == 0:
            break
    print(f"{stops} stops, {saved} of them saved a step")
    assert stops >= 10, "the run is too short for this machine"
    assert saved >= 4
    done = subprocess.run(started, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def kill_twenty_times(script, arguments, length):
    """Kills runs at random moments, most of them while they train, and lets the last one end.

    length: seconds that a whole run takes.
    """
    started = [sys.executable, str(ROOT / script), *arguments, "--resume"]
    seed = time.time_ns()
    draw = random.Random(seed)
    print(f"seed {seed}, one run takes {length:.1f} s")
    kills, finished = 0, 0
    while kills < 20:
        process = subprocess.Popen(started, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            if kills % 4 and not finished:  # a finished run prints nothing more
                process.stdout.readline()
                process.wait(draw.uniform(0, 2.0))
            else:
                process.wait(draw.uniform(0, min(length, 10.0)))
            assert process.returncode == 0, process.stderr.read()
            finished += 1
        except subprocess.TimeoutExpired:
            process.kill()
            kills += process.wait() == -signal.SIGKILL
        process.communicate()
    print(f"{kills} kills; finished in between: {finished}")
    done = subprocess.run(started, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.wide
def test_twenty_kills_at_random_moments(tiny, tmp_path):  # noqa: F811
    check_fine_tuning(tiny, tmp_path, kill_twenty_times, max_steps=600, save_steps=7)


@pytest.mark.wide
def test_ten_sigterms_at_random_moments(tiny, tmp_path):  # noqa: F811
    """Saved by steps, by the clock, and by the signal."""
    flags = dict(max_steps=800, save_steps=100, logging_steps=1, save_minutes=0.02)
    check_fine_tuning(tiny, tmp_path, stop_ten_times, **flags)


def check_fine_tuning(model, tmp_path, disturb, **flags):
    flags, started = {**FLAGS, **flags}, time.time()
    assert run(command(model, tmp_path / "whole", **flags)).returncode == 0
    length = time.time() - started
    disturb("run_glue.py", command(model, tmp_path / "parts", **flags), length)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.wide
def test_twenty_kills_of_pre_training(pretraining_tiny, tmp_path):  # noqa: F811
    """Also while the text is tokenised and packed: every run has a store of its own."""
    check_pre_training(pretraining_tiny, tmp_path, kill_twenty_times, max_steps=1000, save_steps=30, logging_steps=5)


@pytest.mark.wide
def test_ten_sigterms_of_pre_training(pretraining_tiny, tmp_path):  # noqa: F811
    flags = dict(max_steps=1000, save_steps=200, logging_steps=1, save_minutes=0.02)
    check_pre_training(pretraining_tiny, tmp_path, stop_ten_times, **flags)


def check_pre_training(model, tmp_path, disturb, **flags):
    started = time.time()
    whole = pretraining_command(model, tmp_path / "whole", **flags)
    assert subprocess.run([sys.executable, str(ROOT / "run_pretrain.py"), *whole], check=False).returncode == 0
    length = time.time() - started
    disturb("run_pretrain.py", pretraining_command(model, tmp_path / "parts", **flags), length)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in ("last", "generator", "discriminator"):
        first, second = (read_weights(path / folder) for path in (whole, parts))
        for name, array in first.items():
            np.testing.assert_array_equal(array, second[name], err_msg=name)
    first, second = (read_json(path / "results.json") for path in (whole, parts))
    for key in ("evaluations", "log", "tokens"):
        assert first[key] == second[key], key
    assert not [path.name for path in parts.rglob(".*")]
