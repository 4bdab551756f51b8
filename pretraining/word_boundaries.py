"""Words of Chinese text, which has no blanks between them, for whole-word masking: by jieba, or by a list in a file.

A tokenizer makes a token of every Chinese character. Runs of such tokens are cut into words here; a word's characters
are then hidden together, as in BERT's later Chinese models (whole-word masking, https://arxiv.org/abs/1906.08101).
"""

import functools
import hashlib
import unicodedata
from pathlib import Path

import numpy as np

from files.errors import InputError

JIEBA = "jieba"
RUNS = 2**16  # whose words are remembered


def segmenter(name):
    """A function of a text: the list of words that make it up.

    name: "jieba", or a file with a word a line. Raises InputError: it can't be read, or jieba is not installed.
    """
    return _by_jieba() if name == JIEBA else _by_list(name)


def facts(name):
    """What there is to say of a segmenter, or of none, so that another is told from it. Raises InputError."""
    if name is None:
        return "none"
    if name == JIEBA:
        import jieba

        return f"jieba {jieba.__version__}"
    return f"{len(_words(name)):,} words ({hashlib.sha256(Path(name).read_bytes()).hexdigest()[:12]})"


def _by_jieba():
    try:
        import jieba
    except ImportError as error:
        raise InputError(f"--word_boundaries jieba: needs jieba ({error}): pip install jieba") from None
    words = jieba.Tokenizer()
    # As its initialize() does, but for a cache in the folder of temporary files, which anyone may have written.
    words.FREQ, words.total = words.gen_pfdict(words.get_dict_file())
    words.initialized = True
    return words.lcut


def _by_list(name):
    """The longest word of the list that fits, again and again; characters that begin none stand alone."""
    known = frozenset(_words(name))
    longest = max(map(len, known))

    def cut(text):
        found, place = [], 0
        while place < len(text):
            length = next((n for n in range(longest, 1, -1) if text[place : place + n] in known), 1)
            found.append(text[place : place + length])
            place += len(found[-1])
        return found

    return cut


def _words(name):
    path = Path(name)
    if not path.is_file():
        raise InputError(f"--word_boundaries {name}: must be jieba, or a file with a word a line; there is none")
    try:
        lines = path.read_text("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"--word_boundaries {name}: not UTF-8 (byte {error.start})") from None
    words = []
    for number, line in enumerate(lines, 1):
        word, *more = line.split() or [""]
        if len(more) > 2 or (more and not more[0].isdigit()):  # as in jieba's lists: word, frequency, kind
            raise InputError(f"--word_boundaries {name}, line {number}: one word a line, and perhaps its frequency")
        words += [word] * (len(word) > 1)
    if not words:
        raise InputError(f"--word_boundaries {name}: no word of two characters or more")
    return words


class WordBoundaries:
    """Which tokens continue a word, beyond those that say so themselves ("##ing").

    Args:
        tokens: the words of a vocabulary, by id.
        cut: a segmenter.
    """

    def __init__(self, tokens, cut):
        self._tokens = np.array(tokens, object)
        self._chinese = np.array(
            [len(token) == 1 and unicodedata.name(token, "").startswith("CJK ") for token in tokens]
        )
        self._starts = functools.lru_cache(RUNS)(lambda text: _starts(cut(text)))

    def __call__(self, ids):
        """bool [B, L], of int [B, L]."""
        chinese = self._chinese[ids]
        found = np.zeros(ids.shape, bool)
        for row in np.flatnonzero(chinese.any(axis=1)):
            edges = np.flatnonzero(np.diff(np.r_[False, chinese[row], False].astype(np.int8)))
            for begin, end in zip(edges[::2], edges[1::2], strict=True):
                starts = self._starts("".join(self._tokens[ids[row, begin:end]]))
                found[row, begin:end] = True
                found[row, begin + starts] = False
        return found


def _starts(words):
    """Where words begin that follow one another: int array."""
    return np.cumsum([0, *map(len, words[:-1])])
