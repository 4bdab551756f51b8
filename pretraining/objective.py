"""What pre-training minimises, step by step: mask → fill in → draw → tell replaced tokens from original ones.

The steps themselves are `masking.mask`, `functions.language_model` and the two models; here they are put together over
the rows of a step that may be worked on in pieces, by several processes.
"""

from typing import NamedTuple

import numpy as np
import paddle

from pretraining.masking import Vocabulary, mask

# What is added up over pieces, processes and steps: losses over all tokens that count, and numbers of tokens.
SUMS = ("gen_loss", "gen_right", "masked", "disc_loss", "disc_right", "real", "disc_found", "replaced")
NSP_SUMS = ("nsp_right", "pairs")


class Batch(NamedTuple):
    """A step's examples; arrays [B, L]."""

    input_ids: np.ndarray  # masked
    token_type_ids: np.ndarray
    labels: np.ndarray  # the original at masked positions, -100 elsewhere
    draws: np.ndarray  # from [0, 1): what the generator draws at a masked position depends on it
    not_next: np.ndarray | None  # bool [B]: whether the second segment is another text's; None: it never is


class Objective:
    """Replaced-token detection by a `…ForPretraining`, or masked words by a `…ForMaskedLM`.

    A call with a batch, row numbers, and the number of processes gives the loss of these rows, and their SUMS, both
    tensors, the latter float64. The losses of all pieces and processes of a batch, averaged over the processes, add up
    to gen_weight · the mean over its masked tokens + disc_weight · the mean over its real ones.

    With `nsp_prob` that share of the second segments is another text's, as in BERT's next-sentence prediction; the
    discriminator tells it of [CLS], which counts as one more replaced token then.
    """

    def __init__(
        self, model, tokenizer, share=0.15, whole_words=False, style="electra", gen_weight=1, disc_weight=50, cut=None,
        nsp_prob=0.0,
    ):  # fmt: skip
        self.model, self.vocabulary = model, Vocabulary(tokenizer, cut)
        self.masking = share, whole_words, style
        self.words_only = not hasattr(model, "discriminator")
        self.nsp_prob, self._sums = nsp_prob, SUMS + NSP_SUMS if nsp_prob else SUMS
        self.gen_weight, self.disc_weight = (1.0, 0.0) if self.words_only else (gen_weight, disc_weight)

    def parts(self):
        """Name → model, of those that a user takes."""
        if self.words_only:
            return {"generator": self.model}
        return {"generator": self.model.generator, "discriminator": self.model.discriminator}

    def batch(self, segments, numbers, *seed):
        """Examples by their numbers, masked; the same for the same seed."""
        random = np.random.default_rng(seed)
        others = taken = None
        if self.nsp_prob:
            others = random.integers(len(segments), size=len(numbers))
            taken = (random.random(len(numbers)) < self.nsp_prob) & (others != numbers)
        ids, types = segments.inputs(numbers, others, taken)
        not_next = None if taken is None else taken & types.any(axis=1)
        masked, labels = mask(random, ids, self.vocabulary, *self.masking)
        return Batch(masked, types, labels, random.random(ids.shape, np.float32), not_next)

    def __call__(self, batch, rows, processes=1):
        some = rows if len(rows) else np.arange(1)  # without rows: the work of one, for it must have gradients too
        ids, types, labels, draws = (array[some] for array in batch[:4])
        not_next = None if batch.not_next is None else paddle.to_tensor(batch.not_next[some])
        where = np.flatnonzero(labels.ravel() != -100)
        originals, draws = paddle.to_tensor(labels.ravel()[where]), paddle.to_tensor(draws.ravel()[where])
        inputs = paddle.to_tensor(ids), paddle.to_tensor(types)
        masked, real = len(where), int((ids != self.vocabulary.pad_id).sum())
        if self.words_only:
            hidden = self.model.backbone(*inputs).flatten(0, 1).gather(paddle.to_tensor(where))
            gen_loss, predictions, _ = self.model.fill(hidden, originals, draws)
            disc_loss, told = 0.0, (real, real, 0, 0)
        else:
            found = self.model(*inputs, labels=paddle.to_tensor(labels), draws=draws, not_next=not_next)
            gen_loss, predictions, disc_loss = found.gen_loss, found.gen_predictions, found.disc_loss
            truth, says = found.disc_labels, found.logits.astype("float32") > 0
            replaced = truth == 1
            right = (says == replaced) & (truth != -100)
            told = right.sum(), real, (says & replaced).sum(), replaced.sum()
            if self.nsp_prob:
                pairs = paddle.to_tensor(types.any(axis=1))
                told = *told, ((says[:, 0] == not_next) & pairs).sum(), pairs.sum()
        right_words = (predictions == originals).sum()
        sums = _float64(gen_loss) * masked, right_words, masked, _float64(disc_loss) * real, *told

        counts = processes * bool(len(rows))
        of_masked = float(masked / max(1, (batch.labels != -100).sum()))
        of_real = float(real / self.tokens(batch))
        with paddle.amp.auto_cast(enable=False):  # a sum of losses in float32, too
            loss = (self.gen_weight * of_masked * counts) * gen_loss
            if not self.words_only:
                loss = loss + (self.disc_weight * of_real * counts) * disc_loss
        return loss, paddle.stack([_float64(each) for each in sums]) * float(bool(len(rows)))

    def no_sums(self):
        return np.zeros(len(self._sums))

    def tokens(self, batch):
        """How many are real."""
        return int((batch.input_ids != self.vocabulary.pad_id).sum())

    def metrics(self, sums):
        """SUMS → what is logged, by name."""
        of = dict(zip(self._sums, map(float, sums), strict=True))
        masked, real = max(1.0, of["masked"]), max(1.0, of["real"])
        gen = {"gen_loss": of["gen_loss"] / masked, "gen_acc": of["gen_right"] / masked}
        if self.words_only:
            return {"loss": gen["gen_loss"], **gen}
        disc_loss = of["disc_loss"] / real
        return {
            "loss": self.gen_weight * gen["gen_loss"] + self.disc_weight * disc_loss,
            "gen_loss": gen["gen_loss"],
            "disc_loss": disc_loss,
            "gen_acc": gen["gen_acc"],
            "disc_acc": of["disc_right"] / real,
            "disc_recall": of["disc_found"] / max(1.0, of["replaced"]),
            **({"nsp_acc": of["nsp_right"] / max(1.0, of["pairs"])} if self.nsp_prob else {}),
        }


def _float64(number):
    """A number, or a tensor of one element, as a tensor without axes, which no gradient goes back from."""
    if isinstance(number, paddle.Tensor):
        return number.detach().astype("float64").reshape([])
    return paddle.full([], number, "float64")
