"""Tokenised examples in little memory: ids of all rows behind one another, of which batches are made when needed."""

import itertools

import numpy as np


class TokenRows:
    """Rows of ids, without padding; a row's token types follow from the length of its first part.

    So a set takes 2 or 4 bytes a token, and the examples need not be kept. `lengths`: of the rows, int64 [N].

    Args:
        tokenizer: ConvBertTokenizer.
        chunks: columns of a tokenizer's call, one after the other.
    """

    def __init__(self, tokenizer, chunks):
        self.tokenizer = tokenizer
        kind = np.uint16 if len(tokenizer) <= 2**16 else np.int32
        ids, lengths, first_parts = [np.zeros(0, kind)], [np.zeros(0, np.int64)], [np.zeros(0, np.int32)]
        for columns in chunks:
            rows, types = columns["input_ids"], columns["token_type_ids"]
            lengths.append(np.fromiter(map(len, rows), np.int64, len(rows)))
            first_parts.append(np.fromiter((row.count(0) for row in types), np.int32, len(rows)))
            ids.append(np.fromiter(itertools.chain.from_iterable(rows), kind, lengths[-1].sum()))
        self.lengths = np.concatenate(lengths)
        self._ids, self._first_parts = np.concatenate(ids), np.concatenate(first_parts)
        self._starts = np.cumsum(self.lengths) - self.lengths

    def __len__(self):
        return len(self.lengths)

    def arrays(self, indices, width=0):
        """The model's inputs for these rows, int64 [B, longest row], or wider."""
        indices = np.array(indices, np.int64).reshape(-1, 1)
        lengths = self.lengths[indices]
        places = np.arange(lengths.max(initial=width))
        real = places < lengths
        ids = np.full(real.shape, self.tokenizer.pad_token_id, np.int64)
        ids[real] = self._ids[(self._starts[indices] + places)[real]]
        types = real & (places >= self._first_parts[indices])
        return {
            "input_ids": ids, "token_type_ids": types.astype(np.int64), "attention_mask": real.astype(np.int64),
        }  # fmt: skip
