"""The picture of what a classifier predicts for what."""

from collections import Counter

import numpy as np

from files.pictures import OURS, columns, one_line, panels, write_picture
from tasks.entities import types_of_words
from tasks.tags import OUTSIDE

MOST_CLASSES = 40  # of which a confusion matrix can be read


def draw_confusion(task, dev, logits, path):
    """What is predicted for what on each dev split; for a regression, a cloud of predictions over labels; of several
    labels, how often each is found, missed, and given where it does not belong (extra).

    dev: list of evaluation.DevSplit; logits: split → [N, num_labels].
    """
    if len(task.labels) > MOST_CLASSES:
        return
    classes = task.num_labels
    side = 3.6 if classes < 6 else 0.45 * classes + 1.6
    picture, parts = panels(1, len(dev), (side * len(dev) + 0.6, side))
    for panel, (name, _, texts) in zip(parts[0], dev, strict=True):
        panel.set_title(one_line(f"{task.name}: {name}"), fontsize=10)
        panel.set_ylabel("label")
        panel.set_xlabel("prediction")
        if task.is_regression:
            panel.plot(logits[name][:, 0], texts.labels, ".", ms=3, alpha=0.4, color=OURS)
            ends = float(texts.labels.min()), float(texts.labels.max())
            panel.plot(ends, ends, color="black", lw=0.6)
            continue
        if task.several:
            right, found = texts.labels > 0, logits[name] > 0
            counts = np.stack([(right & found).sum(0), (right & ~found).sum(0), (~right & found).sum(0)], -1)
            panel.set_xlabel("")
            _draw_counts(panel, counts, task.names, ("found", "missed", "extra"))
            continue
        counts = np.zeros([classes, classes], int)
        np.add.at(counts, (texts.labels, logits[name].argmax(-1)), 1)
        _draw_counts(panel, counts, task.names)
    write_picture(picture, path)


def draw_types(right, found, scheme, path):
    """Which type of entity, or plain tag, a word has, and which is predicted; right, found: tags of sentences."""
    pairs = Counter()
    for one, other in zip(right, found, strict=True):
        pairs.update(zip(types_of_words(one, scheme), types_of_words(other, scheme), strict=True))
    names = sorted({name for pair in pairs for name in pair}, key=lambda name: (name != OUTSIDE, name))
    if len(names) > MOST_CLASSES:
        return
    counts = np.array([[pairs[one, other] for other in names] for one in names])
    side = max(3.6, 0.5 * len(names) + 1.6)
    picture, parts = panels(1, 1, (side + 0.6, side))
    panel = parts[0][0]
    panel.set_title("words by type, dev", fontsize=10)
    panel.set_ylabel("label")
    panel.set_xlabel("prediction")
    _draw_counts(panel, counts, names)
    write_picture(picture, path)


def _draw_counts(panel, counts, labels, found=None):
    """A matrix of counts [rows, columns], coloured by each row's shares. labels, found: their names; alike if None."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    panel.imshow(shares, cmap="Greens", vmin=0, vmax=1)
    panel.spines[:].set_visible(False)
    rows, across = ([one_line(name, 16) for name in names] for names in (labels, found or labels))
    is_wide = len(across) * max(map(columns, across)) > 40
    turned = dict(rotation=45, ha="right", rotation_mode="anchor") if len(across) > 3 or is_wide else {}
    panel.set_xticks(range(len(across)), across, fontsize=8, **turned)
    panel.set_yticks(range(len(rows)), rows, fontsize=8)
    for row, column in np.ndindex(counts.shape) if len(rows) <= 20 else ():
        color = "white" if shares[row, column] > 0.6 else "black"
        panel.text(column, row, counts[row, column], ha="center", va="center", fontsize=8, color=color)
