"""The Hugging Face hub: models and datasets, their cache, and hubs that misbehave."""

import json
import os
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from web import COMMIT, VOCABULARY, Hub, cut_off, failing, redirect, safetensors, stall, torch_like

from files import downloads
from files.errors import InputError
from files.hub import fetch, fetch_data
from files.weights import read_weights


@pytest.fixture
def content(tmp_path):
    """A model's files, with the weights in two formats and things that nobody needs."""
    return dict(
        config__json=b'{"model_type": "convbert"}', vocab__txt=VOCABULARY, tokenizer_config__json=b"{}",
        model__safetensors=safetensors(tmp_path), pytorch_model__bin=torch_like(), tf_model__h5=b"h5",
        README__md=b"#",
    )  # fmt: skip


USED = ["config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt"]


@pytest.mark.parametrize("states", [True, False])
def test_a_model_of_the_hub_is_fetched_once_with_one_kind_of_weights(hub, content, states):
    hub.has(states, **content)
    folder = fetch("some/model")
    assert hub.fetched() == USED
    assert sorted(os.listdir(folder)) == USED
    for name in USED:
        assert Path(folder, name).read_bytes() == hub.files[name]
    hub.web.files.clear()
    assert fetch("some/model") == folder
    assert not hub.web.asked


def test_hugging_face_s_library_finds_what_was_fetched_and_we_what_it_has(hub, content, tmp_path):
    hub.has(**content)
    folder = fetch("some/model")
    cache = str(tmp_path / "cache")
    found = huggingface_hub.snapshot_download("some/model", cache_dir=cache, local_files_only=True)
    assert os.path.samefile(found, folder)
    assert huggingface_hub.try_to_load_from_cache("some/model", "vocab.txt", cache_dir=cache) == f"{folder}/vocab.txt"


def test_a_model_with_pickled_weights_alone(hub, content):
    hub.has(**{name: data for name, data in content.items() if name != "model__safetensors"})
    assert "pytorch_model.bin" in os.listdir(fetch("some/model"))
    assert hub.fetched() == ["config.json", "pytorch_model.bin", "tokenizer_config.json", "vocab.txt"]


def test_shards_come_with_their_index(hub, content, tmp_path):
    index = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}).encode()
    shards = {
        "model-1__safetensors": safetensors(tmp_path, a=np.ones(3)),
        "model-2__safetensors": safetensors(tmp_path, b=np.zeros(2)),
    }
    del content["model__safetensors"]
    hub.has(**content, **shards, model__safetensors__index__json=index, **{"model-3__safetensors": b"not of these"})
    folder = fetch("some/model")
    wanted = ["model-1.safetensors", "model-2.safetensors", "model.safetensors.index.json"]
    assert hub.fetched() == sorted([*wanted, *set(USED) - {"model.safetensors"}])
    assert set(read_weights(folder)) == {"a", "b"}
    (hub.cache / "snapshots" / COMMIT / "model-2.safetensors").resolve().unlink()
    assert fetch("some/model") == folder
    assert hub.fetched() == ["model-2.safetensors"]
    hub.has(**content, model__safetensors__index__json=b'{"weight_map": {"a": "../../evil.safetensors"}}')
    (hub.cache / "refs/main").unlink()
    with pytest.raises(InputError, match="not a plain file name"):
        fetch("some/model")


def test_token_and_revision_go_to_the_hub(hub, content, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.has(**content, revision="refs%2Fpr%2F1")
    folder = fetch("some/model@refs/pr/1")
    assert {token for _, token in hub.web.asked} == {"Bearer hf_secret"}
    assert (hub.cache / "refs/refs/pr/1").read_text() == COMMIT
    hub.web.files.clear()
    assert fetch("some/model@refs/pr/1") == fetch(f"some/model@{COMMIT}") == folder
    with pytest.raises(InputError, match="or it has no revision main"):
        fetch("some/model")


@pytest.mark.parametrize("name", ["", "a/b/c", "../x", "some/model@../../x", "some model", "some/..", "http://x/y"])
def test_what_is_no_name_of_a_model_is_said(hub, name):
    with pytest.raises(InputError, match="a model on the hub is called hf:OWNER/NAME or hf:OWNER/NAME@REVISION"):
        fetch(name)
    assert not hub.web.asked


@pytest.mark.parametrize("lost", ["model.safetensors", "config.json", "vocab.txt"])
def test_what_an_interrupted_download_lacks_is_fetched(hub, content, lost):
    hub.has(**content)
    folder = fetch("some/model")
    hub.web.asked.clear()
    blob = os.path.realpath(f"{folder}/{lost}")
    os.unlink(f"{folder}/{lost}")
    os.unlink(blob)
    assert fetch("some/model") == folder
    assert hub.fetched() == [lost]


@pytest.mark.parametrize(
    ("states", "lost"),  # nothing tells how long a vocabulary should be whose hub does not
    [
        *((states, lost) for states in (True, False) for lost in ("model.safetensors", "config.json")),
        (True, "vocab.txt"),
    ],
)
def test_what_is_cut_off_in_the_cache_is_fetched_again(hub, content, states, lost):
    hub.has(states, **content)
    folder = fetch("some/model")
    hub.web.asked.clear()
    with open(f"{folder}/{lost}", "r+b") as file:
        file.truncate(20)
    assert fetch("some/model") == folder
    assert lost in hub.fetched()
    assert Path(folder, lost).read_bytes() == hub.files[lost]


@pytest.mark.parametrize("offline", ["1", "0"])
def test_without_a_network_what_is_missing_is_named(hub, content, monkeypatch, capsys, offline):
    hub.has(**content)
    folder = fetch("some/model")
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert fetch("some/model") == folder
    os.unlink(f"{folder}/vocab.txt")
    assert fetch("some/model") == folder
    assert "no vocab.txt or tokenizer.json" in capsys.readouterr().err
    os.unlink(f"{folder}/model.safetensors")
    reason = "HF_HUB_OFFLINE is set" if offline == "1" else "refused"
    with pytest.raises(
        InputError, match=rf"hf:some/model: can't be had from http://127\.0\.0\.1:9 \(.*{reason}.*lacks weights"
    ):
        fetch("some/model")
    with pytest.raises(InputError, match=r"hf:other/model: can't be had from http://127\.0\.0\.1:9 "):
        fetch("other/model")


HUB_ANSWERS = [
    (failing(401), "no such model, or a private one, for which HF_TOKEN is not set"),
    (failing(403), "not open to everybody; ask for access at .*/some/model and set HF_TOKEN"),
    (failing(404), "no such model, or it has no revision main"),
    (failing(500), "HTTP Error 500"),
    (failing(503), "HTTP Error 503"),
    (stall, "timed out"),
    (b"<html>Log in</html>", "a web page, not the answer of a hub; a login page, or a proxy's"),
    (b"\n<head></head>", "a web page, not the answer of a hub"),
    (b'{"sha": "aa", "siblings": [{"rfilename": 5}]}', "not the answer of a hub"),
    (b'{"sha": "aa", "siblings": [{"rfilename": "a", "lfs": "y"}]}', "not the answer of a hub"),
    (b'{"sha": "aa", "siblings": [{"rfilename": "a", "size": "9"}]}', "not the answer of a hub"),
    (b'{"sha": "aa", "siblings": [{"rfilename": "a", "lfs": {"sha256": 1}}]}', "not the answer of a hub"),
    (b'{"sha": "aa", "siblings": ["a"]}', "not the answer of a hub"),
    (b"{}", "not the answer of a hub"),
    (b"[1", "not the answer of a hub"),
    (cut_off(b'{"sha": "0"}' * 100), "IncompleteRead|not the answer of a hub"),
]


@pytest.mark.parametrize("file", ["about", "model.safetensors"])
@pytest.mark.parametrize(("reply", "message"), HUB_ANSWERS)
def test_a_hub_that_fails_is_one_line_and_nothing_is_taken_as_complete(hub, content, monkeypatch, file, reply, message):
    monkeypatch.setattr(downloads, "HUB_TIMEOUT", 0.5)
    hub.has(**content)
    good = dict(hub.web.files)
    path = "/api/models/some/model/revision/main" if file == "about" else f"/some/model/resolve/{COMMIT}/{file}"
    hub.web.files[path] = reply
    message = message if file == "about" else r"model\.safetensors: can't be downloaded"
    for _ in range(2):
        with pytest.raises(
            InputError, match=f"hf:some/model: can't be had from {hub.web.address} .*{message}"
        ) as error:
            fetch("some/model")
        assert "\n" not in str(error.value)
    hub.web.files.update(good)
    assert sorted(os.listdir(fetch("some/model"))) == USED


def test_a_renamed_model_is_found(hub, content):
    hub.has(name="new/name", **content)
    hub.web.files["/api/models/some/model/revision/main"] = redirect("/api/models/new/name/revision/main", 307)
    for name in hub.files:
        hub.web.files[f"/some/model/resolve/{COMMIT}/{name}"] = redirect(f"/new/name/resolve/{COMMIT}/{name}", 307)
    assert sorted(os.listdir(fetch("some/model"))) == USED


# ------------------------------------------------------------------------------------------------------------ datasets

PART = b"PAR1" + bytes(100) + b"PAR1"


@pytest.fixture
def data(hub, tmp_path):
    return Hub(hub.web, tmp_path / "cache", "datasets", "some/data")


def names(paths):
    return [path.name for path in paths]


@pytest.mark.parametrize("states", [True, False])
def test_files_of_a_dataset_are_fetched_once(data, monkeypatch, states):
    files = {"a/train-00001-of-00002": PART + b"PAR1", "a/train-00000-of-00002": PART, "b/train-00000-of-00001": PART}
    data.has(states, **{f"{name}__parquet": content for name, content in files.items()}, README__md=b"#")
    found = fetch_data("some/data", "a/train-*.parquet")
    assert [path.read_bytes() for path in found] == [PART, PART + b"PAR1"]
    assert data.fetched() == names(found)
    assert fetch_data("some/data", "a/train-*.parquet") == found
    assert not data.web.asked
    with open(found[1], "r+b") as file:
        file.truncate(50)
    assert fetch_data("some/data", "a/train-*.parquet") == found
    assert data.fetched() == names(found)[1:]
    found[0].unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match=r"some/data: can't be had from .* \(HF_HUB_OFFLINE is set\)"):
        fetch_data("some/data", "a/train-*.parquet")


def test_hugging_face_s_library_finds_a_dataset_s_files(data, tmp_path):
    data.has(**{"a/dev-00000-of-00001__parquet": PART})
    (found,) = fetch_data("some/data", "a/dev-*.parquet")
    theirs = huggingface_hub.hf_hub_download(
        "some/data", "a/dev-00000-of-00001.parquet", repo_type="dataset", cache_dir=tmp_path / "cache",
        local_files_only=True,
    )  # fmt: skip
    assert os.path.samefile(theirs, found)


def test_what_a_dataset_lacks_is_said(data):
    data.has(**{"a/train-00000-of-00002__parquet": PART})
    for pattern in ("a/train-*.parquet", "a/test-*.parquet"):
        with pytest.raises(InputError, match=r"/datasets/some/data has no a/.*-\*\.parquet, or not all of its parts"):
            fetch_data("some/data", pattern)


@pytest.mark.parametrize(("reply", "message"), HUB_ANSWERS)
def test_a_hub_that_fails_with_a_dataset_is_one_line(data, monkeypatch, reply, message):
    monkeypatch.setattr(downloads, "HUB_TIMEOUT", 0.5)
    data.has(**{"a/dev-00000-of-00001__parquet": PART})
    data.web.files["/api/datasets/some/data/revision/main"] = reply
    message = message.replace("some/model", "some/data").replace("model", "dataset")
    with pytest.raises(InputError, match=f"some/data: can't be had from {data.web.address} .*{message}") as error:
        fetch_data("some/data", "a/dev-*.parquet")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["../../evil-1.parquet", "/tmp/evil-1.parquet", "a/../../../evil-1.parquet"])
def test_a_file_that_would_lie_elsewhere_is_refused(data, name):
    data.has(**{name.replace(".parquet", "__parquet"): PART})
    with pytest.raises(InputError, match="which would lie elsewhere"):
        fetch_data("some/data", "*evil-*.parquet")
