import hashlib
import json
import pickle
import socket
import time

import numpy as np
import pytest
from web import VOCABULARY, Web, cut_off, cut_off_in_chunks, failing, redirect, safetensors, stall, torch_like

from files import downloads
from files.downloads import download, require_host, zoo_file
from files.errors import InputError

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
