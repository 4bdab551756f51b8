import os
import subprocess
import sys

from conftest import ROOT

import runtime


def test_devices():
    assert runtime.devices()[0] == "cpu"
    assert runtime.find_device("CPU") == "cpu"
    assert runtime.find_device("gpu:99") is None
    assert runtime.find_device() in runtime.devices()


def test_a_gpu_is_preferred_and_can_be_chosen(monkeypatch):
    monkeypatch.setattr(runtime, "devices", lambda: ["cpu", "gpu:0", "gpu:1"])
    assert runtime.find_device() == "gpu:0"
    assert runtime.find_device("gpu") == "gpu:0"
    assert runtime.find_device("gpu:1") == "gpu:1"
    assert runtime.find_device("cpu") == "cpu"
    assert runtime.find_device("xpu") is None


def test_the_user_s_environment_wins():
    code = "import os, runtime; print(os.environ['GLOG_minloglevel'])"
    for given, expected in ((None, "2"), ("0", "0")):
        environment = {key: value for key, value in os.environ.items() if key != "GLOG_minloglevel"}
        environment |= {} if given is None else {"GLOG_minloglevel": given}
        run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
        assert run.stdout.strip() == expected


def test_importing_it_does_not_import_paddle():
    code = "import sys, runtime; print('paddle' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_facts_about_the_machine():
    assert 1 <= runtime.cores() <= (os.cpu_count() or 1)
    assert runtime.processor_name()
