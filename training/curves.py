"""A run's figures while it goes on: for trackers, and as a picture."""

import sys
import time

from files.pictures import COLORS, MARKERS, OTHERS, OURS, panels, write_picture

REDRAW_SECONDS = 20  # after which an evaluation draws the curves anew: a picture takes up to a second


def try_to_draw(draw, *arguments):
    """A picture is never worth a run: what goes wrong with one is a warning of one line."""
    try:
        draw(*arguments)
    except Exception as error:
        words = " ".join(str(error).split())
        print(f"warning: a picture could not be drawn ({type(error).__name__}: {words})", file=sys.stderr)


class Curves:
    """A run's figures while it goes on: for its trackers.Trackers, if any, and as a picture, which `draw()` writes."""

    def __init__(self, trackers=None, draw=None):
        self._trackers, self._draw, self._drawn = trackers, draw, time.time()

    def add(self, step, values):
        """values: name → number."""
        if self._trackers:
            self._trackers.add(step, values)

    def redraw(self):
        """Draws, unless that was just done."""
        if self._draw and time.time() - self._drawn > REDRAW_SECONDS:
            try_to_draw(self._draw)
            self._drawn = time.time()

    def close(self, draw=True):
        if self._draw and draw:
            try_to_draw(self._draw)
        if self._trackers:
            self._trackers.close()


def draw_curves(name, state, path):
    """Loss and learning rate of a run by step, and the scores on each dev split; `state` as run_glue.py keeps it.

    Draws nothing before the first evaluation.
    """
    if not state["evaluations"]:
        return
    picture, parts = panels(1, 3, (13, 3.4))
    losses, rates, scores = parts[0]
    steps = [entry["step"] for entry in state["log"]]
    evaluated = [entry["step"] for entry in state["evaluations"]]
    losses.plot(steps, [entry["loss"] for entry in state["log"]], ".-", color=OTHERS, label="training, one step")
    splits = [name for name in state["evaluations"][0] if name != "step"]
    for number, split in enumerate(splits):
        style = dict(ms=5, ls=("-", "--")[number % 2])
        found = [entry[split] for entry in state["evaluations"]]
        losses.plot(evaluated, [entry["loss"] for entry in found], color=OURS, marker="o", label=split, **style)
        for color, metric in enumerate(metric for metric in found[0] if metric != "loss"):
            label = metric if len(splits) == 1 else f"{split}: {metric}"
            look = dict(color=COLORS[color % len(COLORS)], marker=MARKERS[color % len(MARKERS)])
            scores.plot(evaluated, [entry[metric] for entry in found], label=label, **look, **style)
    rates.plot(steps, [entry["lr"] for entry in state["log"]], ".-", color=OTHERS)
    scores.axvline(state["best_step"], color="black", lw=0.6, ls=":")
    scores.annotate(
        f"best: {state['best_score']:.4f}", (state["best_step"], 0.02), xycoords=("data", "axes fraction"), fontsize=8
    )
    for panel, title in ((losses, "loss"), (rates, "learning rate"), (scores, f"{name}: dev set")):
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("step")
    losses.legend(fontsize=8, frameon=False)
    scores.legend(fontsize=8, frameon=False)
    write_picture(picture, path)
