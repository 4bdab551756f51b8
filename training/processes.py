"""Several processes that train one model: started by paddle.distributed.launch, or by this module, one for each GPU.

Each works on its share of every batch; gradients and results are added up between them. Alone, everything here is
free and does nothing.

A sum on CPUs fails in a process that waits for 30 seconds (gloo's own limit). So where one process may have had more to
do than another, `wait` comes first, which has no limit: it counts in the key-value store that Paddle's processes share.
Last words of a process that fails go through that store, too.
"""

import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import paddle
from paddle import distributed
from paddle.base import core

from files.errors import InputError
from training.gradients import Gradients

POLL = 0.5  # seconds between looks for another process's failure; between signs of life
SILENCE = 120  # seconds without one after which a process counts as gone
SHARED = 10  # seconds in which a file must be seen by all


def launch_on_all_gpus(device):
    """With several GPUs and no launcher, starts this program again, once for each of them, and does not return."""
    ids = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    if device not in ("gpu", None) or len(ids) < 2 or "PADDLE_TRAINER_ID" in os.environ or not _has_gpus(len(ids)):
        return
    os.execv(sys.executable, [sys.executable, "-m", "paddle.distributed.launch", *sys.argv])


def _has_gpus(count):
    return paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count() >= count


class Processes:
    """The processes of one run. `rank`: number of this one; `count`: how many there are."""

    def __init__(self):
        self.count = int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))
        self.rank = int(os.environ.get("PADDLE_TRAINER_ID", "0"))
        self._waits, self._first_sum = 0, True
        if self.count > 1:
            distributed.init_parallel_env()
            self._store = _connect()

    @property
    def writes(self):
        """Whether this process is the one that writes files and log lines."""
        return self.rank == 0

    def share(self, pieces):
        """This process's part of a list that is the same in all."""
        return pieces[self.rank :: self.count]

    def start_equal(self, model):
        """Gives every process the first one's weights, and sees to the gradients of these from here on."""
        if self.count > 1:
            self.wait()  # for data to be read, by one perhaps from far
            distributed.parallel.sync_params_buffers(model)
            self._gradients = Gradients(model.parameters(), self.count)

    def last_backward(self):
        """To be called before the last backward of a step: gradients are averaged while it still runs."""
        if self.count > 1 and not self._first_sum:
            self._gradients.await_last()

    def average_gradients(self):
        """Replaces gradients by their mean over the processes; all must have gradients for the same parameters."""
        if self.count > 1:
            if self._first_sum:
                self.wait()  # for loops to be compiled
                self._first_sum = False
            self._gradients.average()

    def add(self, array):
        """Sum of arrays [...] over the processes, in float32: numpy in, numpy out; of a tensor a tensor, not read."""
        if self.count == 1:
            return array
        own = isinstance(array, paddle.Tensor)
        tensor = array.astype("float32") if own else paddle.to_tensor(np.asarray(array, np.float32))
        distributed.all_reduce(tensor)
        return tensor.astype(array.dtype) if own else tensor.numpy()

    def wait(self):
        """Returns when all have come here, however long that takes. Raises InputError where one is gone."""
        if self.count == 1:
            return
        self._waits += 1
        self._add(f"come {self._waits}", 1)
        self._until(f"come {self._waits}")
        self._add(f"left {self._waits}", 1)
        if self.rank == 0:  # with which the store would end
            self._until(f"left {self._waits}")

    def _until(self, name):
        """Returns when all have added 1 to a number of the store."""
        others = set(range(self.count)) - {self.rank}
        heard = dict.fromkeys(others, (-1, 0.0))  # of each: signs of life, when the last one was new
        looked = -SILENCE
        while self._add(name, 0) < self.count:
            now = time.monotonic()
            if now - looked > SILENCE / 10:
                looked = now
                for rank, (signs, since) in heard.items():
                    found = self._add(f"alive {rank}", 0)
                    if found != signs:
                        heard[rank] = found, now
                    elif now - since > SILENCE:
                        raise InputError(f"no sign of process {rank} for {SILENCE} s: stopped, or its machine is gone")
            time.sleep(POLL / 10)

    def _add(self, name, number):
        """Adds to a number of the store. Returns the sum."""
        try:
            with _no_signals():
                return self._store.add(name, number)
        except (ValueError, RuntimeError, OSError) as error:
            raise InputError("process 0 is gone, and all stop: see what it says itself") from error

    def require_shared(self, flag, folder):
        """Raises InputError where a process does not find what the first one writes in the folder that a flag names."""
        if self.count == 1:
            return
        name, found = f"seen {flag}", True
        if self.writes:
            folder.mkdir(parents=True, exist_ok=True)
            handle, path = tempfile.mkstemp(prefix=".seen.", suffix=".tmp", dir=folder)
            os.close(handle)
            with _no_signals():
                self._store.set(name, Path(path).name)
        self.wait()
        if not self.writes:
            with _no_signals():
                token = self._store.get(name).decode()
            deadline = time.monotonic() + SHARED
            while not (found := folder.is_dir() and token in os.listdir(folder)) and time.monotonic() < deadline:
                time.sleep(POLL)
        self.wait()
        if self.writes:
            os.unlink(path)
        if not found:
            raise InputError(
                f"{flag} {folder}: process {self.rank} does not see what the first one writes there; all need the "
                "same folder, by its full path and on a disk that their machines share"
            )

    @contextlib.contextmanager
    def one_fails_all_fail(self):
        """Whatever stops one process in this block stops the others too, with its message and status 2.

        (A process that is killed leaves no message; the others then learn of it when a sum fails, after about 15
        seconds on a CPU, or when they wait.)
        """
        if self.count == 1:
            yield
            return
        done = threading.Event()
        watching = threading.Thread(target=self._watch, args=(_connect(), done), daemon=True)
        watching.start()
        try:
            yield
        except Exception as error:
            done.set()  # our own words are not for us
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher's, once another has stopped: first our message
            with _no_signals(), contextlib.suppress(Exception):  # the store is gone, and the first process with it
                number = self._store.add("failed", 1)
                self._store.set(f"words {number}", f"process {self.rank}: {str(error) or type(error).__name__}")
                time.sleep(4 * POLL)  # time for the others to read it
            raise
        finally:
            done.set()
            watching.join(10 * POLL)  # Python must not end while it talks to the store

    def _watch(self, store, done):
        """Gives signs of life, and ends this process with the words of the first that failed."""
        with _no_signals(), contextlib.suppress(Exception):  # the store is gone, and the first process with it
            while not done.wait(POLL):
                store.add(f"alive {self.rank}", 1)
                if store.add("failed", 0):
                    words = store.get("words 1").decode()
                    if not done.is_set():
                        print(f"stopped: {words}", file=sys.stderr, flush=True)
                        os._exit(2)


@contextlib.contextmanager
def _no_signals():
    """In this block the thread gets none: one that comes while the store answers would be an error of the store."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _connect():
    """A connection to the store of init_parallel_env, which is the first process's; each thread needs its own."""
    address, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
    if not (address and port):
        first = os.environ.get("PADDLE_MASTER") or os.environ["PADDLE_TRAINER_ENDPOINTS"].split(",")[0]
        address, port = first.split(":")
    no_count_of_workers = 0  # else the store would wait for them once more
    return core.TCPStore(address, int(port), False, no_count_of_workers)
