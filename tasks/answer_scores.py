"""How answers are scored: SQuAD's exact match and F1, by word, and CMRC 2018's, by character.

SQuAD's are those of the official scorers of 1.1 and 2.0 (and so of transformers.data.metrics.squad_metrics). CMRC's are
by its scorer's rules (ymcui/cmrc2018), but words between Chinese characters end at blanks and symbols.
"""

import re
import string
import unicodedata
from collections import Counter

import numpy as np

METRICS = "squad", "cmrc"
PUNCTUATION = set(string.punctuation)
SYMBOLS = set(  # that CMRC's scorer leaves out
    "-:_*^/\\~`+=，。：？！“”；’《》……·、「」（）－～『』"
)
CHINESE = re.compile("[\u4e00-\u9fa5]")


def metric_for(contexts):
    """cmrc where most letters of the contexts are CJK, else squad."""
    text = "".join(contexts)
    letters = [character for character in text if character.isalpha()]
    chinese = sum(unicodedata.name(character, "").startswith("CJK") for character in letters)
    return "cmrc" if chinese > len(letters) / 2 else "squad"


def normalised(text):
    """What SQuAD compares: lower case, without punctuation and articles, with single blanks."""
    text = "".join(character for character in text.lower() if character not in PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def squad_exact(answer, text):
    return float(normalised(answer) == normalised(text))


def squad_f1(answer, text):
    right, found = normalised(answer).split(), normalised(text).split()
    if not right or not found:
        return float(right == found)
    common = sum((Counter(right) & Counter(found)).values())
    if not common:
        return 0.0
    precision, recall = common / len(found), common / len(right)
    return 2 * precision * recall / (precision + recall)


def pieces(text):
    """A text as CMRC compares it: Chinese characters one by one, other words whole, no symbols."""
    found, word = [], ""
    for character in text.lower().strip():
        if character in SYMBOLS:
            continue
        if CHINESE.match(character):
            found += [*_words(word), character]
            word = ""
        else:
            word += character
    return found + _words(word)


def _words(text):
    return re.findall(r"\w+|[^\w\s]", text)


def cmrc_exact(answer, text):
    plain = ["".join(c for c in some.lower().strip() if c not in SYMBOLS) for some in (answer, text)]
    return float(plain[0] == plain[1])


def cmrc_f1(answer, text):
    """By the longest run of pieces that both have."""
    right, found = pieces(answer), pieces(text)
    if not right or not found:
        return float(right == found)
    longest, before = 0, [0] * (len(found) + 1)
    for piece in right:
        row = [0]
        for place, other in enumerate(found):
            row.append(before[place] + 1 if piece == other else 0)
        longest, before = max(longest, *row), row
    if not longest:
        return 0.0
    precision, recall = longest / len(found), longest / len(right)
    return 2 * precision * recall / (precision + recall)


SCORERS = {"squad": (squad_exact, squad_f1), "cmrc": (cmrc_exact, cmrc_f1)}


def score_texts(questions, texts, metric):
    """Exact match and F1 of every answer, the best over its right ones: float64 [N] twice, from 0 to 1.

    A question without an answer wants "". texts: in the questions' order.
    """
    found = []
    for question, text in zip(questions, texts, strict=True):
        right = [answer for answer, _ in question.answers if metric == "cmrc" or normalised(answer)] or [""]
        found.append([max(score(answer, text) for answer in right) for score in SCORERS[metric]])
    exact, f1 = np.array(found).reshape(-1, 2).T
    return exact, f1


def scores(questions, texts, metric, margins=None, threshold=0.0):
    """exact_match and f1 in percent; with margins also those of questions with and without an answer, and best ones.

    Args:
        texts: the best answer of each question, where none is refused.
        margins: of each question, by how much "no answer" is likelier; above `threshold` it is the answer.
    """
    if margins is None:
        exact, f1 = score_texts(questions, texts, metric)
        return {"exact_match": 100 * float(exact.mean()), "f1": 100 * float(f1.mean())}
    margins = np.asarray(margins, np.float64)
    answerable = np.array([bool(question.answers) for question in questions])
    given = score_texts(questions, texts, metric)
    exact, f1 = (np.where(margins > threshold, ~answerable, each) for each in given)
    found = {"exact_match": 100 * float(exact.mean()), "f1": 100 * float(f1.mean())}
    for name, some in (("has_ans_f1", answerable), ("no_ans_f1", ~answerable)):
        if some.any():
            found[name] = 100 * float(f1[some].mean())
    gains = np.where(answerable, given[1], [-float(bool(text)) for text in texts])
    best, where = best_threshold(gains, margins, int((~answerable).sum()))
    return found | {"best_f1": best, "best_f1_threshold": where}


def best_threshold(gains, margins, unanswerable):
    """The largest mean score, in percent, that a threshold of the margins gives, and the lowest such threshold.

    gains: [N], what answering a question adds to the sum of scores; refusing all gives how many are `unanswerable`.
    """
    total = best = float(unanswerable)
    where = 0.0
    for index in np.argsort(margins, kind="stable"):
        total += gains[index]
        if total > best:
            best, where = total, float(margins[index])
    return 100 * best / len(gains), where
