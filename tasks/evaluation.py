"""Evaluating a classifier on the dev splits of a task: the published line, and a file of what it gets wrong."""

import sys
import time
from typing import NamedTuple

import numpy as np

from files.atomic import atomic_file
from tasks import classifiers
from tasks.classifiers import EncodedTexts, predict_logits
from tasks.leaderboard import BETWEEN, named
from tasks.losses import losses
from tasks.programs import Dynamic
from tasks.scores import format_scores, score
from training.log import log
from training.order import batches_by_length


class DevSplit(NamedTuple):
    name: str
    examples: list
    texts: EncodedTexts


def evaluate(model, task, dev, batch_size, precision, processes):
    """Evaluates every dev split (MNLI has two) and prints the published line.

    Returns:
        dict: split → {"loss": averaged over all examples, …scores}; and dict: split → logits [N, num_labels].
    """
    start = time.time()
    results, logits, line = {}, {}, ""
    for split in dev:
        logits[split.name] = all_logits(model, task, split.texts, batch_size, precision, processes)
        bad = int((~np.isfinite(logits[split.name]).all(axis=1)).sum())
        if bad and processes.writes:
            words = f"no number (NaN or infinity) comes out for {bad} of {len(split.texts)} texts of {split.name}"
            print(f"warning: {words}; scores of such a model mean nothing", file=sys.stderr)
        loss = float(losses(task, logits[split.name], split.texts.labels).mean())
        scores = score(task, classifiers.predictions(task, logits[split.name]), split.texts.labels)
        results[split.name] = {"loss": loss, **scores}
        line += f"eval loss: {loss:f}, {format_scores(scores)}"
    if processes.writes:
        log(f"{line}eval done total : {time.time() - start} s")
    return results, logits


def all_logits(model, task, texts, batch_size, precision, processes):
    """Logits [N, num_labels] of all texts, computed by all processes, known to each."""
    batches = processes.share(batches_by_length(texts.lengths, batch_size))
    logits = predict_logits(Dynamic(model, precision), texts, batches, task.num_labels)
    model.train()
    processes.wait()  # shares take different times
    return processes.add(logits)


def main_score(task, results):
    """The number by which checkpoints are compared: the task's main metric, averaged over its dev splits."""
    return float(np.mean([scores[task.main_metric] for scores in results.values()]))


def write_mistakes(path, task, dev, logits):
    """A table of all dev examples, those with the largest loss first: UTF-8, tab-separated, tabs in texts as spaces."""
    columns = ["split", "row", "loss", "label", "prediction"]
    columns += [] if task.is_regression else ["probability"]
    columns += ["text", "text_pair"] if task.is_pair else ["text"]
    rows = []
    for name, examples, texts in dev:
        found = losses(task, logits[name], texts.labels)
        predicted = classifiers.predictions(task, logits[name])
        chances = None if task.is_regression else classifiers.probabilities(logits[name], task.several)
        for index, example in enumerate(examples):
            cells = [name, str(index + 1), f"{found[index]:.6f}"]
            if task.is_regression:
                cells += [f"{example.label:g}", f"{predicted[index]:.4f}"]
            elif task.several:
                right, given = (named(task, marks) for marks in (example.label, predicted[index]))
                shares = (f"{chances[index, found]:.4f}" for found in np.flatnonzero(predicted[index]))
                cells += [right, given, BETWEEN.join(shares)]
            else:
                label, choice = task.names[example.label], task.names[predicted[index]]
                cells += [label, choice, f"{chances[index, predicted[index]]:.4f}"]
            cells += [text for text in (example.text, example.text_pair) if text is not None]
            rows.append((-found[index], [" ".join(cell.split()) for cell in cells]))
    rows.sort(key=lambda row: row[0])
    with atomic_file(path) as file:
        file.write("".join("\t".join(cells) + "\n" for cells in [columns, *(cells for _, cells in rows)]).encode())
