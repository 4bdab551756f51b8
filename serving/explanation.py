"""What a ConvBERT classifier does with one text: attention maps, convolution kernels, probabilities; their picture."""

from typing import NamedTuple

import numpy as np
import paddle

from files.errors import InputError
from files.pictures import OTHERS, OURS, one_line, panels, write_picture


class Explanation(NamedTuple):
    tokens: list  # L strings
    layer: int  # from 1
    layers: int
    attention: np.ndarray  # [H, L, L]; rows add up to 1
    kernels: np.ndarray  # [H, L, K]; what token l takes of the tokens K // 2 before it to K // 2 after it
    answers: dict  # label → probability; of a regression, {"score": number}
    chosen: list  # those of the answers that hold


def explain(predictor, text, text_pair=None, layer=None):
    """Looks into one of the layers, numbered from 1; left out: the middle one.

    Args:
        predictor: predictor.Predictor of a ConvBERT folder.

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
    pairs = None if text_pair is None else [text_pair]
    columns = predictor.tokenizer([text], pairs, truncation=True, max_length=predictor.max_seq_length)
    inputs = {name: paddle.to_tensor(rows) for name, rows in columns.items()}
    with paddle.no_grad():
        found = model(**inputs, output_hidden_states=True, output_attentions=True)
        x, mixed = found.hidden_states[layer - 1], model.convbert.encoder.layers[layer - 1].self_attn
        kernels = mixed.kernels(x, mixed.q_proj(x))[0]  # [L, H, K]
    (prediction,) = predictor([text], pairs)
    if prediction.score is None:
        answers = prediction.probabilities
        chosen = [prediction.label] if prediction.labels is None else prediction.labels
    else:
        answers, chosen = {"score": prediction.score}, ["score"]
    return Explanation(
        predictor.tokenizer.convert_ids_to_tokens(columns["input_ids"][0]), layer, count,
        found.attentions[layer - 1][0].numpy(), kernels.numpy().transpose(1, 0, 2),
        answers, chosen,
    )  # fmt: skip


MOST_TOKENS, MOST_HEADS = 48, 6  # that a picture shows


def draw_explanation(found, path):
    """A layer's attention maps above its convolution kernels, head by head, and the answer as bars.

    found: an Explanation. Both kinds of map share the tokens' axis: row l says what token l looks at.
    """
    tokens = [one_line(token) for token in found.tokens[:MOST_TOKENS]]
    heads, length, taps = min(len(found.attention), MOST_HEADS), len(tokens), found.kernels.shape[2]
    side = 1.4 + 0.16 * length
    picture, parts = panels(2, heads + 1, (side * heads + 3.2, 2 * side + 0.6))
    small = dict(fontsize=7 if length < 30 else 5)
    for head in range(heads):
        above, below = parts[:, head]
        above.imshow(found.attention[head, :length, :length], cmap="Greens", vmin=0, aspect="auto")
        above.set_title(f"attention head {head + 1}", fontsize=9)
        above.set_xticks(range(length), tokens, rotation=90, **small)
        below.imshow(found.kernels[head, :length], cmap="Greens", vmin=0, aspect="auto")
        below.set_title(f"convolution head {head + 1}", fontsize=9)
        below.set_xticks(
            range(taps), [f"{tap - taps // 2:+d}" if tap != taps // 2 else "0" for tap in range(taps)], **small
        )
        below.set_xlabel("neighbour", fontsize=8)
        for panel in (above, below):
            panel.set_yticks(range(length), tokens, **small)
            panel.spines[:].set_visible(False)
    bars, note = parts[:, heads]
    names = list(found.answers)
    values = [found.answers[name] for name in names]
    bars.barh(range(len(names)), values, height=0.5, color=[OURS if name in found.chosen else OTHERS for name in names])
    words = [one_line(name, 16) for name in names]
    bars.set_yticks(range(len(names)), words, fontsize=8)
    bars.invert_yaxis()
    for row, value in enumerate(values):
        bars.text(max(value, 0), row, f" {value:.3f}", va="center", fontsize=8)
    if names != ["score"]:
        bars.set_xlim(0, 1.25)
        bars.set_xticks([0, 0.5, 1])
    bars.set_title("answer", fontsize=9)
    note.axis("off")
    shown = [f"layer {found.layer} of {found.layers}"]
    shown += [f"the first {length} of {len(found.tokens)} tokens"] if length < len(found.tokens) else []
    shown += [f"{heads} of {len(found.attention)} heads of each kind"] if heads < len(found.attention) else []
    note.text(0, 0.95, "\n".join(shown), va="top", fontsize=9)
    write_picture(picture, path)
