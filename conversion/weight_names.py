"""What each weight is called, and how it lies, in this project, Hugging Face's library and the TensorFlow original.

One row per weight: our name (= PaddleNLP's) → Hugging Face's, TensorFlow's, and how the array is laid out. Every name
of a checkpoint is in the table or in one of the sets of names that are dropped on purpose; any other is an error.
The architectures share the rows that are the same; only ConvBERT has TensorFlow's names.
"""

import logging
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from family.architectures import ARCHITECTURES, type_of_class
from files.errors import InputError
from files.weights import in_full

logger = logging.getLogger("convbert")


class Layout(NamedTuple):
    from_hugging_face: Callable
    to_hugging_face: Callable
    from_tensorflow: Callable


def _same(array):
    return array


def _dense(array):
    """[out, in] ↔ [in, out]. A weight with groups, [G, in / G, out / G], is laid out alike everywhere."""
    return array if array.ndim == 3 else array.T


SAME = Layout(_same, _same, _same)
DENSE = Layout(_dense, _dense, _same)
COLUMN = Layout(np.ravel, lambda bias: bias[:, np.newaxis], _same)  # [out, 1] in Hugging Face
OUTPUT = Layout(_dense, _dense, _dense)  # Google's BERT has the last weight of a task as [out, in]
DEPTHWISE = Layout(_same, _same, lambda kernel: kernel.transpose(1, 2, 0))  # [K, E, 1] in TensorFlow → [E, 1, K]
POINTWISE = Layout(_same, _same, lambda kernel: kernel.transpose(2, 1, 0))  # [1, E, out] in TensorFlow → [out, E, 1]

EMBEDDINGS = {
    "embeddings.word_embeddings.weight": ("embeddings.word_embeddings.weight", "embeddings/word_embeddings", SAME),
    "embeddings.position_embeddings.weight": (
        "embeddings.position_embeddings.weight", "embeddings/position_embeddings", SAME,
    ),
    "embeddings.token_type_embeddings.weight": (
        "embeddings.token_type_embeddings.weight", "embeddings/token_type_embeddings", SAME,
    ),
    "embeddings.layer_norm.weight": ("embeddings.LayerNorm.weight", "embeddings/LayerNorm/gamma", SAME),
    "embeddings.layer_norm.bias": ("embeddings.LayerNorm.bias", "embeddings/LayerNorm/beta", SAME),
}  # fmt: skip

PROJECTION = {  # of the embeddings, where they are smaller than the hidden states
    "embeddings_project.weight": ("embeddings_project.weight", "embeddings_project/kernel", DENSE),
    "embeddings_project.bias": ("embeddings_project.bias", "embeddings_project/bias", SAME),
}

TASKS = {"embeddings.task_type_embeddings.weight": ("embeddings.task_type_embeddings.weight", None, SAME)}

POOLER = {
    "pooler.dense.weight": ("pooler.dense.weight", "pooler/dense/kernel", DENSE),
    "pooler.dense.bias": ("pooler.dense.bias", "pooler/dense/bias", SAME),
}

ENCODERS = {
    "convbert": EMBEDDINGS | PROJECTION,
    "bert": EMBEDDINGS | POOLER,
    "electra": EMBEDDINGS | PROJECTION,
    "ernie": EMBEDDINGS | TASKS | POOLER,
}

LAYER = {  # after "encoder.layers.N.", "encoder.layer.N." and "encoder/layer_N/"
    "self_attn.q_proj.weight": ("attention.self.query.weight", "attention/self/query/kernel", DENSE),
    "self_attn.q_proj.bias": ("attention.self.query.bias", "attention/self/query/bias", SAME),
    "self_attn.k_proj.weight": ("attention.self.key.weight", "attention/self/key/kernel", DENSE),
    "self_attn.k_proj.bias": ("attention.self.key.bias", "attention/self/key/bias", SAME),
    "self_attn.v_proj.weight": ("attention.self.value.weight", "attention/self/value/kernel", DENSE),
    "self_attn.v_proj.bias": ("attention.self.value.bias", "attention/self/value/bias", SAME),
    "self_attn.out_proj.weight": ("attention.output.dense.weight", "attention/output/dense/kernel", DENSE),
    "self_attn.out_proj.bias": ("attention.output.dense.bias", "attention/output/dense/bias", SAME),
    "norm1.weight": ("attention.output.LayerNorm.weight", "attention/output/LayerNorm/gamma", SAME),
    "norm1.bias": ("attention.output.LayerNorm.bias", "attention/output/LayerNorm/beta", SAME),
    "linear1.weight": ("intermediate.dense.weight", "intermediate/dense/kernel", DENSE),
    "linear1.bias": ("intermediate.dense.bias", "intermediate/dense/bias", SAME),
    "linear2.weight": ("output.dense.weight", "output/dense/kernel", DENSE),
    "linear2.bias": ("output.dense.bias", "output/dense/bias", SAME),
    "norm2.weight": ("output.LayerNorm.weight", "output/LayerNorm/gamma", SAME),
    "norm2.bias": ("output.LayerNorm.bias", "output/LayerNorm/beta", SAME),
}  # fmt: skip

MIXED = {  # what a layer of ConvBERT has besides
    "self_attn.key_conv_attn_layer.depthwise.weight": (
        "attention.self.key_conv_attn_layer.depthwise.weight", "attention/self/conv_attn_key/depthwise_kernel",
        DEPTHWISE,
    ),
    "self_attn.key_conv_attn_layer.pointwise.weight": (
        "attention.self.key_conv_attn_layer.pointwise.weight", "attention/self/conv_attn_key/pointwise_kernel",
        POINTWISE,
    ),
    "self_attn.key_conv_attn_layer.bias": (
        "attention.self.key_conv_attn_layer.bias", "attention/self/conv_attn_key/bias", COLUMN,
    ),
    "self_attn.conv_kernel_layer.weight": (
        "attention.self.conv_kernel_layer.weight", "attention/self/conv_attn_kernel/kernel", DENSE,
    ),
    "self_attn.conv_kernel_layer.bias": (
        "attention.self.conv_kernel_layer.bias", "attention/self/conv_attn_kernel/bias", SAME,
    ),
    "self_attn.conv_out_layer.weight": (
        "attention.self.conv_out_layer.weight", "attention/self/conv_attn_point/kernel", DENSE,
    ),
    "self_attn.conv_out_layer.bias": (
        "attention.self.conv_out_layer.bias", "attention/self/conv_attn_point/bias", SAME,
    ),
}  # fmt: skip

CLASSIFIER = {  # TensorFlow's names: of the ELECTRA family's tags, and of BERT's classifier
    "classifier.weight": ("classifier.weight", "task_specific/dense/kernel", DENSE),
    "classifier.bias": ("classifier.bias", "task_specific/dense/bias", SAME),
}
BERT_CLASSIFIER = {
    "classifier.weight": ("classifier.weight", "output_weights", OUTPUT),
    "classifier.bias": ("classifier.bias", "output_bias", SAME),
}
ANSWERS = {
    "classifier.weight": ("qa_outputs.weight", "cls/squad/output_weights", OUTPUT),
    "classifier.bias": ("qa_outputs.bias", "cls/squad/output_bias", SAME),
}
WORDS = {  # BERT's and ERNIE's masked language model
    "cls.predictions.transform.weight": (
        "cls.predictions.transform.dense.weight", "cls/predictions/transform/dense/kernel", DENSE,
    ),
    "cls.predictions.transform.bias": (
        "cls.predictions.transform.dense.bias", "cls/predictions/transform/dense/bias", SAME,
    ),
    "cls.predictions.layer_norm.weight": (
        "cls.predictions.transform.LayerNorm.weight", "cls/predictions/transform/LayerNorm/gamma", SAME,
    ),
    "cls.predictions.layer_norm.bias": (
        "cls.predictions.transform.LayerNorm.bias", "cls/predictions/transform/LayerNorm/beta", SAME,
    ),
    "cls.predictions.decoder_bias": ("cls.predictions.bias", "cls/predictions/output_bias", SAME),
}  # fmt: skip

HEADS = {  # our class → its head; None: that library's head has no such weight
    "ConvBertModel": {},
    "ConvBertForSequenceClassification": {
        "classifier.dense.weight": ("classifier.dense.weight", None, DENSE),
        "classifier.dense.bias": ("classifier.dense.bias", None, SAME),
        "classifier.out_proj.weight": ("classifier.out_proj.weight", "task_specific/dense/kernel", DENSE),
        "classifier.out_proj.bias": ("classifier.out_proj.bias", "task_specific/dense/bias", SAME),
    },
    "ConvBertForTokenClassification": CLASSIFIER,
    "ConvBertForMultipleChoice": CLASSIFIER,
    "ConvBertForQuestionAnswering": ANSWERS,
    "ConvBertGenerator": {
        "generator_predictions.dense.weight": (
            "generator_predictions.dense.weight", "generator_predictions/dense/kernel", DENSE,
        ),
        "generator_predictions.dense.bias": (
            "generator_predictions.dense.bias", "generator_predictions/dense/bias", SAME,
        ),
        "generator_predictions.layer_norm.weight": (
            "generator_predictions.LayerNorm.weight", "generator_predictions/LayerNorm/gamma", SAME,
        ),
        "generator_predictions.layer_norm.bias": (
            "generator_predictions.LayerNorm.bias", "generator_predictions/LayerNorm/beta", SAME,
        ),
        "generator_lm_head_bias": ("generator_lm_head.bias", "generator_predictions/output_bias", SAME),
    },
    "ConvBertDiscriminator": {  # Hugging Face has no such class of ConvBERT: these are its ELECTRA's names
        "discriminator_predictions.dense.weight": (
            "discriminator_predictions.dense.weight", "discriminator_predictions/dense/kernel", DENSE,
        ),
        "discriminator_predictions.dense.bias": (
            "discriminator_predictions.dense.bias", "discriminator_predictions/dense/bias", SAME,
        ),
        "discriminator_predictions.dense_prediction.weight": (
            "discriminator_predictions.dense_prediction.weight", "discriminator_predictions/dense_1/kernel", DENSE,
        ),
        "discriminator_predictions.dense_prediction.bias": (
            "discriminator_predictions.dense_prediction.bias", "discriminator_predictions/dense_1/bias", SAME,
        ),
    },
}  # fmt: skip

BERT_HEADS = {  # ERNIE's too
    "Model": {},
    "ForSequenceClassification": BERT_CLASSIFIER,
    "ForTokenClassification": BERT_CLASSIFIER,
    "ForMultipleChoice": BERT_CLASSIFIER,
    "ForQuestionAnswering": ANSWERS,
    "ForMaskedLM": WORDS,
}
HEADS |= {prefix + kind: head for prefix in ("Bert", "Ernie") for kind, head in BERT_HEADS.items()}
HEADS |= {
    "ElectraModel": {},
    "ElectraForSequenceClassification": HEADS["ConvBertForSequenceClassification"],
    "ElectraForTokenClassification": CLASSIFIER,
    "ElectraForMultipleChoice": {
        "sequence_summary.dense.weight": ("sequence_summary.summary.weight", None, DENSE),
        "sequence_summary.dense.bias": ("sequence_summary.summary.bias", None, SAME),
        **CLASSIFIER,
    },
    "ElectraForQuestionAnswering": ANSWERS,
    "ElectraGenerator": HEADS["ConvBertGenerator"],
    "ElectraDiscriminator": HEADS["ConvBertDiscriminator"],
}

SIGNS = {  # a name that tells the head; where several share it, config.json decides, else it is the first there is
    "classifier.out_proj.weight": ("ForSequenceClassification",),
    "sequence_summary.summary.weight": ("ForMultipleChoice",),
    "sequence_summary.dense.weight": ("ForMultipleChoice",),
    "classifier.weight": (
        "ForSequenceClassification", "ForTokenClassification", "ForMultipleChoice", "ForQuestionAnswering",
    ),
    "qa_outputs.weight": ("ForQuestionAnswering",),
    "generator_predictions.dense.weight": ("Generator",),
    "discriminator_predictions.dense.weight": ("Discriminator",),
    "cls.predictions.transform.dense.weight": ("ForMaskedLM",),
    "cls.predictions.transform.weight": ("ForMaskedLM",),
}  # fmt: skip

BARE = ("ConvBertDiscriminator", *(f"{prefix}Model" for _, prefix in ARCHITECTURES.values()))  # no "bert." there

DROPPED = (  # on purpose: nothing is lost with them
    "embeddings.position_ids",  # 0, 1, 2, … kept as a buffer by older versions of Hugging Face's library
    "embeddings.token_type_ids",  # 0, 0, 0, …
    "generator_lm_head.weight",  # this and the next two are the same as another, which `tied` checks
    "cls.predictions.decoder.weight",
    "cls.predictions.decoder.bias",
)
UNREAD = "cls.seq_relationship.", "cls/seq_relationship/"  # BERT's second head, which finds the next sentence


def architecture_of(names, model_type, wanted=None):
    """Our class for a checkpoint with these names, ours or Hugging Face's; `wanted` is what its config.json says."""
    prefix = ARCHITECTURES[model_type].prefix
    for sign, kinds in SIGNS.items():
        classes = [prefix + kind for kind in kinds if sign in _names_of_head(prefix + kind)]
        if sign in names and classes:
            return wanted if wanted in classes else classes[0]
    return f"{prefix}Model"


def _names_of_head(architecture):
    """Ours and Hugging Face's."""
    rows = HEADS.get(architecture, {})
    return {*rows, *(theirs for theirs, _, _ in rows.values())}


def tied(weights, model_type, source):
    """Hugging Face's name → array, complete where only the other name of two that are one is there.

    Raises InputError where both are there and differ.
    """
    weights = {in_full(name, model_type): array for name, array in weights.items()}
    words = f"{model_type}.embeddings.word_embeddings.weight"
    for name, same in (
        ("generator_lm_head.weight", words),
        ("cls.predictions.decoder.weight", words),
        ("cls.predictions.decoder.bias", "cls.predictions.bias"),
    ):
        if name in weights and not np.array_equal(weights[name], weights.setdefault(same, weights[name])):
            raise InputError(f"{source}: {name} differs from {same}, with which it is one here")
    return weights


def from_hugging_face(weights, architecture, source):
    """Hugging Face's name → array as one dict of ours. Raises InputError for a name that the table doesn't have."""
    table = {theirs: (ours, layout.from_hugging_face) for ours, theirs, _, layout in _rows(architecture)}
    return _translate(weights, table, architecture, source)


def to_hugging_face(weights, architecture):
    """Our name → array as one dict of Hugging Face's."""
    table = {ours: (theirs, layout.to_hugging_face) for ours, theirs, _, layout in _rows(architecture)}
    renamed = _translate(weights, table, architecture, architecture)
    if architecture in BARE:
        prefix = f"{type_of_class(architecture)}."
        renamed = {name.removeprefix(prefix): array for name, array in renamed.items()}
    return renamed


def from_tensorflow(variables, architecture, source):
    """TensorFlow's name, without its first scope → array as one dict of ours. Raises InputError."""
    table = {theirs: (ours, layout.from_tensorflow) for ours, _, theirs, layout in _rows(architecture) if theirs}
    return _translate(variables, table, architecture, source)


def _rows(architecture):
    """(our name, Hugging Face's, TensorFlow's, layout) of every weight, with {} for the layer's number."""
    encoder = type_of_class(architecture)
    for ours, (theirs, original, layout) in ENCODERS[encoder].items():
        yield f"{encoder}.{ours}", f"{encoder}.{theirs}", original, layout
    for ours, (theirs, original, layout) in (LAYER | MIXED if encoder == "convbert" else LAYER).items():
        names = f"{encoder}.encoder.layers.{{}}.{ours}", f"{encoder}.encoder.layer.{{}}.{theirs}"
        yield *names, f"encoder/layer_{{}}/{original}", layout
    for ours, row in HEADS[architecture].items():
        yield ours, *row


def _translate(weights, table, architecture, source):
    encoder, translated, unread = type_of_class(architecture), {}, []
    for name, array in weights.items():
        if name.endswith(DROPPED):
            continue
        if name.startswith(UNREAD):
            unread.append(name)
            continue
        number = re.search(r"encoder(?:\.layers?\.|/layer_)(\d+)", name)
        pattern = name[: number.start(1)] + "{}" + name[number.end(1) :] if number else name
        pattern = in_full(pattern, encoder)
        if pattern not in table:
            raise InputError(f"{source}: unknown key {name}: not a checkpoint this project can hold")
        theirs, change = table[pattern]
        translated[theirs.format(number and number[1])] = np.ascontiguousarray(change(array))
    if unread:
        logger.warning("%s: left out, as no model here reads it: %s", source, ", ".join(unread))
    return translated
