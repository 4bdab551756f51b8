"""How tags are scored: entities as conlleval finds and counts them, or plain tags by accuracy.

An entity begins and ends by the rules of conlleval (CoNLL-2000's script, as seqeval has them for BIOES too): I-X after
O, or after another type, begins one.
"""

from collections import Counter

from tasks.tags import OUTSIDE


def entities(tags):
    """The entities of a sentence's tags: list of (type, first word, last word)."""
    found, begin, kind = [], None, None
    last, last_kind = OUTSIDE, None
    for place, tag in enumerate([*tags, OUTSIDE]):
        letter, _, name = tag.partition("-") if tag != OUTSIDE else (OUTSIDE, "", None)
        if begin is not None and _ends(last, letter, last_kind, name):
            found.append((kind, begin, place - 1))
            begin = None
        if letter != OUTSIDE and _begins(last, letter, last_kind, name):
            begin, kind = place, name
        last, last_kind = letter, name
    return found


def _ends(last, letter, last_kind, kind):
    return last in "ES" or letter in "BSO" or last_kind != kind


def _begins(last, letter, last_kind, kind):
    return letter in "BS" or last in "ESO" or last_kind != kind


def entity_scores(right, found):
    """precision, recall, f1 of all entities, accuracy of all words, and the same by type with the number there are.

    Args:
        right, found: tags of sentences, lists of lists.
    """
    both, wanted, given = Counter(), Counter(), Counter()
    words = same = 0
    for one, other in zip(right, found, strict=True):
        first, second = set(entities(one)), set(entities(other))
        wanted.update(kind for kind, *_ in first)
        given.update(kind for kind, *_ in second)
        both.update(kind for kind, *_ in first & second)
        words += len(one)
        same += sum(a == b for a, b in zip(one, other, strict=True))
    scores = _shares(both.total(), given.total(), wanted.total()) | {"accuracy": same / max(words, 1)}
    by_type = {
        kind: _shares(both[kind], given[kind], wanted[kind]) | {"entities": wanted[kind]}
        for kind in sorted(wanted | given)
    }
    return scores, by_type


def _shares(both, given, wanted):
    precision, recall = both / max(given, 1), both / max(wanted, 1)
    return {"precision": precision, "recall": recall, "f1": 2 * precision * recall / max(precision + recall, 1e-300)}


def tag_scores(right, found):
    """The accuracy of plain tags, and of each tag precision, recall and f1 with the number of words that have it."""
    pairs = Counter()
    for one, other in zip(right, found, strict=True):
        pairs.update(zip(one, other, strict=True))
    wanted, given = Counter(), Counter()
    for (first, second), count in pairs.items():
        wanted[first] += count
        given[second] += count
    by_tag = {
        tag: _shares(pairs[tag, tag], given[tag], wanted[tag]) | {"words": wanted[tag]}
        for tag in sorted(wanted | given)
    }
    return {"accuracy": sum(pairs[tag, tag] for tag in by_tag) / max(pairs.total(), 1)}, by_tag


def types_of_words(tags, scheme):
    """What the picture of confusion counts: of each word its entity's type, or its plain tag."""
    return [tag if scheme == "plain" or tag == OUTSIDE else tag[2:] for tag in tags]


def scores_of(sentences, found, scheme):
    """Scores of tags, and those of every type or plain tag."""
    return (tag_scores if scheme == "plain" else entity_scores)([sentence.tags for sentence in sentences], found)


def main_metric(scheme):
    """By which models are compared."""
    return "accuracy" if scheme == "plain" else "f1"
