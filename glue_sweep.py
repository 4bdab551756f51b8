"""Runs run_glue.py for many tasks and seeds and makes one table of the results, as papers have it.

    python glue_sweep.py --task_name all --seeds 1 2 3 --model_name_or_path convbert-small --output_dir OUT

Flags that are not listed here go to every run. A run that is finished in OUT/TASK/seed-S is not run again, one that was
stopped goes on; `--init_from` reaches RTE, MRPC and STS-B alone. The table is in OUT/results.md, .json and .png.
"""

import json
import sys
from pathlib import Path

from files.atomic import atomic_file
from files.errors import InputError
from files.json_files import read_json, write_json
from flags.command_line import FLAG, ArgumentParser, script
from flags.settings_file import read_settings
from tasks.glue import TASKS, find_task
from tasks.leaderboard import entries, write_submission
from tasks.sweep_table import as_markdown, make_table
from training.signals import run_to_its_end

ROOT = Path(__file__).resolve().parent
FROM_MNLI = ("MRPC", "STS-B", "RTE")  # tasks that --init_from is for
OURS = ("--task_name", "--seed", "--output_dir", "--resume", "--no-resume", "--do_predict", "--init_from")


def parse_args(argv):
    parser = ArgumentParser("Fine-tune on many GLUE tasks with many seeds, and make one table of it.")
    parser.add_argument("--task_name", nargs="+", required=True, metavar="TASK", help="tasks, or all")
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[42], metavar="SEED", help="one run of each task for each"
    )
    parser.add_argument("--output_dir", required=True, help="folder for runs and table")
    parser.add_argument("--init_from", metavar="FOLDER", help="MNLI's model for RTE, MRPC and STS-B to start from")
    parser.add_argument(
        "--do_predict", action=FLAG, default=False,
        help="predict the test sets with each task's best seed, and zip them for the leaderboard",
    )  # fmt: skip
    parser.add_argument("--config", metavar="FILE", help="flags of run_glue.py for all runs, as it takes them")
    args, passed = parser.parse_known_args(argv)
    if clash := [flag for flag in passed if flag.partition("=")[0] in OURS or flag == "--overwrite"]:
        parser.error(f"{clash[0]}: not for a sweep; a new --output_dir begins a new one")
    names = list(TASKS) if [name.lower() for name in args.task_name] == ["all"] else args.task_name
    args.tasks = list(dict.fromkeys(find_task(name) for name in names))
    args.seeds = list(dict.fromkeys(args.seeds))
    args.settings = read_settings(args.config) if args.config else {}
    if min(args.seeds) < 0:
        parser.error(f"--seeds must be numbers from 0, not {min(args.seeds)}")
    return args, passed


def run(args, passed, task, seed):
    """Starts one run, or goes on with it, unless it is finished. Returns the content of its results.json."""
    folder = Path(args.output_dir) / task.name / f"seed-{seed}"
    flags = ["--task_name", task.name, "--seed", str(seed), "--output_dir", str(folder), *passed]
    if args.do_predict:
        flags.append("--do_predict")
    if args.init_from and task.name in FROM_MNLI:
        flags += ["--init_from", args.init_from]
    note = folder / "command.json"
    settings = [json.dumps(args.settings, sort_keys=True)] if args.settings else []
    if args.config:
        flags += ["--config", args.config]
    if note.is_file() and read_json(note) != flags + settings:
        before, now = " ".join(read_json(note)), " ".join(flags + settings)
        raise InputError(f"{folder}: made by other flags ({before}) than now ({now}); take another --output_dir")
    if (folder / "results.json").is_file():
        print(f"{task.name}, seed {seed}: finished before", file=sys.stderr)
        return read_json(folder / "results.json")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(note, flags + settings)
    print(f"{task.name}, seed {seed}: run_glue.py {' '.join(flags)}", file=sys.stderr, flush=True)
    status = run_to_its_end([sys.executable, str(ROOT / "run_glue.py"), *flags, "--resume"])
    if status:
        if not (folder / "last").is_dir():  # nothing to go on from: other flags may follow
            note.unlink()
        raise InputError(f"{task.name}, seed {seed}: stopped with status {status}; the same command goes on")
    return read_json(folder / "results.json")


# -------------------------------------------------------------------------------------------------------------- table


def write_zip(args, passed, runs):
    """Puts together what the best seed of each task predicted."""
    output, sources, best = Path(args.output_dir), {}, {}
    for (name, seed), results in runs.items():
        if name not in best or results["best_score"] > runs[name, best[name]]["best_score"]:
            best[name] = seed
    for entry in entries():
        path = output / entry.task / f"seed-{best.get(entry.task)}" / "predictions" / entry.name
        if path.is_file():
            sources[entry.name] = path
    data = next(iter(runs.values()))["arguments"]["data_dir"]
    on_samples = data is not None and Path(data).resolve() == ROOT / "samples"
    for line in write_submission(output, sources, for_leaderboard=not on_samples):
        print(line, file=sys.stderr)


@script
def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    args, passed = parse_args(argv)
    output = Path(args.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    runs = {(task.name, seed): run(args, passed, task, seed) for task in args.tasks for seed in args.seeds}
    table = make_table(args.tasks, runs)
    command = " ".join(["python", "glue_sweep.py", *argv])
    text = as_markdown(table, command)
    write_json(output / "results.json", {**table, "command": command})
    with atomic_file(output / "results.md") as file:
        file.write(text.encode())
    from tasks.sweep_table import draw_sweep
    from training.curves import try_to_draw

    try_to_draw(draw_sweep, table, output / "results.png")
    print(text, end="")
    if args.do_predict:
        write_zip(args, passed, runs)


if __name__ == "__main__":
    sys.exit(main())
