"""How a training script begins and ends: its device and processes, its folder, what a model must bear, its results."""

import contextlib
import sys
from pathlib import Path

import paddle

from files.errors import InputError
from files.json_files import write_json
from training.device import choose_device
from training.facts import run_facts
from training.processes import Processes, launch_on_all_gpus
from training.run_folder import prepare_output

READ = "model_name_or_path", "init_from", "vocab_file", "train_file", "validation_file", "test_file"  # flags of paths


@contextlib.contextmanager
def processes_of(args):
    """The Processes of a run; where one of them fails, all end. `args.device` becomes the device's full name.

    With several GPUs and no launcher this starts the script again, once for each, and does not return.
    """
    launch_on_all_gpus(args.device)
    args.device = choose_device(args.device, args.verbose)
    processes = Processes()
    paddle.seed(args.seed)
    with processes.one_fails_all_fail():
        yield processes


def open_output(args, processes, besides=None):
    """The output folder as a Path, ready for all processes, and `last/` in it if the run goes on from there, else None.

    An old run that is not gone on with stays until the new one begins: see loop.Steps.

    Raises InputError: see run_folder.prepare_output; the processes do not see the same folder.
    """
    output, flags = Path(args.output_dir), vars(args)
    last = output / "last"
    if processes.writes:
        trains = flags.get("do_train", True) and not flags.get("prepare_only")
        inputs = [flags.get(name) for name in READ] + list(flags.get("input_dir") or ())
        prepare_output(output, args.resume, args.overwrite, besides, trains, [path for path in inputs if path])
        if args.resume and trains and not last.is_dir():
            print(f"--resume: {output} holds no last/ to go on from; starts from the beginning", file=sys.stderr)
    processes.wait()
    processes.require_shared("--output_dir", output)
    return output, last if args.resume and last.is_dir() else None


def require_positions(model, source, length):
    """Raises InputError where the model from `source` can't read `--max_seq_length`."""
    positions = model.config.max_position_embeddings
    if length > positions:
        raise InputError(f"--max_seq_length {length}: {source} has only {positions} positions")


def write_results(output, args, **facts):
    """Writes results.json: the facts, versions and hardware, the resolved flags."""
    write_json(output / "results.json", {**facts, **run_facts(), "arguments": vars(args)})
