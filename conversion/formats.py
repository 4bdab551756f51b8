"""Whole checkpoints of every library: read into a model of `modeling`, and written for Hugging Face.

What one of the libraries cannot hold is an error that says why; nothing is dropped but what a warning names.
"""

import logging
from pathlib import Path

import numpy as np

from conversion import tensorflow_checkpoint, weight_names
from files.atomic import atomic_folder
from files.errors import InputError
from files.json_files import read_json_object, write_json
from files.weights import is_hugging_face, read_names, read_weights, release_memory, write_safetensors
from layers.configuration import ConvBertConfig, model_type_of
from text.tokenizer_files import stored_length

logger = logging.getLogger("convbert")

JOINT = "ConvBertForPretraining"
HUGGING_FACE_CLASSES = {"ConvBertGenerator": "ConvBertForMaskedLM", "ConvBertDiscriminator": "ConvBertModel"}


def format_of(source):
    """ "tensorflow", "hf", or "paddle" for this project and PaddleNLP. Raises InputError where nothing can be read."""
    if tensorflow_checkpoint.find(source):
        return "tensorflow"
    return "hf" if is_hugging_face(read_names(source).values()) else "paddle"


def read_checkpoint(source, backbone_only=False):
    """Loads a checkpoint of this project, PaddleNLP, Hugging Face or the TensorFlow original.

    Args:
        source: folder, or the name of a TensorFlow checkpoint.
        backbone_only: the encoder alone; of a joint checkpoint, the discriminator's.

    Returns:
        The model, of the class in `modeling` that holds all of it, and its ConvBertTokenizer or None.

    Raises:
        InputError: nothing there, damaged, or something that this project can't hold.
    """
    import modeling

    original = tensorflow_checkpoint.find(source)
    folder = Path(original or source)
    folder = folder if folder.is_dir() else folder.parent
    tokenizer = None
    if any((folder / name).is_file() for name in ("vocab.txt", "tokenizer.json")):
        from tokenizer import ConvBertTokenizer

        tokenizer = ConvBertTokenizer.from_pretrained(folder)
    content = read_json_object(folder / "config.json") if (folder / "config.json").is_file() else {}
    if (model_type := model_type_of(content)) != "convbert":
        raise InputError(f"{folder / 'config.json'}: model_type is {model_type!r}, not 'convbert'")
    if original:
        parts = _original_parts(original, content, backbone_only)
    else:
        weights = read_weights(source)
        read_parts = _hugging_face_parts if is_hugging_face(weights) else _our_parts
        parts = read_parts(source, weights, content, backbone_only)
    pad_id = {"pad_token_id": tokenizer.pad_token_id} if tokenizer else {}
    configs = [ConvBertConfig.from_dict(content, **pad_id) for _, _, content in parts]
    for config, (_, weights, _) in zip(configs, parts, strict=True):
        config.require_weights(weights, source)
    architecture, weights = parts[0][:2]
    if len(parts) == 2:
        architecture = JOINT
        weights = {f"discriminator.{name}": array for name, array in weights.items()}
        weights |= {f"generator.{name}": array for name, array in parts[1][1].items()}
    if tokenizer and not stored_length(folder):
        tokenizer.model_max_length = configs[0].max_position_embeddings
    model = getattr(modeling, architecture)(*configs)
    model.load_weights(weights, source, whole=True)
    del parts, weights
    release_memory()
    return model, tokenizer


def convert(source, output, to="paddle", backbone_only=False, dtype="float32"):
    """Converts the checkpoint `source` into the new folder `output`, whole or not at all.

    Configuration, label names, vocabulary and tokenizer settings come along.

    Args:
        to: "paddle" for this project and PaddleNLP, "hf" for Hugging Face.
        backbone_only: see read_checkpoint.
        dtype: of the stored weights, "float32" or, for "paddle" only, "float16".

    Returns:
        str: the name of the class in `modeling`.

    Raises:
        InputError: `output` holds something, or see read_checkpoint and hugging_face_obstacle.
    """
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output}: not empty; name a new folder")
    model, tokenizer = read_checkpoint(source, backbone_only)
    with atomic_folder(output) as folder:
        if to == "hf":
            try:
                write_hugging_face(model, tokenizer, folder)
            except InputError as error:
                raise InputError(f"{source}: {error}") from None
        else:
            model.save_pretrained(folder, dtype)
            if tokenizer:
                tokenizer.save_pretrained(folder)
    architecture = type(model).__name__
    if (
        to == "paddle"
        and architecture == "ConvBertForSequenceClassification"
        and model.config.classifier != "pooled_mlp"
    ):
        logger.warning("this project loads the head; PaddleNLP, whose own has a pooler, should load the encoder only")
    return architecture


# The three readers return parts, two of a joint checkpoint: our class, our name → array, what config.json shall say.


def _our_parts(source, weights, content, backbone_only):
    """PaddleNLP's names, which are ours."""
    wanted = (content.get("architectures") or [None])[0]
    both = [weights]
    contents = [content, content.get("generator_config", content)]  # PaddleNLP's joint model has one for both
    if any(name.startswith("generator.") for name in weights):
        both = [
            {n.removeprefix(p): w for n, w in weights.items() if n.startswith(p)}
            for p in ("discriminator.", "generator.")
        ]
    parts = []
    for weights, content in zip(both[:1] if backbone_only else both, contents):  # noqa: B905  (one or two)
        if "embeddings.word_embeddings.weight" in weights:  # PaddleNLP's bare encoder
            weights = {f"convbert.{name}": array for name, array in weights.items()}
        if "convbert.embeddings.word_embeddings.weight" not in weights:
            raise InputError(f"{source}: no ConvBERT in here: no weight is called embeddings.word_embeddings.weight")
        if "hidden_size" not in content:  # no config.json, as beside PaddleNLP's published weights
            content = content | ConvBertConfig.of_weights(weights)
        if "convbert.pooler.dense.weight" in weights:
            content = {**content, "classifier": "pooled_mlp"}
        architecture = weight_names.architecture_of(weights, wanted)
        parts.append(_backbone(weights, content) if backbone_only else (architecture, weights, content))
    return parts


def _hugging_face_parts(source, weights, content, backbone_only):
    architecture = weight_names.architecture_of(weights, (content.get("architectures") or [None])[0])
    ours = weight_names.from_hugging_face(weights, architecture, source)
    words = ours.get("convbert.embeddings.word_embeddings.weight")
    if not np.array_equal(weights.get("generator_lm_head.weight", words), words):
        raise InputError(f"{source}: its output embeddings differ from its word embeddings; here they are tied")
    content = {**content, "classifier": "mlp", "pad_token_id": 0}  # Hugging Face's default pad id of 1 is a slip
    part = _backbone(ours, content) if backbone_only else (architecture, ours, content)
    if part[0] == "ConvBertForMultipleChoice" and content.get("summary_type", "last") != "first":
        raise InputError(
            f"{source}: its multiple choice reads each text's last token, which is padding in a padded batch, where "
            "this project reads the first; --backbone_only converts the rest"
        )
    if reason := hugging_face_obstacle(ConvBertConfig.from_dict(content), part[0]):
        raise InputError(f"{source}: {reason}")
    return [part]


def _original_parts(source, content, backbone_only):
    parts = []
    for architecture, weights, labels in tensorflow_checkpoint.read(source, backbone_only):
        shapes = ConvBertConfig.of_weights(weights)
        outputs = weights.get("classifier.out_proj.bias", weights.get("classifier.bias"))
        if outputs is not None:
            shapes |= {"num_labels": len(outputs), "label_names": labels, "classifier": "linear"}
        parts.append((architecture, weights, {**content, **shapes}))
    return parts


def _backbone(weights, content):
    return "ConvBertModel", {name: w for name, w in weights.items() if name.startswith("convbert.")}, content


def hugging_face_obstacle(config, architecture):
    """Why Hugging Face's library can't hold such a model; None if it can."""
    heads, ratio = config.num_attention_heads, config.head_ratio
    if ratio != 2:
        return f"head_ratio is {ratio}; Hugging Face changes the head size when it is not 2, the original does not"
    if heads < ratio:
        return f"{heads} heads < head_ratio {ratio}; Hugging Face then changes the head size, the original does not"
    if architecture == "ConvBertForSequenceClassification" and config.classifier != "mlp":
        return f"its head is a {config.classifier}, Hugging Face's an mlp; --backbone_only converts the rest"
    if architecture == "ConvBertForMultipleChoice" and config.classifier == "pooled_mlp":
        return "its head has a pooler, Hugging Face's none; --backbone_only converts the rest"
    if architecture == "ConvBertGenerator" and config.hidden_act != "gelu":
        return f"hidden_act is {config.hidden_act}; in Hugging Face's masked language model it is always gelu"
    if config.mask_conv_padding:
        return "mask_conv_padding is set; Hugging Face's convolutions always read padding"
    return None


def write_hugging_face(model, tokenizer, folder):
    """Writes a folder that Hugging Face's library loads; of a joint model two, `discriminator` and `generator`.

    A discriminator becomes ConvBertModel's weights with `discriminator_predictions.*` beside them. Raises InputError.
    """
    architecture = type(model).__name__
    if architecture == JOINT:
        write_hugging_face(model.discriminator, tokenizer, folder / "discriminator")
        if reason := hugging_face_obstacle(model.generator.config, "ConvBertGenerator"):
            logger.warning("the discriminator only, not the generator: %s", reason)
        else:
            write_hugging_face(model.generator, tokenizer, folder / "generator")
        return
    if reason := hugging_face_obstacle(model.config, architecture):
        raise InputError(reason)
    weights = {name: weight.numpy() for name, weight in model.named_weights().items()}
    for name in [name for name in weights if name.startswith("convbert.pooler.")]:
        logger.warning("left out, as nothing in this model reads it: %s", name)
        del weights[name]
    content = {**model.config.to_dict(), "classifier": "mlp"}
    content["architectures"] = [HUGGING_FACE_CLASSES.get(architecture, architecture)]
    if architecture == "ConvBertForMultipleChoice":
        content["summary_type"] = "first"  # the token that its head reads; Hugging Face's default is the last
    folder.mkdir(exist_ok=True)
    write_safetensors(folder / "model.safetensors", weight_names.to_hugging_face(weights, architecture), "pt")
    write_json(folder / "config.json", content)
    if tokenizer:
        tokenizer.save_pretrained(folder)
