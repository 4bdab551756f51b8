import http.server
import socket
import threading
import time

import pytest

from files import downloads
from files.downloads import download, zoo_file
from files.errors import InputError


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """A model zoo on this machine; returns the folder that it serves."""
    served = tmp_path / "served"
    served.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=served)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(downloads, "_ZOO", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("PPNLP_HOME", str(tmp_path / "cache"))
        yield served
        server.shutdown()


def test_published_files_are_downloaded_once(zoo, tmp_path):
    (zoo / "convbert-small").mkdir()
    (zoo / "convbert-small/vocab.txt").write_text("[PAD]\n")
    path = zoo_file("convbert-small", "vocab.txt")
    assert path == tmp_path / "cache/models/convbert-small/vocab.txt"
    (zoo / "convbert-small/vocab.txt").unlink()
    assert zoo_file("convbert-small", "vocab.txt").read_text() == "[PAD]\n"


def test_a_failing_download_says_so_and_leaves_nothing(zoo, tmp_path):
    with pytest.raises(InputError, match=r"convbert-base/vocab\.txt: can't be downloaded .*404"):
        zoo_file("convbert-base", "vocab.txt")
    assert not list((tmp_path / "cache/models/convbert-base").iterdir())
    with pytest.raises(InputError, match="convbert-huge: neither a folder nor a published model"):
        zoo_file("convbert-huge", "vocab.txt")


def test_a_silent_host_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "HUB_TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        with pytest.raises(InputError, match="timed out"):
            download(f"http://127.0.0.1:{silent.getsockname()[1]}/file", tmp_path / "file")
    assert time.monotonic() - start < 5
