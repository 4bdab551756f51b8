"""Two processes on this machine's CPU, as paddle.distributed.launch starts them."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from test_run_glue import command, configured, tiny  # noqa: F401  (a fixture)
from test_run_pretrain import SIZES
from test_run_pretrain import command as pretraining_command
from test_run_pretrain import configured as pretraining_configured

from files.errors import InputError
from files.json_files import read_json
from files.weights import read_weights
from layers.configuration import ConvBertConfig
from training import processes

LAUNCH = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--backend", "gloo"]


def test_alone_nothing_changes():
    alone = processes.Processes()
    alone.require_shared("--output_dir", Path("nowhere"))
    assert (alone.rank, alone.count, alone.writes) == (0, 1, True)
    assert alone.share([1, 2, 3]) == [1, 2, 3]
    values = np.arange(3)
    assert alone.add(values) is values
    with pytest.raises(KeyError), alone.one_fails_all_fail():
        raise KeyError
    alone.wait()


STOPPED_EARLY = """
import os, signal, time, runtime
from paddle.base import core
from training import processes
both = processes.Processes()
both.count, both._store = 2, core.TCPStore("127.0.0.1", int(os.environ["MASTER_PORT"]), True, 0)
time.sleep = lambda seconds: os.kill(os.getpid(), signal.SIGTERM)
try:
    with both.one_fails_all_fail():
        raise ValueError("its disk is full")
except ValueError as error:
    print(error)
"""


def test_the_launcher_stops_no_process_before_its_message():
    done = subprocess.run(
        [sys.executable, "-c", STOPPED_EARLY], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())},
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("its disk is full\n", 0), done.stderr


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.slow
def test_who_waits_for_one_that_is_gone_ends(monkeypatch):
    monkeypatch.setattr(processes, "SILENCE", 3)
    port, over = free_port(), threading.Event()
    first = processes.Processes()
    first.count, first._store = 2, processes.core.TCPStore("127.0.0.1", port, True, 0)
    second = processes.core.TCPStore("127.0.0.1", port, False, 0)

    def live():
        for _ in range(40):
            second.add("alive 1", 1)
            time.sleep(0.1)
        over.set()

    threading.Thread(target=live).start()
    with pytest.raises(InputError, match="no sign of process 1 for 3 s"):
        first.wait()
    assert over.is_set()


def test_a_signal_does_not_disturb_who_waits():
    port, noted = free_port(), []
    first = processes.Processes()
    first.count, first._store = 2, processes.core.TCPStore("127.0.0.1", port, True, 0)
    second = processes.core.TCPStore("127.0.0.1", port, False, 0)

    def signals_then_come():
        for _ in range(50):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
            time.sleep(0.02)
        for name in ("come 1", "left 1"):
            second.add(name, 1)

    before = signal.signal(signal.SIGUSR1, lambda *_: noted.append(1))
    try:
        thread = threading.Thread(target=signals_then_come)
        thread.start()
        first.wait()
        thread.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert noted


def test_several_gpus_get_a_process_each(monkeypatch):
    started = []
    monkeypatch.setattr(processes.os, "execv", lambda program, arguments: started.append(arguments))
    monkeypatch.setattr(processes, "_has_gpus", lambda count: True)
    monkeypatch.setattr(sys, "argv", ["run_glue.py", "--task_name", "RTE"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    processes.launch_on_all_gpus("gpu")
    (arguments,) = started
    assert arguments[1:] == ["-m", "paddle.distributed.launch", "run_glue.py", "--task_name", "RTE"]
    for device in ("cpu", "gpu:1"):
        processes.launch_on_all_gpus(device)
    monkeypatch.setenv("PADDLE_TRAINER_ID", "0")
    processes.launch_on_all_gpus("gpu")
    monkeypatch.delenv("PADDLE_TRAINER_ID")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    processes.launch_on_all_gpus("gpu")
    assert len(started) == 1


def launched(arguments, folder, in_the_second="pass", in_the_first="pass"):
    """Runs run_glue.py in two processes; `in_the_…`: a statement that this one begins with."""
    script = folder / "run_two.py"
    script.write_text(
        f"import os, sys, time; sys.path.insert(0, {str(ROOT)!r}); import run_glue; from tasks import evaluation\n"
        "from files.errors import InputError\n"
        f"if os.environ['PADDLE_TRAINER_ID'] == '0': {in_the_first}\n"
        f"if os.environ['PADDLE_TRAINER_ID'] == '1': {in_the_second}\n"
        "sys.exit(run_glue.main(sys.argv[1:]))\n"
    )
    return subprocess.run(
        [*LAUNCH, "--log_dir", str(folder / "log"), str(script), *arguments],
        cwd=folder, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


NO_DROPOUT = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


@pytest.mark.slow
@pytest.mark.parametrize(("model_type", "accumulation"), [("convbert", 1), ("convbert", 2), ("bert", 1)])
def test_two_processes_learn_as_one(tmp_path, model_type, accumulation):
    """The same global batch; 13 steps end in a partial one, of which the second process gets little or nothing."""
    without_dropout = configured(tmp_path / "model", model_type, **NO_DROPOUT)
    flags = dict(task_name="STS-B", max_steps=26, logging_steps=1, save_steps=13, learning_rate=1e-3, do_predict=True)
    flags |= dict(model_type=model_type)
    assert run_one(command(without_dropout, tmp_path / "one", batch_size=32, **flags)) == 0
    both = command(
        without_dropout,
        tmp_path / "two",
        batch_size=16 // accumulation,
        gradient_accumulation_steps=accumulation,
        **flags,
    )
    done = launched(both, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    one, two = (read_json(tmp_path / name / "results.json") for name in ("one", "two"))
    losses = [[entry["loss"] for entry in run["log"]] for run in (one, two)]
    np.testing.assert_allclose(*losses, rtol=0, atol=1e-5)
    for first, second in zip(one["evaluations"], two["evaluations"], strict=True):
        assert second["dev"]["loss"] == pytest.approx(first["dev"]["loss"], abs=1e-4)
    first, second = (read_weights(tmp_path / name / "last") for name in ("one", "two"))
    for name, array in first.items():
        np.testing.assert_allclose(array, second[name], rtol=0, atol=1e-4, err_msg=name)
    first, second = (np.loadtxt(tmp_path / name / "predictions/STS-B.tsv", skiprows=1) for name in ("one", "two"))
    np.testing.assert_allclose(first, second, atol=2e-3)
    assert len(first) == 40
    alone = command(
        tmp_path / "two",
        tmp_path / "alone",
        task_name="STS-B",
        batch_size=16 // accumulation,  # what a batch is padded to reaches its real tokens
        from_scratch=False,
        do_train=False,
        model_type=model_type,
    )
    assert run_one(alone) == 0
    (expected,) = read_json(tmp_path / "alone/results.json")["evaluations"]
    (best,) = [entry for entry in two["evaluations"] if entry["step"] == two["best_step"]]
    assert best["dev"] == pytest.approx(expected["dev"], abs=1e-6)  # every example counts once
    log = (tmp_path / "log/workerlog.1").read_text()
    assert "global step" not in log  # one writer
    assert one["examples"] == two["examples"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "accumulation"), [("convbert", 1), ("convbert", 2), ("electra", 1), ("bert", 1)]
)  # fmt: skip
def test_two_processes_pre_train_as_one(tmp_path, model_type, accumulation):
    """The same masks and draws, so the same losses; the last step of an epoch leaves the second process nothing."""
    model = pretraining_configured(tmp_path / "model", model_type, **NO_DROPOUT)
    words_only = model_type == "bert"
    flags = dict(max_steps=40, save_steps=20, logging_steps=1, data_store=tmp_path / "store")
    flags |= dict(model_type=model_type, mlm_only=words_only)
    one = pretraining_command(model, tmp_path / "one", train_batch_size=32, **flags)
    assert subprocess.run([sys.executable, ROOT / "run_pretrain.py", *one], check=False).returncode == 0
    size = 16 // accumulation
    both = dict(train_batch_size=size, gradient_accumulation_steps=accumulation, **{**flags, "data_store": None})
    done = subprocess.run(
        [*LAUNCH, "--log_dir", "log", ROOT / "run_pretrain.py", *pretraining_command(model, tmp_path / "two", **both)],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    one, two = (read_json(tmp_path / name / "results.json") for name in ("one", "two"))
    for kind in ("log", "evaluations"):
        for first, second in zip(one[kind], two[kind], strict=True):
            for name in ("gen_loss", "disc_loss")[: 2 - words_only]:
                assert second[name] == pytest.approx(first[name], abs=2e-5), (first["step"], name)
    assert one["tokens"] == two["tokens"]
    assert "global step" not in (tmp_path / "log/workerlog.1").read_text()


def run_one(arguments):
    return subprocess.run([sys.executable, ROOT / "run_glue.py", *arguments], check=False).returncode


@pytest.mark.slow
def test_a_launched_run_goes_on_where_it_stopped(tiny, tmp_path):  # noqa: F811
    flags = dict(task_name="RTE", max_steps=100, save_steps=10, learning_rate=1e-3)
    assert launched(command(tiny, tmp_path / "whole", **flags), tmp_path).returncode == 0
    parts = command(tiny, tmp_path / "parts", **flags)
    process = subprocess.Popen([*LAUNCH, "--log_dir", "log", str(ROOT / "run_glue.py"), *parts], cwd=tmp_path)
    deadline = time.time() + 120
    while not (tmp_path / "parts/last/training_state.json").exists() and time.time() < deadline:
        time.sleep(0.05)
    kill_all(str(tmp_path / "parts"))
    process.wait()
    assert not (tmp_path / "parts/results.json").exists()
    assert launched([*parts, "--resume"], tmp_path).returncode == 0
    whole, parts = (read_weights(tmp_path / name / "last") for name in ("whole", "parts"))
    for name, array in whole.items():
        np.testing.assert_array_equal(array, parts[name], err_msg=name)


def kill_all(argument):
    """Kills the launcher and its processes, which are in groups of their own: all that were started with `argument`."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if argument.encode() in path.read_bytes().split(b"\0"):
                os.kill(int(path.parent.name), signal.SIGKILL)


@pytest.mark.slow
def test_when_one_process_fails_the_other_stops_with_its_message(tiny, tmp_path):  # noqa: F811
    fails = "evaluation.evaluate = lambda *args: (_ for _ in ()).throw(InputError('its disk is full'))"
    started = time.time()
    done = launched(command(tiny, tmp_path / "out", max_steps=20, save_steps=5), tmp_path, fails)
    assert done.returncode != 0
    first, second = ((tmp_path / f"log/workerlog.{rank}").read_text() for rank in range(2))
    assert "stopped: process 1: its disk is full" in first
    assert "run_two.py: its disk is full" in second
    assert "Traceback" not in first + second
    assert time.time() - started < 100


@pytest.mark.slow
def test_when_one_process_is_killed_nothing_hangs(tiny, tmp_path):  # noqa: F811
    dies = "evaluation.evaluate = lambda *args: os.kill(os.getpid(), 9)"
    done = launched(command(tiny, tmp_path / "out", max_steps=20, save_steps=5), tmp_path, dies)
    assert done.returncode != 0


SLEEPS = "{name} = (lambda real: lambda *args: time.sleep(45) or real(*args))({name})"


@pytest.mark.slow
@pytest.mark.parametrize(
    "late",
    [
        "time.sleep(45)",  # before the processes know of each other
        SLEEPS.format(name="run_glue.load_tokenizer"),
        SLEEPS.format(name="run_glue.EncodedTexts"),
        SLEEPS.format(name="run_glue.write_dev_reports"),
        SLEEPS.format(name="evaluation.all_logits"),
    ],
    ids=["start", "model", "data", "writing", "evaluation"],
)
def test_the_others_wait_for_a_process_that_takes_long(tiny, tmp_path, late):  # noqa: F811
    """gloo itself gives up after 30 seconds."""
    flags = dict(task_name="RTE", max_steps=2, save_steps=2)
    done = launched(command(tiny, tmp_path / "out", **flags), tmp_path, in_the_first=late)
    logs = "".join((tmp_path / f"log/workerlog.{rank}").read_text() for rank in range(2))
    assert done.returncode == 0, logs
    assert read_json(tmp_path / "out/results.json")["step"] == 2


@pytest.mark.slow
def test_pre_training_waits_for_the_process_that_tokenises(tmp_path):
    (tmp_path / "run_two.py").write_text(
        f"import os, sys, time; sys.path.insert(0, {str(ROOT)!r}); import run_pretrain as run\n"
        "real = run.read_segments\n"
        "if os.environ['PADDLE_TRAINER_ID'] == '0': run.read_segments = lambda *a: time.sleep(45) or real(*a)\n"
        "sys.exit(run.main(sys.argv[1:]))\n"
    )
    (tmp_path / "config.json").write_text(json.dumps(ConvBertConfig(**SIZES).to_dict()))
    (tmp_path / "vocab.txt").write_bytes((ROOT / "samples/vocab.txt").read_bytes())
    arguments = pretraining_command(tmp_path, tmp_path / "out", max_steps=2, save_steps=2)
    done = subprocess.run(
        [*LAUNCH, "--log_dir", "log", "run_two.py", *arguments],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, "".join(path.read_text() for path in (tmp_path / "log").glob("workerlog.*"))


@pytest.mark.slow
def test_processes_that_do_not_see_the_same_folder_end_with_its_name(tiny, tmp_path):  # noqa: F811
    (tmp_path / "elsewhere").mkdir()
    arguments = command(tiny, "out", task_name="RTE", max_steps=2)
    done = launched(arguments, tmp_path, f"os.chdir({str(tmp_path / 'elsewhere')!r})")
    assert done.returncode != 0
    first, second = ((tmp_path / f"log/workerlog.{rank}").read_text() for rank in range(2))
    line = "--output_dir out: process 1 does not see what the first one writes there; all need the same folder"
    assert f"stopped: process 1: {line}" in first
    assert f"run_two.py: {line}" in second
    assert "Traceback" not in first + second
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".seen")]


@pytest.mark.wide
def test_two_machines_are_as_two_processes_of_one(tmp_path):
    """Two launchers that only know each other's address, here the loopback's."""
    model = configured(tmp_path / "model", **NO_DROPOUT)
    flags = dict(task_name="RTE", max_steps=6, logging_steps=1, save_steps=6, learning_rate=1e-3, batch_size=16)
    done = launched(command(model, tmp_path / "one", **flags), tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    address, begun = f"127.0.0.1:{free_port()}", []
    for rank in range(2):
        launch = [sys.executable, "-m", "paddle.distributed.launch", "--nnodes", "2", "--master", address]
        launch += ["--rank", str(rank), "--nproc_per_node", "1", "--log_dir", str(tmp_path / f"log{rank}")]
        arguments = [*launch, str(ROOT / "run_glue.py"), *command(model, tmp_path / "two", **flags)]
        begun.append(subprocess.Popen(arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
    try:
        said = [process.communicate(timeout=200)[0].decode() for process in begun]
    finally:
        for process in begun:
            process.kill()
    assert [process.returncode for process in begun] == [0, 0], said
    one, two = (read_json(tmp_path / name / "results.json") for name in ("one", "two"))
    for kind in ("log", "evaluations"):
        assert one[kind] == two[kind]
    first, second = (read_weights(tmp_path / name / "last") for name in ("one", "two"))
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name], err_msg=name)


BUCKETS = """
import runtime, sys
import numpy as np, paddle
from training import gradients
from training.processes import Processes

gradients.BUCKET = 100
processes = Processes()
paddle.seed(processes.rank)
model = paddle.nn.Sequential(*[paddle.nn.Linear(8, 8) for _ in range(4)])
model.unused = paddle.create_parameter([3], "float32")
processes.start_equal(model)

def backward(rank, step, last):
    numbers = np.random.default_rng([rank, step, last]).normal(size=(4, 8)).astype("float32")
    if rank == processes.rank and last and own:
        processes.last_backward()
    model(paddle.to_tensor(numbers)).square().mean().backward()

def taken():
    found = [weight.grad.numpy() for weight in model.parameters() if weight.grad is not None]
    for weight in model.parameters():
        weight.clear_gradient(set_to_zero=False)
    return found

for step in range(3):
    own = True
    for last in (False, True):
        backward(processes.rank, step, last)
    begun = processes._gradients._summed
    processes.average_gradients()
    found, own = taken(), False
    for rank in range(2):
        for last in (False, True):
            backward(rank, step, last)
    for one, other in zip(found, taken(), strict=True):
        np.testing.assert_allclose(one, other / 2, rtol=1e-5, atol=1e-6)
    assert begun == (4 if step else 0), begun  # the first step waits; the last bucket has a weight that takes no part
print("right")
"""


@pytest.mark.slow
def test_gradients_are_summed_while_backward_still_runs(tmp_path):
    script = tmp_path / "buckets.py"
    script.write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{BUCKETS}")
    done = subprocess.run(
        [*LAUNCH, "--log_dir", str(tmp_path / "log"), str(script)], cwd=tmp_path, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "log/workerlog.1").read_text().endswith("right\n")
