"""What forwards return: named tuples, or what Hugging Face's and PaddleNLP's `return_dict` makes of them.

B batch, L length, H heads of one kind, E hidden size, N masked positions.
"""

from typing import NamedTuple

import paddle


class BackboneOutput(NamedTuple):
    last_hidden_state: paddle.Tensor  # [B, L, E]
    hidden_states: tuple | None = None  # embeddings, then every layer: [B, L, E] each
    attentions: tuple | None = None  # every layer's probabilities before dropout: [B, H, L, L] each


class HeadOutput(NamedTuple):
    loss: paddle.Tensor | None
    logits: paddle.Tensor
    hidden_states: tuple | None = None
    attentions: tuple | None = None


class QuestionAnsweringOutput(NamedTuple):
    loss: paddle.Tensor | None
    start_logits: paddle.Tensor  # [B, L]
    end_logits: paddle.Tensor  # [B, L]
    hidden_states: tuple | None = None
    attentions: tuple | None = None


class PretrainingOutput(NamedTuple):
    loss: paddle.Tensor  # gen_weight · gen_loss + disc_weight · disc_loss
    logits: paddle.Tensor  # of the discriminator, [B, L]
    hidden_states: tuple | None
    attentions: tuple | None
    gen_loss: paddle.Tensor  # mean over the N masked positions
    disc_loss: paddle.Tensor  # mean over all real tokens
    gen_predictions: paddle.Tensor  # the generator's likeliest words, int [N]
    disc_input_ids: paddle.Tensor  # input_ids with the generator's samples at the masked positions, [B, L]
    disc_labels: paddle.Tensor  # 1 = replaced by another token, 0 = original, -100 = padding; [B, L]


class ModelOutput(dict):
    """Name → what there is, in order; as Hugging Face's and PaddleNLP's also by number, and `output.name` for each
    name that the output may have, None where it was not asked for."""

    def __init__(self, output):
        super().__init__((name, value) for name, value in output.items() if value is not None)
        self._names = frozenset(output)

    def __getitem__(self, key):
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def __getattr__(self, name):
        if name.startswith("_") or name not in self._names:
            raise AttributeError(name)
        return self.get(name)

    def to_tuple(self):
        return tuple(self.values())


def returned(output, return_dict=None, **more):
    """What a forward returns of a named tuple.

    Args:
        return_dict: None: the result alone where nothing else was asked for (one Tensor; for question answering two),
            else the named tuple. False, PaddleNLP's default: the same without names, what is None left out. True: a
            ModelOutput.
        **more: names that only a ModelOutput has.
    """
    if return_dict:
        first, *rest = output._asdict().items()
        return ModelOutput(dict([first, *more.items(), *rest]))
    asked = any(getattr(output, name, None) is not None for name in ("loss", "hidden_states", "attentions"))
    if asked and return_dict is None:
        return output
    given = tuple(value for value in output if value is not None)
    return given if len(given) > 1 else given[0]
