import re
import warnings

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import rc_context
from matplotlib.font_manager import fontManager
from matplotlib.text import Text

from files import pictures
from files.pictures import columns, one_line, panels, write_picture


@pytest.fixture
def no_fonts(monkeypatch):
    """As if only matplotlib's own fonts were installed, and nothing had been said yet."""
    monkeypatch.setattr(fontManager, "ttflist", [f for f in fontManager.ttflist if "mpl-data" in f.fname])
    monkeypatch.setattr(pictures, "_said", [])
    pictures._families.cache_clear()
    yield
    pictures._families.cache_clear()


@pytest.fixture
def install(no_fonts, tmp_path):
    """Makes a font with a triangle for each of some characters, and installs it."""

    def make(family, characters):
        names = [".notdef", *(f"u{ord(character):x}" for character in characters)]
        pen = TTGlyphPen(None)
        pen.moveTo((100, 0)), pen.lineTo((500, 800)), pen.lineTo((900, 0)), pen.closePath()
        font = FontBuilder(1000)
        font.setupGlyphOrder(names)
        font.setupCharacterMap(dict(zip(map(ord, characters), names[1:], strict=True)))
        font.setupGlyf(dict.fromkeys(names, pen.glyph()))
        font.setupHorizontalMetrics(dict.fromkeys(names, (1000, 100)))
        font.setupHorizontalHeader(ascent=800, descent=-200)
        font.setupNameTable({"familyName": family, "styleName": "Regular"})
        font.setupOS2()
        font.setupPost()
        path = tmp_path / f"{family}.ttf"
        font.save(path)
        fontManager.addfont(path)
        return path

    return make


def drawn(folder, *names):
    """A picture of ticks with these names, written; its texts, and the SVG's words."""
    picture, ((panel,),) = panels(1, 1, (4, 3))
    panel.set_xticks(range(len(names)), names)
    panel.set_title(names[0])
    panel.text(0, 0, names[-1])
    with warnings.catch_warnings(), rc_context({"svg.fonttype": "none"}):
        warnings.simplefilter("error")
        write_picture(picture, folder / "a.svg")
        write_picture(picture, folder / "a.png")
    words = re.findall(r"<text[^>]*>([^<]*)</text>", (folder / "a.svg").read_text("utf-8"))
    return picture.findobj(Text), words


FORMULAS = ["$5_$10", "a_b^c", "$x^2$", "$\\bad{", "\\frac", "_x", "$", "%d {x} #"]


def test_a_name_is_no_formula(tmp_path):
    _, words = drawn(tmp_path, *FORMULAS)
    assert set(FORMULAS) <= set(words)


def test_what_matplotlib_is_told_elsewhere_does_not_make_it_one(tmp_path):
    with rc_context({"text.usetex": True, "axes.formatter.use_mathtext": True}):
        picture, ((panel,),) = panels(1, 1, (4, 3))
        panel.plot([1e-7, 2e-7])
        panel.set_title("$5_$10")
        with rc_context({"svg.fonttype": "none"}):
            write_picture(picture, tmp_path / "a.svg")
    content = (tmp_path / "a.svg").read_text("utf-8")
    assert ">$5_$10</text>" in content
    assert ">1e−7</text>" in content


def test_an_installed_font_is_taken(tmp_path, install, capsys):
    install("Test Chinese", "中文")
    texts, words = drawn(tmp_path, "中文 name", "plain")
    assert {text.get_fontfamily()[-1] for text in texts} == {"Test Chinese"}
    assert {text.get_fontfamily()[0] for text in texts} == {"sans-serif"}  # letters look as ever
    assert "中文 name" in words
    assert capsys.readouterr().err == ""


def test_few_fonts_and_the_usual_ones_are_taken(install):
    install("Aardvark Sans", "中文字")
    install("Noto Sans CJK SC", "中文字")
    install("A Sign", "中")
    install("Devanagari", "नम")
    install("Last Resort", "中文字नमЖ")  # has boxes for all
    assert pictures._families(frozenset("中文字नम")) == (("Noto Sans CJK SC", "Devanagari"), "")
    assert pictures._families(frozenset("中🦤")) == (("Noto Sans CJK SC",), "🦤")


def test_a_font_that_is_gone_or_damaged_is_left_alone(tmp_path, install, capsys):
    install("Gone", "中文").unlink()
    install("Damaged", "中文").write_bytes(b"no font")
    install("There", "中文")
    texts, _ = drawn(tmp_path, "中文", "b")
    assert texts[0].get_fontfamily()[1:] == ["There"]
    assert capsys.readouterr().err == ""


def test_without_a_font_one_line_is_said_once(tmp_path, no_fonts, capsys):
    drawn(tmp_path, "中文", "नमस्ते")
    drawn(tmp_path, "别的", "中文")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: no installed font has ")
    assert "中" in line


@pytest.mark.parametrize("name", ["é ß Ж α", "a\u200bb", "x\ufe0f", "a\u00a0b", "", "–…"])
def test_what_needs_no_font_looks_for_none(tmp_path, no_fonts, capsys, name):
    texts, _ = drawn(tmp_path, name, "b")
    assert texts[0].get_fontfamily() == ["sans-serif"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "longest", "expected"),
    [
        ("a\nb\tc\u2028d", None, "a b c d"), ("\ud800x\x00", None, "�x�"), ("sixteen letters!", 16, "sixteen letters!"),
        ("sixteen letters!!", 16, "sixteen letters…"), ("中" * 20, 16, "中" * 15 + "…"),
    ],
)  # fmt: skip
def test_one_line(tmp_path, text, longest, expected):
    assert one_line(text, longest) == expected


def test_what_is_no_character_can_be_drawn(tmp_path):
    drawn(tmp_path, *map(one_line, ("\ud800", "\x00\x01", "a\tb\r\n", "\x1b[31m")))


def test_columns():
    assert (columns("abc"), columns("中文a"), columns("")) == (3, 5, 0)
