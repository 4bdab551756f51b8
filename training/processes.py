"""Several processes that train one model: started by paddle.distributed.launch, or by this module, one for each GPU.

Each works on its share of every batch; gradients and results are added up between them. Alone, everything here is
free and does nothing.
"""

import contextlib
import hashlib
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

POLL = 0.5  # seconds between looks for another process's failure


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
        if self.count > 1:
            distributed.init_parallel_env()

    @property
    def writes(self):
        """Whether this process is the one that writes files and log lines."""
        return self.rank == 0

    def share(self, pieces):
        """This process's part of a list that is the same in all."""
        return pieces[self.rank :: self.count]

    def start_equal(self, model):
        """Gives every process the first one's weights."""
        if self.count > 1:
            distributed.parallel.sync_params_buffers(model)

    def average_gradients(self, parameters):
        """Replaces gradients by their mean over the processes; all must have gradients for the same parameters."""
        if self.count > 1:
            from paddle.distributed.fleet.utils.hybrid_parallel_util import fused_allreduce_gradients

            fused_allreduce_gradients(parameters, None)

    def add(self, array):
        """Sum of float32 arrays [...] over the processes: numpy in, numpy out."""
        if self.count == 1:
            return array
        tensor = paddle.to_tensor(np.asarray(array, np.float32))
        distributed.all_reduce(tensor)
        return tensor.numpy()

    def wait(self):
        """Returns when all have come here."""
        if self.count > 1:
            distributed.barrier()

    @contextlib.contextmanager
    def one_fails_all_fail(self):
        """Whatever stops one process in this block stops the others too, with its message and status 2.

        The message travels through a temporary file of this machine. (A process that is killed leaves none; the others
        then learn of it when a sum fails, after about 15 seconds on a CPU.)
        """
        if self.count == 1:
            yield
            return
        ours, done = self._last_words(self.rank), threading.Event()
        ours.unlink(missing_ok=True)
        threading.Thread(target=self._watch, args=(done,), daemon=True).start()
        try:
            yield
        except Exception as error:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher's, once another has stopped: first our message
            ours.write_text(f"process {self.rank}: {str(error) or type(error).__name__}\n")
            time.sleep(4 * POLL)  # time for the others to read it
            ours.unlink(missing_ok=True)
            raise
        finally:
            done.set()

    def _last_words(self, rank):
        addresses = os.environ.get("PADDLE_TRAINER_ENDPOINTS", "")  # no two runs of this machine have the same
        return Path(tempfile.gettempdir()) / f"convbert-{hashlib.sha256(addresses.encode()).hexdigest()[:16]}-{rank}"

    def _watch(self, done):
        others = [self._last_words(rank) for rank in range(self.count) if rank != self.rank]
        started = time.time()
        while not done.wait(POLL):
            for path in others:
                with contextlib.suppress(OSError):
                    if path.stat().st_mtime >= started - POLL:
                        print(f"stopped: {path.read_text().strip()}", file=sys.stderr, flush=True)
                        os._exit(2)
