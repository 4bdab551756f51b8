"""Names of classes and columns as people spell them: which spellings are the same, and what is a number gone wrong.

Within one file only what nobody could tell apart is one name: surrounding blanks, composed characters, `1` and `1.0`,
`true` and `True`. Between files, and for a model's own names, a name that is not there as it stands is looked for in
any case, with any separator between its words, and as a number; what then fits several names fits none.
"""

import functools
import math
import re
import unicodedata

INVISIBLE = "\ufeff\u200b"  # byte-order mark, zero-width space
BOOLEANS = {"false": 0, "true": 1}
YES_OR_NO = ("false", "true"), ("f", "t"), ("no", "yes"), ("n", "y"), ("off", "on"), ("0", "1")  # 0, 1 in words
MEANINGS = (  # what is 0 and what is 1 where a pair of names says so; entailment is 0 in RTE and 1 in WNLI
    ("unacceptable", "acceptable"), ("negative", "positive"), ("neg", "pos"), ("not_equivalent", "equivalent"),
    ("not_duplicate", "duplicate"),
)  # fmt: skip
WHOLE = re.compile(r"([+-]?)(0|[1-9]\d*)(\.0*)?")
BETWEEN_WORDS = re.compile(r"(?<=[^\W_])[\s_.-]+(?=[^\W\d_])|(?<=[^\W\d_])[\s_.-]+(?=[^\W_])")  # not between digits
GAP = re.compile(  # what stands where a label is missing, among words too
    r"[+-]?nan|n\.?/?a\.?|<na>|(?-i:NaT)|null|[-–—−]+|[?？]+|#(n/?a|null!|ref!|div/0!|value!|num!|name\?)",
    re.IGNORECASE,
)
GONE_WRONG = re.compile(  # what stands among numbers where one is missing, or is spelled for other eyes
    rf"{GAP.pattern}|none|[+-]?(inf|infinity)|#\S+|[~≈<>$€£¥]?\s*[+−-]?[\d.,'’_\s]*\d[\d.,'’_\s]*[%％‰$€£¥]?",
    re.IGNORECASE,
)
FOR_OTHER_EYES = re.compile(  # a decimal comma, marks between thousands, a per cent, a typographer's minus
    r"[+−-]?(\d+(,\d+)?|\d{1,3}([.'’\s]\d{3})+(,\d+)?|\d{1,3}(,\d{3})+(\.\d+)?|\d*\.\d+)(\s*[%％‰])?"
)
LONGEST_NUMBER = 40  # characters


def tidy(name):
    """A name without what can't be seen: surrounding blanks, marks of no width, characters composed in two ways."""
    name = unicodedata.normalize("NFC", name)
    while name != (shorter := name.strip().strip(INVISIBLE)):
        name = shorter
    return name


def number(word):
    """A finite number that a label spells, or None."""
    try:
        value = float(word) if "_" not in word else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def number_gone_wrong(word):
    """Whether a word that is no number can only be meant as one, or as a gap, where others are numbers."""
    return len(word) <= LONGEST_NUMBER and GONE_WRONG.fullmatch(word) is not None


def is_gap(word, among_numbers=False):
    """Whether a word may say that there is no label: N/A, null, ?, -; None only among numbers, else it may be meant."""
    return GAP.fullmatch(word) is not None or (among_numbers and word.lower() == "none")


def spelled_for_other_eyes(word):
    """Whether a word is a number as people write it and programs don't: 1,5 and 2.5% and −1.5."""
    return len(word) <= LONGEST_NUMBER and number(word) is None and FOR_OTHER_EYES.fullmatch(word) is not None


def truth(word):
    """0 or 1 for no or yes in one of the spellings of YES_OR_NO, else None."""
    value = number(word)
    word = word.lower() if value is None else f"{value:g}"
    return next((pair.index(word) for pair in YES_OR_NO if word in pair), None)


def same(name):
    """What two tidy names of one file have alike if they are one: `1` and `1.0`, `true` and `True`."""
    if whole := WHOLE.fullmatch(name):
        sign, digits, _ = whole.groups()
        return int(digits) * (-1 if sign == "-" else 1)
    return name.lower() if name.lower() in BOOLEANS else name


def loose(name):
    """What names of different files have alike if they are one: any case, any or no separator between words."""
    if (value := number(name.replace("−", "-"))) is not None:
        return value
    return BETWEEN_WORDS.sub("", unicodedata.normalize("NFKC", name).casefold())


@functools.lru_cache(4096)
def match(word, names):
    """The index of the one of `names`, a tuple, that `word` spells; None if there is none, or none for certain."""
    word = tidy(word)
    if not word:
        return None
    names = [tidy(name) for name in names]
    for form in (str, same, loose):
        if found := [index for index, name in enumerate(names) if form(name) == form(word)]:
            return found[0] if len(found) == 1 else None
    if (index := by_meaning(word, names)) is not None:
        return index
    forms = [f"{value:g}" if (value := number(name)) is not None else name.lower() for name in names]
    if tuple(sorted(forms)) in YES_OR_NO and (value := truth(word)) is not None:
        return [truth(form) for form in forms].index(value)
    return None


def by_meaning(word, names):
    """The index of the one of two names that 0 or 1 stands for, as in negative, positive; else None."""
    if (value := number(word)) not in (0, 1):
        return None
    forms = [loose(name) for name in names]
    for pair in MEANINGS:
        if sorted(forms) == sorted(map(loose, pair)):
            return forms.index(loose(pair[int(value)]))
    return None


def order_of(names, words):
    """Of each of a model's `names` the index of the one of `words` that it spells; None unless all find one each."""
    order = [match(name, tuple(words)) for name in names]
    return order if None not in order and sorted(order) == list(range(len(words))) else None
