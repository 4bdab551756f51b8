"""What is pre-trained: a generator and a discriminator, or a masked language model, new or from a folder."""

import os
import sys
from dataclasses import fields, replace
from pathlib import Path

from family.architectures import config_class, model_class
from files.errors import InputError
from files.json_files import read_json_object
from files.weights import read_names

SIZES = (  # by which models are told apart, as far as an architecture has these
    "embedding_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "num_groups",
    "conv_kernel_size", "head_ratio",
)  # fmt: skip


def build_model(
    source, tokenizer, weights, mlm_only=False, generator_size=None, mask_conv_padding=None, model_type="convbert"
):
    """A `…ForPretraining`, or a `…ForMaskedLM` of the full size.

    Args:
        source: a size's name or a folder.
        weights: whether it goes on from those of the folder; else it starts at random, with the tokenizer's words.
        mlm_only: no discriminator.
        generator_size: the generator's width by the discriminator's; None: the size's own, or the folder's own one.
        mask_conv_padding: see ConvBertConfig; None: as the source says.
        model_type: one of family.architectures.MODEL_TYPES; BERT and ERNIE have masked words alone.

    Raises:
        InputError: the folder does not fit, or has fewer words than the tokenizer.
    """
    changes = {} if mask_conv_padding is None else {"mask_conv_padding": mask_conv_padding}
    filler = model_class(model_type, "ForMaskedLM")
    if not weights:
        changes |= dict(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
        if mlm_only:
            changes |= config_class(model_type).of_pooler(False)  # which masked words would not train
        config = config_class(model_type).from_pretrained(source, **changes)
        if mlm_only:
            return filler(config)
        return model_class(model_type, "ForPretraining")(config, generator_config(config, generator_size))

    if mlm_only:
        _say_new_heads(source, "generator")
        model = filler.from_pretrained(source, **changes)
    else:
        _say_new_heads(source, "discriminator")
        discriminator = model_class(model_type, "Discriminator").from_pretrained(source, **changes)
        config = discriminator.config
        stored = find_generator(source)
        if stored and (generator_size is None or stored == Path(source).resolve()):
            _say_new_heads(stored, "generator")
            generator = filler.from_pretrained(stored, **changes)
        else:
            print(f"{source}: no generator there; a new one starts at random", file=sys.stderr)
            generator = filler(generator_config(config, generator_size))
        parts = discriminator, generator
        model = model_class(model_type, "ForPretraining")(config, generator.config, parts=parts)
    if len(tokenizer) > model.config.vocab_size:
        raise InputError(f"the vocabulary has {len(tokenizer)} entries, but {source} only {model.config.vocab_size}")
    return model


def _say_new_heads(folder, part):
    """Says so where the encoder in a folder comes without the head that `part` has (BERT's: cls.predictions)."""
    if not any(f"{part}_predictions." in name or "cls.predictions." in name for name in read_names(folder)):
        print(f"{folder}: no {part}'s head there; a new one starts at random", file=sys.stderr)


def size_of(config):
    """The published size that a configuration has, and True; if it is another one, the nearest by width, and False."""
    published = {name: config.from_preset(name) for name in config.presets if not name.endswith("-generator")}
    for name, other in published.items():
        if _sizes(config) == _sizes(other):
            return name, True
    return min(published, key=lambda name: abs(published[name].hidden_size - config.hidden_size)), False


def _sizes(config):
    return {field.name: getattr(config, field.name) for field in fields(config) if field.name in SIZES}


def generator_config(config, size):
    """A generator for a discriminator: its published one, or one whose width and heads are `size` of it."""
    name, published = size_of(config)
    if size is None and published:
        sizes = _sizes(config.from_preset(f"{name}-generator"))
        return replace(config, **sizes, num_labels=2, label_names=None)
    size = size or 0.25
    heads = max(1, int(config.num_attention_heads * size))
    width = max(1, round(config.hidden_size * size / heads)) * heads
    inner = max(1, round(config.intermediate_size * size / config.num_groups)) * config.num_groups
    return replace(
        config, hidden_size=width, num_attention_heads=heads, intermediate_size=inner, num_labels=2, label_names=None
    )


def find_generator(source):
    """The folder of the generator that belongs to the discriminator in a folder; None if it isn't there."""
    source = Path(source)
    if "generator_config" in read_json_object(source / "config.json"):
        return source.resolve()  # both in one
    for place in (source.resolve(), Path(os.path.abspath(source))):  # of a link: where it leads, or where it lies
        found = place.parent / "generator" if place.name == "discriminator" else place / "generator"
        if (found / "config.json").is_file():
            return found.resolve()
    return None
