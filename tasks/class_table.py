"""Precision, recall and F1 class by class."""

import numpy as np

from files.pictures import columns

MOST_ROWS = 40  # of a table that is printed


def by_class(task, predictions, labels):
    """label → {"precision", "recall", "f1", "examples"}, of a classification; {} for a regression.

    predictions, labels: as scores.score takes them.
    """
    if task.is_regression:
        return {}
    from sklearn.metrics import precision_recall_fscore_support

    known = None if task.several else range(task.num_labels)
    found = precision_recall_fscore_support(labels, predictions, labels=known, average=None, zero_division=0)
    names = "precision", "recall", "f1", "examples"
    rows = zip(*(column.tolist() for column in found), strict=True)
    return {label: dict(zip(names, row, strict=True)) for label, row in zip(task.names, rows, strict=True)}


def table(classes):
    """The lines of by_class's result and of its mean; of very many classes those with the most examples."""
    most = sorted(classes, key=lambda label: -classes[label]["examples"])[:MOST_ROWS]
    shown = [(" ".join(label.split()), row) for label, row in classes.items() if label in most]
    mean = {name: float(np.mean([row[name] for row in classes.values()])) for name in ("precision", "recall", "f1")}
    shown.append(("mean, and all", mean | {"examples": sum(row["examples"] for row in classes.values())}))
    width = max(columns(name) for name, _ in [("class", None), *shown])
    lines = [f"{'class':{width}}  precision  recall      f1  examples"]
    for name, row in shown:
        cells = f"{row['precision']:9.4f}  {row['recall']:.4f}  {row['f1']:.4f}  {row['examples']:8.0f}"
        lines.append(f"{name}{' ' * (width - columns(name))}  {cells}")
    if len(most) < len(classes):
        lines.append(f"{len(classes) - len(most)} more classes in results.json")
    return lines
