"""One process for each implementation that benchmark.py measures: `PeerProcess` on this side, `main` on the other.

A process of its own lets every library have its own settings and memory. It is told what to do by lines on stdin and
answers with one line of JSON each.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from comparison.peers import PEERS
from files.errors import InputError
from files.temporary import temporary_folder

ROOT = Path(__file__).resolve().parents[1]
START = "import sys; sys.path[0] = sys.argv[1]; from comparison.peer_process import main; main()"
PEAK_SIZE = 2048  # of the matrices whose product is the machine's peak
TURN_SECONDS = 1.0  # a turn takes at least this long, after one step that doesn't count
LATENCY_SECONDS = 3.0  # the same in mode "latency", of which rare answers count too
WARM_UP_STEPS, WARM_UP_SECONDS = 5, 10.0  # before the first turn, whichever ends first: memory is still growing


class PeerProcess:
    """A running peer. `missing` says why it can't run here, else `precision` is that of its products."""

    def __init__(self, name, settings):
        """settings: model, batch_size, seq_length and, for "glue" and "serve", data_dir, vocab_file, sentences."""
        import runtime  # here, for the other side must not be set up by importing this file

        self.name = name
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the process)
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, str(ROOT)],
            env=runtime.FOUND,
            stdin=pipe,
            stdout=pipe,
            stderr=self.log,
            text=True,
        )
        ready = self.ask(json.dumps({"peer": name, **settings}))
        self.missing, self.precision = ready.get("missing"), ready.get("precision")

    def ask(self, line):
        """Has it take a turn in a mode ("infer", "train", …) or multiply matrices ("peak").

        Returns {"seconds": of every step or, for "glue", of a sentence; "rss_mb": peak memory}; for "serve" {"loads":
        those of served.loads; "rss_mb": the server's}. Raises InputError with its last words when it dies.
        """
        answer = ""
        with contextlib.suppress(BrokenPipeError):  # it died between two turns
            print(line, file=self.process.stdin, flush=True)
            answer = self.process.stdout.readline()
        if answer:
            return json.loads(answer)
        if self.process.wait() == -signal.SIGKILL:
            raise InputError(f"{self.name} was killed: out of memory? Give fewer --peers or a smaller --batch_size")
        self.log.seek(0)
        raise InputError(f"{self.name} failed: {(self.log.read().strip().splitlines() or ['no message'])[-1]}")

    def close(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.log.close()


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to stderr
    settings = json.loads(sys.stdin.readline())
    name = settings["peer"]
    if name.startswith("ours") or name.endswith("-tuned"):
        import runtime  # noqa: F401  (before Paddle)
    try:
        peer = PEERS[name](settings["model"], settings["batch_size"], settings["seq_length"])
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError)
        missing = f"{error.name} is not installed" if absent else str(error).partition("\n")[0]
        print(json.dumps({"missing": missing}), file=answers, flush=True)
        return
    print(json.dumps({"precision": peer.precision}), file=answers, flush=True)
    warm = set()
    try:
        for line in sys.stdin:
            print(json.dumps(_answer(peer, line.strip(), settings, warm)), file=answers, flush=True)
    except InputError as error:
        sys.exit(str(error))  # its last words


def _answer(peer, mode, settings, warm):
    """What PeerProcess.ask returns; `warm`: modes that have had their warm-up."""
    if mode == "serve":
        return _serve(peer, settings)
    _forget_peak_memory()
    if mode == "glue":
        seconds = _epoch_seconds(peer, settings)
    elif mode == "peak":
        seconds = _turn(peer.matrix_product(PEAK_SIZE)) if getattr(peer, "matrix_product", None) else None
    else:
        with peer.evaluation() if mode in ("infer", "latency") else contextlib.nullcontext():
            if mode not in warm:
                _warm_up(getattr(peer, mode))
                warm.add(mode)
            seconds = _turn(getattr(peer, mode), LATENCY_SECONDS if mode == "latency" else TURN_SECONDS)
    return {"seconds": seconds, "rss_mb": _peak_memory()}


def _warm_up(step):
    start = time.perf_counter()
    for _ in range(WARM_UP_STEPS):
        step()
        if time.perf_counter() - start > WARM_UP_SECONDS:
            break


def _turn(step, least=TURN_SECONDS):
    """Seconds of each step of one turn, which takes at least so many."""
    step()
    seconds = []
    while sum(seconds) < least:
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return seconds


def _sentences(split, settings):
    from tasks.glue import find_task
    from tasks.glue_files import read_examples

    return read_examples(find_task("SST-2"), split, settings["data_dir"])[: settings["sentences"]]


def _epoch_seconds(peer, settings):
    examples = _sentences("train", settings)
    texts, labels = [example.text for example in examples], np.array([example.label for example in examples])
    start = time.perf_counter()
    peer.epoch(texts, labels, settings["vocab_file"])
    return [(time.perf_counter() - start) / len(texts)]  # per sentence


def _serve(peer, settings):
    from comparison.served import loads, served

    texts = [example.text for example in _sentences("dev", settings)]
    with temporary_folder() as work:
        peer.save(work / "model", settings["vocab_file"])
        with served(work / "model", work / "log") as (address, process):
            return {"loads": loads(address, texts), "rss_mb": _peak_memory(process.pid)}


def _forget_peak_memory():
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: VmHWM starts anew


def _peak_memory(process="self"):
    """Megabytes; None where the system does not tell another process's."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 if process == "self" else None
