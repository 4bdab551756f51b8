"""The server under 64 connections for 30 s, some of which leave early or send nonsense. Run as a script: that load."""

import asyncio
import collections
import http.client
import json
import random
import signal
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONNECTIONS, SECONDS = 64, 30
LEAVE = BAD = 0.05  # the share of requests whose client leaves, and whose body is bad
BAD_BODIES = b"", b"{", b"[]", b"\xff", b'{"text": 3}', b'{"text": "a", "x": 1}', b'{"text": ["a"], "text_pair": "b"}'


async def load(url, expected):
    """Asks for random texts. Returns what came of the requests, text → count, and the first problems."""
    from comparison.load import read_answer, request

    address, texts = urllib.parse.urlsplit(url), list(expected)
    counts, problems, ends = collections.Counter(), [], time.monotonic() + SECONDS

    def check(chosen, status, body):
        counts[status] += 1
        if status == 200:
            found = [entry["probabilities"]["good"] for entry in json.loads(body)["predictions"]]
            wanted = [expected[text] for text in chosen]
            if found != pytest.approx(wanted, abs=1e-6):
                problems.append(f"{chosen}: {found}")
        elif status != 503:
            problems.append(f"{chosen}: {status} {body}")

    async def ask_on(number):
        draw, writer = random.Random(number), None
        while time.monotonic() < ends:
            if writer is None:
                reader, writer = await asyncio.open_connection(address.hostname, address.port)
            chosen, kind = draw.sample(texts, draw.choice((1, 1, 3, 8))), draw.random()
            bad = kind < BAD
            writer.write(request(address, draw.choice(BAD_BODIES) if bad else {"text": chosen}))
            if BAD <= kind < BAD + LEAVE:
                await asyncio.sleep(draw.choice((0, 0.01, 0.05)))
                writer.close()
                writer = None
                counts["left"] += 1
                continue
            status, body = await read_answer(reader)
            if not bad:
                check(chosen, status, body)
            elif status in (400, 422):
                counts["bad"] += 1
            else:
                problems.append(f"a bad body: {status} {body}")
        if writer is not None:
            writer.close()

    await asyncio.gather(*map(ask_on, range(CONNECTIONS)))
    return counts, problems[:5]


@pytest.mark.slow
def test_thirty_seconds_of_64_connections_in_mixed_company(tmp_path):
    """No mixed-up answer, no failure but 503, /health answers at once, memory stays."""
    pytest.importorskip("fastapi")
    from test_export import model_folder
    from test_serve import memory, served

    from serving.predictor import Predictor

    folder = model_folder(tmp_path / "model", label_names=["bad", "good"])
    texts = [f"film number {index} is {word}" for index in range(50) for word in ("good", "bad", "so very long a film")]
    answers = Predictor(folder, independent=True)(texts)
    expected = {text: answer.probabilities["good"] for text, answer in zip(texts, answers, strict=True)}
    (tmp_path / "expected.json").write_text(json.dumps(expected))
    times, memories = [], []
    with served(folder) as (address, process):
        command = [sys.executable, __file__, f"{address}/predict", tmp_path / "expected.json"]
        asking = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        health = http.client.HTTPConnection(urllib.parse.urlsplit(address).netloc, timeout=60)
        while asking.poll() is None:
            started = time.perf_counter()
            health.request("GET", "/health")
            answer = health.getresponse()
            assert answer.read()
            times.append(time.perf_counter() - started)
            assert answer.status == 200
            if len(times) % 20 == 0:
                memories.append(memory(process))
            time.sleep(0.05)
        counts, problems = json.loads(asking.communicate()[0])
        p99 = sorted(times)[int(0.99 * len(times))]
        print(
            f"{counts}; {len(times)} times /health, p99 {1000 * p99:.0f} ms; {memories[5]:.0f}, {memories[-1]:.0f} MB"
        )
        assert asking.returncode == 0
        assert not problems
        assert counts["200"] > 20 * CONNECTIONS
        assert min(counts["bad"], counts["left"]) > CONNECTIONS / 2
        assert p99 <= 0.05
        assert memories[-1] < 1.05 * memories[5] + 5
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
        assert process.stderr.read() == ""


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    print(json.dumps(asyncio.run(load(sys.argv[1], json.loads(Path(sys.argv[2]).read_text())))))
