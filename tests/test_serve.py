"""The server: right answers and status codes, in process; under load, in bad company and in a browser as a process."""

import contextlib
import gc
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, needs
from test_export import model_folder

import serve
from serving.application import make_app
from serving.batching import Batcher
from serving.predictor import Predictor, make_predictor
from tokenizer import ConvBertTokenizer

pytestmark = needs("fastapi", "uvicorn", "httpx2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With it an answer does not depend on the texts that are asked together."""
    settings = dict(label_names=["bad", "good"], mask_conv_padding=True)
    return model_folder(tmp_path_factory.mktemp("model") / "model", **settings)


@pytest.fixture(scope="module")
def predictor(folder):
    return Predictor(folder)


@pytest.fixture
def client_of():
    """Predictor, prefix → a client of the application around it."""
    from starlette.testclient import TestClient

    batchers = []

    def make(predictor, root_path=""):
        batchers.append(Batcher(predictor))
        return TestClient(make_app(batchers[-1], root_path))

    yield make
    for batcher in batchers:
        batcher.close()
        assert batcher.join(10)


@pytest.fixture
def client(predictor, client_of):
    return client_of(predictor)


def probabilities(answer):
    return [entry["probabilities"] for entry in answer["predictions"]]


def test_one_text_many_and_pairs(client, predictor):
    texts, pairs = ["a good film", "", "x " * 300], ["b", "c", "d"]
    for body, expected in (
        ({"text": texts[0]}, predictor(texts[:1])),
        ({"text": texts[0], "text_pair": "b"}, predictor(texts[:1], ["b"])),
        ({"text": texts}, predictor(texts)),
        ({"text": texts, "text_pair": pairs}, predictor(texts, pairs)),
        ({"text": []}, []),
    ):
        answer = client.post("/predict", json=body)
        assert answer.status_code == 200, answer.text
        for found, wanted in zip(answer.json()["predictions"], expected, strict=True):
            assert found["label"] == wanted.label
            assert found["probabilities"] == pytest.approx(wanted.probabilities, abs=1e-6)
            assert "score" not in found


@pytest.mark.parametrize("model_type", ["bert", "electra", "ernie"])
def test_other_architectures(tmp_path, client_of, model_type):
    """They have no convolutions, and nothing is said of any."""
    predictor = Predictor(model_folder(tmp_path / "model", model_type, label_names=["bad", "good"]))
    client = client_of(predictor)
    texts, pairs = ["a good film", "", "x " * 300], ["b", "c", "d"]
    found = client.post("/predict", json={"text": texts, "text_pair": pairs}).json()["predictions"]
    for answer, wanted in zip(found, predictor(texts, pairs), strict=True):
        assert answer["label"] == wanted.label
        assert answer["probabilities"] == pytest.approx(wanted.probabilities, abs=1e-6)
    assert client.get("/health").json()["labels"] == ["bad", "good"]
    answer = client.post("/explain", json={"text": texts[0], "layer": 2})
    assert answer.content.startswith(b"\x89PNG")
    for path in ("/", "/openapi.json"):
        assert not re.search("convolution|kernel", client.get(path).text, re.IGNORECASE)


def test_a_regression(tmp_path, client_of):
    predictor = Predictor(model_folder(tmp_path / "model", num_labels=1, label_names=None))
    (answer,) = client_of(predictor).post("/predict", json={"text": "a"}).json()["predictions"]
    assert answer == {"score": pytest.approx(predictor(["a"])[0].score, abs=1e-6)}


def test_any_number_of_labels(tmp_path, client_of):
    settings = dict(num_labels=3, label_names=["art", "war", "law"], problem_type="multi_label_classification")
    predictor = Predictor(model_folder(tmp_path / "model", mask_conv_padding=True, **settings))
    texts = ["a good film", "war and law", "x " * 300]
    expected = 1 / (1 + np.exp(-predictor.logits(texts).astype(np.float64)))
    client = client_of(predictor)
    for found, row in zip(client.post("/predict", json={"text": texts}).json()["predictions"], expected, strict=True):
        assert set(found) == {"labels", "probabilities"}  # an empty list is an answer
        assert list(found["probabilities"].values()) == pytest.approx(row, abs=1e-6)
        assert found["labels"] == [name for name, chance in found["probabilities"].items() if chance > 0.5]
    assert client.post("/explain", json={"text": texts[0]}).content.startswith(b"\x89PNG")


@pytest.mark.parametrize("settings", [{}, dict(num_labels=1, label_names=None)], ids=["classes", "number"])
def test_damaged_weights_are_the_server_s_fault(tmp_path, client_of, settings):
    predictor = Predictor(model_folder(tmp_path / "model", **settings))
    bias = predictor.engine.model.classifier.out_proj.bias
    bias.set_value(np.full(bias.shape, np.nan, np.float32))
    client = client_of(predictor)
    for path in ("/predict", "/explain"):
        answer = client.post(path, json={"text": "a"})
        assert answer.status_code == 500
        assert "no number (NaN or infinity) comes out" in answer.json()["detail"]
        assert str(tmp_path) not in answer.text
    assert client.post("/explain", json={"text": "a", "layer": 3}).status_code == 422


def test_a_server_with_damaged_weights_does_not_begin(folder, tmp_path, one_line):
    from files.weights import read_weights, write_safetensors

    shutil.copytree(folder, tmp_path / "model")
    weights = {name: array * np.float32(np.nan) for name, array in read_weights(folder).items()}
    write_safetensors(tmp_path / "model/model.safetensors", weights)
    one_line(serve.main(["--model", str(tmp_path / "model"), "--device", "cpu", "--port", "0"]), "no number")


BAD = [
    (b"{", 422, "JSON decode error"),
    (b"", 422, "Field required"),
    (b"[]", 422, ""),
    (b'{"text": 3}', 422, "valid string"),
    (b'{"text": null}', 422, ""),
    (b'{"text": ["a", 3]}', 422, "valid string"),
    (b'{"text": {"a": 1}}', 422, ""),
    (b'{"text": "a", "more": 1}', 422, "Extra inputs are not permitted"),
    (b'{"text": "a", "text_pair": ["b"]}', 422, "both be one string"),
    (b'{"text": ["a", "b"], "text_pair": ["c"]}', 422, "2 texts, but 1 in text_pair"),
    (json.dumps({"text": ["a"] * 1001}).encode(), 422, "at most 1000 items"),
    (json.dumps({"text": "a" * 100_001}).encode(), 422, "at most 100000 characters"),
    (b'{"text": "\\ud800"}', 422, ""),
    (b'{"text": "\xff"}', 400, "error parsing the body"),
    (b'{"text": "' + b"a" * 2**20 + b'"}', 413, "1048576 bytes"),
]


@pytest.mark.parametrize(("body", "status", "words"), BAD)
def test_bad_requests(client, body, status, words):
    answer = client.post("/predict", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    assert words in answer.text
    assert client.post("/predict", json={"text": "a"}).status_code == 200


def test_other_requests(client):
    assert client.get("/predict").status_code == 405
    assert client.get("/nothing").status_code == 404
    assert client.get("/health").json() == {
        "status": "ok", "engine": "dynamic", "labels": ["bad", "good"], "routes": ["/embed", "/explain", "/predict"],
    }  # fmt: skip
    page = client.get("/").text
    assert "<title>ConvBERT in Paddle</title>" in page
    assert not re.search(r"https?://", page)  # works without a network
    described = client.get("/openapi.json").json()
    assert {"/predict", "/explain", "/health"} <= set(described["paths"])


@needs("swagger_ui_bundle")
def test_the_page_of_the_interface_needs_no_network(client):
    text = client.get("/docs").text
    for address in re.findall(r'(?:src|href)="([^"]+)"', text):
        assert address.startswith("/")
        assert client.get(address).status_code == 200


def test_docs_are_linked_where_they_are(client_of, predictor, monkeypatch):
    assert 'data-docs="yes"' in client_of(predictor).get("/").text
    monkeypatch.setitem(sys.modules, "swagger_ui_bundle", None)
    client = client_of(predictor)
    assert 'data-docs="no"' in client.get("/").text
    assert client.get("/docs").status_code == 404


def test_head_is_get_without_the_body(client):
    for path in ("/", "/health", "/metrics", "/openapi.json"):
        found, full = client.head(path), client.get(path)
        assert found.status_code == 200
        assert found.headers["content-type"] == full.headers["content-type"]
        assert found.text == ""
    assert client.head("/health").headers["content-length"] == str(len(client.get("/health").content))
    assert client.head("/predict").status_code == 405
    assert client.head("/nothing").status_code == 404


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "cut off by the proxy"])
def test_below_a_prefix(client_of, predictor, cut):
    client, before = client_of(predictor, "/some/where"), "" if cut else "/some/where"
    (answer,) = client.post(f"{before}/predict", json={"text": "a film"}).json()["predictions"]
    assert answer["probabilities"] == pytest.approx(predictor(["a film"])[0].probabilities, abs=1e-6)
    page = client.get(f"{before}/").text
    assert not re.search(r"""(href|src|ask)[=(]["']/""", page)  # all addresses go on from the page's own
    for address in re.findall(r'(?:src|href)="([^"]+)"', client.get(f"{before}/docs").text):
        assert address.startswith("/some/where/swagger/")
        assert client.get(address.removeprefix("/some/where") if cut else address).status_code == 200
    assert client.get(f"{before}/openapi.json").json()["servers"] == [{"url": "/some/where"}]
    assert client.get("/elsewhere/health").status_code == 404
    if not cut:
        assert client.get("/some/where").url.path == "/some/where/"
    counted = client.get(f"{before}/metrics").text
    assert 'convbert_requests_total{path="/predict",status="200"} 1\n' in counted


def test_metrics(client):
    """Every line as Prometheus reads it, and right numbers."""
    client.post("/predict", json={"text": ["good", "bad", "film"]})
    client.post("/predict", json={"text": 3})
    client.post("/predict", content=b"x" * (2**20 + 1))
    client.get("/made-up/1"), client.get("/made-up/2")
    answer = client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = {}
    for line in answer.text.splitlines():
        if not line.startswith("#"):
            name, value = re.fullmatch(r'([a-z_]+(?:\{(?:[a-z]+="[^"]*",?)+\})?) ([0-9.e+-]+)', line).groups()
            assert name not in found
            found[name] = float(value)
    for status in (200, 422, 413):
        assert found[f'convbert_requests_total{{path="/predict",status="{status}"}}'] == 1
    assert found['convbert_requests_total{path="other",status="404"}'] == 2
    assert found["convbert_texts_total"] == found["convbert_batch_size_sum"] == 3
    assert found["convbert_batches_total"] == found['convbert_batch_size_bucket{le="+Inf"}'] == 1
    assert found['convbert_batch_size_bucket{le="2"}'] == 0
    assert found['convbert_batch_size_bucket{le="4"}'] == 1
    assert found["convbert_queue_length"] == 0
    assert found['convbert_request_seconds_count{path="/predict"}'] == 3
    assert found['convbert_request_seconds_bucket{path="/predict",le="10"}'] == 3
    for family in ("requests_total counter", "request_seconds histogram", "queue_length gauge"):
        assert f"# TYPE convbert_{family}\n" in answer.text


def test_too_much_at_once_is_told_when_to_come_again(predictor):
    from starlette.testclient import TestClient

    batcher = Batcher(predictor, most_waiting=2)
    client = TestClient(make_app(batcher))
    answer = client.post("/predict", json={"text": ["a", "b", "c"]})
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert "waiting" in answer.json()["detail"]
    assert client.post("/predict", json={"text": ["a", "b"]}).status_code == 200
    batcher.close()
    for path in ("/predict", "/explain"):
        answer = client.post(path, json={"text": "a"})
        assert (answer.status_code, answer.json()["detail"]) == (503, "the server is about to end")
    assert batcher.join(10)


def test_the_model_s_own_tokens_in_a_text_are_words(folder, client_of):
    args = serve.parse_args(["--model", str(folder), "--device", "cpu"])
    client = client_of(make_predictor(args))
    plain = Predictor(folder)
    words = Predictor(folder, split_special_tokens=True)
    for token in ("[SEP]", "[CLS]", "[PAD]", "[MASK]"):
        text = f"a good {token} film"
        (found,) = probabilities(client.post("/predict", json={"text": text}).json())
        assert found == pytest.approx(words([text])[0].probabilities, abs=1e-6)
        assert found != pytest.approx(plain([text])[0].probabilities, abs=1e-6)
        assert token in plain.tokenizer.tokenize(text)
        assert token not in words.tokenizer.tokenize(text)
    words.tokenizer.split_special_tokens = False  # back as it was
    assert words.tokenizer.tokenize("a [SEP]") == ["a", "[SEP]"]
    asked = serve.parse_args(["--model", str(folder), "--device", "cpu", "--no-split_special_tokens"])
    assert make_predictor(asked).tokenizer.tokenize("a [SEP]") == ["a", "[SEP]"]


def test_tokens_that_were_added_stay_what_they_are(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    tokenizer = ConvBertTokenizer.from_pretrained(folder)
    ids = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    (tmp_path / "model/vocab.txt").write_text("".join(f"{token}\n" for token in [*ids[:-1], "[E1]"]))
    config = {"additional_special_tokens": ["[E1]"]}
    (tmp_path / "model/tokenizer_config.json").write_text(json.dumps(config))
    plain, words = (Predictor(tmp_path / "model", split_special_tokens=split) for split in (None, True))
    text = "[E1] a film [E1]"
    assert words.tokenizer.tokenize(text) == plain.tokenizer.tokenize(text) == ["[E1]", "a", "film", "[E1]"]
    assert words([text])[0].probabilities == pytest.approx(plain([text])[0].probabilities, abs=1e-6)
    assert "[SEP]" not in words.tokenizer.tokenize("[E1] a [SEP] film")


def test_explanations(client, predictor):
    answer = client.post("/explain", json={"text": "a good film", "text_pair": "b", "layer": 2})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    assert answer.content.startswith(b"\x89PNG")
    assert client.post("/explain", json={"text": "a", "text_pair": ""}).status_code == 200
    for body, words in (
        ({"text": "a", "text_pair": "", "layer": 3}, "layer 3: this model has layers 1 to 2"),
        ({"text": ["a"]}, "valid string"),
    ):
        answer = client.post("/explain", json=body)
        assert answer.status_code == 422
        assert words in answer.text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--model nothing", "nothing"),
        ("--model {model} --port 70000", "--port must be at most 65535"),
        ("--model {model} --port -1", "--port must be at least 0"),
        ("--model {model} --port {taken}", "in use"),
        ("--model {model} --max_wait_ms -1", "a number from 0"),
    ],
)
def test_bad_flags(folder, capfd, flags, message):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = flags.format(model=folder, taken=taken.getsockname()[1]).split()
        try:
            status = serve.main([*command, "--device", "cpu"])
        except SystemExit as stop:
            status = stop.code
    lines = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("device: ")]
    assert status == 2
    assert len(lines) == 1, lines
    assert message in lines[0]


def test_a_full_collection_of_garbage_is_short_while_the_server_runs(folder, monkeypatch):
    """What was there before, Paddle and all, is not looked at: that took 0.1 s, in which nobody was answered."""
    from serving.connections import Server

    left = []
    monkeypatch.setattr(Server, "run", lambda self, sockets: left.append(len(gc.get_objects())))
    try:
        assert serve.main(["--model", str(folder), "--device", "cpu", "--port", "0"]) == 0
    finally:
        gc.unfreeze()
    assert left[0] < 2000 < len(gc.get_objects())


# ------------------------------------------------------------------------------------------------------- as a process


@contextlib.contextmanager
def served(folder, *flags):
    """A running server: (its address, its process)."""
    command = [sys.executable, ROOT / "serve.py", "--model", folder, "--port", "0", "--device", "cpu", *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        for line in process.stderr:
            if match := re.search(r"(http://\S+)/ answers", line):
                break
        yield match[1], process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def ask(address, body, path="/predict", timeout=60):
    """→ status and JSON."""
    request = urllib.request.Request(address + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def memory(process):
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())[1]) / 1024


@pytest.mark.slow
def test_thirty_seconds_of_32_connections(folder, predictor):
    """No error, no lost and no mixed-up answer, and no growing memory."""
    texts = [f"film number {index} is {word}" for index in range(50) for word in ("good", "bad", "so very long a film")]
    expected = dict(zip(texts, (p.probabilities["good"] for p in predictor(texts)), strict=True))
    problems, counts, memories = [], [0] * 32, []
    with served(folder) as (address, process):
        ends = time.time() + 30

        def work(number):
            draw = random.Random(number)
            while time.time() < ends:
                chosen = draw.sample(texts, draw.choice((1, 3, 8)))
                try:
                    status, answer = ask(address, {"text": chosen})
                    found = [entry["probabilities"]["good"] for entry in answer["predictions"]]
                    same = all(abs(a - expected[b]) < 1e-5 for a, b in zip(found, chosen, strict=True))
                    if status != 200 or not same:
                        problems.append((chosen, status, answer))
                except Exception as error:
                    problems.append(repr(error))
                counts[number] += 1

        threads = [threading.Thread(target=work, args=(number,)) for number in range(32)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(1)
            memories.append(memory(process))
        for thread in threads:
            thread.join()
        print(f"{sum(counts)} requests, {min(counts)} to {max(counts)} a connection")
        print(f"{memories[5]:.0f} MB after 5 s, {memories[-1]:.0f} MB at the end")
        assert not problems[:3]
        assert min(counts) > 0
        assert memories[-1] < 1.05 * memories[5] + 5
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


@pytest.mark.slow
def test_bad_company(folder):
    """Ten megabytes, slow clients, clients that leave: others are served all the while, and in the end too."""
    with served(folder) as (address, process):
        host, port = address.removeprefix("http://").split(":")

        def connection(head):
            found = socket.create_connection((host, int(port)), timeout=60)
            found.sendall(head)
            return found

        head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        slow = [connection(head + b'Content-Length: 50\r\n\r\n{"te') for _ in range(40)]  # more than there are threads
        for _ in range(50):
            connection(head + b'Content-Length: 50\r\n\r\n{"te').close()
        for _ in range(20):
            connection(head + b'Content-Length: 16\r\n\r\n{"text": "good"}').close()  # gone before the answer
        started = time.time()
        assert ask(address, {"text": "good"})[0] == 200
        assert time.time() - started < 10
        assert ask(address, {"text": "x" * 10_000_000})[0] == 413
        with connection(head + b"Transfer-Encoding: chunked\r\n\r\n") as endless:
            with contextlib.suppress(OSError):
                for _ in range(2000):
                    endless.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            with contextlib.suppress(ConnectionError):
                assert b" 413 " in endless.recv(1000)
        with connection(b"nonsense\r\n\r\n") as rude:
            assert b" 400 " in rude.recv(1000)
        answers = [found.recv(1000) for found in slow]
        assert all(b" 408 " in answer for answer in answers), answers[0]
        for found in slow:
            found.close()
        assert ask(address, {"text": ["good", "bad"]})[0] == 200
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0


@pytest.mark.slow
def test_what_is_being_computed_is_still_answered_when_the_server_stops(folder):
    with served(folder) as (address, process):
        answers = []
        thread = threading.Thread(target=lambda: answers.append(ask(address, {"text": ["a good film"] * 1000})))
        thread.start()
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        thread.join(30)
        assert process.wait(timeout=10) == 0
        status, answer = answers[0]
        assert status == 200
        assert len(answer["predictions"]) == 1000


@pytest.mark.slow
def test_a_second_ctrl_c_ends_the_server_at_once(tmp_path):
    """With a model that takes seconds for what has begun, which a first one waits for."""
    sizes = dict(hidden_size=256, num_hidden_layers=12, intermediate_size=1024)

    def ask_in_vain():
        with contextlib.suppress(OSError):
            ask(address, {"text": ["a good film " * 60] * 1000})

    def batches():
        with urllib.request.urlopen(f"{address}/metrics", timeout=60) as answer:
            return int(re.search(rb"^convbert_batches_total (\d+)", answer.read(), re.MULTILINE)[1])

    with served(model_folder(tmp_path / "model", **sizes)) as (address, process):
        before, ends = batches(), time.monotonic() + 60
        for _ in range(2):
            threading.Thread(target=ask_in_vain).start()
        while batches() == before:
            assert time.monotonic() < ends
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=1) == 130
        assert process.stderr.read() == "interrupted\n"


@pytest.fixture
def browser(tmp_path):
    """Chromium, at the address of a server, as driven by selenium."""
    pytest.importorskip("selenium")
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (binary and driver):
        pytest.skip("no browser: install Debian's chromium and chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (
        "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--window-size=1000,1400",
        f"--user-data-dir={tmp_path / 'profile'}",
    ):  # fmt: skip
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    page = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield page
    page.quit()


def all_of(page, selector):
    return page.find_elements("css selector", selector)


def one_of(page, selector):
    return page.find_element("css selector", selector)


def wait(page, condition):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(page, 30).until(lambda _: condition())


def severe(page):
    """What the page did wrong."""
    entries = [entry["message"] for entry in page.get_log("browser") if entry["level"] == "SEVERE"]
    return [message for message in entries if "favicon" not in message]


@pytest.mark.slow
def test_the_page_in_a_browser(folder, browser):
    with served(folder) as (address, _):
        browser.get(f"{address}/")
        one_of(browser, "#predict").click()
        rows = wait(browser, lambda: all_of(browser, "#answer tr"))
        cells = [[cell.text for cell in row.find_elements("css selector", "td")] for row in rows]
        assert [row[0] for row in cells] == ["bad", "good"]
        assert sum(float(row[2]) for row in cells) == pytest.approx(1, abs=2e-4)
        expected = ask(address, {"text": "A film one wants to see twice."})[1]["predictions"][0]
        assert one_of(browser, "#answer tr.best td").text == expected["label"]

        docs = one_of(browser, ".docs a")
        assert docs.is_displayed()
        assert urllib.request.urlopen(docs.get_attribute("href")).status == 200
        assert not all_of(browser, "#before details")
        one_of(browser, "#text").clear()
        one_of(browser, "#text").send_keys("A <b>waste</b> of time.")
        one_of(browser, "#predict").click()
        before = wait(browser, lambda: all_of(browser, "#before details"))
        assert [entry.find_element("tag name", "summary").text for entry in before] == [
            "A film one wants to see twice."
        ]
        browser.refresh()  # which keeps them
        texts = [entry.text for entry in wait(browser, lambda: all_of(browser, "#before summary"))]
        assert texts == ["A <b>waste</b> of time.", "A film one wants to see twice."]
        browser.set_window_size(390, 800)  # a phone's
        assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
        screenshot(browser, "phone")
        one_of(browser, "#forget").click()
        assert not one_of(browser, "#before").is_displayed()
        hosts = "return performance.getEntriesByType('resource').map((entry) => new URL(entry.name).host)"
        assert set(browser.execute_script(hosts)) <= {address.removeprefix("http://")}
        browser.set_window_size(1000, 1400)

        one_of(browser, "#layer").send_keys("1")
        one_of(browser, "#explain").click()
        image = wait(browser, lambda: all_of(browser, "#inside img"))[0]
        wait(browser, lambda: browser.execute_script("return arguments[0].naturalWidth", image) > 300)
        screenshot(browser, "texts")

        one_of(browser, "#layer").clear()
        one_of(browser, "#layer").send_keys("7")
        one_of(browser, "#explain").click()
        wait(browser, lambda: one_of(browser, "#error").text == "layer 7: this model has layers 1 to 2")
        assert all("/explain" in message for message in severe(browser))  # the 422 just now


def screenshot(page, name):
    """Into the folder SCREENSHOTS of the environment, to be looked at."""
    if "SCREENSHOTS" in os.environ:
        page.save_screenshot(f"{os.environ['SCREENSHOTS']}/{name}.png")
