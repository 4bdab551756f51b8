"""Which tokens a pre-training step hides, and behind what: ELECTRA's masking and BERT's, as pure functions.

`random` is always a numpy Generator; arrays are numpy's. Dimension letters: B batch, L length.
"""

import numpy as np

from pretraining.word_boundaries import WordBoundaries
from tokenizer import ConvBertTokenizer

HIDDEN = {"electra": (0.85, 0.0), "bert": (0.8, 0.1)}  # shares that become [MASK], and a random word; the rest stays


class Vocabulary:
    """What masking must know of a tokenizer's words, by id: bool arrays `maskable` and `continues` [V], and mask_id.

    Special tokens are never hidden; a word that continues ("##ing") belongs to the one before it.

    cut: of word_boundaries.segmenter, for Chinese; None: every character is a word.
    """

    def __init__(self, tokenizer: ConvBertTokenizer, cut=None):
        words = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        self.continues = np.array([word.startswith("##") for word in words])
        self.maskable = np.ones(len(words), bool)
        self.maskable[
            [tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.mask_token_id]
        ] = False
        self.mask_id, self.pad_id = tokenizer.mask_token_id, tokenizer.pad_token_id
        self._boundaries = WordBoundaries(words, cut) if cut else None

    def continued(self, ids):
        """Which tokens continue the word before them: bool [B, L]."""
        found = self.continues[ids]
        return found | self._boundaries(ids) if self._boundaries else found


def most_masked(length, share):
    """How many tokens of a sequence are hidden at most: 19 of 128 for a share of 0.15, as in ELECTRA."""
    return max(1, int((share + 0.005) * length))


def counts(ids, vocabulary, share, most):
    """How many tokens of each row are to be hidden, int [B]: a share of all real ones, at least one if there is any."""
    wanted = np.rint((ids != vocabulary.pad_id).sum(axis=1) * share).astype(int)
    return np.minimum(wanted.clip(1, most), vocabulary.maskable[ids].sum(axis=1))


def choose_tokens(random, ids, vocabulary, share, most):
    """Tokens to hide, each as likely as any other, none twice: bool [B, L]. ids: int [B, L]."""
    scores = np.where(vocabulary.maskable[ids], random.random(ids.shape), 2.0)
    return _ranks(scores) < counts(ids, vocabulary, share, most)[:, None]


def choose_words(random, ids, vocabulary, share, most):
    """Tokens to hide, words as a whole: bool [B, L]. A row gets as many words as fit, or one that is cut to `most`."""
    words = np.cumsum(~vocabulary.continued(ids) | ~vocabulary.maskable[ids], axis=1)  # [B, L], from 0 or 1
    scores = np.take_along_axis(random.random([len(ids), ids.shape[1] + 1]), words, axis=1)
    ranks = _ranks(np.where(vocabulary.maskable[ids], scores, 2.0))
    last = np.zeros([len(ids), ids.shape[1] + 1], int)  # rank of each word's last token
    rows = np.broadcast_to(np.arange(len(ids))[:, None], ids.shape)
    np.maximum.at(last, (rows, words), ranks)
    limits = counts(ids, vocabulary, share, most)[:, None]
    last = np.take_along_axis(last, words, axis=1)
    first_word = words == np.take_along_axis(words, ranks.argmin(axis=1)[:, None], axis=1)
    chosen = (last < limits) | (first_word & (ranks < most))
    return chosen & vocabulary.maskable[ids]


def _ranks(scores):
    """Place of every element in the order of its row, [B, L]; equal ones keep their order."""
    ranks = np.empty(scores.shape, int)
    np.put_along_axis(ranks, scores.argsort(axis=1, kind="stable"), np.arange(scores.shape[1])[None], axis=1)
    return ranks


def hide(random, ids, chosen, vocabulary, style):
    """ids [B, L] with the chosen tokens hidden in one of the styles of HIDDEN."""
    masked, random_word = HIDDEN[style]
    fate = random.random(ids.shape)
    words = random.choice(np.flatnonzero(vocabulary.maskable), ids.shape)
    hidden = np.where(fate < masked, vocabulary.mask_id, np.where(fate < masked + random_word, words, ids))
    return np.where(chosen, hidden, ids)


def mask(random, ids, vocabulary, share=0.15, whole_words=False, style="electra"):
    """One step's masking.

    Returns:
        ids with the chosen tokens hidden, and labels: the original at chosen tokens, -100 elsewhere; int [B, L] both.
    """
    choose = choose_words if whole_words else choose_tokens
    chosen = choose(random, ids, vocabulary, share, most_masked(ids.shape[1], share))
    return hide(random, ids, chosen, vocabulary, style), np.where(chosen, ids, -100)
