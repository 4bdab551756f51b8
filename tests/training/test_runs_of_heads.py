"""run_squad.py and run_tagging.py: killed at any moment and going on; in two processes; with shorter products."""

import random
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT
from family_models import saved
from test_processes import LAUNCH
from test_run_squad import SIZES
from test_run_squad import command as squad_command
from test_run_tagging import command as tagging_command

from files.json_files import read_json
from files.weights import read_weights

SCRIPTS = {"run_squad.py": squad_command, "run_tagging.py": tagging_command}
KILLS = 5


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Without dropout, which two processes draw differently."""
    folder = tmp_path_factory.mktemp("tiny")
    sizes = {name: value for name, value in SIZES.items() if name != "embedding_size"}
    saved(folder, "bert", "Model", **sizes, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    (folder / "vocab.txt").write_bytes((ROOT / "samples/vocab.txt").read_bytes())
    return folder


def run(script, arguments):
    done = subprocess.run(
        [sys.executable, str(ROOT / script), *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.wide
@pytest.mark.parametrize("script", SCRIPTS)
def test_five_kills_at_random_moments(tiny, tmp_path, script):
    flags = dict(max_steps=400, save_steps=10, logging_steps=5, learning_rate=1e-3)
    whole, parts = (SCRIPTS[script](tiny, tmp_path / name, **flags) for name in ("whole", "parts"))
    begun = time.time()
    run(script, whole)
    length, seed = time.time() - begun, time.time_ns()
    print(f"seed {seed}, one run takes {length:.1f} s")
    draw, kills = random.Random(seed), 0
    while kills < KILLS:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / script), *parts, "--resume"], cwd=ROOT, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            if kills % 2:
                process.stdout.readline()  # steps are being made
                process.wait(draw.uniform(0, 2.0))
            else:
                process.wait(draw.uniform(0, min(length, 8.0)))
        except subprocess.TimeoutExpired:
            process.kill()
            kills += process.wait() == -signal.SIGKILL
        else:
            assert process.returncode == 0
            kills = KILLS  # the run was shorter than the time left to it
        process.communicate()
    run(script, [*parts, "--resume"])
    for folder in ("", "last"):
        first, second = (read_weights(tmp_path / name / folder) for name in ("whole", "parts"))
        assert first.keys() == second.keys()
        for name, array in first.items():
            np.testing.assert_array_equal(array, second[name], err_msg=name)
    first, second = (read_json(tmp_path / name / "results.json") for name in ("whole", "parts"))
    for key in ("evaluations", "best_step", "log", "examples"):
        assert first[key] == second[key], key


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_two_processes_learn_as_one(tiny, tmp_path, script):
    flags = dict(max_steps=13, logging_steps=1, save_steps=13, learning_rate=1e-3)
    run(script, SCRIPTS[script](tiny, tmp_path / "one", **flags))
    both = SCRIPTS[script](tiny, tmp_path / "two", batch_size=8, **flags)
    done = subprocess.run(
        [*LAUNCH, "--log_dir", str(tmp_path / "log"), str(ROOT / script), *both],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    one, two = (read_json(tmp_path / name / "results.json") for name in ("one", "two"))
    np.testing.assert_allclose(*([entry["loss"] for entry in one_of["log"]] for one_of in (one, two)), atol=1e-5)
    for name, value in one["evaluations"][0]["dev"].items():
        assert two["evaluations"][0]["dev"][name] == pytest.approx(value, abs=1e-3), name
    first, second = (read_weights(tmp_path / name / "last") for name in ("one", "two"))
    for name, array in first.items():
        np.testing.assert_allclose(array, second[name], rtol=0, atol=1e-4, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_shorter_products_learn_alike(tiny, tmp_path, script):
    from layers.fast_path import bfloat16_obstacle

    if reason := bfloat16_obstacle():
        pytest.skip(reason)
    flags = dict(max_steps=20, logging_steps=1, save_steps=20, learning_rate=1e-3)
    run(script, SCRIPTS[script](tiny, tmp_path / "float32", **flags))
    printed = run(script, [*SCRIPTS[script](tiny, tmp_path / "amp", **flags), "--amp", "O1"])
    assert re.search("^eval loss: ", printed, re.M)
    losses = [[e["loss"] for e in read_json(tmp_path / name / "results.json")["log"]] for name in ("float32", "amp")]
    assert losses[0] != losses[1]
    np.testing.assert_allclose(*losses, atol=0.05)
