"""What a classifier does with one text: attention maps, a ConvBERT's kernels, probabilities; their picture."""

from typing import NamedTuple

import numpy as np
import paddle

from files.errors import InputError
from files.pictures import OTHERS, OURS, one_line, panels, write_picture
from modeling import MixedAttention


class Explanation(NamedTuple):
    tokens: list  # L strings
    layer: int  # from 1
    layers: int
    attention: np.ndarray  # [H, L, L]; rows add up to 1
    kernels: np.ndarray | None  # ConvBERT's [H, L, K]; what token l takes of those K // 2 before to K // 2 after it
    answers: dict  # label → probability; of a regression, {"score": number}
    chosen: list  # those of the answers that hold


def explain(predictor, text, text_pair=None, layer=None):
    """Looks into one of the layers, numbered from 1; left out: the middle one.

    Args:
        predictor: predictor.Predictor of a model's folder.

    Raises:
        InputError: a program, or no such layer.
    """
    if predictor.engine.name != "dynamic":
        raise InputError("only a model's own folder can be looked into, not a program")
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
        x, half = found.hidden_states[layer - 1], model.backbone.encoder.layers[layer - 1].self_attn
        kernels = None
        if isinstance(half, MixedAttention):
            kernels = half.kernels(x, half.q_proj(x))[0].numpy().transpose(1, 0, 2)  # [L, H, K] → [H, L, K]
    (prediction,) = predictor([text], pairs)
    if prediction.score is None:
        answers = prediction.probabilities
        chosen = [prediction.label] if prediction.labels is None else prediction.labels
    else:
        answers, chosen = {"score": prediction.score}, ["score"]
    return Explanation(
        predictor.tokenizer.convert_ids_to_tokens(columns["input_ids"][0]), layer, count,
        found.attentions[layer - 1][0].numpy(), kernels, answers, chosen,
    )  # fmt: skip


MOST_TOKENS, MOST_HEADS = 48, 6  # that a picture shows; heads in a row


def draw_explanation(found, path):
    """A layer's maps in two rows, head by head, and the answer as bars.

    The lower row has a ConvBERT's convolution kernels, or another model's further attention heads. All maps share the
    tokens' axis: row l says what token l looks at.

    found: an Explanation.
    """
    tokens = [one_line(token) for token in found.tokens[:MOST_TOKENS]]
    heads, length = len(found.attention), len(tokens)
    columns = min(-(-heads // 2) if found.kernels is None else heads, MOST_HEADS)
    side = 1.4 + 0.16 * length
    picture, parts = panels(2, columns + 1, (side * columns + 3.2, 2 * side + 0.6))
    small = dict(fontsize=7 if length < 30 else 5)
    for place, panel in enumerate(parts[:, :columns].flat):
        if found.kernels is not None and place >= columns:
            head, taps = place - columns, found.kernels.shape[2]
            panel.imshow(found.kernels[head, :length], cmap="Greens", vmin=0, aspect="auto")
            panel.set_title(f"convolution head {head + 1}", fontsize=9)
            offsets = [f"{tap - taps // 2:+d}" if tap != taps // 2 else "0" for tap in range(taps)]
            panel.set_xticks(range(taps), offsets, **small)
            panel.set_xlabel("neighbour", fontsize=8)
        elif place < heads:
            panel.imshow(found.attention[place, :length, :length], cmap="Greens", vmin=0, aspect="auto")
            panel.set_title(f"attention head {place + 1}", fontsize=9)
            panel.set_xticks(range(length), tokens, rotation=90, **small)
        else:
            panel.axis("off")
        panel.set_yticks(range(length), tokens, **small)
        panel.spines[:].set_visible(False)
    bars, note = parts[:, columns]
    _draw_answers(found, bars)
    note.axis("off")
    drawn = columns if found.kernels is not None else min(heads, 2 * columns)
    kinds = "" if found.kernels is None else " of each kind"
    shown = [f"layer {found.layer} of {found.layers}"]
    shown += [f"the first {length} of {len(found.tokens)} tokens"] if length < len(found.tokens) else []
    shown += [f"{drawn} of {heads} heads{kinds}"] if drawn < heads else []
    note.text(0, 0.95, "\n".join(shown), va="top", fontsize=9)
    write_picture(picture, path)


def _draw_answers(found, panel):
    names = list(found.answers)
    values = [found.answers[name] for name in names]
    colors = [OURS if name in found.chosen else OTHERS for name in names]
    panel.barh(range(len(names)), values, height=0.5, color=colors)
    panel.set_yticks(range(len(names)), [one_line(name, 16) for name in names], fontsize=8)
    panel.invert_yaxis()
    for row, value in enumerate(values):
        panel.text(max(value, 0), row, f" {value:.3f}", va="center", fontsize=8)
    if names != ["score"]:
        panel.set_xlim(0, 1.25)
        panel.set_xticks([0, 0.5, 1])
    panel.set_title("answer", fontsize=9)
