"""The Pythons that the project runs on: pinned versions for each, resolved anew, and the demo from an empty clone."""

import glob
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request

import pytest
from conftest import ROOT

PINS = {"3.11": "constraints.txt", "3.12": "constraints-3.12.txt", "3.13": "constraints-3.13.txt"}


def pinned(file):
    """name → version."""
    lines = (ROOT / file).read_text("utf-8").splitlines()
    found = [re.fullmatch(r"([A-Za-z0-9._-]+)==(\S+)", line) for line in lines if not line.startswith("#")]
    assert all(found), lines
    return {re.sub(r"[._-]+", "-", match[1]).lower(): match[2] for match in found}


@pytest.mark.parametrize("version", PINS)
def test_every_requirement_has_a_version(version):
    from packaging.requirements import Requirement

    pins, here, elsewhere = pinned(PINS[version]), set(), set()
    for file in ("requirements-core.txt", "requirements.txt"):
        for line in (ROOT / file).read_text("utf-8").splitlines():
            line = line.partition("#")[0].strip()
            if not line or line.startswith("-r"):
                continue
            wanted = Requirement(line)
            if wanted.marker and not wanted.marker.evaluate({"python_version": version}):
                elsewhere.add(wanted.name.lower())
                continue
            here.add(wanted.name.lower())
            assert wanted.specifier.contains(pins[wanted.name.lower()]), line
    assert not (elsewhere - here) & pins.keys()


def test_no_python_is_one_line(tmp_path):
    """And nothing is left behind."""
    for path in (ROOT / "Makefile", *ROOT.glob("requirements*.txt"), *ROOT.glob("constraints*.txt")):
        shutil.copy(path, tmp_path)
    done = make(tmp_path, "demo", "PYTHON=no-such-python")
    assert done.returncode == 2
    assert done.stdout.splitlines() == [
        "make: needs Python 3.11, 3.12 or 3.13 with venv (Debian: apt install python3-venv); PYTHON=… names one"
    ]
    assert not (tmp_path / ".venv").exists()


def make(folder, *arguments):
    """make as a user calls it: not as a child of the make that runs these tests."""
    env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(["make", *arguments], cwd=folder, env=env, capture_output=True, text=True, check=False)


def python_of(version):
    """A Python of that version that runs, or None."""
    places = [
        shutil.which(f"python{version}"),
        *glob.glob(os.path.expanduser(f"~/.pyenv/versions/{version}.*/bin/python")),
    ]
    for place in filter(None, places):
        code = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
        done = subprocess.run([place, "-c", code], capture_output=True, text=True, check=False)
        if done.stdout.strip() == version:
            return place
    return None


@pytest.mark.wide
@pytest.mark.parametrize("version", PINS)
def test_versions_can_be_resolved_and_are_the_pinned_ones(version, tmp_path):
    """What is pinned fits together for that Python; what has no pin is nothing that is installed."""
    uv = shutil.which("uv", path=os.path.dirname(sys.executable)) or shutil.which("uv")
    if not uv:
        pytest.skip("no uv")
    command = [uv, "pip", "compile", "-q", "--no-header", "--no-annotate", "--python-version", version]
    command += [str(ROOT / "requirements.txt"), "-c", str(ROOT / PINS[version]), "-o", str(tmp_path / "found.txt")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = pinned(tmp_path / "found.txt")
    pins = pinned(PINS[version])
    left_out = re.compile("nvidia|cuda|triton|setuptools")  # of a CUDA build; what a venv of Python 3.11 begins with
    assert {name: found[name] for name in found if not left_out.match(name)}.items() <= pins.items()


@pytest.mark.wide
@pytest.mark.parametrize("version", PINS)
def test_the_demo_of_an_empty_clone(version, tmp_path):
    python = python_of(version)
    if not python:
        pytest.skip(f"no Python {version} runs here")
    subprocess.run(["git", "clone", "-q", str(ROOT), str(tmp_path / "project")], check=True)
    done = make(tmp_path / "project", "demo", f"PYTHON={python}")
    assert done.returncode == 0, done.stderr
    assert re.search(r"best acc: 0\.8\d+ at step", done.stderr)
    next_lines = re.findall(r"^  (\.venv/bin/python .*)$", done.stdout, flags=re.M)
    assert len(next_lines) == 2
    for line in next_lines:
        said = subprocess.run(
            line, shell=True, cwd=tmp_path / "project", capture_output=True, text=True, check=False,
            env={**os.environ, "HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"},
        )  # fmt: skip
        assert said.returncode == 0, said.stderr
    a_bert_folder_goes_the_whole_way(tmp_path / "project", PINS[version])


def a_bert_folder_goes_the_whole_way(project, pins):
    """Hugging Face's folder of one, in the demo's environment, which has none of the other libraries."""
    make_folder = (
        "import runtime, sys, shutil; from family.architectures import *; from conversion.formats import convert;"
        "config = config_class('bert')(vocab_size=8192, hidden_size=64, num_hidden_layers=2, num_attention_heads=2,"
        "intermediate_size=128); model_class('bert', 'Model')(config).save_pretrained('ours');"
        "shutil.copy('pretrained/convbert-tiny/vocab.txt', 'ours'); convert('ours', 'theirs', to='hf')"
    )
    absent = "import importlib.util as u; assert not any(map(u.find_spec, ['paddlenlp', 'torch', 'transformers']))"
    text = "the plot is inventive ."
    for arguments in (
        ["-c", absent], ["-c", make_folder],
        ["run_glue.py", "--model_type", "bert", "--model_name_or_path", "theirs", "--task_name", "SST-2", "--data_dir",
         "samples", "--max_steps", "20", "--output_dir", "tuned", "--device", "cpu"],
        ["predict.py", "--model", "tuned", text],
        ["export.py", "--model", "tuned", "--output", "program", "--format", "paddle_inference"],
        ["predict.py", "--model", "program", text],
        ["-m", "pip", "install", "--quiet", "-c", pins, "fastapi", "uvicorn"],
    ):  # fmt: skip
        done = subprocess.run(
            [".venv/bin/python", *arguments], cwd=project, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    server = subprocess.Popen(
        [".venv/bin/python", "serve.py", "--model", "tuned", "--port", "0"], cwd=project, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        address = next(found[0] for line in server.stderr if (found := re.search(r"http://[\d.:]+", line)))
        body = json.dumps({"text": text}).encode()
        request = urllib.request.Request(f"{address}/predict", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert json.load(answer)["predictions"][0]["label"] in ("negative", "positive")
    finally:
        server.terminate()
        assert server.wait(20) == 0
