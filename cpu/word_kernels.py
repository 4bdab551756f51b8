"""The compiled loop over a vocabulary: what logits say of the words.

As in `row_kernels`. Dimension letters: N rows, V vocabulary, P parts.
"""

import numpy as np
from numba import prange

from cpu.arithmetic import exp, ordered
from cpu.compiler import B2, F1, F2, I1, PARTS, kernel, part_of, written

WORDS = 256  # of the vocabulary that are looked at together


@kernel(
    F2, F1, I1, F1, "float32", F2, F2, F1, I1, I1,
    bfloat16=(F2, F1, I1, F1, "float32", B2, F2, F1, I1, I1),
    group="words",
)  # fmt: skip
def word_losses(logits, bias, labels, draws, scale, d_logits, d_bias, losses, best, drawn):
    """What logits [N, V] + bias [V] say of each row: cross entropy against labels, the likeliest word, and a drawn one.

    losses, best, drawn: [N]; drawn is the first word at which the distribution function exceeds draws [N], from [0, 1).
    d_logits [N, V]: the gradient of scale · losses, whose partial sums are added to d_bias [P, V]; where that has no
    rows, no gradient is made. The logits are overwritten.
    """
    vocabulary = bias.size
    blocks = (vocabulary + WORDS - 1) // WORDS
    for part in prange(PARTS):
        first, last = part_of(part, logits.shape[0])
        sums = np.empty(blocks, np.float32)
        for n in range(first, last):
            row = logits[n]
            highest, top = np.int32(-(2**31) + 1), 0
            for block in range(blocks):
                found = np.int32(-(2**31) + 1)
                words = slice(block * WORDS, min((block + 1) * WORDS, vocabulary))
                logits_of, bias_of = row[words], bias[words]
                for v in range(logits_of.size):
                    logits_of[v] += bias_of[v]
                    bits = np.float32(logits_of[v]).view(np.int32)
                    found = max(found, ordered(bits))
                if found > highest:
                    highest, top = found, block
            shift = np.int32(ordered(highest)).view(np.float32)
            best[n] = top * WORDS
            for v in range(top * WORDS, min((top + 1) * WORDS, vocabulary)):
                if row[v] == shift:
                    best[n] = v
                    break
            of_label, total = row[labels[n]], np.float32(0.0)
            for block in range(blocks):
                part_sum = np.float32(0.0)
                powers = row[block * WORDS : min((block + 1) * WORDS, vocabulary)]
                for v in range(powers.size):
                    power = exp(powers[v] - shift)
                    powers[v] = power
                    part_sum += power
                sums[block] = part_sum
                total += part_sum
            losses[n] = np.log(total) + shift - of_label

            wanted, block = draws[n] * total, 0
            while block < blocks - 1 and wanted >= sums[block]:
                wanted -= sums[block]
                block += 1
            v = block * WORDS
            while v < min((block + 1) * WORDS, vocabulary) - 1 and wanted >= row[v]:
                wanted -= row[v]
                v += 1
            drawn[n] = v

            if d_bias.shape[0]:
                gradient, bias_sums, factor = d_logits[n], d_bias[part], scale / total
                row[labels[n]] -= total
                for v in range(vocabulary):
                    d = row[v] * factor
                    gradient[v] = written(gradient, d)
                    bias_sums[v] += d
