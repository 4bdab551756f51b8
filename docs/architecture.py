"""Draws architecture.png, the README's picture of the mixed attention block: python docs/architecture.py"""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch


def draw_architecture(path):
    """The mixed attention block: H heads of self-attention beside H heads of span-based dynamic convolution."""
    picture = Figure(figsize=(9, 6.4), layout="tight")
    panel = picture.subplots()
    panel.set_xlim(0, 18)
    panel.set_ylim(0, 12.8)
    panel.axis("off")
    places = {}  # name → (x, y) of the middle, width
    local, both = "#d9ece5", "#eceff3"  # the convolution's, and the rest

    def box(name, x, y, words, color=both, width=2.6):
        places[name] = x, y, width
        corner = x - width / 2, y - 0.5
        panel.add_patch(FancyBboxPatch(corner, width, 1.0, boxstyle="round,pad=0.05", fc=color, ec="#46525f", lw=0.8))
        panel.text(x, y, words, ha="center", va="center", fontsize=8.5)

    def arrow(first, second):
        """From the top of a box to the bottom of one above it; straight up where it can."""
        (x1, y1, _), (x2, y2, width) = places[first], places[second]
        end = x1 if abs(x1 - x2) < width / 2 else x2
        style = dict(arrowstyle="-|>", color="#46525f", lw=0.9, shrinkA=0, shrinkB=0)
        panel.annotate("", (end, y2 - 0.58), (x1, y1 + 0.58), arrowprops=style)

    box("in", 9, 0.8, "input  [L, E]", width=4)
    for x, name, words in ((1.6, "value", "value"), (4.9, "key", "key"), (8, "query", "query")):
        box(name, x, 3, f"{words}\n[L, H·D]")
    box("span", 11.6, 3, "span-aware key\ndepthwise + pointwise", local, 3.6)
    box("conv", 15.7, 3, "convolution value\n[L, H·D]", local, 3)
    box("product", 10.6, 5, "query · span-aware key", local, 4)
    box("kernel", 10.6, 6.8, "linear, softmax:\na kernel of K taps for each token", local, 5)
    box("attention", 5, 5.9, "softmax(query · keyᵀ / √D)\n[H, L, L]", width=4.6)
    box("attended", 4, 8.8, "self-attention: H heads", width=6.4)
    box("mixed", 12.6, 8.8, "span-based dynamic convolution: H heads", local, 6.6)
    box("out", 9, 10.6, "side by side, linear to [L, E]", width=5)
    box("norm", 9, 12.2, "+ input, LayerNorm; then the feed-forward half", width=7.4)
    for name in ("value", "key", "query", "span", "conv"):
        arrow("in", name)
    for first, second in (
        ("key", "attention"), ("query", "attention"), ("query", "product"), ("span", "product"), ("product", "kernel"),
        ("kernel", "mixed"), ("conv", "mixed"), ("attention", "attended"), ("value", "attended"), ("attended", "out"),
        ("mixed", "out"), ("out", "norm"),
    ):  # fmt: skip
        arrow(first, second)
    picture.savefig(path, dpi=120)


if __name__ == "__main__":
    draw_architecture(Path(__file__).with_name("architecture.png"))
