"""Does mixed attention learn more for less? ConvBERT beside ELECTRA and BERT: same size, same text, then same time.

    python docs/claim.py --texts TEXTS --data_dir GLUE --output_dir output/claim

One vocabulary, one store of tokens; every model reads the same examples in the same
order, at a rate that is constant after its warm-up. From a point that was kept it comes down to 0 once after equally
many tokens, and, where a model is faster than the slowest one, once more after as many seconds as that one takes. Then
each of these is fine-tuned on GLUE with several seeds.

The same command goes on where it was stopped. All that it prints and draws is in --output_dir: claim.md, claim.json,
claim.png, a log for every run.
"""

import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import runtime  # noqa: E402

from files.atomic import atomic_file  # noqa: E402
from files.errors import InputError  # noqa: E402
from files.json_files import read_json, write_json  # noqa: E402
from flags.command_line import ArgumentParser, at_least, script  # noqa: E402

VOCABULARY = ROOT / "pretrained/convbert-tiny/vocab.txt"
SHARED = dict(vocab_size=8192, num_hidden_layers=6, num_attention_heads=4)
# convbert-tiny, and what has as many weights with the same layers and heads: self-attention's products are larger, for
# which the inner width makes up; BERT has no narrower embeddings, for which its width does.
SIZES = {
    "convbert": dict(embedding_size=128, hidden_size=192, intermediate_size=768),
    "electra": dict(embedding_size=128, hidden_size=192, intermediate_size=728),
    "bert": dict(hidden_size=176, intermediate_size=680),
}
TITLES = {"convbert": "ConvBERT", "electra": "ELECTRA", "bert": "BERT"}
FILLS_ONLY = ("bert",)  # learns to fill masked words; the others to tell replaced ones
GENERATOR_SIZE = 0.5
BATCH, LENGTH, RATE, WARMUP = 32, 128, 1e-3, 500  # of pre-training
TRAINING = [
    "--train_batch_size", BATCH, "--max_seq_length", LENGTH, "--learning_rate", RATE, "--warmup_steps", WARMUP,
    "--lr_scheduler_type", "warmup_stable_decay", "--dropout", 0, "--max_eval_samples", 512,
]  # fmt: skip
FINE_TUNING = ["--max_seq_length", 128, "--batch_size", 32, "--learning_rate", 5e-4]
TASKS = {  # each with its flags
    "SST-2": ["--num_train_epochs", 1, "--save_steps", 250],
    "MRPC": ["--num_train_epochs", 5, "--save_steps", 115],
    "STS-B": ["--num_train_epochs", 5, "--save_steps", 225],
    "QNLI": ["--max_train_samples", 9999, "--num_train_epochs", 3, "--save_steps", 313],
    "CoLA": ["--num_train_epochs", 5, "--save_steps", 268],
    "RTE": ["--num_train_epochs", 5, "--save_steps", 78],
}
TIMED, ROUNDS = 20, 3  # steps of an interval, of which the last two count; how often each model is timed
FINE_TUNING_HOURS = 0.35  # of a model, six tasks with three seeds, as measured on two cores


class Row(NamedTuple):
    """A pre-trained model that is judged."""

    model: str  # one of SIZES
    kind: str  # "tokens": equally many; "seconds": equally long

    def folder(self, output):
        return output / self.model / self.kind


class Jobs:
    """Programs, some at a time, each with its share of the cores and a log; all end where one fails."""

    def __init__(self, at_once):
        self.at_once, self._running, self._ended = at_once, set(), threading.Event()
        self._environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, runtime.cores() // at_once))}

    def run(self, command, log):
        """Runs a program to its end. Raises InputError where it fails; returns what it wrote to stdout."""
        if self._ended.is_set():
            raise InputError("stopped")
        log.parent.mkdir(parents=True, exist_ok=True)
        print(" ".join(command[1:]), flush=True)
        with open(log, "a+", encoding="utf-8") as file:
            begin = file.tell()
            process = subprocess.Popen(
                command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, env=self._environment, text=True
            )
            self._running.add(process)
            status = process.wait()
            self._running.discard(process)
            file.seek(begin)
            text = file.read()
        if status:
            raise InputError(f"{' '.join(command[1:3])} … ended with status {status}; its last lines are in {log}")
        return text

    def all(self, work, items):
        """work(item) of all of them; the first error ends what runs."""
        with ThreadPoolExecutor(self.at_once) as pool:
            try:
                return list(pool.map(work, items))
            except BaseException:
                self._ended.set()
                for process in list(self._running):
                    process.send_signal(signal.SIGTERM)  # each saves its run
                raise


def script_of(name, *flags, **more):
    """The command of one of our scripts; more: flag → value."""
    named = [word for flag, value in more.items() for word in (f"--{flag}", value)]
    return [sys.executable, str(ROOT / f"{name}.py"), *map(str, (*flags, *named))]


# -------------------------------------------------------------------------------------------------------------- models


def configuration(model):
    from family.configurations import CONFIGURATIONS

    return CONFIGURATIONS[model](**SHARED, **SIZES[model])


def parameters(model):
    """How many the fine-tuned encoder has: embeddings and layers, without what is on top."""
    from family.architectures import model_class

    config = configuration(model)
    encoder = model_class(model, "Model")(dataclasses.replace(config, **config.of_pooler(False)))
    return sum(int(np.prod(weight.shape)) for weight in encoder.parameters())


def flops(model):
    """Floating-point operations of the matrix products per token: (of a step of pre-training, of a forward pass)."""
    from comparison.speed import encoder_flops, filling_flops, pretraining_flops
    from pretraining.models import generator_config

    config = configuration(model)
    if model in FILLS_ONLY:
        step = filling_flops(config, 1, LENGTH)
    else:
        step = pretraining_flops(config, generator_config(config, GENERATOR_SIZE), 1, LENGTH)
    return 3 * step / LENGTH, encoder_flops(config, 1, LENGTH) / LENGTH


def prepare(args, jobs):
    """The sizes as folders, whether products are in bfloat16, and the tokens of the text, once."""
    path = args.output_dir / "precision.json"
    if not path.is_file():
        from layers.fast_path import bfloat16_obstacle

        args.output_dir.mkdir(parents=True, exist_ok=True)
        write_json(path, [] if bfloat16_obstacle() else ["--amp", "O1"])
    args.precision = read_json(path)
    for model in SIZES:
        folder = args.output_dir / "sizes" / model
        if not (folder / "config.json").is_file():
            configuration(model).save_pretrained(folder)
    if not (args.output_dir / "prepared").is_dir():
        begin = time.time()
        jobs.run(
            pretraining(args, "convbert", args.output_dir / "prepared", "--prepare_only", "--overwrite"),
            args.output_dir / "prepare.log",
        )
        print(f"the text as tokens: {time.time() - begin:.0f} s")


def pretraining(args, model, folder, *flags, **more):
    """The command of a run of pre-training; a folder of sizes starts at random."""
    kind = ["--mlm_only"] if model in FILLS_ONLY else ["--generator_size", GENERATOR_SIZE]
    return script_of(
        "run_pretrain", *TRAINING, *args.precision, *kind, "--no-init_from_ckpt", *flags,
        input_dir=args.texts, data_store=args.output_dir / "data", vocab_file=VOCABULARY, model_type=model,
        model_name_or_path=args.output_dir / "sizes" / model, output_dir=folder, seed=42, **more,
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------------------------- runs


def time_steps(args):
    """Seconds of a step of each model on all cores, in turns, one program at a time; measured once."""
    path = args.output_dir / "seconds.json"
    if path.is_file():
        return read_json(path)["seconds"]
    speeds = {model: [] for model in SIZES}
    alone = Jobs(1)
    for number in range(ROUNDS):
        for model in SIZES:
            folder = args.output_dir / "timed" / model
            flags = dict(max_steps=3 * TIMED, decay_steps=1, logging_steps=TIMED, eval_steps=10**6, save_steps=10**6)
            command = pretraining(args, model, folder, "--overwrite", **flags)
            text = alone.run(command, args.output_dir / "timed" / f"{model}.{number}.log")
            speeds[model] += [float(speed) for speed in re.findall(r"speed: ([\d.]+) step/s", text)[1:3]]
    shutil.rmtree(args.output_dir / "timed")
    seconds = {model: 1 / float(np.median(found)) for model, found in speeds.items()}
    from cpu.machine import processor_name

    write_json(path, dict(seconds=seconds, machine=processor_name(), cores=runtime.cores(), speeds=speeds))
    return seconds


def steps_of(args, seconds, row):
    """How many steps a row's model learns."""
    if row.kind == "tokens":
        return args.steps
    longer = args.steps * max(seconds.values()) / seconds[row.model]
    return args.steps if longer < 1.005 * args.steps else round(longer)


def pretrain(args, jobs, seconds, row):
    """A row's run of pre-training; that of equal seconds goes on from a point of the other."""
    folder, steps = row.folder(args.output_dir), steps_of(args, seconds, row)
    if (folder / "results.json").is_file() and read_json(folder / "results.json")["total_steps"] == steps:
        return
    if row.kind == "seconds" and not (folder / "last").is_dir():
        kept = Row(row.model, "tokens").folder(args.output_dir) / f"checkpoint-{args.steps - args.decay_steps}"
        shutil.copytree(kept, folder / "new", dirs_exist_ok=True)
        (folder / "new").rename(folder / "last")
    often = dict(logging_steps=100, eval_steps=args.eval_steps, save_minutes=5, save_steps=args.decay_steps)
    command = pretraining(
        args, row.model, folder, "--resume", max_steps=steps, decay_steps=args.decay_steps, keep_checkpoints=2, **often
    )
    jobs.run(command, args.output_dir / "logs" / f"{row.model}-{row.kind}.log")


def fine_tune(args, jobs, row, task):
    """A sweep over the seeds of a task."""
    part = "generator" if row.model in FILLS_ONLY else "discriminator"
    command = script_of(
        "glue_sweep", *FINE_TUNING, *TASKS[task], "--seeds", *args.seeds, task_name=task, data_dir=args.data_dir,
        model_type=row.model, model_name_or_path=row.folder(args.output_dir) / part,
        output_dir=row.folder(args.output_dir) / "glue" / task,
    )  # fmt: skip
    jobs.run(command, args.output_dir / "logs" / f"{row.model}-{row.kind}-{task}.log")


# ---------------------------------------------------------------------------------------------------------------- table


def collect(args, seconds, rows):
    """All that claim.md and the picture are made of."""
    found = []
    for row in rows:
        folder = row.folder(args.output_dir)
        results, (trained, forward) = read_json(folder / "results.json"), flops(row.model)
        scores = {}
        for task in args.tasks:
            table = read_json(folder / "glue" / task / "results.json")["tasks"][task]
            scores[task] = [100 * seed[table["main_metric"]] for seed in table["seeds"].values()]
        found.append(dict(
            model=row.model, kind=row.kind, parameters=parameters(row.model), flops_per_token=trained,
            forward_flops_per_token=forward, step_seconds=seconds[row.model], steps=results["step"],
            tokens=results["tokens"], seconds=seconds[row.model] * results["step"], scores=scores,
            evaluations=results["evaluations"],
        ))  # fmt: skip
    return found


def as_markdown(found):
    tasks = list(found[0]["scores"])
    head = [
        "equal",
        "model",
        "parameters",
        "million operations a token",
        "ms a step",
        "million tokens",
        "hours",
        *tasks,
    ]
    lines = [f"| {' | '.join([*head, 'mean'])} |", "| --- " * (len(head) + 1) + "|"]
    for row in found:
        cells = [
            row["kind"], TITLES[row["model"]], f"{row['parameters']:,}", f"{row['flops_per_token'] / 1e6:.1f}",
            f"{1e3 * row['step_seconds']:.0f}", f"{row['tokens'] / 1e6:.1f}", f"{row['seconds'] / 3600:.2f}",
        ]  # fmt: skip
        medians = [float(np.median(row["scores"][task])) for task in tasks]
        cells += [
            f"{median:.1f} ({min(row['scores'][task]):.1f}–{max(row['scores'][task]):.1f})"
            for median, task in zip(medians, tasks, strict=True)
        ]
        lines.append(f"| {' | '.join([*cells, f'{np.mean(medians):.1f}'])} |")
    return "\n".join(lines)


def draw(found, path):
    """Held-out losses by token, and the scores."""
    from files.pictures import COLORS, MARKERS, panels, write_picture

    picture, ((words, replaced, scores),) = panels(1, 3, (16, 4))
    looks = {model: dict(color=color, marker=mark) for model, color, mark in zip(SIZES, COLORS, MARKERS, strict=False)}
    for row in (row for row in found if row["kind"] == "tokens"):
        part = "model" if row["model"] in FILLS_ONLY else "generator"
        for panel, name, label in (
            (words, "gen_loss", f"{TITLES[row['model']]}, {part}"),
            (replaced, "disc_loss", None),
        ):
            entries = [entry for entry in row["evaluations"] if name in entry]
            if entries:
                where = [entry["step"] * row["tokens"] / row["steps"] / 1e6 for entry in entries]
                label = label or TITLES[row["model"]]
                panel.plot(where, [entry[name] for entry in entries], label=label, ms=4, **looks[row["model"]])
    tasks = list(found[0]["scores"])
    for number, row in enumerate(found):
        filled = {} if row["kind"] == "tokens" else dict(mfc="none")
        place = np.arange(len(tasks)) + (number - (len(found) - 1) / 2) * 0.8 / len(found)
        label = f"{TITLES[row['model']]}, equal {row['kind']}"
        for at, task in zip(place, tasks, strict=True):
            values = row["scores"][task]
            look = looks[row["model"]]
            scores.plot([at] * 2, [min(values), max(values)], color=look["color"], lw=1)
            scores.plot(at, np.median(values), ms=6, ls="", label=label if task == tasks[0] else None, **look, **filled)
    scores.set_xticks(range(len(tasks)), tasks, fontsize=8)
    for panel, title, label in (
        (words, "held out: loss of masked words", "million tokens"),
        (replaced, "held out: loss of replaced words", "million tokens"),
        (scores, "dev sets: median of the seeds, lowest to highest", None),
    ):
        panel.set_title(title, fontsize=10)
        panel.set_xlabel(label)
        panel.legend(fontsize=8, frameon=False)
    write_picture(picture, path)


# ----------------------------------------------------------------------------------------------------------------- main


def parse_args(argv):
    parser = ArgumentParser("ConvBERT beside ELECTRA and BERT: same size, same text, then same time.")
    parser.add_argument("--texts", required=True, type=_path, help="text for pre-training, as run_pretrain.py takes it")
    parser.add_argument("--data_dir", required=True, type=_path, help="GLUE's folder")
    parser.add_argument("--output_dir", required=True, type=_path, help="folder for all that comes of it")
    parser.add_argument("--steps", type=at_least(1), default=18000, help=f"of {BATCH} examples of {LENGTH} tokens")
    parser.add_argument("--decay_steps", type=at_least(1), default=1500, help="the last of them")
    parser.add_argument("--eval_steps", type=at_least(1), default=500, help="steps between evaluations")
    parser.add_argument("--models", nargs="+", choices=SIZES, default=list(SIZES), help="which of them")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="of GLUE")
    parser.add_argument("--seeds", nargs="+", type=at_least(0), default=[1, 2, 3], help="of fine-tuning")
    parser.add_argument("--jobs", type=at_least(1), default=1, help="runs at a time, which share the cores")
    args = parser.parse_args(argv)
    if args.steps % args.decay_steps or args.steps == args.decay_steps:
        parser.error(f"--steps {args.steps}: no multiple of --decay_steps {args.decay_steps}, where a run is kept")
    for flag, path in (("texts", args.texts), ("data_dir", args.data_dir)):
        if not path.exists():
            raise InputError(f"--{flag} {path}: is not there")
    return args


def _path(text):
    return Path(text).absolute()


@script
def main(argv=None):
    args = parse_args(argv)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # which ends what runs, too
    jobs = Jobs(args.jobs)
    prepare(args, jobs)
    seconds = time_steps(args)
    rows = [Row(model, kind) for kind in ("tokens", "seconds") for model in args.models]
    rows = [row for row in rows if row.kind == "tokens" or steps_of(args, seconds, row) > args.steps]
    hours = (
        sum(seconds[row.model] * steps_of(args, seconds, row) for row in {row.model: row for row in rows}.values())
        / 3600
    )
    shown = ", ".join(f"{TITLES[model]} {1e3 * each:.0f} ms" for model, each in seconds.items())
    print(f"a step: {shown}; pre-training about {hours:.1f} h, fine-tuning {FINE_TUNING_HOURS * len(rows):.1f} h")
    for kind in ("tokens", "seconds"):
        jobs.all(lambda row: pretrain(args, jobs, seconds, row), [row for row in rows if row.kind == kind])
    jobs.all(lambda pair: fine_tune(args, jobs, *pair), [(row, task) for row in rows for task in args.tasks])
    found = collect(args, seconds, rows)
    write_json(args.output_dir / "claim.json", found)
    text = as_markdown(found)
    with atomic_file(args.output_dir / "claim.md") as file:
        file.write(f"{text}\n".encode())
    draw(found, args.output_dir / "claim.png")
    print(text)


if __name__ == "__main__":
    sys.exit(main())
