import hashlib
import io
import json
import os
import pickle
import socket
import time
import zipfile
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from web import Web, cut_off, cut_off_in_chunks, failing, redirect, stall

from files import downloads
from files.downloads import download, fetch, require_host, zoo_file
from files.errors import InputError
from files.weights import read_weights, write_safetensors

VOCABULARY = "".join(f"word{number}\n" for number in range(1000)).encode()


@pytest.fixture
def web(monkeypatch):
    web = Web()
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    yield web
    web.close()


# ------------------------------------------------------------------------------------------------------------ one file

BAD_ANSWERS = [
    (failing(401), "401"),
    (failing(403), "403"),
    (None, "404"),
    (failing(500), "500"),
    (cut_off(VOCABULARY), r"cut off: 500 of 7,890 bytes came"),
    (cut_off_in_chunks, "IncompleteRead"),
    (stall, "timed out"),
    (redirect("/loop"), "redirect"),
    (redirect("file:///etc/hostname"), "not allowed"),
    (b"<!DOCTYPE html><title>Log in</title>", "a web page, not the file"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 405000000\n", "a Git LFS pointer.*405,000,000"),
    (lambda handler: handler.wfile.write(b"SSH-2.0-OpenSSH\r\n"), "no HTTP"),
]


@pytest.mark.parametrize(("content", "message"), BAD_ANSWERS)
def test_a_bad_answer_is_one_line_and_leaves_nothing(web, tmp_path, monkeypatch, content, message):
    monkeypatch.setattr(downloads, "HUB_TIMEOUT", 0.5)
    web.files |= {"/vocab.txt": content, "/loop": redirect("/loop")}
    (tmp_path / "vocab.txt").write_text("as it was\n")
    with pytest.raises(InputError, match=rf"{web.address}/vocab\.txt: can't be downloaded \(.*{message}") as error:
        download(f"{web.address}/vocab.txt", tmp_path / "vocab.txt")
    assert "\n" not in str(error.value)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("vocab.txt", "as it was\n")]


def torch_like(compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}))
        archive.writestr("a/data/0", bytes(1000))
    return file.getvalue()


def safetensors(tmp_path, **arrays):
    write_safetensors(tmp_path / "made", arrays or {"a": np.arange(100.0)})
    content = (tmp_path / "made").read_bytes()
    (tmp_path / "made").unlink()
    return content


def test_weights_must_end_where_their_format_says(web, tmp_path):
    """Also when the host states no length, or that of what it has."""
    whole = {
        "model.safetensors": safetensors(tmp_path),
        "model_state.pdparams": pickle.dumps({"a": list(range(300))}),
        "pytorch_model.bin": torch_like(),
        "config.json": json.dumps({"a": list(range(200))}).encode(),
        "GLUE.zip": torch_like(),
    }
    for name, content in whole.items():
        web.files[f"/{name}"] = content
        download(f"{web.address}/{name}", tmp_path / "whole" / name)
        assert (tmp_path / "whole" / name).read_bytes() == content
        web.files[f"/{name}"] = content[:500]
        with pytest.raises(InputError, match=rf"/{name}: can't be downloaded .*cut off or damaged"):
            download(f"{web.address}/{name}", tmp_path / "cut" / name)
    assert not list((tmp_path / "cut").iterdir())


def test_a_checksum_that_the_source_states_is_compared(web, tmp_path):
    web.files["/vocab.txt"] = VOCABULARY
    blob = hashlib.sha1(f"blob {len(VOCABULARY)}\0".encode() + VOCABULARY).hexdigest()
    for checksum in (hashlib.sha256(VOCABULARY).hexdigest(), blob):
        download(f"{web.address}/vocab.txt", tmp_path / "good", checksum=checksum)
        with pytest.raises(InputError, match=f"its checksum is not the stated one, {checksum[::-1]}"):
            download(f"{web.address}/vocab.txt", tmp_path / "bad", checksum=checksum[::-1])
    with pytest.raises(InputError, match="cut off: 7,890 of 7,900 bytes"):
        download(f"{web.address}/vocab.txt", tmp_path / "bad", size=7900)
    assert not (tmp_path / "bad").exists()


def test_redirects_are_followed_and_the_token_stays_with_its_host(web, tmp_path):
    other = Web()
    other.files["/content"] = VOCABULARY
    web.files |= {"/moved": redirect("/there", 308), "/there": redirect(f"{other.address}/content", 307)}
    download(f"{web.address}/moved", tmp_path / "vocab.txt", token="secret")
    other.close()
    assert (tmp_path / "vocab.txt").read_bytes() == VOCABULARY
    assert web.asked == [("/moved", "Bearer secret"), ("/there", "Bearer secret")]
    assert other.asked == [("/content", None)]


def test_a_silent_host_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "HUB_TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/file"
        with pytest.raises(InputError, match="timed out"):
            download(url, tmp_path / "file")
        with pytest.raises(OSError, match="timed out"):
            require_host(url)


def test_a_host_s_name_that_is_looked_up_for_ever_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "HUB_TIMEOUT", 0.3)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(3))
    with pytest.raises(InputError, match="timed out"):
        download("http://hub.invalid/file", tmp_path / "file")


@pytest.mark.parametrize("content", [b"ok", None, *map(failing, (401, 403, 500, 503)), redirect("/elsewhere")])
def test_any_answer_shows_that_a_host_is_there(web, content):
    web.files["/"] = content
    require_host(f"{web.address}/")
    assert web.paths()[0] == "/"


# ------------------------------------------------------------------------------------------------------------- the zoo


@pytest.fixture
def zoo(web, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "_ZOO", web.address)
    monkeypatch.setenv("PPNLP_HOME", str(tmp_path / "cache"))
    web.files["/convbert-small/vocab.txt"] = VOCABULARY
    return web


def put(tmp_path, content, file="vocab.txt"):
    path = tmp_path / "cache/models/convbert-small" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_published_files_are_downloaded_once(zoo, tmp_path):
    path = zoo_file("convbert-small", "vocab.txt")
    assert path == tmp_path / "cache/models/convbert-small/vocab.txt"
    zoo.files.clear()
    assert zoo_file("convbert-small", "vocab.txt").read_bytes() == VOCABULARY
    assert len(zoo.asked) == 1


def test_a_failing_download_says_so_and_leaves_nothing(zoo, tmp_path):
    with pytest.raises(InputError, match=r"convbert-base/vocab\.txt: can't be downloaded .*404"):
        zoo_file("convbert-base", "vocab.txt")
    assert not list((tmp_path / "cache/models/convbert-base").iterdir())
    with pytest.raises(InputError, match="convbert-huge: neither a folder nor a published model"):
        zoo_file("convbert-huge", "vocab.txt")


def test_a_file_of_another_model_by_its_address(web, tmp_path, monkeypatch, capsys):
    """Of such a vocabulary the number of lines isn't known."""
    monkeypatch.setenv("PPNLP_HOME", str(tmp_path / "cache"))
    web.files["/bert/small-vocab.txt"] = VOCABULARY
    url, folder = f"{web.address}/bert/small-vocab.txt", tmp_path / "cache/models/uer/bert-small"
    assert zoo_file("uer/bert-small", "vocab.txt", url) == folder / "vocab.txt"
    assert (folder / "vocab.txt").read_bytes() == VOCABULARY
    (folder / "vocab.txt").write_bytes(VOCABULARY[:500])
    assert zoo_file("uer/bert-small", "vocab.txt", url).read_bytes() == VOCABULARY
    assert "500 of 7,890 bytes; fetched again" in capsys.readouterr().err
    (folder / "vocab.txt").rename(folder / "small-vocab.txt")  # as PaddleNLP names it
    web.files.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert zoo_file("uer/bert-small", "vocab.txt", url) == folder / "small-vocab.txt"
    assert not capsys.readouterr().err


def test_what_was_cut_off_is_not_kept_and_comes_whole_the_next_time(zoo, tmp_path):
    zoo.files["/convbert-small/vocab.txt"] = cut_off(VOCABULARY)
    with pytest.raises(InputError, match=r"cut off: 500 of 7,890 bytes"):
        zoo_file("convbert-small", "vocab.txt")
    assert not list((tmp_path / "cache/models/convbert-small").iterdir())
    zoo.files["/convbert-small/vocab.txt"] = VOCABULARY
    assert zoo_file("convbert-small", "vocab.txt").read_bytes() == VOCABULARY


@pytest.mark.parametrize("length", [0, 500, 498, len(VOCABULARY) - 1])  # 498: at the end of a line
def test_a_cached_file_that_is_cut_off_is_fetched_again(zoo, tmp_path, capsys, length):
    put(tmp_path, VOCABULARY[:length])
    assert zoo_file("convbert-small", "vocab.txt").read_bytes() == VOCABULARY
    assert f"{length:,} of 7,890 bytes; fetched again" in capsys.readouterr().err
    put(tmp_path, VOCABULARY[:length])  # what happens to a file that was whole
    assert zoo_file("convbert-small", "vocab.txt").read_bytes() == VOCABULARY


def test_weights_that_are_cut_off_are_known_without_a_network(zoo, tmp_path):
    content = pickle.dumps({"a": np.arange(1000)}, protocol=4)
    path = put(tmp_path, content[:4000], "model_state.pdparams")
    with pytest.raises(InputError, match=rf"{path}: .*cut off or damaged.*; .*can't be downloaded .*404"):
        zoo_file("convbert-small", "model_state.pdparams")
    zoo.files["/convbert-small/model_state.pdparams"] = content
    assert zoo_file("convbert-small", "model_state.pdparams").read_bytes() == content


def test_what_paddlenlp_left_is_used_without_a_network(zoo, tmp_path, monkeypatch, capsys):
    path = put(tmp_path, VOCABULARY)
    monkeypatch.setattr(downloads, "_ZOO", "http://127.0.0.1:9")
    monkeypatch.setattr(downloads, "VOCABULARY_SIZE", 1000)
    assert zoo_file("convbert-small", "vocab.txt") == path
    assert not capsys.readouterr().err
    path.write_bytes(VOCABULARY[:-3])
    assert zoo_file("convbert-small", "vocab.txt") == path
    assert "its last line has no end; it may be cut off" in capsys.readouterr().err
    path.write_bytes(VOCABULARY[:494])  # at the end of a line
    assert zoo_file("convbert-small", "vocab.txt") == path
    assert f"{path}: 72 lines where 1,000 belong; it may be cut off" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------- the hub

COMMIT = "c0ffee" + "0" * 34


class Hub:
    """The host as a hub with one model, its cache, and what it has."""

    def __init__(self, web, cache):
        self.web, self.cache, self.files = web, cache / "models--some--model", {}

    def has(self, states=True, revision="main", name="some/model", **files):
        """files: with "__" for "."; states: the hub says how large they are, and their checksums."""
        self.files = {name.replace("__", "."): content for name, content in files.items()}
        siblings = []
        for file, content in self.files.items():
            entry = {"rfilename": file}
            if states:
                entry |= {
                    "size": len(content),
                    "blobId": hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest(),
                }
                if file.endswith((".safetensors", ".bin")):
                    entry["lfs"] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            siblings.append(entry)
            self.web.files[f"/{name}/resolve/{COMMIT}/{file}"] = content
        about = json.dumps({"sha": COMMIT, "siblings": siblings}).encode()
        self.web.files[f"/api/models/{name}/revision/{revision}"] = about

    def fetched(self):
        """The files that were asked for since the last time."""
        found = [path.rpartition("/")[2] for path in self.web.paths() if "/resolve/" in path]
        self.web.asked.clear()
        return sorted(found)


@pytest.fixture
def hub(web, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", web.address)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    return Hub(web, tmp_path / "cache")


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
