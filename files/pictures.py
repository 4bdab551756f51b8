"""The style of every picture this project draws: colours, bare panels, and PNG or SVG by a file's ending."""

from pathlib import Path

from files.atomic import atomic_file

OURS, OTHERS = "#0b6e4f", "#a9b4c2"


def panels(rows, columns, size):
    """A picture of that size in inches, and its panels as an array [rows, columns]."""
    from matplotlib.figure import Figure  # and not pyplot, which keeps pictures and asks for a display

    picture = Figure(figsize=size)
    parts = picture.subplots(rows, columns, squeeze=False)
    for panel in parts.flat:
        panel.spines[["top", "right"]].set_visible(False)
    return picture, parts


def write_picture(picture, path, bottom=0.0):
    """`path`: a file's, or an open one that gets a PNG; `bottom`: share of the height that is kept for a note."""
    picture.tight_layout(rect=(0, bottom, 1, 1))
    if hasattr(path, "write"):
        picture.savefig(path, dpi=100, format="png")
        return
    with atomic_file(path) as file:
        picture.savefig(file, dpi=120, format=Path(path).suffix[1:])
