"""The CPU's path of `layers.functions.language_model`.

Dimension letters: N masked positions, V vocabulary.
"""

import numpy as np
import paddle
from paddle.autograd import PyLayer

from cpu import compiler
from cpu.functions import is_differentiable, needs_of, wanted
from cpu.loops import loops
from cpu.operands import array, contiguous, precision, summed
from cpu.products import matmul

LOGIT_ROWS = 512  # of [N, V] that exist at a time


def language_model(hidden, words, bias, labels, draws):
    labels, draws = contiguous(labels.astype("int64")), contiguous(draws.astype("float32"))
    found = array(labels)
    if not 0 <= found.min() <= found.max() < words.shape[0]:
        raise ValueError(f"labels from {found.min()} to {found.max()} for {words.shape[0]} words")
    return FusedLanguageModel.apply(hidden, words, bias, labels, draws, is_differentiable(hidden, words, bias))


class FusedLanguageModel(PyLayer):
    """Forward makes the gradients too, some rows at a time: [N, V] never exists whole."""

    @staticmethod
    def forward(ctx, hidden, words, bias, labels, draws, differentiable):
        ctx.needs = needs_of(hidden, words, bias)
        form, count, vocabulary = precision.get(), hidden.shape[0], words.shape[0]
        rows, table = form.operand(hidden), form.weight(words)
        losses = np.empty(count, np.float32)
        best, drawn = paddle.empty([count], "int64"), paddle.empty([count], "int64")
        bias_sums = np.zeros((compiler.PARTS if differentiable else 0, vocabulary), np.float32)
        d_hidden, d_words = [], None
        for start in range(0, count, LOGIT_ROWS):
            part = slice(start, min(start + LOGIT_ROWS, count))
            some = rows[part]
            logits = matmul(some, table, transpose_b=True)
            d_logits = form.empty(*(logits.shape if differentiable else (1, 1)))
            form.loops.word_losses(
                array(logits), array(bias), array(labels)[part], array(draws)[part], np.float32(1 / count),
                array(d_logits), bias_sums, losses[part], array(best)[part], array(drawn)[part],
            )  # fmt: skip
            if differentiable:
                d_hidden.append(matmul(d_logits, table))
                more = matmul(d_logits, some, transpose_a=True)
                if d_words is None:
                    d_words = more
                else:
                    loops.add(array(d_words), array(more))
        if differentiable:
            ctx.save_for_backward(paddle.concat(d_hidden), d_words, summed(bias_sums))
        ctx.mark_non_differentiable(best, drawn)
        return paddle.to_tensor(losses.mean()), best, drawn

    @staticmethod
    def backward(ctx, d_loss, *_):
        return *wanted(ctx.needs, *(gradient * d_loss for gradient in ctx.saved_tensor())), None, None
