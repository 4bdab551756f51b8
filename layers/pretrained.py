"""What every model class inherits: loading, saving, resizing."""

import dataclasses
import logging
import os
from pathlib import Path
from types import MappingProxyType

import numpy as np
import paddle
from paddle import nn

from files.downloads import shipped, zoo_file
from files.errors import InputError
from files.json_files import read_json_object, write_json
from files.weights import in_full, is_hugging_face, read_weights, release_memory, write_safetensors
from layers.configuration import ConvBertConfig, EncoderConfig
from layers.paddle_versions import truncated_normal

logger = logging.getLogger("convbert")


class PretrainedModel(nn.Layer):
    """A model with a `config` of its `config_class` and an encoder as `backbone`.

    The encoder of a model with a head is its attribute `config.model_type`, and so its weights' names begin in files.
    """

    config_class = EncoderConfig
    checkpoint_part = "discriminator."  # what a class takes of a joint pre-training checkpoint; "": all of it
    needs_pooler = False  # the head reads what a pooler makes
    tied = MappingProxyType({})  # names that files may have → the name of the weight that is the same one here

    def __init__(self, config):
        super().__init__()
        self.config = config

    @property
    def backbone(self):
        return getattr(self, self.config.model_type)

    @classmethod
    def from_pretrained(cls, source, new_head=False, whole=False, **changes):
        """Loads a folder in our or PaddleNLP's format.

        Args:
            source: folder; for a ConvBERT also "convbert-tiny", whose weights come with this project, "convbert-small",
                "convbert-medium-small" or "convbert-base", which are downloaded once. `conversion.sources.resolve`
                makes a folder of any other name.
            new_head: start the head anew even where the checkpoint has one; a pooler is kept.
            whole: the head must be there.
            **changes: configuration fields that shall differ from the folder's, e.g. `num_labels=3`.

        What the checkpoint lacks or has too much is reported through `logging`. Only a whole head may be missing or
        left over; anything else missing, left over or of another shape raises InputError.
        """
        source = shipped(source)
        if not os.path.isdir(source) and cls.config_class is not ConvBertConfig:
            raise InputError(f"{source}: no such folder; of a published model convert.py --input {source} makes one")
        weights = read_weights(source if os.path.isdir(source) else zoo_file(source, "model_state.pdparams"))
        weights = cls.own_names(weights, source)
        pooler = any(name.startswith(f"{cls.config_class.model_type}.pooler.") for name in weights)
        changes = cls.config_class.of_pooler(pooler or cls.needs_pooler) | changes
        configs = cls.read_configs(source, changes)
        configs[0].require_weights(weights, source)
        model = cls(*configs)
        model.load_weights(weights, source, new_head, whole)
        del weights
        release_memory()
        return model

    @classmethod
    def read_configs(cls, source, changes):
        """The arguments of the constructor for the checkpoint `source`."""
        if cls.checkpoint_part == "generator." and os.path.isdir(source):
            content = read_json_object(Path(source) / "config.json")
            if "generator_config" in content:  # a joint checkpoint's
                return (cls.config_class.from_dict(content["generator_config"], **changes),)
        return (cls.config_class.from_pretrained(source, **changes),)

    @classmethod
    def own_names(cls, weights, source):
        """PaddleNLP's name → array with the encoder's names in full; of a joint checkpoint only `checkpoint_part`."""
        part = cls.checkpoint_part
        if is_hugging_face(weights):
            raise InputError(
                f"{source}: Hugging Face's format; first run python convert.py --input {source} --output FOLDER"
            )
        if "embeddings.word_embeddings.weight" in weights:  # PaddleNLP's bare encoder
            weights = {in_full(name, cls.config_class.model_type): weight for name, weight in weights.items()}
        if part and any(name.startswith("generator.") for name in weights):
            weights = {name.removeprefix(part): weight for name, weight in weights.items() if name.startswith(part)}
        return drop_tied(weights, cls.tied, source)

    def named_weights(self):
        """dict: name in checkpoint files → parameter. The encoder's names always start with its own, "convbert."."""
        prefix = f"{self.config.model_type}." if self.backbone is self else ""
        return {prefix + name: weight for name, weight in self.state_dict().items()}

    def load_weights(self, weights, source, new_head=False, whole=False):
        """Fills the model with name → array; `source` is named in errors. See from_pretrained.

        whole: no head may be missing.
        """
        own = self.named_weights()
        present = {self._head_of(name) for name in own if name in weights}
        heads = {self._head_of(name) for name in own} - {None}
        new = {head for head in heads if head not in present or (new_head and not head.endswith("pooler"))}
        if new and whole:
            raise InputError(f"{source}: no head for this here ({', '.join(sorted(new))}); train one first")
        wanted = {name for name in own if self._head_of(name) not in new}
        problems = [f"{name} is missing" for name in own if name in wanted and name not in weights]
        kept = present - new | {None}
        problems += [f"{name} is unknown" for name in weights if name not in own and self._head_of(name) in kept]
        for name in own:
            if name in wanted and name in weights and list(weights[name].shape) != list(own[name].shape):
                problems.append(f"{name} has shape {list(weights[name].shape)}, not {list(own[name].shape)}")
        tied = {}
        for name in wanted & weights.keys():
            first = tied.setdefault(id(own[name]), name)
            if first != name and not np.array_equal(weights[first], weights[name]):
                problems.append(f"{name} differs from {first}, with which it is one here")
        if problems:
            more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
            raise InputError(f"{source}: does not fit {type(self).__name__}: {'; '.join(problems[:3])}{more}")
        for name in wanted:
            own[name].set_value(weights[name].astype(str(own[name].dtype).removeprefix("paddle."), copy=False))
        if new:
            logger.warning("%s: starting anew: %s", source, ", ".join(sorted(new)))
        if unused := {self._head_of(name) for name in weights if name not in wanted}:
            logger.warning("%s: not used: %s", source, ", ".join(sorted(unused)))

    def _head_of(self, name):
        """The part of a model that may be new or unused as a whole, by parameter name; None for the encoder itself."""
        encoder = f"{self.config.model_type}."
        for part in ("", "generator.", "discriminator."):
            if name.startswith(f"{part}{encoder}pooler."):
                return f"{part}{encoder}pooler"
            if name.startswith(f"{part}{encoder}"):
                return None
        first, second = (*name.split("."), "")[:2]
        return f"cls.{second}" if first == "cls" else first  # BERT's two heads: cls.predictions, cls.seq_relationship

    def config_dict(self):
        return {**self.config.to_dict(), "architectures": [type(self).__name__]}

    def save_pretrained(self, folder, dtype="float32"):
        """Writes `config.json` and `model.safetensors`, each whole or not at all; other files there stay.

        dtype: of the stored weights; "float16" halves the file, and from_pretrained makes float32 of it again.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: weight.numpy().astype(dtype) for name, weight in self.named_weights().items()}
        write_safetensors(folder / "model.safetensors", weights)
        write_json(folder / "config.json", self.config_dict())

    def get_input_embeddings(self):
        return self.backbone.embeddings.word_embeddings

    def resize_token_embeddings(self, size):
        """Cuts the vocabulary to `size` entries, or adds entries with random rows; tied weights stay tied."""
        config, embedding = self.config, self.get_input_embeddings()
        initializer = truncated_normal(config.initializer_range)
        rows = self.create_parameter([size, config.embedding_size], default_initializer=initializer)
        embedding.weight = keep_rows(embedding.weight, rows)
        config.vocab_size = size

    def enable_recompute(self, enabled=True):
        """Activation checkpointing: training keeps only each layer's input and computes the rest again in backward."""
        self.backbone.recompute = enabled

    def set_dropout(self, rate):
        """In training, encoders drop this share from now on; `config`, as it is saved, keeps its own rates."""
        rates = dict(hidden_dropout_prob=rate, attention_probs_dropout_prob=rate)
        for layer in self.sublayers():
            if hasattr(layer, "config") and not hasattr(layer, "backbone"):  # a part of an encoder, not a model
                layer.config = dataclasses.replace(layer.config, **rates)


def keep_rows(old, new):
    """`new` with its first rows taken from `old`, as far as both reach."""
    kept = min(old.shape[0], new.shape[0])
    with paddle.no_grad():
        new[:kept] = old[:kept]
    return new


def drop_tied(weights, tied, source):
    """`weights` without the names of `tied`, name → the name of what it must equal. Raises InputError."""
    for name, same in tied.items():
        if name in weights and same in weights and not np.array_equal(weights[name], weights[same]):
            raise InputError(f"{source}: {name} differs from {same}, with which it is one here")
    lost = {same: weights[name] for name, same in tied.items() if name in weights and same not in weights}
    return {name: weight for name, weight in weights.items() if name not in tied} | lost
