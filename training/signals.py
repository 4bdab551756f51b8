"""What SIGTERM and Ctrl-C do to a training script: a loop finishes its step and saves, anything else just ends.

    with end_with_status():  # before Paddle is imported
        …
        with finished_steps() as noted:
            …  # a step; then, if noted() is a signal: save, and raise Ended(noted())

The status is 143 or 130, without a traceback or a report of a crash. A second signal ends the process at once.
"""

import runtime  # noqa: F401  (keeps SIGTERM from Paddle)

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
import time

NAMES = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}
REPEATS = 0.6  # seconds in which Paddle's launcher sends SIGTERM three times to a process, one process after the other


class Ended(SystemExit):
    """The end of a script that a signal asked for."""

    def __init__(self, number):
        super().__init__(128 + number)


class _Handler:
    """Notes the first signal, for a loop that looks at it, or else raises what ends the script."""

    def __init__(self):
        self.noted, self.looked_at, self._since = None, False, 0.0

    def __call__(self, number, frame):
        if self.noted is not None:
            if time.monotonic() - self._since > _repeated_for():
                os._exit(128 + number)
            return
        self.noted, self._since = signal.Signals(number), time.monotonic()
        if self.looked_at:
            os.write(2, f"{NAMES[number]}: ends after this step, once more at once\n".encode())  # print may be at work
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            raise Ended(number)


def _repeated_for():
    """Seconds in which a signal that comes again is still the same one."""
    launched = "PADDLE_TRAINER_ID" in os.environ
    return 1.0 + REPEATS * int(os.environ.get("PADDLE_LOCAL_SIZE", "1")) if launched else 0.0


_current = None


@contextlib.contextmanager
def end_with_status():
    """In this block the signals are ours, also while Paddle is imported."""
    global _current
    if threading.current_thread() is not threading.main_thread():  # no other may set handlers
        yield
        return
    before, _current = {number: signal.getsignal(number) or signal.SIG_DFL for number in NAMES}, _Handler()
    try:
        for number, handler in before.items():  # one that is ignored, as with nohup, stays so
            signal.signal(number, handler if handler == signal.SIG_IGN else _current)
        import paddle  # noqa: F401  (runtime keeps it from taking SIGTERM)

        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _current = None


def start(run_all, args):
    """Runs a script's run_all(args, processes) in such a block, in all processes; see start.processes_of."""
    with end_with_status():
        from training.start import processes_of

        if "PADDLE_TRAINER_ID" in os.environ:
            _end_with_the_launcher()
        with processes_of(args) as processes:
            run_all(args, processes)


def _end_with_the_launcher():
    """Paddle's launcher dies of a SIGTERM without passing it on: Linux is to send us one then."""
    on_parent_s_death = 1
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).prctl(on_parent_s_death, int(signal.SIGTERM))


@contextlib.contextmanager
def finished_steps():
    """In this block a signal is only noted: yields a function that returns it, or None."""
    handler = _current or _Handler()
    handler.looked_at = True
    try:
        yield lambda: handler.noted
    finally:
        handler.looked_at = False


def run_to_its_end(command):
    """Runs a program that ends by itself when a signal comes, and returns its status. Raises Ended if one came.

    SIGTERM is passed on; Ctrl-C a terminal sends to both.
    """
    before, came = {number: signal.getsignal(number) or signal.SIG_DFL for number in NAMES}, []
    process = None

    def pass_on(number, frame):
        came.append(number)
        if process and number == signal.SIGTERM:
            process.send_signal(number)

    try:
        for number, handler in before.items():
            signal.signal(number, handler if handler == signal.SIG_IGN else pass_on)
        process = subprocess.Popen(command)
        status = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        raise Ended(came[0])
    return status
