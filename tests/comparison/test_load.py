"""The load on a server: what it counts, beside a server that counts too."""

import http.server
import json
import math
import socket
import threading

import pytest

from comparison import load


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with 200, but 503 to "busy"; closes without an answer at "gone"."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    asked = None  # list of texts

    def do_POST(self):
        text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"]
        self.asked.append(text)
        if text == "gone":
            self.close_connection = True
            return
        content = b'{"predictions": []}'
        self.send_response(503 if text == "busy" else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def url():
    Handler.asked = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/predict"
    server.shutdown()
    server.server_close()


def test_every_answer_is_counted(url):
    texts = [f"text {number} …" for number in range(10)]
    found = load.run(url, texts, 3, 0.5)
    assert found["errors"] == 0
    assert found["requests_per_s"] * 0.5 == pytest.approx(len(Handler.asked), rel=0.5)
    assert 0 < found["p50_ms"] <= found["p99_ms"] < 500
    assert set(Handler.asked) == set(texts)


def test_what_is_no_answer_is_an_error(url):
    found = load.run(url, ["good", "busy", "gone"], 3, 0.5)
    refused = sum(text != "good" for text in Handler.asked)
    assert found["errors"] == refused > 2
    assert found["requests_per_s"] > 0
    with socket.socket() as silent:  # bound, but not listening
        silent.bind(("127.0.0.1", 0))
        found = load.run(f"http://127.0.0.1:{silent.getsockname()[1]}/predict", ["good"], 2, 0.3)
    assert found["errors"] > 1
    assert found["requests_per_s"] == 0
    assert math.isnan(found["p99_ms"])
