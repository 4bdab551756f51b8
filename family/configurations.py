"""The configurations of BERT, ELECTRA and ERNIE, and their published sizes. (ConvBERT's: layers.configuration.)"""

import dataclasses
from typing import NamedTuple

from layers.configuration import ConvBertConfig, EncoderConfig


class Published(NamedTuple):
    """A published model; where Paddle's zoo and the Hugging Face hub have it."""

    model_type: str
    zoo: str | None  # address of its weights; None: not there
    hub: str  # OWNER/NAME
    differences: dict  # from the configuration's defaults
    vocabulary: str | None = None  # its address in the zoo
    do_lower_case: bool = True


_ZOO = "https://bj.bcebos.com/paddlenlp/models/transformers"
_VOCABULARIES = "https://bj.bcebos.com/paddle-hapi/models/bert"  # BERT's
_SMALL = dict(embedding_size=128, hidden_size=256, num_attention_heads=4, intermediate_size=1024)
_GENERATOR = dict(hidden_size=256, num_attention_heads=4, intermediate_size=1024)

PUBLISHED = {  # sizes as PaddleNLP has them, of models that it lacks as their names on the hub say
    "bert-base-uncased": Published(
        "bert", f"{_ZOO}/bert-base-uncased.pdparams", "google-bert/bert-base-uncased", dict(),
        f"{_VOCABULARIES}/bert-base-uncased-vocab.txt",
    ),
    "bert-base-chinese": Published(
        "bert", f"{_ZOO}/bert/bert-base-chinese.pdparams", "google-bert/bert-base-chinese", dict(vocab_size=21128),
        f"{_VOCABULARIES}/bert-base-chinese-vocab.txt", do_lower_case=False,
    ),
    "bert-uncased-l12-h256": Published(  # of Google's smaller ones, the size of electra-small's encoder
        "bert", None, "google/bert_uncased_L-12_H-256_A-4",
        dict(hidden_size=256, num_attention_heads=4, intermediate_size=1024),
    ),
    "minilm-l6-h384-uncased": Published(
        "bert", None, "nreimers/MiniLM-L6-H384-uncased",
        dict(hidden_size=384, num_hidden_layers=6, intermediate_size=1536),
    ),
    "electra-small": Published(
        "electra", f"{_ZOO}/electra/electra-small.pdparams", "google/electra-small-discriminator", _SMALL,
        f"{_ZOO}/electra/electra-small-vocab.txt",
    ),
    "electra-small-generator": Published("electra", None, "google/electra-small-generator", _SMALL),
    "electra-base": Published(
        "electra", f"{_ZOO}/electra/electra-base.pdparams", "google/electra-base-discriminator", dict(),
        f"{_ZOO}/electra/electra-base-vocab.txt",
    ),
    "electra-base-generator": Published("electra", None, "google/electra-base-generator", _GENERATOR),
    "ernie-1.0": Published(
        "ernie", f"{_ZOO}/ernie/ernie_v1_chn_base.pdparams", "nghuyong/ernie-1.0-base-zh",
        dict(vocab_size=18000, max_position_embeddings=513, hidden_act="relu"), f"{_ZOO}/ernie/vocab.txt",
    ),
    "ernie-3.0-medium-zh": Published(
        "ernie", f"{_ZOO}/ernie_3.0/ernie_3.0_medium_zh.pdparams", "nghuyong/ernie-3.0-medium-zh",
        dict(
            vocab_size=40000, num_hidden_layers=6, max_position_embeddings=2048, type_vocab_size=4, use_task_id=True,
            task_type_vocab_size=16,
        ),
        f"{_ZOO}/ernie_3.0/ernie_3.0_medium_zh_vocab.txt",
    ),
}  # fmt: skip


def _sizes(model_type):
    return {name: entry.differences for name, entry in PUBLISHED.items() if entry.model_type == model_type}


class _PoolerConfig(EncoderConfig):
    @classmethod
    def of_pooler(cls, present):
        return {"has_pooler": present}


@dataclasses.dataclass
class BertConfig(_PoolerConfig):
    has_pooler: bool = True  # kept by PaddleNLP where the head doesn't read it, left out there by Hugging Face
    pool_act: str = "tanh"  # see EncoderConfig

    model_type, title, presets = "bert", "BERT", _sizes("bert")


@dataclasses.dataclass
class ElectraConfig(EncoderConfig):
    embedding_size: int = 768

    model_type, title, presets = "electra", "ELECTRA", _sizes("electra")


@dataclasses.dataclass
class ErnieConfig(_PoolerConfig):
    has_pooler: bool = True  # see BertConfig
    use_task_id: bool = False  # ERNIE 2 and 3: a table of tasks is added to the token types'
    task_type_vocab_size: int = 3
    task_id: int = 0  # the row of that table which all tokens get

    model_type, title, presets, counts = "ernie", "ERNIE", _sizes("ernie"), ("task_type_vocab_size",)

    def __post_init__(self):
        super().__post_init__()
        self.require(0 <= self.task_id < self.task_type_vocab_size, f"task_id {self.task_id} is not in its table")


CONFIGURATIONS = {config.model_type: config for config in (ConvBertConfig, BertConfig, ElectraConfig, ErnieConfig)}
PRESETS = {name: config for config in CONFIGURATIONS.values() for name in config.presets}  # name → configuration class


def preset(name, **changes):
    """The configuration of a published size of any architecture, by its name. Raises InputError."""
    return PRESETS.get(name, ConvBertConfig).from_preset(name, **changes)
