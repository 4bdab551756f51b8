"""All scripts on a device that is no CPU: stand_in_device.cc's, whose memory only Paddle's copies can reach.

Paddle computes there by its CPU's operators, so all must be as the plain definitions on a CPU make it, bit for bit.
What it can't show: mixed precision (this Paddle multiplies in float16 alone on a plug-in's device, and has no such
product on a CPU), and whatever a real device does otherwise than a CPU.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request

import numpy as np
import pytest
import test_run_glue
import test_run_pretrain
import test_run_squad
import test_run_tagging
from conftest import ROOT
from family_models import saved

from family.architectures import MODEL_TYPES
from files.json_files import read_json
from files.weights import read_weights

DEVICE = "stand_in:0"
PLAIN = {"CONVBERT_KERNELS": "paddle"}  # for the CPU: no compiled loops
FLAGS = dict(max_steps=6, logging_steps=1, save_steps=3)


@pytest.fixture(scope="session")
def device(tmp_path_factory):
    """The environment of a process that has the device."""
    compiler = shutil.which("c++") or shutil.which("g++")
    if not compiler:
        pytest.skip("no C++ compiler")
    import paddle

    folder = tmp_path_factory.mktemp("stand_in")
    command = [compiler, "-O1", "-fPIC", "-shared", "-std=c++17", "-Wall", "-Werror", "-DPADDLE_WITH_CUSTOM_DEVICE"]
    command += ["-I", paddle.sysconfig.get_include(), str(ROOT / "tests/stand_in_device.cc")]
    done = subprocess.run([*command, "-o", folder / "stand_in.so"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # Paddle has no operator there that copies a transposed view.
    return {"CUSTOM_DEVICE_ROOT": str(folder), "FLAGS_use_stride_kernel": "0", "GLOG_minloglevel": "2"}


def run(script, arguments, environment, status=0):
    command = [sys.executable, *([str(ROOT / script)] if script.endswith(".py") else ["-c", script])]
    done = subprocess.run(
        [*command, *map(str, arguments)], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stderr[-5000:]
    return done


def same_run(first, second):
    """Weights and numbers of two runs' folders are the same, bit for bit."""
    files = sorted(path.relative_to(first) for path in first.rglob("*.safetensors"))
    assert files
    for file in files:
        one, other = read_weights(first / file), read_weights(second / file)
        assert one.keys() == other.keys()
        for name, array in one.items():
            np.testing.assert_array_equal(array, other[name], err_msg=f"{file} {name}")
    one, other = (read_json(folder / "results.json") for folder in (first, second))
    for name in ("log", "evaluations"):
        assert one[name] == other[name]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    sizes = {name: value for name, value in test_run_squad.SIZES.items() if name != "embedding_size"}
    saved(folder, "bert", "Model", **sizes)
    shutil.copy(ROOT / "samples/vocab.txt", folder)
    return folder


@pytest.fixture(scope="module")
def classifier(device, tmp_path_factory):
    """A model that was trained on the device."""
    folder = tmp_path_factory.mktemp("classifier")
    small = test_run_glue.configured(folder / "small")
    run("run_glue.py", test_run_glue.command(small, folder / "trained", device="stand_in"), device)
    return folder / "trained"


@pytest.mark.slow
def test_what_takes_the_device_s_memory_for_the_host_s_is_ended(device):
    code = (
        "import sys, ctypes, paddle; paddle.set_device(sys.argv[1]); ctypes.string_at(paddle.ones([2]).data_ptr(), 4)"
    )
    run(code, [DEVICE], device, status=-signal.SIGSEGV)


@pytest.mark.slow
def test_it_is_one_of_the_devices_and_chosen_where_nothing_else_is(device):
    code = "import runtime; from training.device import devices, find_device; print(devices(), find_device())"
    assert run(code, [], device).stdout == f"['cpu', '{DEVICE}'] {DEVICE}\n"
    code = "import runtime; from training.device import use_device; print(use_device('stand_in'))"
    assert run(code, [], device).stdout == f"{DEVICE}\n"
    done = run("predict.py", ["--model", "nothing", "--device", "stand_in:1", "text"], device, status=2)
    assert done.stderr == f"predict.py: --device stand_in:1: this Paddle sees cpu, {DEVICE}\n"


COUNTED = """
import runtime, importlib, json, sys
import paddle
from training.loop import Steps

inside, reads, learn, note = [], [0], Steps.learn, Steps._note

def counted(name):
    original = getattr(paddle.Tensor, name)
    def read(self, *arguments, **named):
        reads[-1] += not inside and not self.place.is_cpu_place()
        inside.append(name)
        try:
            return original(self, *arguments, **named)
        finally:
            inside.pop()
    setattr(paddle.Tensor, name, read)

for name in ("numpy", "item", "tolist", "__array__", "__float__", "__int__", "__bool__", "__index__"):
    counted(name)

def learning(self, *arguments):
    found = learn(self, *arguments)
    reads.append(0)
    return found

heard = []
Steps.learn = learning
Steps._note = lambda self, step, found: (heard.append((self.step, step)), note(self, step, found))[1]
module = importlib.import_module(sys.argv[1])
status = module.main(sys.argv[2:])
print("READS", json.dumps([reads, heard]))
sys.exit(status)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", [test_run_glue, test_run_pretrain, test_run_squad, test_run_tagging])
def test_a_step_reads_at_most_one_number_and_that_of_the_step_before(device, encoder, tmp_path, kind):
    """Counted from one step's end to the next's; the host then waits for a step that is over."""
    flags = dict(max_steps=6, logging_steps=6, save_steps=6, device="stand_in")
    if kind in (test_run_glue, test_run_pretrain):
        command = kind.command(kind.configured(tmp_path / "small"), tmp_path / "out", **flags)
    else:
        command = kind.command(encoder, tmp_path / "out", **flags)
    done = run(COUNTED, [kind.__name__.removeprefix("test_"), *command], device)
    reads, heard = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("READS"))[6:])
    assert reads[0] <= 1  # whatever is read before the first step, but for what begins the run, is counted with it
    assert reads[1:6] == [1] * 5
    assert heard == [[2, 1], [3, 2], [4, 3], [5, 4], [6, 5], [6, 6]]


@pytest.mark.wide
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_classification(device, tmp_path, model_type):
    """Dropout included."""
    small = test_run_glue.configured(tmp_path / "small", model_type)
    flags = dict(FLAGS, model_type=model_type, do_predict=True)
    run("run_glue.py", test_run_glue.command(small, tmp_path / "cpu", **flags), PLAIN)
    run("run_glue.py", test_run_glue.command(small, tmp_path / "device", **flags, device="stand_in"), device)
    same_run(tmp_path / "cpu", tmp_path / "device")
    assert read_json(tmp_path / "device/results.json")["device_peak_memory_mb"] > 0
    first, second = (sorted((tmp_path / name).glob("*.tsv")) for name in ("cpu", "device"))
    assert [path.read_text() for path in first] == [path.read_text() for path in second] != []


@pytest.mark.wide
@pytest.mark.parametrize("model_type", test_run_pretrain.MODEL_TYPES)
@pytest.mark.parametrize("recompute", [False, True])
def test_pretraining(device, tmp_path, model_type, recompute):
    """Dropout included, but where layers are computed again: Paddle then repeats the draws of the device's generator,
    and here it is the CPU's that draws."""
    rates = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0) if recompute else {}
    small = test_run_pretrain.configured(tmp_path / "small", model_type, **rates)
    flags = dict(FLAGS, recompute=recompute, model_type=model_type, mlm_only=model_type in ("bert", "ernie"))
    run("run_pretrain.py", test_run_pretrain.command(small, tmp_path / "cpu", tmp_path / "data", **flags), PLAIN)
    flags["device"] = "stand_in"
    run("run_pretrain.py", test_run_pretrain.command(small, tmp_path / "device", tmp_path / "data", **flags), device)
    same_run(tmp_path / "cpu", tmp_path / "device")


@pytest.mark.wide
@pytest.mark.parametrize("kind", [test_run_squad, test_run_tagging], ids=["answers", "tags"])
def test_answers_and_tags(device, encoder, tmp_path, kind):
    answers = kind is test_run_squad
    script = "run_squad.py" if answers else "run_tagging.py"
    test_file = ROOT / ("samples/answers/dev.json" if answers else "samples/tags/dev.conll")
    flags = dict(FLAGS, do_predict=True, test_file=test_file)
    run(script, kind.command(encoder, tmp_path / "cpu", **flags), PLAIN)
    run(script, kind.command(encoder, tmp_path / "device", **flags, device="stand_in"), device)
    same_run(tmp_path / "cpu", tmp_path / "device")
    asked = ["--question", "Who lives in Paris ?", "--context", "Anna lives in Paris ."]
    given = asked if answers else ["Anna lives in Paris ."]
    found = [
        run("predict.py", ["--model", tmp_path / name, "--device", where, *given], environment).stdout
        for name, where, environment in (("cpu", "cpu", PLAIN), ("device", "stand_in", device))
    ]
    assert found[0]
    assert found[0] == found[1]


@pytest.mark.wide
def test_a_run_goes_on_there_as_if_it_had_not_stopped(device, tmp_path):
    small = test_run_glue.configured(tmp_path / "small")
    flags = dict(FLAGS, device="stand_in")
    run("run_glue.py", test_run_glue.command(small, tmp_path / "whole", **flags), device)
    command = test_run_glue.command(small, tmp_path / "parts", **flags)
    begun = [sys.executable, str(ROOT / "run_glue.py"), *command]
    with subprocess.Popen(begun, env={**os.environ, **device}, stdout=subprocess.PIPE, text=True) as process:
        assert any(line.startswith("global step 2/") for line in process.stdout)
        process.terminate()
    assert not (tmp_path / "parts/results.json").exists()
    run("run_glue.py", [*command, "--resume"], device)
    same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.wide
def test_accumulated_gradients(device, tmp_path):
    small = test_run_glue.configured(tmp_path / "small")
    flags = dict(FLAGS, batch_size=8, gradient_accumulation_steps=2)
    run("run_glue.py", test_run_glue.command(small, tmp_path / "cpu", **flags), PLAIN)
    flags["device"] = "stand_in"
    run("run_glue.py", test_run_glue.command(small, tmp_path / "device", **flags), {**device, "STAND_IN_OPEN": "1"})
    same_run(tmp_path / "cpu", tmp_path / "device")


@pytest.mark.wide
def test_mixed_precision_is_one_line_where_there_is_none(device, tmp_path):
    small = test_run_glue.configured(tmp_path / "small")
    for kind in ("bfloat16", "float16"):
        command = test_run_glue.command(small, tmp_path / "out", device="stand_in", amp="O1", amp_dtype=kind)
        last = run("run_glue.py", command, device, status=2).stderr.splitlines()[-1]
        assert last.startswith(f"run_glue.py: --amp O1 --amp_dtype {kind}: products on {DEVICE} come back as "), last


@pytest.mark.wide
def test_predicting_serving_and_exporting(device, classifier, tmp_path):
    texts = ["a fine film", "dull ."]
    by_hand = run("predict.py", ["--model", classifier, "--device", "stand_in", *texts], device).stdout
    assert by_hand == run("predict.py", ["--model", classifier, "--device", "cpu", *texts], PLAIN).stdout
    command = [
        sys.executable,
        str(ROOT / "serve.py"),
        "--model",
        str(classifier),
        "--port",
        "0",
        "--device",
        "stand_in",
    ]
    environment = {**os.environ, **device}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as server:
        try:
            address = next(found[0] for line in server.stderr if (found := re.search(r"http://[\w.:]+", line)))
            body = json.dumps({"text": texts}).encode()
            request = urllib.request.Request(f"{address}/predict", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=60) as answer:
                served = json.load(answer)
        finally:
            server.terminate()
    assert [found["label"] for found in served["predictions"]] == [
        json.loads(line)["label"] for line in by_hand.splitlines()
    ]
    for kind in ("onnx", "paddle_inference"):
        for where, environment in (("cpu", {}), ("stand_in", device)):
            output = tmp_path / f"{kind}-{where}"
            arguments = ["--model", classifier, "--output", output, "--format", kind, "--device", where]
            run("export.py", arguments, environment)  # which compares the program with the model
        assert json.loads(run("predict.py", ["--model", output, texts[0]], {}).stdout)["label"]


@pytest.mark.wide
def test_comparing_and_converting(device, classifier, tmp_path):
    arguments = ["--weights", classifier, "--checks", "hidden", "heads", "gradients"]
    on_cpu = run("compare.py", arguments, {**device, **PLAIN}).stdout  # though the device is there
    assert on_cpu == run("compare.py", arguments, PLAIN).stdout
    assert "| ok |" in run("compare.py", [*arguments, "--device", "stand_in"], device).stdout
    run("convert.py", ["--input", classifier, "--output", tmp_path / "there", "--to", "hf"], device)
    run("convert.py", ["--input", tmp_path / "there", "--output", tmp_path / "back", "--verify"], device)
    first, second = read_weights(classifier), read_weights(tmp_path / "back")
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])
