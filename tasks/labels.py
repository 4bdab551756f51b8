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
BOOLEANS = {"false": 0.0, "true": 1.0}
WHOLE = re.compile(r"([+-]?)(0|[1-9]\d*)(\.0*)?")
BETWEEN_WORDS = re.compile(r"(?<=[^\W_])[\s_.-]+(?=[^\W\d_])|(?<=[^\W\d_])[\s_.-]+(?=[^\W_])")  # not between digits
GONE_WRONG = re.compile(  # what stands among numbers where one is missing, or is spelled for other eyes
    r"[+-]?(nan|inf|infinity)|n\.?/?a\.?|null|-+|[–—]|\?+|#\S+|[~≈<>]?\s*[+−-]?[\d.,'’_\s]*\d[\d.,'’_\s]*%?",
    re.IGNORECASE,
)
FOR_OTHER_EYES = re.compile(r"[+−-]?\d+(,\d+|(,\d+)?\s*%)")  # a decimal comma, a per cent
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


def same(name):
    """What two tidy names of one file have alike if they are one: `1` and `1.0`, `true` and `True`."""
    if whole := WHOLE.fullmatch(name):
        sign, digits, _ = whole.groups()
        return int(digits) * (-1 if sign == "-" else 1)
    return name.lower() if name.lower() in BOOLEANS else name


def loose(name):
    """What names of different files have alike if they are one: any case, any or no separator between words."""
    if (value := number(name)) is not None:
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
    forms = [loose(name) for name in names]
    if set(forms) == {0.0, 1.0} and len(names) == 2 and word.lower() in BOOLEANS:
        return forms.index(BOOLEANS[word.lower()])
    if set(forms) == set(BOOLEANS) and number(word) in (0.0, 1.0):
        return forms.index("true" if number(word) else "false")
    return None


def order_of(names, words):
    """Of each of a model's `names` the index of the one of `words` that it spells; None unless all find one each."""
    order = [match(name, tuple(words)) for name in names]
    return order if None not in order and sorted(order) == list(range(len(words))) else None
