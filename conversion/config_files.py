"""What a checkpoint's config.json, its weights' names and their shapes say of the model, whoever wrote them."""

import dataclasses
import re
from pathlib import Path

from family.architectures import ARCHITECTURES, config_class, type_of_class
from files.errors import InputError
from files.json_files import read_json_object
from layers.configuration import ConvBertConfig, model_type_of

SAME_ACTIVATIONS = {  # other libraries' names of functions that have another one here
    "swish": "silu",
    "gelu_python": "gelu",
    **dict.fromkeys(("gelu_accurate", "gelu_fast", "gelu_python_tanh", "gelu_pytorch_tanh"), "gelu_new"),
}


GOOGLE_S = "bert_config.json"  # beside BERT's checkpoints of TensorFlow


def read_config(folder):
    """The content of a folder's config.json, activations by our names; {} where there is none. Raises InputError."""
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        if (folder / GOOGLE_S).is_file():
            return {"model_type": "bert", **read_json_object(folder / GOOGLE_S)}
        if (folder / "model_config.json").is_file():
            raise InputError(
                f"{folder}: its model_config.json is of a PaddleNLP before 2.5; let a later one load and save it"
            )
        return {}
    content = read_json_object(folder / "config.json")
    if isinstance(activation := content.get("hidden_act"), str):
        content["hidden_act"] = SAME_ACTIVATIONS.get(activation, activation)
    return content


def is_complete(folder):
    """Whether `from_pretrained` needs no more than a folder's config.json says, in the words in which it says it."""
    content = read_config(folder)
    stored = read_json_object(Path(folder) / "config.json") if content else {}
    sizes = () if model_type_of(content) == "convbert" else ("vocab_size", "max_position_embeddings", "type_vocab_size")
    return content == stored and all(size in content for size in sizes)


def find_model_type(content, names, asked, where):
    """What the content of a config.json says, else names of weights. Raises InputError where it isn't what is `asked`.

    Where neither tells, it is what is asked, and of None what the parts of the model make likely.
    """
    stated = (re.match(r"(?:discriminator\.|generator\.)?(\w+)\.", name) for name in names)
    stated = next((name[1] for name in stated if name and name[1] in ARCHITECTURES), None)
    found = (
        model_type_of(content, default="")
        or type_of_class(first_architecture(content) or "")
        or stated
        or asked
        or _likely_type(names)
    )
    if found not in ARCHITECTURES:
        raise InputError(f"{where}: model_type is {found!r}, none of {', '.join(ARCHITECTURES)}")
    require_type(where, found, asked)
    return found


def require_type(where, found, asked):
    """Raises InputError unless the type of a model is the one that is asked for, or None is."""
    if asked not in (None, found):
        raise InputError(f"{where}: a model of type {found}, not {asked}")


def _likely_type(names):
    """For a bare encoder's names."""
    for kind, parts in {
        "convbert": ("self_attn.key_conv_attn_layer.", "attention.self.key_conv_attn_layer."),
        "ernie": ("task_type_embeddings.",),
        "electra": ("generator_predictions.", "discriminator_predictions.", "embeddings_project."),
        "bert": ("cls.", "pooler."),
    }.items():
        if any(part in name for name in names for part in parts):
            return kind
    return "convbert"


def first_architecture(content):
    """The class that a config.json names, None if it names none."""
    named = content.get("architectures")
    return named[0] if isinstance(named, list) and named and isinstance(named[0], str) else None


def with_sizes(content, kind, weights, source):
    """What config.json says, completed by what the encoder's weights do. weights: in our names."""
    if kind == "convbert":
        if "hidden_size" not in content:  # no config.json, as beside PaddleNLP's published weights
            content = content | ConvBertConfig.of_weights(weights)
    elif not content:
        raise InputError(f"{source}: no config.json, which tells the number of heads")
    else:
        content = {**sizes_of(weights, kind), **content}
    return content | config_class(kind).of_pooler(f"{kind}.pooler.dense.weight" in weights)


def sizes_of(weights, kind):
    """What the shapes of an encoder's weights, in our names, say of its configuration."""
    shapes = {name.removeprefix(f"{kind}."): array.shape for name, array in weights.items()}
    layers = [int(name.split(".")[2]) for name in shapes if name.startswith("encoder.layers.")]
    sizes = {"num_hidden_layers": 1 + max(layers, default=-1)}
    for name, fields in {
        "embeddings.word_embeddings.weight": ("vocab_size", "embedding_size"),
        "embeddings.position_embeddings.weight": ("max_position_embeddings",),
        "embeddings.token_type_embeddings.weight": ("type_vocab_size",),
        "embeddings.task_type_embeddings.weight": ("task_type_vocab_size",),
        "encoder.layers.0.linear1.weight": ("hidden_size", "intermediate_size"),
    }.items():
        sizes |= zip(fields, shapes.get(name, ()))  # noqa: B905  (the other length is the hidden size)
    sizes["use_task_id"] = "task_type_vocab_size" in sizes
    return {field.name: sizes[field.name] for field in dataclasses.fields(config_class(kind)) if field.name in sizes}
