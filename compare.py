"""Checks that this project's ConvBERT and Hugging Face's compute the same numbers from the same weights.

    python compare.py

builds the three published sizes in Hugging Face's library, converts them with convert.py and runs both on one padded
batch with two segments, through the encoder and the classification head. Exit status 1 when they differ.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

import runtime  # noqa: F401  (before Paddle)
from checkpoint_files import InputError
from command_line import ArgumentParser, script
from convert import convert, fetch

PUBLISHED = {  # our name → the hub's
    "convbert-small": "YituTech/conv-bert-small",
    "convbert-medium-small": "YituTech/conv-bert-medium-small",
    "convbert-base": "YituTech/conv-bert-base",
}
NOISE = 0.02  # standard deviation of what is added to every random weight, so that no bias or norm is trivial


def reference_model(source, seed=0):
    """A Hugging Face ConvBertForSequenceClassification: of a folder, or random of a published size."""
    import torch
    import transformers

    from modeling import ConvBertConfig

    torch.manual_seed(seed)
    transformers.utils.logging.set_verbosity_error()
    if Path(source).is_dir():
        return transformers.ConvBertForSequenceClassification.from_pretrained(source).eval()
    settings = ConvBertConfig.from_preset(source).to_dict()
    model = transformers.ConvBertForSequenceClassification(transformers.ConvBertConfig(**settings)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * NOISE)
    return model


def batch(vocab_size, seed=0, sentences=4, length=64):
    """input_ids, token_type_ids, attention_mask, int64 [B, L] each: two segments, each row shorter than the last."""
    random = np.random.default_rng(seed)
    ids = random.integers(1, vocab_size, (sentences, length))
    types = np.zeros_like(ids)
    mask = np.ones_like(ids)
    for row in range(sentences):
        real = length - 13 * row
        types[row, real // 3 : real] = 1
        ids[row, real:] = mask[row, real:] = 0
    return ids, types, mask


def differences(reference, ours, inputs):
    """Runs both models. Returns {"hidden": |a - b| of the last hidden state, "logits": of the classification head}."""
    import paddle
    import torch

    ids, types, mask = (torch.from_numpy(array) for array in inputs)
    with torch.no_grad():
        output = reference(
            input_ids=ids, token_type_ids=types, attention_mask=mask, output_hidden_states=True, return_dict=True
        )
    ids, types, mask = (paddle.to_tensor(array) for array in inputs)
    ours.eval()
    with paddle.no_grad():
        own = ours(ids, types, attention_mask=mask, output_hidden_states=True)
    return {
        "hidden": np.abs(output.hidden_states[-1].numpy() - own.hidden_states[-1].numpy()),
        "logits": np.abs(output.logits.numpy() - own.logits.numpy()),
    }


def passes(found, tolerance):
    """True when every difference is at most `tolerance`, and their mean at most a tenth of it. NaN never passes."""
    return all(array.max() <= tolerance and array.mean() <= tolerance / 10 for array in found.values())


def compare(name, weights, tolerance):
    """Compares one model and prints the result. Returns whether it is within tolerance."""
    from modeling import ConvBertForSequenceClassification

    hub = PUBLISHED.get(name, name)
    source = weights if weights not in ("auto", "random", "hub") else name
    if weights in ("auto", "hub"):
        try:
            source = fetch(hub)
        except InputError as error:
            if weights == "hub":
                raise
            print(f"{error}; comparing random weights", file=sys.stderr)
    reference = reference_model(source)
    with tempfile.TemporaryDirectory() as folder:
        reference.save_pretrained(f"{folder}/huggingface")
        convert(f"{folder}/huggingface", f"{folder}/paddle")
        ours = ConvBertForSequenceClassification.from_pretrained(f"{folder}/paddle")
    found = differences(reference, ours, batch(reference.config.vocab_size))
    print(f"huggingface {hub} vs paddle {name}")
    print(f"mean difference: {found['hidden'].mean():.4e}")
    print(f"max difference: {found['hidden'].max():.4e}")
    print(f"classification logits: mean {found['logits'].mean():.4e}, max {found['logits'].max():.4e}", flush=True)
    if passes(found, tolerance):
        return True
    print(f"{name}: over the tolerance, {tolerance:g} (mean: {tolerance / 10:g})", file=sys.stderr)
    return False


@script
def main(argv=None):
    parser = ArgumentParser("Compare this project's ConvBERT with Hugging Face's, number by number.")
    parser.add_argument("--models", nargs="+", default=list(PUBLISHED), choices=list(PUBLISHED), help="published sizes")
    parser.add_argument(
        "--weights",
        default="auto",
        help="hub: the published ones; random: ours to make; auto: hub, else random; or a Hugging Face folder",
    )
    parser.add_argument("--tolerance", type=float, default=1e-5, help="largest difference allowed; the mean: a tenth")
    args = parser.parse_args(argv)
    if args.weights not in ("auto", "hub", "random"):
        if not Path(args.weights).is_dir():
            raise InputError(f"--weights {args.weights}: neither auto, hub, random nor a folder")
        args.models = [Path(args.weights).name]
    good = [compare(name, args.weights, args.tolerance) for name in args.models]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
