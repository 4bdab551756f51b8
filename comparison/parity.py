"""The checks of compare.py: each asks a reference and this project's model the same and measures the difference."""

from typing import NamedTuple

import numpy as np

from comparison.references import kind_of, labels_for

GRADIENT_TOLERANCE, LOSS_TOLERANCE = 1e-4, 1e-4
LAYOUTS = ("padded", "left-padded", "unpadded")
HEADS = {  # kind of class, see references.kind_of → in words
    "ForSequenceClassification": "sequence classification",
    "ForTokenClassification": "token classification",
    "ForQuestionAnswering": "question answering",
    "ForMultipleChoice": "multiple choice",
    "ForMaskedLM": "masked language model",
    "Discriminator": "discriminator",
}


class Finding(NamedTuple):
    check: str
    part: str  # which head, layer, parameter, layout
    mean: float  # of |a - b|; for gradients and losses, relative as their docstrings say
    max: float
    allowed: float | None  # of the maximum; None: reported, not judged
    passed: bool


def batch(config, seed=0, sentences=4, length=64, layout="padded"):
    """Token ids, two segments, and a mask: dict of int64 [B, L]; every row is shorter than the one before it."""
    random = np.random.default_rng(seed)
    length = min(length, config.max_position_embeddings)
    ids = random.integers(1, config.vocab_size, (sentences, length))
    types, mask = np.zeros_like(ids), np.ones_like(ids)
    for row in range(sentences):
        real = length if layout == "unpadded" else length - row * (length // 5)
        types[row, real // 3 : real] = min(1, config.type_vocab_size - 1)
        ids[row, real:] = mask[row, real:] = 0
        if layout == "left-padded":
            for array in (ids, types, mask):
                array[row] = np.roll(array[row], length - real)
    return {"input_ids": ids, "token_type_ids": types, "attention_mask": mask}


def inputs_for(architecture, config, **wishes):
    """`batch`, for multiple choice with two texts to choose from: [B / 2, 2, L]."""
    inputs = batch(config, **wishes)
    if kind_of(architecture) == "ForMultipleChoice":
        inputs = {name: array.reshape(-1, 2, array.shape[-1]) for name, array in inputs.items()}
    return inputs


def closeness(check, part, expected, found, tolerance):
    """A Finding: the largest difference is at most `tolerance`, the mean at most a tenth of it. NaN never passes."""
    difference = np.abs(expected.astype(np.float64) - found)
    mean, largest = float(difference.mean()), float(difference.max())
    return Finding(check, part, mean, largest, tolerance, largest <= tolerance and mean <= tolerance / 10)


def layers(check, reference, ours, inputs, tolerance):
    """A Finding for the embeddings and for every layer."""
    expected, found = reference.forward(inputs).hidden_states, ours.forward(inputs).hidden_states
    pairs = enumerate(zip(expected, found, strict=True))
    return [closeness(check, layer_name(number), a, b, tolerance) for number, (a, b) in pairs]


def layer_name(number):
    """Of a model's hidden states; the layers count from 0, as in the weights' names."""
    return f"layer {number - 1}" if number else "embeddings"


def padding(reference, ours, tolerance):
    """The last hidden state of the same texts padded on either side, and of texts that fill the batch."""
    findings = []
    for layout in LAYOUTS:
        inputs = inputs_for(type(ours.model).__name__, ours.config, layout=layout)
        of_layers = layers("padding", reference, ours, inputs, tolerance)
        findings.append(of_layers[-1]._replace(part=layout))
    return findings


def head_name(architecture):
    return HEADS[kind_of(architecture)]


def head(check, architecture, reference, ours, tolerance):
    """The logits, of several batches where one gives so few (multiple choice: 4) that their mean says nothing."""
    count = 4 if kind_of(architecture) == "ForMultipleChoice" else 1
    batches = [inputs_for(architecture, ours.config, seed=seed) for seed in range(count)]
    expected, found = (np.stack([np.stack(side.forward(b).logits) for b in batches]) for side in (reference, ours))
    return [closeness(check, head_name(architecture), expected, found, tolerance)]


def gradients(architecture, reference, ours):
    """Every parameter: |a - b| / max(max |b| of that tensor, 1e-3 · the largest gradient in the model).

    For biases that a softmax cannot see it is 1e-2 of the largest: their gradients are rounding on both sides.
    """
    ignore = reference.library != "paddlenlp"  # whose mean counts ignored labels, and whose BERT trains the pad row
    inputs = inputs_for(architecture, ours.config, layout="padded" if ignore else "unpadded")
    labels = labels_for(architecture, inputs, ours.config.num_labels, ignore=ignore)
    expected, found = reference.gradients(inputs, labels), ours.gradients(inputs, labels)
    largest = max(float(np.abs(array).max()) for array in expected.values())
    findings = []
    for name in {**expected, **found}:
        if name not in expected or name not in found:
            findings.append(
                Finding("gradients", f"{name}: on one side only", np.inf, np.inf, GRADIENT_TOLERANCE, False)
            )
            continue
        floor = 1e-2 if invisible(architecture, name) else 1e-3
        scale = max(float(np.abs(expected[name]).max()), floor * largest)
        difference = np.abs(expected[name] - found[name]) / scale
        worst = float(difference.max())
        part = f"{name}, {head_name(architecture)}"
        findings.append(
            Finding("gradients", part, float(difference.mean()), worst, GRADIENT_TOLERANCE, worst <= GRADIENT_TOLERANCE)
        )
    return findings


def invisible(architecture, name):
    """Whether a bias adds the same to all that a softmax weighs, so that its true gradient is zero."""
    weighs = ("ForQuestionAnswering", "ForMultipleChoice")  # positions, choices
    return name.endswith("k_proj.bias") or (name == "classifier.bias" and kind_of(architecture) in weighs)


def training(architecture, reference, ours, steps, learning_rate):
    """Both models, from the same weights, through the same AdamW steps on fresh batches of 4 × 32.

    Losses: |a - b| / max(1, |b|) over the steps. The final weights' difference is reported without the biases that a
    softmax cannot see, as nothing but rounding moves them.
    """
    count = ours.config.num_labels

    def batches():
        for step in range(steps):
            inputs = inputs_for(architecture, ours.config, seed=1000 + step, length=32)
            yield inputs, labels_for(architecture, inputs, count, seed=step)

    curves = [np.array(list(side.train(batches(), learning_rate))) for side in (reference, ours)]
    difference = np.abs(curves[0] - curves[1]) / np.maximum(1, np.abs(curves[0]))
    worst = float(difference.max())
    losses = Finding(
        "training", f"{steps} losses", float(difference.mean()), worst, LOSS_TOLERANCE, worst <= LOSS_TOLERANCE
    )
    expected, found = reference.weights(), ours.weights()
    gaps = [np.abs(expected[name] - found[name]).ravel() for name in expected if not invisible(architecture, name)]
    gaps = np.concatenate(gaps)
    return [losses, Finding("training", "final weights", float(gaps.mean()), float(gaps.max()), None, True)]


SENTENCES = [
    "the acting is superb , and the ending is utterly hollow .",
    "Zwei Wörter, naïve café; ÅNGSTRÖM!", "don't stop: it's 3.14 (or 1,000,000)", "", "   ", "x",
    "東京 2020 と 中文字符", "a_b-c/d\\e", "[MASK] and [SEP] in a text", "tab\tnew\nline\u00a0space\u200bnone",
    "supercalifragilisticexpialidocious " * 3, "¿qué? “quoted” — dashed… e\u0301",
]  # fmt: skip


def tokenizer(expected, found, sentences, exact=True):
    """Ids, types and offsets of sentences and pairs; `max` counts the rows that differ.

    Args:
        expected: the other library's tokenizer.
        found: a ConvBertTokenizer.
        exact: with offsets and with pairs that are cut, too.
    """
    wishes = {"return_offsets_mapping": True} if exact else {}
    calls = {
        "sentences": dict(text=sentences),
        "pairs, padded": dict(text=sentences, text_pair=sentences[::-1], padding=True),
        "pairs, cut": dict(text=sentences, text_pair=sentences[::-1], truncation=True, max_length=16),
    }
    if not exact:
        del calls["pairs, cut"]
    findings = []
    for part, call in calls.items():
        theirs, own = expected(**call, **wishes), found(**call, **wishes)
        names = ["input_ids", "token_type_ids", *(["offset_mapping"] if exact else [])]
        wrong = [sum(map(lambda a, b: list(map(_plain, a)) != list(map(_plain, b)), theirs[n], own[n])) for n in names]
        findings.append(Finding("tokenizer", part, sum(wrong) / len(sentences), float(max(wrong)), 0.0, not any(wrong)))
    return findings


def _plain(value):
    return tuple(value) if isinstance(value, (list, tuple)) else int(value)
