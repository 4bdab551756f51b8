"""Converts a Hugging Face ConvBERT checkpoint to this project's (= PaddleNLP's) format.

    python convert.py --input FOLDER_OR_hf:OWNER/NAME --output FOLDER

The name mapping is one literal table. Every source key is mapped or dropped by name; an unknown one is an error, and so
is a target parameter that stays unfilled or gets another shape.
"""

import atexit
import os
import shutil
import sys
import tempfile
import urllib.request
from pathlib import Path

import numpy as np

import runtime  # noqa: F401  (before Paddle)
from checkpoint_files import HUB_TIMEOUT, InputError, atomic_folder, is_hugging_face, read_json, read_weights
from command_line import ArgumentParser, script

SAME = np.asarray
DENSE = np.transpose  # [out, in] → [in, out]
COLUMN = np.ravel  # [out, 1] → [out]


def grouped(array):
    """A dense weight unless it has groups: [G, in / G, out / G] is laid out alike in both."""
    return array if array.ndim == 3 else array.T


LAYER, SELF = "convbert.encoder.layer.{}.", "convbert.encoder.layer.{}.attention.self."
OUR_LAYER, OUR_SELF = "convbert.encoder.layers.{}.", "convbert.encoder.layers.{}.self_attn."

NAMES = {  # Hugging Face's name → (ours, what becomes of the array); None: dropped on purpose
    "convbert.embeddings.word_embeddings.weight": ("convbert.embeddings.word_embeddings.weight", SAME),
    "convbert.embeddings.position_embeddings.weight": ("convbert.embeddings.position_embeddings.weight", SAME),
    "convbert.embeddings.token_type_embeddings.weight": ("convbert.embeddings.token_type_embeddings.weight", SAME),
    "convbert.embeddings.LayerNorm.weight": ("convbert.embeddings.layer_norm.weight", SAME),
    "convbert.embeddings.LayerNorm.bias": ("convbert.embeddings.layer_norm.bias", SAME),
    "convbert.embeddings.position_ids": None,  # 0, 1, 2, … kept as a buffer by older versions
    "convbert.embeddings.token_type_ids": None,  # 0, 0, 0, …
    "convbert.embeddings_project.weight": ("convbert.embeddings_project.weight", DENSE),
    "convbert.embeddings_project.bias": ("convbert.embeddings_project.bias", SAME),
    SELF + "query.weight": (OUR_SELF + "q_proj.weight", DENSE),
    SELF + "query.bias": (OUR_SELF + "q_proj.bias", SAME),
    SELF + "key.weight": (OUR_SELF + "k_proj.weight", DENSE),
    SELF + "key.bias": (OUR_SELF + "k_proj.bias", SAME),
    SELF + "value.weight": (OUR_SELF + "v_proj.weight", DENSE),
    SELF + "value.bias": (OUR_SELF + "v_proj.bias", SAME),
    SELF + "key_conv_attn_layer.depthwise.weight": (OUR_SELF + "key_conv_attn_layer.depthwise.weight", SAME),
    SELF + "key_conv_attn_layer.pointwise.weight": (OUR_SELF + "key_conv_attn_layer.pointwise.weight", SAME),
    SELF + "key_conv_attn_layer.bias": (OUR_SELF + "key_conv_attn_layer.bias", COLUMN),
    SELF + "conv_kernel_layer.weight": (OUR_SELF + "conv_kernel_layer.weight", DENSE),
    SELF + "conv_kernel_layer.bias": (OUR_SELF + "conv_kernel_layer.bias", SAME),
    SELF + "conv_out_layer.weight": (OUR_SELF + "conv_out_layer.weight", DENSE),
    SELF + "conv_out_layer.bias": (OUR_SELF + "conv_out_layer.bias", SAME),
    LAYER + "attention.output.dense.weight": (OUR_SELF + "out_proj.weight", DENSE),
    LAYER + "attention.output.dense.bias": (OUR_SELF + "out_proj.bias", SAME),
    LAYER + "attention.output.LayerNorm.weight": (OUR_LAYER + "norm1.weight", SAME),
    LAYER + "attention.output.LayerNorm.bias": (OUR_LAYER + "norm1.bias", SAME),
    LAYER + "intermediate.dense.weight": (OUR_LAYER + "linear1.weight", grouped),
    LAYER + "intermediate.dense.bias": (OUR_LAYER + "linear1.bias", SAME),
    LAYER + "output.dense.weight": (OUR_LAYER + "linear2.weight", grouped),
    LAYER + "output.dense.bias": (OUR_LAYER + "linear2.bias", SAME),
    LAYER + "output.LayerNorm.weight": (OUR_LAYER + "norm2.weight", SAME),
    LAYER + "output.LayerNorm.bias": (OUR_LAYER + "norm2.bias", SAME),
    # sequence classification
    "classifier.dense.weight": ("classifier.dense.weight", DENSE),
    "classifier.dense.bias": ("classifier.dense.bias", SAME),
    "classifier.out_proj.weight": ("classifier.out_proj.weight", DENSE),
    "classifier.out_proj.bias": ("classifier.out_proj.bias", SAME),
    # token classification
    "classifier.weight": ("classifier.weight", DENSE),
    "classifier.bias": ("classifier.bias", SAME),
    # question answering
    "qa_outputs.weight": ("classifier.weight", DENSE),
    "qa_outputs.bias": ("classifier.bias", SAME),
    # masked language model
    "generator_predictions.dense.weight": ("generator_predictions.dense.weight", DENSE),
    "generator_predictions.dense.bias": ("generator_predictions.dense.bias", SAME),
    "generator_predictions.LayerNorm.weight": ("generator_predictions.layer_norm.weight", SAME),
    "generator_predictions.LayerNorm.bias": ("generator_predictions.layer_norm.bias", SAME),
    "generator_lm_head.weight": None,  # tied to the word embeddings, which is checked
    "generator_lm_head.bias": ("generator_lm_head_bias", SAME),
}

HEADS = {  # a key that only this head has → our class
    "classifier.out_proj.weight": "ConvBertForSequenceClassification",
    "classifier.weight": "ConvBertForTokenClassification",
    "qa_outputs.weight": "ConvBertForQuestionAnswering",
    "generator_predictions.dense.weight": "ConvBertGenerator",
}


def rename(weights, source):
    """Hugging Face's name → array, as one dict of ours. Raises InputError for a key that the table doesn't have."""
    converted = {}
    for name, array in weights.items():
        pattern, layer = _without_layer(name)
        if pattern not in NAMES:
            raise InputError(f"{source}: unknown key {name}: not a checkpoint this project can hold")
        if NAMES[pattern] is None:
            continue
        ours, change = NAMES[pattern]
        converted[ours.format(layer)] = np.ascontiguousarray(change(array))
    return converted


def _without_layer(name):
    """ "convbert.encoder.layer.3.output.dense.bias" → "convbert.encoder.layer.{}.output.dense.bias", "3"."""
    start, mark, rest = name.partition("encoder.layer.")
    layer, dot, rest = rest.partition(".")
    return (f"{start}{mark}{{}}{dot}{rest}", layer) if mark else (name, None)


def convert(source, output):
    """Converts the Hugging Face folder `source` into the new folder `output`, whole or not at all.

    Configuration, label names, vocabulary and tokenizer settings come along. Raises InputError.
    """
    import modeling

    source, output = Path(source), Path(output)
    if output.exists() and any(output.iterdir()):
        raise InputError(f"{output}: not empty; name a new folder")
    weights = read_weights(source)
    if not is_hugging_face(weights):
        raise InputError(f"{source}: no Hugging Face ConvBERT in here (no key contains encoder.layer.)")
    if "embeddings.word_embeddings.weight" in weights:  # the bare encoder
        weights = {f"convbert.{name}": array for name, array in weights.items()}
    content = read_json(source / "config.json")
    if content.get("model_type") != "convbert":
        raise InputError(f"{source / 'config.json'}: model_type is {content.get('model_type')!r}, not 'convbert'")
    if content.get("head_ratio", 2) != 2 or content.get("num_attention_heads", 12) < 2:
        raise InputError(
            f"{source / 'config.json'}: Hugging Face changes the head size when head_ratio is not 2 or heads < 2; "
            "this project follows the original and can't hold such a model"
        )
    tied = weights.get("generator_lm_head.weight")
    if tied is not None and not np.array_equal(tied, weights.get("convbert.embeddings.word_embeddings.weight")):
        raise InputError(f"{source}: its output embeddings differ from its word embeddings; here they are tied")

    tokenizer = None
    if any((source / name).is_file() for name in ("vocab.txt", "tokenizer.json")):
        from tokenizer import ConvBertTokenizer

        tokenizer = ConvBertTokenizer.from_pretrained(source)
    pad_id = tokenizer.pad_token_id if tokenizer else 0  # Hugging Face's default of 1 is a slip
    config = modeling.ConvBertConfig.from_dict(content, classifier="mlp", pad_token_id=pad_id)
    architecture = next((name for key, name in HEADS.items() if key in weights), "ConvBertModel")
    model = getattr(modeling, architecture)(config)
    model.load_weights(rename(weights, source), source, whole=True)
    with atomic_folder(output) as folder:
        model.save_pretrained(folder)
        if tokenizer:
            tokenizer.save_pretrained(folder)
    return architecture


HUB_FILES = ("*.json", "vocab.txt", "*.safetensors", "pytorch_model*.bin")


def fetch(name):
    """Folder with the files of "OWNER/NAME" on the Hugging Face hub, downloaded once. Raises InputError."""
    import huggingface_hub

    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        return huggingface_hub.snapshot_download(name, allow_patterns=HUB_FILES, local_files_only=True)
    except (OSError, ValueError):
        pass  # not there yet
    try:
        urllib.request.urlopen(f"{endpoint}/api/models/{name}", timeout=HUB_TIMEOUT).close()
        return huggingface_hub.snapshot_download(name, allow_patterns=HUB_FILES, etag_timeout=HUB_TIMEOUT)
    except (OSError, ValueError) as error:
        raise InputError(f"hf:{name}: can't be had from {endpoint} ({error})") from None


def resolve(name):
    """What `from_pretrained` can load for any source a user may name.

    "hf:OWNER/NAME" and Hugging Face folders are converted into a folder that lives as long as this process; anything
    else is returned as it is.
    """
    folder = fetch(name.removeprefix("hf:")) if name.startswith("hf:") else name
    if not os.path.isdir(folder) or not is_hugging_face(read_weights(folder)):
        return folder
    output = tempfile.mkdtemp(prefix="convbert-")
    atexit.register(shutil.rmtree, output, ignore_errors=True)
    convert(folder, output)
    return output


@script
def main(argv=None):
    parser = ArgumentParser("Convert a Hugging Face ConvBERT checkpoint to this project's and PaddleNLP's format.")
    parser.add_argument("--input", required=True, help="checkpoint folder, or hf:OWNER/NAME")
    parser.add_argument("--output", required=True, help="new folder for the result")
    args = parser.parse_args(argv)
    source = fetch(args.input.removeprefix("hf:")) if args.input.startswith("hf:") else args.input
    architecture = convert(source, args.output)
    print(f"{args.input} → {args.output}: {architecture}")


if __name__ == "__main__":
    sys.exit(main())
