"""What decides a model's shape and arithmetic: what all architectures share, and ConvBERT's, with its published sizes.

The others' configurations are in `family.configurations`.
"""

import dataclasses
import json
import os
import re
from pathlib import Path
from types import MappingProxyType

from files.errors import InputError
from files.json_files import read_json_object, write_json

ACTIVATIONS = ("gelu", "gelu_new", "relu", "silu")
NOT_OF_THE_MODEL = {  # keys of config.json: how its folder was written, or how another library behaves
    "model_type", "architectures", "id2label", "label2id", "generator_config", "_name_or_path", "dtype", "torch_dtype",
    "transformers_version", "paddlenlp_version", "return_dict", "output_hidden_states", "output_attentions",
    "use_cache",  # with it PaddleNLP's BERT returns a tuple
}  # fmt: skip
MOST_LAYERS, MOST_WEIGHTS = 1000, 10**10  # of any model that can be trained on one machine
PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")

PRESETS = {  # ConvBERT's: differences from the defaults, which are convbert-base's
    "convbert-tiny": dict(
        vocab_size=8192, embedding_size=128, hidden_size=192, num_hidden_layers=6, num_attention_heads=4,
        intermediate_size=768,
    ),
    "convbert-tiny-generator": dict(
        vocab_size=8192, embedding_size=128, hidden_size=96, num_hidden_layers=6, num_attention_heads=2,
        intermediate_size=384,
    ),
    "convbert-small": dict(embedding_size=128, hidden_size=256, num_attention_heads=4, intermediate_size=1024),
    "convbert-small-generator": dict(embedding_size=128, hidden_size=64, num_attention_heads=1, intermediate_size=256),
    "convbert-medium-small": dict(
        embedding_size=128, hidden_size=384, num_attention_heads=8, intermediate_size=1536, num_groups=2
    ),
    "convbert-medium-small-generator": dict(
        embedding_size=128, hidden_size=96, num_attention_heads=2, intermediate_size=384, num_groups=2
    ),
    "convbert-base": dict(),
    "convbert-base-generator": dict(hidden_size=256, num_attention_heads=4, intermediate_size=1024),
}  # fmt: skip


def model_type_of(content, default="convbert"):
    """The model_type in the content of a config.json; `default` where there is none."""
    named = str(content.get("model_type") or default)
    return "convbert" if re.sub(r"[\W_]", "", named).lower() == "convbert" else named


class Configuration:
    """How the fields of a configuration are read and written.

    A class of its own, as `paddle.jit.to_static(full_graph=False)` sees of dataclasses that have no other base their
    fields only, neither properties nor what a class has.
    """

    tensor_parallel_degree = -1  # not in parts; paddlenlp.peft's LoRAModel asks

    @classmethod
    def from_preset(cls, name, **changes):
        """The configuration of a published size or of its generator, e.g. "convbert-small-generator"."""
        if name not in cls.presets:
            raise InputError(f"{name}: neither a folder nor a preset; presets are {', '.join(cls.presets)}")
        return cls(**{**cls.presets[name], **changes})

    @classmethod
    def from_dict(cls, content, **changes):
        """From the content of a config.json as we, PaddleNLP or Hugging Face write it."""
        known = {field.name for field in dataclasses.fields(cls)} - {"unknown"}
        values = {key: value for key, value in content.items() if key in known}
        unknown = {key: value for key, value in content.items() if key not in known | NOT_OF_THE_MODEL}
        values["unknown"] = unknown or None
        for key, ours in (("position_embedding_type", "absolute"), ("is_decoder", False)):
            if content.get(key, ours) != ours:
                raise InputError(f"config.json: {key} {content[key]!r}; this project's {cls.title} has only {ours!r}")
        if names := label_names(content):
            values["num_labels"] = len(names)
            values["label_names"] = None if names == _default_labels(len(names)) else names
        if "num_labels" in changes:
            values.pop("label_names", None)
        return cls(**{**values, **changes})

    @classmethod
    def from_pretrained(cls, source, **changes):
        """From a folder's config.json, or a preset's name."""
        if not os.path.isdir(source):
            return cls.from_preset(source, **changes)
        content = read_json_object(Path(source) / "config.json")
        if (model_type := model_type_of(content, cls.model_type)) != cls.model_type:
            raise InputError(f"{source}/config.json: a {model_type} model, not {with_article(cls.title)}")
        return cls.from_dict(content, **changes)

    def save_pretrained(self, folder):
        """Writes the folder's config.json. (A model's own save_pretrained also names its class there.)"""
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_json(Path(folder) / "config.json", self.to_dict())

    @classmethod
    def of_pooler(cls, present):
        """What fields say that the weights have a pooler, or have none."""
        return {}

    def to_dict(self):
        """The content of config.json, with the keys that PaddleNLP and Hugging Face read."""
        content = dataclasses.asdict(self)
        unknown = content.pop("unknown") or {}
        names = content.pop("label_names") or _default_labels(self.num_labels)
        content["id2label"] = {str(index): name for index, name in enumerate(names)}
        content["label2id"] = {name: index for index, name in enumerate(names)}
        for field in ("data_columns", "trained_with"):
            if content[field] is None:
                del content[field]
        return {"model_type": self.model_type, **unknown, **content}


@dataclasses.dataclass
class EncoderConfig(Configuration):
    """What the architectures have in common. Raises InputError when the values don't fit together."""

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    classifier_dropout: float | None = None  # None: as hidden_dropout_prob
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0
    num_labels: int = 2  # 1 means regression
    label_names: list | None = None  # index → word; None: LABEL_0, LABEL_1, …
    data_columns: dict | None = None  # of the table it was trained on: {"text": [one or two], "label": …}
    trained_with: dict | None = None  # what answers or tags were trained with: doc_stride, max_query_length, …
    problem_type: str | None = None  # of the labels, one of PROBLEM_TYPES; None: told by num_labels and their shape
    unknown: dict | None = None  # keys that config.json had and nothing here reads: written back as they were

    # What follows is the same in all models of an architecture, or is a field of its configuration.
    model_type = ""  # in config.json; also the name of the encoder in a model that has a head
    title = ""  # in messages
    presets = MappingProxyType({})  # name → what differs from the defaults
    counts = ()  # further fields that are whole numbers from 1
    num_groups = 1  # of the feed-forward's linear layers
    mask_conv_padding, classifier = False, "mlp"  # see ConvBertConfig
    has_pooler = False  # dense + tanh on the first token
    pool_act = "tanh"  # any other word: no tanh, as in PaddleNLP

    def __post_init__(self):
        heads = self.num_attention_heads
        for field in ("vocab_size", "embedding_size", "hidden_size", "num_attention_heads", "intermediate_size",
                      "max_position_embeddings", "type_vocab_size", "num_labels", *self.counts):  # fmt: skip
            value = getattr(self, field)
            self.require(isinstance(value, int) and value >= 1, f"{field} must be a whole number from 1, not {value!r}")
        for field in ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"):
            value = getattr(self, field)
            self.require(value is None or 0 <= value < 1, f"{field} must lie in [0, 1), not {value!r}")
        hidden, layers, pad = self.hidden_size, self.num_hidden_layers, self.pad_token_id
        self.require(0 <= layers <= MOST_LAYERS, f"num_hidden_layers is {layers}")
        self.require(hidden % heads == 0, f"hidden_size {hidden} is not a multiple of {heads} heads")
        self.require(0 <= pad < self.vocab_size, f"pad_token_id {pad} is not in the vocabulary")
        known = ", ".join(ACTIVATIONS)
        self.require(self.hidden_act in ACTIVATIONS, f"hidden_act {self.hidden_act!r} is none of {known}")
        self.require(self.problem_type in (None, *PROBLEM_TYPES), f"problem_type {self.problem_type!r} is unknown")
        if self.label_names is not None:
            self.label_names = [str(name) for name in self.label_names]
        self.require(
            self.rough_size <= MOST_WEIGHTS,
            f"about {self.rough_size:.0e} weights by vocab_size {self.vocab_size}, hidden_size {self.hidden_size}, …; "
            f"at most {MOST_WEIGHTS:.0e} are possible here",
        )
        names = self.label_names
        self.require(not names or len(names) == self.num_labels, f"{self.num_labels} labels but the names {names}")

    def require(self, condition, message):
        if not condition:
            raise InputError(f"{self.title} configuration: {message}")

    @property
    def embedding_size(self):
        return self.hidden_size

    @property
    def head_size(self):
        return self.hidden_size // self.num_attention_heads

    @property
    def rough_size(self):
        """About how many numbers the large matrices hold."""
        tables = (self.vocab_size + self.max_position_embeddings + self.type_vocab_size) * self.embedding_size
        layer = 3 * self.hidden_size**2 + 2 * self.hidden_size * self.intermediate_size // self.num_groups
        return tables + self.num_hidden_layers * layer

    def require_weights(self, weights, source):
        """Raises InputError where the weights of `source`, name → array, are far too few; before a model is built."""
        count = sum(array.size for array in weights.values())
        if self.rough_size > 4 * count:
            raise InputError(
                f"{source}: its weights are {count:,} numbers, but its configuration is for about {self.rough_size:,} "
                f"(vocab_size {self.vocab_size}, hidden_size {self.hidden_size}, {self.num_hidden_layers} layers, …)"
            )


@dataclasses.dataclass
class ConvBertConfig(EncoderConfig):
    embedding_size: int = 768
    conv_kernel_size: int = 9  # odd
    head_ratio: int = 2  # the paper's γ: attention keeps one of so many of BERT's heads, convolution gets as many
    num_groups: int = 1  # of the feed-forward's grouped linear layers
    classifier: str = "mlp"  # of sequence classification: mlp (H's), linear (T's), pooled_mlp (P's)
    pool_act: str = "tanh"  # see EncoderConfig
    mask_conv_padding: bool = False

    model_type, title, presets = "convbert", "ConvBERT", PRESETS
    counts = "conv_kernel_size", "head_ratio", "num_groups"

    def __post_init__(self):
        super().__post_init__()
        heads, ratio, groups = self.num_attention_heads, self.head_ratio, self.num_groups
        self.require(self.conv_kernel_size % 2 == 1, f"conv_kernel_size must be odd, not {self.conv_kernel_size}")
        self.require(heads < ratio or heads % ratio == 0, f"{heads} heads are not a multiple of head_ratio {ratio}")
        for size in (self.hidden_size, self.intermediate_size):
            self.require(size % groups == 0, f"size {size} does not divide into num_groups {groups}")
        kinds = "mlp", "linear", "pooled_mlp"
        self.require(self.classifier in kinds, f"classifier {self.classifier!r} is unknown")

    @property
    def heads_of_each_kind(self):
        return max(1, self.num_attention_heads // self.head_ratio)

    @property
    def has_pooler(self):
        return self.classifier == "pooled_mlp"

    @classmethod
    def of_pooler(cls, present):
        return {"classifier": "pooled_mlp"} if present else {}

    @staticmethod
    def of_weights(weights):
        """What the shapes of an encoder's weights say, as a dict: all that has a shape. Names are ours."""

        def shape(name):
            if f"convbert.{name}" not in weights:
                raise InputError(f"no config.json, and no weight convbert.{name} to tell the model's size by")
            return weights[f"convbert.{name}"].shape

        tables = (shape(f"embeddings.{name}_embeddings.weight") for name in ("word", "position", "token_type"))
        words, positions, types = tables
        hidden, width = shape("encoder.layers.0.self_attn.q_proj.weight")
        taps = shape("encoder.layers.0.self_attn.key_conv_attn_layer.depthwise.weight")[2]
        kind = shape("encoder.layers.0.self_attn.conv_kernel_layer.weight")[1] // taps  # heads of each kind
        heads = hidden * kind // width
        *groups, _, inner = shape("encoder.layers.0.linear1.weight")
        groups = groups[0] if groups else 1
        return dict(
            vocab_size=words[0], embedding_size=words[1], max_position_embeddings=positions[0],
            type_vocab_size=types[0], hidden_size=hidden, conv_kernel_size=taps, num_attention_heads=heads,
            head_ratio=heads // kind if heads > 1 else 2,  # one head computes the same with any ratio
            num_hidden_layers=1 + max(int(name.split(".")[3]) for name in weights if ".encoder.layers." in name),
            num_groups=groups, intermediate_size=inner * groups,
        )  # fmt: skip


def label_names(content):
    """The labels that a config.json names, in order, as text; [] if it names none. Raises InputError.

    They stand in id2label, an object or a list, or only in label2id; names may be numbers, true or false.
    """
    named = content.get("id2label") or {}
    if isinstance(named, list):
        named = dict(enumerate(named))
    elif not named and isinstance(content.get("label2id"), dict):
        named = {index: name for name, index in content["label2id"].items()}
    try:
        numbered = sorted(((int(index), name) for index, name in named.items()), key=lambda entry: entry[0])
    except (AttributeError, TypeError, ValueError):
        raise InputError(f"config.json: id2label is {json.dumps(named)[:80]}, not names by number") from None
    names, indices = [name for _, name in numbered], [index for index, _ in numbered]
    if indices != list(range(len(indices))):
        raise InputError(f"config.json: labels are numbered {str(indices)[1:-1][:80]}, not from 0 on without a gap")
    if wrong := [name for name in names if not isinstance(name, (str, int, float))]:
        raise InputError(f"config.json: id2label names a label {json.dumps(wrong[0])[:80]}; a name is text")
    names = [str(name).strip() for name in names]
    if "" in names:
        raise InputError(f"config.json: id2label has a name that is empty ({json.dumps(names)[:80]})")
    if len(set(names)) < len(names):
        raise InputError(f"config.json: two labels have the same name ({', '.join(names)[:80]})")
    return names


def with_article(title):
    return f"{'an' if title[0] in 'AEIO' else 'a'} {title}"


def _default_labels(count):
    return [f"LABEL_{index}" for index in range(count)]
