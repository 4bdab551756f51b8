"""Every picture the project draws. Each function writes one PNG or SVG file, by the ending of its name."""

from pathlib import Path

import numpy as np

from checkpoint_files import atomic_file

OURS, OTHERS = "#0b6e4f", "#a9b4c2"


def _panels(rows, columns, size):
    """A picture of that size in inches, and its panels as an array [rows, columns]."""
    from matplotlib.figure import Figure  # and not pyplot, which keeps pictures and asks for a display

    picture = Figure(figsize=size)
    panels = picture.subplots(rows, columns, squeeze=False)
    for panel in panels.flat:
        panel.spines[["top", "right"]].set_visible(False)
    return picture, panels


def _write(picture, path, bottom=0.0):
    """`path`: a file's, or an open one that gets a PNG; `bottom`: share of the height that is kept for a note."""
    picture.tight_layout(rect=(0, bottom, 1, 1))
    if hasattr(path, "write"):
        picture.savefig(path, dpi=100, format="png")
        return
    with atomic_file(path) as file:
        picture.savefig(file, dpi=120, format=Path(path).suffix[1:])


def draw_speed(figures, path):
    """Bars of the median time of every implementation, one panel per mode; `figures` as benchmark.report gives them."""
    modes = list(figures["ratios"])
    picture, panels = _panels(1, len(modes), (5.2 * len(modes), 3.2))
    for panel, mode in zip(panels[0], modes, strict=True):
        runs = [run for run in figures["runs"] if run["mode"] == mode]
        runs.sort(key=lambda run: run["median_s"], reverse=True)  # the fastest on top
        seconds = [run.get("epoch_s", run["median_s"]) for run in runs]
        colors = [OURS if run["peer"].startswith("ours") else OTHERS for run in runs]
        bars = panel.barh([run["peer"] for run in runs], seconds, color=colors)
        panel.bar_label(bars, [f"{value:.0f} s" if value >= 100 else f"{value:.2f} s" for value in seconds], padding=3)
        panel.set_xlim(0, 1.18 * max(seconds))
        names = dict(
            infer="forward pass", train="training step", pretrain="step of pre-training", glue="epoch of SST-2"
        )
        what = names[mode]
        shape = f"{runs[0]['batch']}" + (f" × {runs[0]['seq']}" if runs[0]["seq"] else "")
        panel.set_title(f"{runs[0]['model']}: {what}, batch {shape}", fontsize=10)
    machine = figures["machine"]
    picture.text(0.01, 0.01, f"{machine['processor']}, {machine['cores']} cores; less is better", fontsize=8)
    _write(picture, path, bottom=0.05)


def draw_layers(models, path):
    """Lines of the largest and the mean difference after each layer; `models`: name → parity.layers' findings."""
    picture, ((panel,),) = _panels(1, 1, (7.5, 4))
    for number, (name, findings) in enumerate(models.items()):
        for what, values, style in (
            ("largest", [finding.max for finding in findings], "o-"),
            ("mean", [finding.mean for finding in findings], ".:"),
        ):
            panel.plot(values, style, color=f"C{number}", label=f"{name}, {what}")
    longest = max(models.values(), key=len)
    panel.set_xticks(range(len(longest)), ["emb.", *range(len(longest) - 1)])
    allowed = longest[0].allowed
    for limit, words in ((allowed, "allowed"), (allowed / 10, "allowed for the mean")):
        panel.axhline(limit, color="black", lw=0.6)
        panel.text(len(longest) - 1, limit * 1.05, words, fontsize=8, ha="right", va="bottom")
    panel.set_yscale("log")
    panel.set_ylim(top=allowed * 2)
    panel.set_xlabel("after layer")
    panel.set_ylabel("|difference|")
    panel.legend(fontsize=8, ncols=min(3, len(models)), loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False)
    _write(picture, path)


def draw_curves(task, state, path):
    """Loss and learning rate of a run by step, and the scores on each dev split; `state` as run_glue.py keeps it.

    Draws nothing before the first evaluation.
    """
    if not state["evaluations"]:
        return
    picture, panels = _panels(1, 3, (13, 3.4))
    losses, rates, scores = panels[0]
    steps = [entry["step"] for entry in state["log"]]
    evaluated = [entry["step"] for entry in state["evaluations"]]
    losses.plot(steps, [entry["loss"] for entry in state["log"]], ".-", color=OTHERS, label="training, one step")
    splits = [name for name in state["evaluations"][0] if name != "step"]
    for number, split in enumerate(splits):
        style = dict(marker="o", ms=4, ls=("-", "--")[number % 2])
        found = [entry[split] for entry in state["evaluations"]]
        losses.plot(evaluated, [entry["loss"] for entry in found], color=OURS, label=split, **style)
        for color, name in enumerate(name for name in found[0] if name != "loss"):
            label = name if len(splits) == 1 else f"{split}: {name}"
            scores.plot(evaluated, [entry[name] for entry in found], color=f"C{color}", label=label, **style)
    rates.plot(steps, [entry["lr"] for entry in state["log"]], ".-", color=OTHERS)
    scores.axvline(state["best_step"], color="black", lw=0.6, ls=":")
    scores.annotate(
        f"best: {state['best_score']:.4f}", (state["best_step"], 0.02), xycoords=("data", "axes fraction"), fontsize=8
    )
    for panel, title in ((losses, "loss"), (rates, "learning rate"), (scores, f"{task.name}: dev set")):
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("step")
    losses.legend(fontsize=8, frameon=False)
    scores.legend(fontsize=8, frameon=False)
    _write(picture, path)


def draw_pretraining(state, path):
    """Losses, learning rate and accuracies of a pre-training run by step; `state` as run_pretrain.py keeps it."""
    picture, panels = _panels(1, 4, (16, 3.4))
    titles = {"gen_loss": "generator: loss", "disc_loss": "discriminator: loss", "lr": "learning rate"}
    names = [*titles, ("gen_acc", "disc_acc", "disc_recall")]
    for panel, group in zip(panels[0], names, strict=True):
        panel.set_xlabel("step")
        single = isinstance(group, str)
        panel.set_title(titles[group] if single else "accuracies", fontsize=10)
        for number, name in enumerate([group] if single else group):
            for entries, style in ((state["log"], "-"), (state["evaluations"], "o--")):
                entries = [entry for entry in entries if name in entry]
                if not entries:
                    continue
                where = "training" if style == "-" else "held out"
                color = (OTHERS if style == "-" else OURS) if single else f"C{number}"
                label = where if single else f"{name}, {where}"
                panel.plot(
                    [e["step"] for e in entries], [e[name] for e in entries], style, ms=4, color=color, label=label
                )
        if panel.lines:
            beside = {} if single else dict(loc="center left", bbox_to_anchor=(1, 0.5))
            panel.legend(fontsize=8, frameon=False, **beside)
    _write(picture, path)


MOST_CLASSES = 40  # of which a confusion matrix can be read


def draw_confusion(task, dev, logits, path):
    """What is predicted for what on each dev split; for a regression, a cloud of predictions over labels.

    dev: list of evaluation.DevSplit; logits: split → [N, num_labels].
    """
    if len(task.labels) > MOST_CLASSES:
        return
    classes = task.num_labels
    side = 3.6 if classes < 6 else 0.45 * classes + 1.6
    picture, panels = _panels(1, len(dev), (side * len(dev) + 0.6, side))
    for panel, (name, _, texts) in zip(panels[0], dev, strict=True):
        panel.set_title(f"{task.name}: {name}", fontsize=10)
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
        words = [label if len(label) <= 16 else f"{label[:15]}…" for label in task.labels]
        panel.set_xticks(range(classes), words, rotation=0 if classes < 4 else 45, fontsize=8)
        panel.set_yticks(range(classes), words, fontsize=8)
        for row, column in np.ndindex(counts.shape) if classes <= 20 else ():
            color = "white" if shares[row, column] > 0.6 else "black"
            panel.text(column, row, counts[row, column], ha="center", va="center", fontsize=8, color=color)
    _write(picture, path)


def draw_sweep(table, path):
    """A bar for the median of every task's main metric, a dot for each seed; `table` as of glue_sweep.make_table."""
    tasks = table["tasks"]
    picture, ((panel,),) = _panels(1, 1, (1.6 + 0.9 * len(tasks), 3.6))
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
    _write(picture, path)


MOST_TOKENS, MOST_HEADS = 48, 6  # that a picture shows


def draw_explanation(found, path):
    """A layer's attention maps above its convolution kernels, head by head, and the answer as bars.

    found: explanation.Explanation. Both kinds of map share the tokens' axis: row l says what token l looks at.
    """
    tokens = found.tokens[:MOST_TOKENS]
    heads, length, taps = min(len(found.attention), MOST_HEADS), len(tokens), found.kernels.shape[2]
    side = 1.4 + 0.16 * length
    picture, panels = _panels(2, heads + 1, (side * heads + 3.2, 2 * side + 0.6))
    small = dict(fontsize=7 if length < 30 else 5)
    for head in range(heads):
        above, below = panels[:, head]
        above.imshow(found.attention[head, :length, :length], cmap="Greens", vmin=0, aspect="auto")
        above.set_title(f"attention head {head + 1}", fontsize=9)
        above.set_xticks(range(length), tokens, rotation=90, **small)
        below.imshow(found.kernels[head, :length], cmap="Greens", vmin=0, aspect="auto")
        below.set_title(f"convolution head {head + 1}", fontsize=9)
        below.set_xticks(
            range(taps), [f"{tap - taps // 2:+d}" if tap != taps // 2 else "0" for tap in range(taps)], **small
        )
        below.set_xlabel("neighbour", fontsize=8)
        for panel in (above, below):
            panel.set_yticks(range(length), tokens, **small)
            panel.spines[:].set_visible(False)
    bars, note = panels[:, heads]
    names = list(found.answers)
    values = [found.answers[name] for name in names]
    bars.barh(
        range(len(names)), values, height=0.5, color=[OURS if value == max(values) else OTHERS for value in values]
    )
    words = [name if len(name) <= 16 else f"{name[:15]}…" for name in names]
    bars.set_yticks(range(len(names)), words, fontsize=8)
    bars.invert_yaxis()
    for row, value in enumerate(values):
        bars.text(max(value, 0), row, f" {value:.3f}", va="center", fontsize=8)
    if names != ["score"]:
        bars.set_xlim(0, 1.25)
        bars.set_xticks([0, 0.5, 1])
    bars.set_title("answer", fontsize=9)
    note.axis("off")
    shown = [f"layer {found.layer} of {found.layers}"]
    shown += [f"the first {length} of {len(found.tokens)} tokens"] if length < len(found.tokens) else []
    shown += [f"{heads} of {len(found.attention)} heads of each kind"] if heads < len(found.attention) else []
    note.text(0, 0.95, "\n".join(shown), va="top", fontsize=9)
    _write(picture, path)
