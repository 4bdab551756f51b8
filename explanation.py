"""What a ConvBERT classifier does with one text: attention maps, convolution kernels, probabilities."""

from typing import NamedTuple

import numpy as np
import paddle

from checkpoint_files import InputError


class Explanation(NamedTuple):
    tokens: list  # L strings
    layer: int  # from 1
    layers: int
    attention: np.ndarray  # [H, L, L]; rows add up to 1
    kernels: np.ndarray  # [H, L, K]; what token l takes of the tokens K // 2 before it to K // 2 after it
    answers: dict  # label → probability; of a regression, {"score": number}


def explain(predictor, text, text_pair=None, layer=None):
    """Looks into one of the layers, numbered from 1; left out: the middle one.

    Args:
        predictor: predict.Predictor of a ConvBERT folder.

    Raises:
        InputError: another kind of model, or no such layer.
    """
    if predictor.model_type != "convbert" or predictor.engine.name != "dynamic":
        raise InputError("only a ConvBERT's own folder can be looked into, not a program or another model")
    model = predictor.engine.model
    count = model.config.num_hidden_layers
    layer = (count + 1) // 2 if layer is None else layer
    if not 1 <= layer <= count:
        raise InputError(f"layer {layer}: this model has layers 1 to {count}")
    columns = predictor.tokenizer(
        [text], text_pair and [text_pair], truncation=True, max_length=predictor.max_seq_length
    )
    inputs = {name: paddle.to_tensor(rows) for name, rows in columns.items()}
    with paddle.no_grad():
        found = model(**inputs, output_hidden_states=True, output_attentions=True)
        block = model.convbert.encoder.layers[layer - 1]
        kernels = block.self_attn.kernels(found.hidden_states[layer - 1], None, block.norm1)[0]  # [L, H, K]
    (prediction,) = predictor([text], text_pair and [text_pair])
    return Explanation(
        predictor.tokenizer.convert_ids_to_tokens(columns["input_ids"][0]), layer, count,
        found.attentions[layer - 1][0].numpy(), kernels.numpy().transpose(1, 0, 2),
        prediction.probabilities or {"score": prediction.score},
    )  # fmt: skip
