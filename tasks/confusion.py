"""The picture of what a classifier predicts for what."""

import numpy as np

from files.pictures import OURS, columns, one_line, panels, write_picture

MOST_CLASSES = 40  # of which a confusion matrix can be read


def draw_confusion(task, dev, logits, path):
    """What is predicted for what on each dev split; for a regression, a cloud of predictions over labels.

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
        counts = np.zeros([classes, classes], int)
        np.add.at(counts, (texts.labels, logits[name].argmax(-1)), 1)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        panel.imshow(shares, cmap="Greens", vmin=0, vmax=1)
        panel.spines[:].set_visible(False)
        words = [one_line(label, 16) for label in task.labels]
        is_wide = classes * max(map(columns, words)) > 40
        turned = dict(rotation=45, ha="right", rotation_mode="anchor") if classes > 3 or is_wide else {}
        panel.set_xticks(range(classes), words, fontsize=8, **turned)
        panel.set_yticks(range(classes), words, fontsize=8)
        for row, column in np.ndindex(counts.shape) if classes <= 20 else ():
            color = "white" if shares[row, column] > 0.6 else "black"
            panel.text(column, row, counts[row, column], ha="center", va="center", fontsize=8, color=color)
    write_picture(picture, path)
