"""The table that a sweep over tasks and seeds ends with, as JSON, Markdown and a picture."""

import math

import numpy as np

from files.pictures import OURS, panels, write_picture


def best_scores(results):
    """Scores of the best evaluation, averaged over the dev splits, and each split's own where there are several."""
    (best,) = [entry for entry in results["evaluations"] if entry["step"] == results["best_step"]]
    splits = {name: scores for name, scores in best.items() if name != "step"}
    names = [name for name in next(iter(splits.values())) if name != "loss"]
    found = {name: float(np.mean([scores[name] for scores in splits.values()])) for name in names}
    if len(splits) > 1:
        found |= {f"{split} {name}": scores[name] for split, scores in splits.items() for name in names}
    return found


def summary(values):
    """Median, mean, standard deviation (of a sample; None for one run) and best of a metric over the seeds."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return dict(median=float(np.median(values)), mean=float(np.mean(values)), std=deviation, best=max(values))


def make_table(tasks, runs):
    """The content of results.json.

    Args:
        tasks: the Tasks, in order.
        runs: (task name, seed) → results of run_glue.py.
    """
    found = {}
    for task in tasks:
        seeds = {seed: best_scores(results) for (name, seed), results in runs.items() if name == task.name}
        metrics = {name: summary([scores[name] for scores in seeds.values()]) for name in next(iter(seeds.values()))}
        facts = {seed: runs[task.name, seed] for seed in seeds}
        seconds = {seed: result["train_seconds"] + result["eval_seconds"] for seed, result in facts.items()}
        found[task.name] = dict(main_metric=task.main_metric, metrics=metrics, seeds=seeds, seconds=seconds)
    counted = [name for name in found if name != "WNLI"]
    average = {}
    for kind in ("median", "mean", "best"):
        scores = [found[name]["metrics"][found[name]["main_metric"]][kind] for name in counted]
        average[kind] = float(np.mean(scores)) if scores else math.nan
    first = next(iter(runs.values()))
    settings = dict(machine=first["machine"], versions=first["versions"], arguments=first["arguments"])
    return dict(tasks=found, average=average, averaged=counted, **settings)


def as_markdown(table, command):
    def percent(value):
        return "" if value is None else f"{100 * value:.2f}"

    lines = ["| task | metric | median | mean ± std | best | seeds | minutes |", "| --- " * 7 + "|"]
    for name, entry in table["tasks"].items():
        minutes = sum(entry["seconds"].values()) / 60
        for metric, row in entry["metrics"].items():
            bold = "**" if metric == entry["main_metric"] else ""
            spread = f" ± {percent(row['std'])}" if row["std"] is not None else ""
            seeds = ", ".join(f"{seed}: {percent(scores[metric])}" for seed, scores in entry["seeds"].items())
            cells = [name, metric, f"{bold}{percent(row['median'])}{bold}", f"{percent(row['mean'])}{spread}"]
            lines.append(f"| {' | '.join([*cells, percent(row['best']), seeds, f'{minutes:.1f}'])} |")
    average = table["average"]
    count = len(table["averaged"])
    left_out = " without WNLI" if "WNLI" in table["tasks"] else ""
    cells = [f"average of {count}{left_out}", "", *(percent(average[kind]) for kind in ("median", "mean", "best"))]
    lines.append(f"| {' | '.join(cells)} | | |")
    machine, versions = table["machine"], table["versions"]
    tools = ", ".join(f"{name} {version}" for name, version in versions.items())
    notes = [f"Dev sets, in percent. {machine['processor']}, {machine['cores']} cores, {machine['device']}; {tools}."]
    return "\n".join([*lines, "", *notes, "", f"    {command}", ""])


def draw_sweep(table, path):
    """A bar for the median of every task's main metric, a dot for each seed; `table` as of make_table."""
    tasks = table["tasks"]
    picture, ((panel,),) = panels(1, 1, (1.6 + 0.9 * len(tasks), 3.6))
    for position, (_, entry) in enumerate(tasks.items()):
        metric = entry["main_metric"]
        median = 100 * entry["metrics"][metric]["median"]
        panel.bar(position, median, width=0.7, color=OURS)
        panel.plot([position] * len(entry["seeds"]), [100 * scores[metric] for scores in entry["seeds"].values()], "k.")
        panel.text(position, 3, f"{median:.1f}", ha="center", color="white" if median > 12 else "black")
    names = [f"{name}\n{entry['main_metric'].replace(' and ', ', ')}" for name, entry in tasks.items()]
    panel.set_xticks(range(len(tasks)), names, fontsize=8)
    panel.set_ylim(top=100)
    panel.set_title("dev set, median and every seed, in percent", fontsize=10)
    write_picture(picture, path)
