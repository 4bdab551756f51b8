"""ModelScope's own package against a host with its addresses; where it is absent, or reaches nothing."""

import hashlib
import json
import os
import sys
import urllib.parse
from pathlib import Path

import pytest
from conftest import needs
from web import Web, answer, failing, safetensors, torch_like

from conversion.sources import fetched
from files import downloads
from files.errors import InputError
from files.model_scope import fetch

FILES = {"config.json": b"{}", "vocab.txt": b"a\nb\n", "README.md": b"#", "pytorch_model.bin": b"never"}


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """One for all tests here: the package keeps the address that it read first."""
    web = Web()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODELSCOPE_ENDPOINT", web.address)
        patch.setenv("MODELSCOPE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield web
    web.close()


@pytest.fixture
def scope(host, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    host.files.clear()
    return host


def has(web, files, model="some/model"):
    listed = [
        {"Name": name, "Path": name, "Type": "blob", "Size": len(content), "Revision": "abc",
         "Sha256": hashlib.sha256(content).hexdigest()}
        for name, content in files.items()
    ]  # fmt: skip

    def send(handler):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(handler.path).query)
        answer(handler, files[query["FilePath"][0]])

    about = json.dumps({"Code": 200, "Success": True, "Data": {"Files": listed}}).encode()
    web.files |= {f"/api/v1/models/{model}/repo/files": about, f"/api/v1/models/{model}/repo": send}


@needs("modelscope")
def test_a_model_is_fetched_once_without_what_nobody_needs(scope, tmp_path, monkeypatch):
    files = {**FILES, "model.safetensors": safetensors(tmp_path)}
    has(scope, files)
    folder = fetched("ms:some/model")
    assert sorted(os.listdir(folder)) == ["config.json", "model.safetensors", "vocab.txt"]
    assert all(Path(folder, name).read_bytes() == files[name] for name in os.listdir(folder))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    scope.asked.clear()
    assert fetched("ms:some/model") == folder
    assert not scope.asked


@needs("modelscope")
def test_pickled_weights_where_there_are_no_others(scope):
    has(scope, {**FILES, "pytorch_model.bin": torch_like()}, "some/pickled")
    assert "pytorch_model.bin" in os.listdir(fetch("some/pickled"))


@needs("modelscope")
def test_a_host_that_fails_is_one_line(scope, monkeypatch):
    monkeypatch.setattr(downloads, "HUB_TIMEOUT", 0.5)
    has(scope, {"config.json": b"{}"}, "some/part")
    with pytest.raises(InputError, match=r"ms:some/part: .* lacks weights"):
        fetch("some/part")
    scope.files["/api/v1/models/some/other/repo/files"] = failing(404)
    with pytest.raises(InputError, match=r"ms:some/other: can't be had from ModelScope \(.*404.*\)$") as error:
        fetch("some/other")
    assert "\n" not in str(error.value)
    for setting, value, reason in (
        ("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9", "refused"),
        ("HF_HUB_OFFLINE", "1", "HF_HUB_OFFLINE is set"),
    ):
        monkeypatch.setenv(setting, value)
        with pytest.raises(InputError, match=rf"ms:some/other: can't be had from ModelScope \(.*{reason}.*\)"):
            fetch("some/other")


@pytest.mark.parametrize("name", ["bert", "some/model/more", "/model", "some/", ""])
def test_what_is_no_name_is_said(name):
    with pytest.raises(InputError, match="a model on ModelScope is called ms:OWNER/NAME"):
        fetch(name)


def test_without_the_package_one_line_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "modelscope", None)
    with pytest.raises(InputError, match="ms:some/model: needs ModelScope's package: pip install modelscope"):
        fetch("some/model")
