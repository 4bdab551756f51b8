import runtime  # noqa: F401  (before Paddle)

import importlib.util
import os
import re
import signal
from pathlib import Path

import pytest
from web import Hub, Web

from text.corpus import Lines, paragraphs

os.environ["HF_HUB_OFFLINE"] = "1"  # no test may reach a hub
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) == signal.SIG_IGN:  # in a shell's background or under nohup, for all that we start too
        signal.signal(number, handler)

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"


def needs(*modules):
    """Skips where a library of the full environment is absent, as in the core's."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


def needs_onednn():
    """Skips where Paddle brings no oneDNN that works."""
    from cpu import onednn

    missing = False
    try:
        onednn.load()
    except OSError:
        missing = True
    return pytest.mark.skipif(missing, reason="this Paddle brings no oneDNN")


def forget_gradients(model):
    """Leaves none, not even of zeros. (Paddle 2's Layer.clear_gradients can't.)"""
    for weight in model.parameters():
        weight.clear_gradient(set_to_zero=False)


def documents(path):
    """A text file's documents, lists of paragraphs."""
    found = [[]]
    for text in paragraphs(Lines(path)):
        if text is None:
            found.append([])
        else:
            found[-1].append(text)
    return [document for document in found if document]


class Malicious:
    """An object whose pickle makes the folder `target` when it is loaded."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.fixture
def shared():
    """The folder with real data beside the project, or a skip."""
    if not SHARED.is_dir():
        pytest.skip(f"no real data: {SHARED.name}/ does not lie beside the project")
    return SHARED


@pytest.fixture
def one_line(capsys):
    """Checks that a script failed with status 2 and one line on stderr that matches all of `parts`."""

    def check(status, *parts):
        lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("device: ")]
        assert status == 2
        assert len(lines) == 1, lines
        for part in parts:
            assert re.search(part, lines[0]), lines[0]

    return check


@pytest.fixture
def web(monkeypatch):
    """A host on this machine, and nothing that keeps from asking it."""
    web = Web()
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    yield web
    web.close()


@pytest.fixture
def hub(web, tmp_path, monkeypatch):
    """That host as a hub with one model."""
    monkeypatch.setenv("HF_ENDPOINT", web.address)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    return Hub(web, tmp_path / "cache")
