"""The style of every picture this project draws: colours, bare panels, and PNG or SVG by a file's ending.

What users call their classes, files and models is drawn as they write it, in any script that an installed font has.
"""

import functools
import re
import sys
import unicodedata
import warnings
from pathlib import Path

from files.atomic import atomic_file

OURS, OTHERS = "#0b6e4f", "#a9b4c2"
# Of several lines: colours that all eyes tell apart (Okabe and Ito, jfly.uni-koeln.de/color), and marks for print.
COLORS = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"
MARKERS = "osD^vPX"
AS_TEXT = {"text.parse_math": False, "text.usetex": False, "axes.formatter.use_mathtext": False}  # "$5_$10" as it is
FONTS = (  # of those with the same characters, the first of these is taken: sans serif, simplified Chinese
    "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Microsoft YaHei", "PingFang SC", "Hiragino Sans GB",
    "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "SimHei", "Heiti SC", "Noto Sans CJK JP", "Droid Sans Fallback",
    "Arial Unicode MS",
)  # fmt: skip
NO_FONTS = re.compile("last ?resort|adobe ?blank", re.IGNORECASE)  # have a box for everything


def panels(rows, columns, size):
    """A picture of that size in inches, and its panels as an array [rows, columns]."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure  # and not pyplot, which keeps pictures and asks for a display

    with rc_context(AS_TEXT):
        picture = Figure(figsize=size)
        parts = picture.subplots(rows, columns, squeeze=False)
    for panel in parts.flat:
        panel.spines[["top", "right"]].set_visible(False)
    return picture, parts


def one_line(text, longest=None):
    """A user's text as a picture can show it: line ends as spaces, what is no character as �, cut to `longest`."""
    text = "".join("�" if unicodedata.category(c) in ("Cc", "Cs") else c for c in " ".join(text.split()))
    return text if longest is None or len(text) <= longest else f"{text[: longest - 1]}…"


def columns(text):
    """The room that a text takes: a Chinese character twice as much as a letter."""
    return sum(1 + (unicodedata.east_asian_width(character) in "WF") for character in text)


def write_picture(picture, path, bottom=0.0):
    """`path`: a file's, or an open one that gets a PNG; `bottom`: share of the height that is kept for a note."""
    from matplotlib import rc_context

    with rc_context(AS_TEXT), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"(?s)Glyph \d+ .*missing from")  # _say_missing is one line for all of them
        _draw_as_text(picture)
        picture.tight_layout(rect=(0, bottom, 1, 1))
        if hasattr(path, "write"):
            picture.savefig(path, dpi=100, format="png")
            return
        with atomic_file(path) as file:
            picture.savefig(file, dpi=120, format=Path(path).suffix[1:])


# --------------------------------------------------------------------------------------------------------------- fonts


def _draw_as_text(picture):
    """No text of a picture is a formula, and each has fonts for the characters of all."""
    from matplotlib.font_manager import FontProperties, findfont
    from matplotlib.text import Text

    for panel in picture.axes:
        panel.get_xticklabels(), panel.get_yticklabels()  # which writes the words into them
    texts = picture.findobj(Text)
    characters = frozenset().union(*(text.get_text() for text in texts))
    needed = frozenset(filter(_is_visible, characters - _characters(findfont(FontProperties()), characters)))
    families, missing = _families(needed) if needed else ((), "")
    if missing:
        _say_missing(missing)
    for text in texts:
        text.set_parse_math(False)
        text.set_usetex(False)
        if families:
            text.set_fontfamily(list(dict.fromkeys([*text.get_fontfamily(), *families])))


def _is_visible(character):
    is_selector = "\ufe00" <= character <= "\ufe0f"
    return not (character.isspace() or is_selector or unicodedata.category(character)[0] == "C")


@functools.lru_cache(64)
def _families(needed):
    """As few installed families as have the `needed` characters, and those that none has, a string."""
    import matplotlib
    from matplotlib.font_manager import fontManager

    bundled, has = Path(matplotlib.get_data_path()), {}
    for font in sorted(fontManager.ttflist, key=lambda font: font.name):
        upright = font.style == "normal" and font.weight in (400, "normal", "regular", "book")
        if upright and not NO_FONTS.search(font.name) and not Path(font.fname).is_relative_to(bundled):
            has[font.name] = _characters(font.fname, needed)
    found = []
    names = sorted(has, key=lambda name: FONTS.index(name) if name in FONTS else len(FONTS))
    while names and (more := needed & has[best := max(names, key=lambda name: len(needed & has[name]))]):
        found.append(best)
        needed -= more
    return tuple(found), "".join(sorted(needed))


def _characters(path, wanted):
    """Those of the `wanted` characters that a font's file has."""
    from matplotlib.font_manager import get_font

    try:
        codes = get_font(path).get_charmap()
    except (OSError, RuntimeError, ValueError):  # deleted since the list of fonts was made, or damaged
        return frozenset()
    return frozenset(character for character in wanted if ord(character) in codes)


_said = []  # what stderr was told


def _say_missing(characters):
    """Once in a process."""
    if not _said:
        shown = " ".join(characters[:8]) + (" …" if len(characters) > 8 else "")
        _said.append(f"warning: no installed font has {shown}: boxes in the pictures; install one that does")
        print(_said[0], file=sys.stderr)
