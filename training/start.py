"""How a training script begins and ends: its device and processes, its folder, what a model must bear, its results."""

import contextlib
import sys
from pathlib import Path

import paddle

from cpu import products
from files.errors import InputError
from files.json_files import write_json
from layers.fast_path import kernels_wanted
from training.device import choose_device
from training.facts import run_facts
from training.processes import Processes, launch_on_all_gpus
from training.run_folder import prepare_output
from training.trackers import wanted

READ = "model_name_or_path", "init_from", "vocab_file", "train_file", "validation_file", "test_file"  # flags of paths


@contextlib.contextmanager
def processes_of(args):
    """The Processes of a run, which computes on `args.device` from here on; where one of them fails, all end.

    With several GPUs and no launcher this starts the script again, once for each, and does not return.

    Raises InputError: CONVBERT_KERNELS or CONVBERT_PRODUCTS can't be what the environment says.
    """
    kernels_wanted()
    launch_on_all_gpus(args.device)
    if choose_device(args.device, args.verbose) == "cpu":
        products.forced()
    processes = Processes()
    paddle.seed(args.seed)
    with processes.one_fails_all_fail():
        yield processes


def open_output(args, processes, besides=None, inputs=()):
    """The output folder as a Path, ready for all processes, and `last/` in it if the run goes on from there, else None.

    An old run that is not gone on with stays until the new one begins: see loop.Steps. `inputs`: what the run reads
    besides the paths that flags give.

    Raises InputError: see run_folder.prepare_output; the processes do not see the same folder; a tracker is missing.
    """
    wanted(args)  # trackers, or raises
    output, flags = Path(args.output_dir), vars(args)
    last = output / "last"
    if processes.writes:
        trains = flags.get("do_train", True) and not flags.get("prepare_only")
        prepare_output(output, args.resume, args.overwrite, besides, trains, [*_read(flags, output), *inputs])
        if args.resume and trains and not last.is_dir():
            print(f"--resume: {output} holds no last/ to go on from; starts from the beginning", file=sys.stderr)
    processes.wait()
    processes.require_shared("--output_dir", output)
    return output, last if args.resume and last.is_dir() else None


def _read(flags, output):
    """The paths that flags say a run reads; of folders of a model's or GLUE's files these, too, which may be links."""
    given = [Path(path) for path in (*map(flags.get, READ), *(flags.get("input_dir") or ())) if path]
    inside = [path for folder in given if folder.is_dir() for path in folder.iterdir() if path.is_symlink()]
    if flags.get("data_dir"):
        tables = (table for pattern in ("*.tsv", "*/*.tsv") for table in Path(flags["data_dir"]).glob(pattern))
        inside += [table for table in tables if table.parent.resolve() != output.resolve()]  # predictions are no input
    return given + inside


def require_positions(model, source, length):
    """Raises InputError where the model from `source` can't read `--max_seq_length`."""
    positions = model.config.max_position_embeddings
    if length > positions:
        raise InputError(f"--max_seq_length {length}: {source} has only {positions} positions")


def write_results(output, args, **facts):
    """Writes results.json: the facts, versions and hardware, the resolved flags."""
    write_json(output / "results.json", {**facts, **run_facts(), "arguments": vars(args)})
