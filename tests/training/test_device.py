import re
import subprocess
import sys

import pytest
from conftest import ROOT

from files.errors import InputError
from training import device
from training.device import choose_device, devices, find_device


def test_devices():
    assert devices()[0] == "cpu"
    assert find_device("CPU") == "cpu"
    assert find_device("gpu:99") is None
    assert find_device() in devices()


def test_a_gpu_is_preferred_and_can_be_chosen(monkeypatch):
    monkeypatch.setattr(device, "devices", lambda: ["cpu", "gpu:0", "gpu:1"])
    assert find_device() == "gpu:0"
    assert find_device("gpu") == "gpu:0"
    assert find_device("gpu:1") == "gpu:1"
    assert find_device("cpu") == "cpu"
    assert find_device("xpu") is None
    monkeypatch.setattr(device, "devices", lambda: ["cpu", "xpu:0"])
    assert find_device() == "xpu:0"


def test_a_device_is_chosen_and_said(capsys):
    assert choose_device("cpu") == "cpu"
    assert re.fullmatch(r"device: cpu \(\d+ threads, .*\)\n", capsys.readouterr().err)
    for name in ("gpu:99", "tpu"):
        with pytest.raises(InputError, match=f"--device {name}: this Paddle sees cpu"):
            choose_device(name)


def test_our_warnings_are_plain_lines():
    code = (
        "import runtime, logging\nfrom training.device import choose_device\n"
        "choose_device('cpu'); choose_device('cpu')\n"
        "logging.getLogger('convbert').warning('%s: starting anew: %s', 'model', 'classifier')\n"
        "logging.getLogger('other').warning('theirs')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert lines[-2] == "warning: model: starting anew: classifier"
    assert lines[-1].endswith("theirs")
    assert lines[-1] != "theirs"
