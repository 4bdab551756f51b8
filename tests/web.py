"""A host on this machine that answers rightly, wrongly, or not at all; also as a Hugging Face hub."""

import hashlib
import http.server
import io
import json
import pickle
import threading
import time
import zipfile

import numpy as np

from files.weights import write_safetensors


class Web:
    """A host on this machine.

    Attributes:
        files: path → content, or a function that answers in its place, given the handler.
        asked: (path, Authorization) of every request.
    """

    def __init__(self):
        self.files, self.asked = {}, []
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                path = self.path.partition("?")[0]
                web.asked.append((path, self.headers["Authorization"]))
                content = web.files.get(path)
                if callable(content):
                    content(self)
                elif content is None:
                    self.send_error(404)
                else:
                    answer(self, content)

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def paths(self):
        return [path for path, _ in self.asked]


def answer(handler, content, length=None, status=200, **headers):
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(content) if length is None else length))
    handler.end_headers()
    handler.wfile.write(content)


def cut_off(content, after=500):
    return lambda handler: answer(handler, content[:after], len(content))


def cut_off_in_chunks(handler):
    handler.protocol_version = "HTTP/1.1"
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"1f4\r\n" + b"x" * 100)


def stall(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"word\n")
    handler.wfile.flush()
    time.sleep(3)


def failing(status):
    return lambda handler: handler.send_error(status)


def redirect(url, status=302):
    return lambda handler: answer(handler, b"", status=status, Location=url)


VOCABULARY = "".join(f"word{number}\n" for number in range(1000)).encode()


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


COMMIT = "c0ffee" + "0" * 34


class Hub:
    """A host as a hub with one model or dataset, its cache, and what it has."""

    def __init__(self, web, cache, kind="models", name="some/model"):
        self.web, self.kind, self.name, self.files = web, kind, name, {}
        self.cache = cache / f"{kind}--{name.replace('/', '--')}"

    def has(self, states=True, revision="main", name=None, **files):
        """files: with "__" for "."; states: the hub says how large they are, and their checksums."""
        self.files = {name.replace("__", "."): content for name, content in files.items()}
        page = f"/{name or self.name}" if self.kind == "models" else f"/{self.kind}/{name or self.name}"
        siblings = []
        for file, content in self.files.items():
            entry = {"rfilename": file}
            if states:
                entry |= {
                    "size": len(content),
                    "blobId": hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest(),
                }
                if file.endswith((".safetensors", ".bin", ".parquet")):
                    entry["lfs"] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            siblings.append(entry)
            self.web.files[f"{page}/resolve/{COMMIT}/{file}"] = content
        about = json.dumps({"sha": COMMIT, "siblings": siblings}).encode()
        self.web.files[f"/api/{self.kind}/{name or self.name}/revision/{revision}"] = about

    def fetched(self):
        """The files that were asked for since the last time."""
        found = [path.rpartition("/")[2] for path in self.web.paths() if "/resolve/" in path]
        self.web.asked.clear()
        return sorted(found)
