"""serve.py as a process of its own, and the load that benchmark.py puts on it."""

import contextlib
import re
import subprocess
import sys
import time
from pathlib import Path

from files.errors import InputError

SERVE = Path(__file__).resolve().parents[1] / "serve.py"
CONNECTIONS = (1, 32)  # at a time
WARM_UP_SECONDS, SECONDS = 2.0, 10.0  # of the first load, which doesn't count, and of each that does


@contextlib.contextmanager
def served(folder, log):
    """A running server of a model folder: (its address, its process). log: a new file for what it says.

    Raises InputError with its last words when it does not start.
    """
    import runtime

    command = [sys.executable, str(SERVE), "--model", str(folder), "--port", "0", "--device", "cpu"]
    with open(log, "w") as words:
        process = subprocess.Popen(command, env=runtime.FOUND, stdin=subprocess.DEVNULL, stdout=words, stderr=words)
    try:
        while not (address := re.search(r"(http://\S+)/ answers", Path(log).read_text())):
            if process.poll() is not None:
                said = Path(log).read_text().strip().splitlines() or ["no message"]
                raise InputError(f"the server did not start: {said[-1]}")
            time.sleep(0.1)
        yield address[1], process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def loads(address, texts):
    """What load.run says of each number of connections, with that number as "connections"."""
    from comparison import load

    url = f"{address}/predict"
    load.run(url, texts, max(CONNECTIONS), WARM_UP_SECONDS)
    found = [{"connections": number, **load.run(url, texts, number, SECONDS)} for number in CONNECTIONS]
    if any(not one["requests_per_s"] for one in found):
        raise InputError(f"the server answered no request within {SECONDS:.0f} s")
    return found
