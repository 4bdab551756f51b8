"""Whole checkpoints of every library: read into a model of `modeling` or `family`, and written for Hugging Face.

What one of the libraries cannot hold is an error that says why; nothing is dropped but what a warning names.
"""

import logging
import shutil
from pathlib import Path

from conversion import tensorflow_checkpoint, weight_names
from conversion.config_files import (
    GOOGLE_S,
    SAME_ACTIVATIONS,
    find_model_type,
    first_architecture,
    read_config,
    require_type,
    sizes_of,
    with_sizes,
)
from family.architectures import ARCHITECTURES, class_named, config_class
from files.atomic import atomic_folder
from files.errors import InputError
from files.json_files import read_json_object, write_json
from files.weights import in_full, is_hugging_face, read_names, read_weights, release_memory, write_safetensors
from layers.configuration import ConvBertConfig, model_type_of
from layers.model_card import base_model, short_name, write_card
from text.tokenizer_files import stored_length

logger = logging.getLogger("convbert")

JOINT = ("ConvBertForPretraining", "ElectraForPretraining")  # classes with a discriminator and a generator
HUGGING_FACE_CLASSES = {  # our class → Hugging Face's, where it has another name
    "ConvBertGenerator": "ConvBertForMaskedLM",
    "ConvBertDiscriminator": "ConvBertModel",
    "ElectraGenerator": "ElectraForMaskedLM",
    "ElectraDiscriminator": "ElectraForPreTraining",
}
POOLED = ("Model", "ForSequenceClassification", "ForMultipleChoice")  # BERT's and ERNIE's with a pooler there


def format_of(source):
    """ "tensorflow", "hf", or "paddle" for this project and PaddleNLP. Raises InputError where nothing can be read."""
    if tensorflow_checkpoint.find(source):
        return "tensorflow"
    return "hf" if is_hugging_face(read_names(source).values()) else "paddle"


def read_checkpoint(source, backbone_only=False, model_type=None):
    """Loads a checkpoint of this project, PaddleNLP, Hugging Face or the TensorFlow original.

    Args:
        source: folder, or the name of a TensorFlow checkpoint.
        backbone_only: the encoder alone; of a joint checkpoint, the discriminator's.
        model_type: what it must be, and is taken for where nothing tells; None: as config.json or the weights say.

    Returns:
        The model, of the class in `modeling` or `family` that holds all of it, and its ConvBertTokenizer or None.

    Raises:
        InputError: nothing there, damaged, or something that this project can't hold.
    """
    original = tensorflow_checkpoint.find(source)
    folder = Path(original or source)
    folder = folder if folder.is_dir() else folder.parent
    tokenizer = None
    if any((folder / name).is_file() for name in ("vocab.txt", "tokenizer.json")):
        from tokenizer import ConvBertTokenizer

        tokenizer = ConvBertTokenizer.from_pretrained(folder)
    content = read_config(folder)
    if original:
        kind, parts = _original_parts(original, content, backbone_only)
        require_type(source, kind, model_type)
    else:
        weights = read_weights(source)
        kind = find_model_type(content, weights, model_type, folder / "config.json")
        read_parts = _hugging_face_parts if is_hugging_face(weights) else _our_parts
        parts = read_parts(source, kind, weights, content, backbone_only)
    pad_id = {"pad_token_id": tokenizer.pad_token_id} if tokenizer else {}
    configs = [config_class(kind).from_dict(content, **pad_id) for _, _, content in parts]
    for config, (_, weights, _) in zip(configs, parts, strict=True):
        config.require_weights(weights, source)
    architecture, weights = parts[0][:2]
    if len(parts) == 2:
        architecture = f"{ARCHITECTURES[kind].prefix}ForPretraining"
        weights = {f"discriminator.{name}": array for name, array in weights.items()}
        weights |= {f"generator.{name}": array for name, array in parts[1][1].items()}
    if tokenizer and not stored_length(folder):
        tokenizer.model_max_length = configs[0].max_position_embeddings
    model = class_named(architecture)(*configs)
    model.load_weights(weights, source, whole=True)
    del parts, weights
    release_memory()
    return model, tokenizer


def convert(source, output, to="paddle", backbone_only=False, dtype="float32", model_type=None, name=None):
    """Converts the checkpoint `source` into the new folder `output`, whole or not at all.

    Configuration, label names, vocabulary and tokenizer settings come along.

    Args:
        to: "paddle" for this project and PaddleNLP, "hf" for Hugging Face.
        backbone_only, model_type: see read_checkpoint.
        name: the source as the user calls it, for the card; None: no card.
        dtype: of the stored weights, "float32" or, for "paddle" only, "float16".

    Returns:
        str: the name of our class.

    Raises:
        InputError: `output` holds something, or see read_checkpoint and hugging_face_obstacle.
    """
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output}: not empty; name a new folder")
    model, tokenizer = read_checkpoint(source, backbone_only, model_type)
    with atomic_folder(output) as folder:
        if to == "hf":
            try:
                write_hugging_face(model, tokenizer, folder)
            except InputError as error:
                raise InputError(f"{source}: {error}") from None
        else:
            model.save_pretrained(folder, dtype)
            _save_tokenizer(tokenizer, folder, f"{ARCHITECTURES[model.config.model_type].prefix}Tokenizer")
        if name:
            _bring_card(source, name, folder, model, to)
    architecture = type(model).__name__
    if (
        to == "paddle"
        and architecture == "ConvBertForSequenceClassification"
        and model.config.classifier != "pooled_mlp"
    ):
        logger.warning("this project loads the head; PaddleNLP, whose own has a pooler, should load the encoder only")
    return architecture


def _bring_card(source, name, folder, model, to):
    """The source's own card, else one that says where the model comes from."""
    card = Path(source) / "README.md"
    if card.is_file():
        shutil.copyfile(card, folder / card.name)
        return
    title = f"{model.config.title} from {name if ':' in name else short_name(name)}"
    library = "transformers" if to == "hf" else None
    write_card(folder, model, title, {}, "Converted by convert.py.", library, **base_model(name))


# The three readers return parts, two of a joint checkpoint: our class, our name → array, what config.json shall say.


def _our_parts(source, kind, weights, content, backbone_only):
    """PaddleNLP's names, which are ours."""
    both = [weights]
    contents = [content, content.get("generator_config", content)]  # PaddleNLP's joint model has one for both
    if any(name.startswith("generator.") for name in weights):
        both = [
            {n.removeprefix(p): w for n, w in weights.items() if n.startswith(p)}
            for p in ("discriminator.", "generator.")
        ]
    if any("fused_attn." in name for name in weights):
        raise InputError(f"{source}: made with fuse, which joins weights; let PaddleNLP save it without")
    parts = []
    for weights, content in zip(both[:1] if backbone_only else both, contents):  # noqa: B905  (one or two)
        weights = {in_full(name, kind): array for name, array in weights.items()}
        if f"{kind}.embeddings.word_embeddings.weight" not in weights:
            title = config_class(kind).title
            raise InputError(f"{source}: no {title} in here: no weight is called embeddings.word_embeddings.weight")
        architecture = weight_names.architecture_of(weights, kind, first_architecture(content))
        weights = _untied(weights, class_named(architecture), source)
        content = with_sizes(content, kind, weights, source)
        parts.append(_backbone(kind, weights, content) if backbone_only else (architecture, weights, content))
    return parts


def _untied(weights, model_class, source):
    from layers.pretrained import drop_tied

    return drop_tied(weights, model_class.tied, source)


def _hugging_face_parts(source, kind, weights, content, backbone_only):
    weights = weight_names.tied(weights, kind, source)
    architecture = weight_names.architecture_of(weights, kind, first_architecture(content))
    ours = weight_names.from_hugging_face(weights, architecture, source)
    if kind == "convbert":
        content = {**content, "classifier": "mlp", "pad_token_id": 0}  # Hugging Face's default pad id of 1 is a slip
    if kind == "electra":
        content = {"num_attention_heads": 4, **content}  # Hugging Face's default
    content = with_sizes(content, kind, ours, source)
    part = _backbone(kind, ours, content) if backbone_only else (architecture, ours, content)
    if part[0].endswith("ForMultipleChoice"):
        if reason := _summary_obstacle(content, kind):
            raise InputError(f"{source}: {reason}; --backbone_only converts the rest")
        for key in ("summary_type", "summary_activation"):  # which write_hugging_face says anew
            part[2].pop(key, None)
    if reason := hugging_face_obstacle(config_class(kind).from_dict(content), part[0]):
        raise InputError(f"{source}: {reason}")
    return [part]


def _summary_obstacle(content, kind):
    """Why Hugging Face's multiple choice, with such a config.json, is another one than ours; None if it is the same."""
    default = "last" if kind == "convbert" else "first"
    if kind in ("convbert", "electra") and (which := content.get("summary_type", default)) != "first":
        what = "last token, which is padding in a padded batch" if which == "last" else f"{which!r}"
        return f"its multiple choice reads each text's {what}, where this project reads the first"
    if kind == "electra":
        activation = content.get("summary_activation", "gelu")
        if SAME_ACTIVATIONS.get(activation, activation) != content.get("hidden_act", "gelu"):
            return f"summary_activation is {activation!r}; here it is that of hidden_act"
    return None


HEAD_SIZE = 64  # of every ELECTRA that was published


def _original_parts(source, content, backbone_only):
    """The model type and the parts of a TensorFlow checkpoint; what shapes say counts, not what `content` does."""
    kind, found = tensorflow_checkpoint.read(source, backbone_only)
    if content:
        require_type(f"{source}'s config.json", model_type_of(content, kind), kind)
    parts = []
    for architecture, weights, labels in found:
        shapes = ConvBertConfig.of_weights(weights) if kind == "convbert" else sizes_of(weights, kind)
        shapes |= config_class(kind).of_pooler(f"{kind}.pooler.dense.weight" in weights)
        if kind != "convbert" and ("num_attention_heads" not in content or parts):  # a file tells the first part's
            shapes["num_attention_heads"] = _heads(source, kind, shapes["hidden_size"])
        outputs = weights.get("classifier.out_proj.bias", weights.get("classifier.bias"))
        if outputs is not None:
            shapes |= {"num_labels": len(outputs), "label_names": labels, "classifier": "linear"}
        parts.append((architecture, weights, {**content, **shapes}))
    return kind, parts


def _heads(source, kind, hidden):
    """ELECTRA's code tells heads by the size; BERT's has them in a file."""
    if kind == "bert":
        raise InputError(f"{source}: no {GOOGLE_S} or config.json beside it, which tells the number of heads")
    logger.warning("%s: tells no number of heads; taken to have one for each %d hidden units", source, HEAD_SIZE)
    return max(1, hidden // HEAD_SIZE)


def _backbone(kind, weights, content):
    encoder = {name: array for name, array in weights.items() if name.startswith(f"{kind}.")}
    return f"{ARCHITECTURES[kind].prefix}Model", encoder, content


def hugging_face_obstacle(config, architecture):
    """Why Hugging Face's library can't hold such a model; None if it can."""
    if config.model_type == "convbert" and (reason := _convbert_obstacle(config, architecture)):
        return reason
    if config.pool_act != "tanh" and config.has_pooler and architecture.endswith(POOLED):
        return f"pool_act is {config.pool_act!r}; Hugging Face's pooler always has a tanh"
    always_gelu = "ConvBertGenerator", "ElectraGenerator", "ElectraForSequenceClassification"
    if architecture in always_gelu and config.hidden_act != "gelu":
        what = "classifier" if architecture.endswith("Classification") else "masked language model"
        return f"hidden_act is {config.hidden_act}; in Hugging Face's {what} it is always gelu"
    if config.model_type == "ernie" and config.use_task_id and config.task_id:
        return f"task_id is {config.task_id}; Hugging Face's ERNIE gives every token the task of row 0"
    return None


def _convbert_obstacle(config, architecture):
    heads, ratio = config.num_attention_heads, config.head_ratio
    if ratio != 2:
        return f"head_ratio is {ratio}; Hugging Face changes the head size when it is not 2, the original does not"
    if heads < ratio:
        return f"{heads} heads < head_ratio {ratio}; Hugging Face then changes the head size, the original does not"
    if architecture == "ConvBertForSequenceClassification" and config.classifier != "mlp":
        return f"its head is a {config.classifier}, Hugging Face's an mlp; --backbone_only converts the rest"
    if architecture == "ConvBertForMultipleChoice" and config.classifier == "pooled_mlp":
        return "its head has a pooler, Hugging Face's none; --backbone_only converts the rest"
    if config.mask_conv_padding:
        return "mask_conv_padding is set; Hugging Face's convolutions always read padding"
    return None


def write_hugging_face(model, tokenizer, folder):
    """Writes a folder that Hugging Face's library loads; of a joint model two, `discriminator` and `generator`.

    ConvBERT's discriminator becomes ConvBertModel's weights with `discriminator_predictions.*` beside them. Raises
    InputError.
    """
    architecture, config = type(model).__name__, model.config
    if architecture in JOINT:
        write_hugging_face(model.discriminator, tokenizer, folder / "discriminator")
        generator = model.generator
        if reason := hugging_face_obstacle(generator.config, type(generator).__name__):
            logger.warning("the discriminator only, not the generator: %s", reason)
        else:
            write_hugging_face(generator, tokenizer, folder / "generator")
        return
    if reason := hugging_face_obstacle(config, architecture):
        raise InputError(reason)
    weights = {name: weight.numpy() for name, weight in model.named_weights().items()}
    pooler = [name for name in weights if name.startswith(f"{config.model_type}.pooler.")]
    if pooler and not (architecture.startswith(("Bert", "Ernie")) and architecture.endswith(POOLED)):
        logger.warning("left out, as nothing in this model reads it: %s", ", ".join(pooler))
        weights = {name: array for name, array in weights.items() if name not in pooler}
    content = config.to_dict() | {"architectures": [HUGGING_FACE_CLASSES.get(architecture, architecture)]}
    if config.model_type == "convbert":
        content["classifier"] = "mlp"
    if architecture in ("ConvBertForMultipleChoice", "ElectraForMultipleChoice"):
        content["summary_type"] = "first"  # the token that its head reads; in Hugging Face's ConvBERT it is the last
    if architecture == "ElectraForMultipleChoice":
        content["summary_activation"] = config.hidden_act
    folder.mkdir(exist_ok=True)
    write_safetensors(folder / "model.safetensors", weight_names.to_hugging_face(weights, architecture), "pt")
    write_json(folder / "config.json", content)
    prefix = "Bert" if config.model_type == "ernie" else ARCHITECTURES[config.model_type].prefix
    _save_tokenizer(tokenizer, folder, f"{prefix}Tokenizer")


def _save_tokenizer(tokenizer, folder, class_name):
    """class_name: of the other library's tokenizer."""
    if tokenizer:
        tokenizer.save_pretrained(folder)
        settings = folder / "tokenizer_config.json"
        write_json(settings, read_json_object(settings) | {"tokenizer_class": class_name})
