"""The cards of what a training wrote: its scores, how it was trained and with what."""

import math
import platform
import shlex
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cpu.machine import processor_name
from flags.command_line import command_line
from layers.model_card import base_model, pipeline_of, short_name, table, write_card

HUGGING_FACE = {  # our score → the metric's name there, where it is another
    "acc": "accuracy", "mcc": "matthews_correlation", "pearson": "pearsonr", "spearman": "spearmanr",
}  # fmt: skip
GLUE = "nyu-mll/glue"  # the benchmark's name on the hub


def card_of_run(run, use, state):
    """Writes the card of the best model so far of run_glue.py, run_squad.py or run_tagging.py.

    Args:
        run: as in fine_tuning.
        use: a command that uses the model, with {} for its folder.
        state: the run's, with its evaluations.
    """
    args = run.args
    task, data = _data(vars(args))
    best = next(found for found in reversed(state["evaluations"]) if found["step"] == state["best_step"])
    splits = {name: found for name, found in best.items() if isinstance(found, dict)}
    scores = [(split, name, value) for split, found in splits.items() for name, value in _numbers(found)]
    sections = {
        "Scores": f"{table(['split', 'score', 'value'], scores)}\n\nAfter step {state['best_step']}, the best so far.",
        "Training": _training(run),
        "Use": f"```\n{use.format(shlex.quote(str(run.output)))}\n```",
    }
    front = {"datasets": [GLUE]} if task else {}
    front |= {"model_name": run.output.resolve().name, "eval_results": _results(run.model, task, data, scores)}
    source = args.init_from or args.model_name_or_path
    front |= base_model(source)
    title = f"{run.model.config.title} for {data}"
    write_card(run.output, run.model, title, sections, _beginning(source, args.from_scratch), **front)


def _data(flags):
    """GLUE's task, if it is the benchmark's copy, else None; what the data is called: own files by folder and name."""
    task, folder = flags.get("task_name"), flags.get("data_dir")
    if task and not folder:
        return task, f"GLUE's {task}"
    return None, short_name(Path(folder, task) if task else flags["train_file"])


def card_of_pretraining(run, folder, name, model, state):
    """Writes the card of `name`, a generator or a discriminator, which lies in `folder`."""
    last = state["evaluations"][-1] if state["evaluations"] else {}
    scores = [(name, value) for name, value in _numbers(last) if name != "step"]
    held_out = "On the documents that are held out:\n\n" + table(["figure", "value"], scores) if scores else ""
    sections = {"Figures": held_out, "Training": _training(run) + f" After step {state['step']}."}
    title, source = f"{model.config.title}, pre-trained: the {name}", run.args.model_name_or_path
    random = not Path(source).is_dir() and ":" not in source
    write_card(folder, model, title, sections, _beginning(source, random))


def _beginning(source, random):
    return f"Of the size of `{source}`; it began at random." if random else f"It began as `{source}`."


def _training(run):
    args = run.args
    precision = f"--amp {args.amp}, {args.amp_dtype}" if args.amp else "float32"
    versions = ", ".join(f"{name} {_version(name)}" for name in ("paddlepaddle", "numpy", "tokenizers"))
    machine = processor_name() if args.device in (None, "cpu") else args.device
    words = f"Seed {args.seed}, {precision}, {run.processes.count} process(es), {machine}; Python "
    words += f"{platform.python_version()}, {versions}."
    command = command_line()
    return f"```\npython {shlex.join(command)}\n```\n\n{words}" if command else words


def _version(package):
    for name in (package, f"{package}-gpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "?"


def _numbers(found):
    return [(name, float(value)) for name, value in found.items() if isinstance(value, int | float)]


def _results(model, task, data, scores):
    from huggingface_hub import EvalResult

    config = task.lower().replace("-", "") if task else None
    return [
        EvalResult(
            task_type=pipeline_of(model), dataset_type=GLUE if task else data, dataset_name=data,
            dataset_config=config, dataset_split=split, metric_type=HUGGING_FACE.get(name, name), metric_name=name,
            metric_value=round(value, 6),
        )
        for split, name, value in scores
        if name != "loss" and math.isfinite(value)
    ]  # fmt: skip
