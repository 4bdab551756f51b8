"""Where a run's figures go while it goes on, for those who watch: TensorBoard, VisualDL, Weights & Biases, SwanLab.

Each writes below the run's folder, in `logs/`, and is imported when it is asked for. What sends figures elsewhere does
so as its own environment says (WANDB_MODE, WANDB_PROJECT, SWANLAB_MODE, …); a run that goes on is the same run there.
"""

import contextlib
import io
import os
import secrets
import shutil
import sys
import time
from pathlib import Path

from files.errors import InputError
from flags.training import TRACKERS as NAMES

PROJECT = "convbert"  # of Weights & Biases and SwanLab, unless their environment names one


class TensorBoard:
    def __init__(self, folder, name, settings, step):
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = Event, Summary
        self._writer = EventFileWriter(str(folder))
        begin = SessionLog(status=SessionLog.START)  # what was written of later steps counts no more
        self._writer.add_event(Event(wall_time=time.time(), step=step + 1, session_log=begin))

    def add(self, step, values):
        found = [self._summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._writer.add_event(self._event(wall_time=time.time(), step=step, summary=self._summary(value=found)))

    def close(self):
        self._writer.close()


class VisualDL:
    def __init__(self, folder, name, settings, step):
        from visualdl import LogWriter

        self._writer = LogWriter(logdir=str(folder))

    def add(self, step, values):
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self):
        self._writer.close()


class WeightsAndBiases:
    def __init__(self, folder, name, settings, step):
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT), name=name, dir=str(folder), config=settings,
            id=_number(folder), resume="allow", settings=wandb.Settings(console="off"),
        )  # fmt: skip

    def add(self, step, values):
        self._run.log(dict(values), step=step)

    def close(self):
        self._run.finish()


class SwanLab:
    def __init__(self, folder, name, settings, step):
        import swanlab

        self._swanlab = swanlab
        swanlab.init(
            project=os.environ.get("SWANLAB_PROJ_NAME", PROJECT), experiment_name=name, logdir=str(folder),
            config=settings,
        )  # fmt: skip

    def add(self, step, values):
        self._swanlab.log(dict(values), step=step)

    def close(self):
        self._swanlab.finish()


def _number(folder):
    """What a run is called by its tracker, kept for when it goes on."""
    path = folder / "run_id"
    if not path.is_file():
        path.write_text(secrets.token_hex(4))
    return path.read_text().strip()


TRACKERS = dict(zip(NAMES, (TensorBoard, VisualDL, WeightsAndBiases, SwanLab), strict=True))


def wanted(args):
    """name → folder, None for the usual one, of the trackers that flags ask for. Raises InputError: not installed."""
    names = [name for name in args.report_to or () if name != "none"]
    found = dict.fromkeys(names)
    if args.visualdl_dir is not None:
        found["visualdl"] = args.visualdl_dir
    for name in found:
        try:
            with _quiet():
                __import__(name)
        except ImportError as error:
            flag = f"--report_to {name}" if name in names else "--visualdl_dir"
            raise InputError(f"{flag}: needs {name} ({error}): pip install {name}") from None
    return found


class Trackers:
    """Those of a run. What one of them can't take while the run goes on is a warning, once, and ends that one alone.

    anew: the run is no longer that of the logs that are there, which go once all trackers have begun.

    Raises InputError: one can't begin, as a tracker that wants to be logged in to; nothing is gone then.
    """

    def __init__(self, args, output, step, anew):
        self._open = {}
        places = [output / "logs" / name for name in NAMES]
        aside = {place: place.with_name(f".{place.name}") for place in places if anew and place.exists()}
        for place, kept in aside.items():
            shutil.rmtree(kept, ignore_errors=True)  # of a process that was killed here
            place.rename(kept)
        try:
            for name, folder in wanted(args).items():
                self._begin(name, Path(folder or output / "logs" / name), output, vars(args), step)
        except InputError:
            self.close()
            for place, kept in aside.items():
                shutil.rmtree(place, ignore_errors=True)
                kept.rename(place)
            raise
        for kept in aside.values():
            shutil.rmtree(kept)

    def _begin(self, name, folder, output, settings, step):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _quiet():
                self._open[name] = TRACKERS[name](folder, output.resolve().name, settings, step)
        except Exception as error:
            words = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"--report_to {name}: can't begin ({words})") from None

    def add(self, step, values):
        """values: name → number."""
        self._each(lambda tracker: tracker.add(step, values))

    def close(self):
        self._each(lambda tracker: tracker.close())

    def _each(self, use):
        for name, tracker in list(self._open.items()):
            try:
                use(tracker)
            except Exception as error:
                words = " ".join(str(error).split())
                print(f"warning: {name} takes no more figures ({type(error).__name__}: {words})", file=sys.stderr)
                del self._open[name]


@contextlib.contextmanager
def _quiet():
    """What a tracker prints on stdout, which is for the published lines, goes to stderr."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        yield
    if said.getvalue().strip():
        print(said.getvalue().strip(), file=sys.stderr)
