"""Every head of every architecture, from each library and to it: the same numbers, and bit for bit there and back."""

import re

import numpy as np
import paddle
import pytest
from conftest import ROOT, needs

from comparison import parity
from conversion.formats import convert
from family.architectures import class_named, config_class, type_of_class
from files.json_files import read_json
from files.weights import in_full, read_weights
from tokenizer import ConvBertTokenizer

SIZES = dict(
    vocab_size=80, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
    max_position_embeddings=40,
)  # fmt: skip
OWN = {
    "convbert": {"embedding_size": 16},
    "bert": {},
    "electra": {"embedding_size": 16},
    "ernie": {"use_task_id": True, "task_type_vocab_size": 5, "type_vocab_size": 3, "hidden_act": "relu"},
}
KINDS = "Model", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice"
PRETRAINED = {
    "ConvBert": ("Generator", "Discriminator", "ForPretraining"),
    "Bert": ("ForMaskedLM", "ForPretraining"),
    "Electra": ("Generator", "Discriminator", "ForPretraining"),
    "Ernie": ("ForMaskedLM", "ForPretraining"),
}
HEADS = [prefix + kind for prefix, others in PRETRAINED.items() for kind in (*KINDS, *others)]
OURS = {f"{prefix}ForPretraining": f"{prefix}ForMaskedLM" for prefix in ("Bert", "Ernie")}  # without the next sentence
JOINT = "ConvBertForPretraining", "ElectraForPretraining"
CALLED = {  # what a library calls a head, where it is another name; None: it has no such class
    "hf": {
        "ConvBertGenerator": "ConvBertForMaskedLM", "ElectraGenerator": "ElectraForMaskedLM",
        "ElectraDiscriminator": "ElectraForPreTraining", "BertForPretraining": "BertForPreTraining",
        "ErnieForPretraining": "ErnieForPreTraining", **dict.fromkeys(("ConvBertDiscriminator", *JOINT)),
    },
    "paddlenlp": {name: name.replace("ForPre", "ForTotalPre") for name in JOINT},
}  # fmt: skip
SIDES = {"hf": needs("torch", "transformers"), "paddlenlp": needs("paddlenlp")}
PICKLED = {prefix + "ForSequenceClassification" for prefix in PRETRAINED}  # by PaddleNLP, as it does by itself
FORMAT = {"hf": "hf", "paddlenlp": "paddle"}


def rows(wanted):
    return [
        pytest.param(head, library, id=f"{library}-{head}", marks=mark)
        for library, mark in SIDES.items()
        for head in HEADS
        if wanted(head, library)
    ]


ROWS = {
    "from": rows(lambda head, library: CALLED[library].get(head, head)),
    "to": rows(lambda head, library: head not in OURS),
}


def settings(head, library):
    kind = type_of_class(head)
    found = {**SIZES, **OWN[kind]}
    if head.endswith("ForMultipleChoice") and library == "hf":
        found["summary_type"] = "first"  # what ours reads; of ConvBERT's there the default is the last token
    if library == "paddlenlp" and kind == "ernie":
        found["task_id"] = 2  # Hugging Face's has row 0 alone
    return found


def disturbed(model):
    """No parameter at a trivial value; the pad row is zero, as PaddleNLP reads it."""
    random = np.random.default_rng(0)
    for weight in model.parameters():
        weight.set_value(weight.numpy() + random.normal(0, 0.1, weight.shape).astype("f"))
    for name, weight in model.state_dict().items():
        if name.endswith("word_embeddings.weight"):
            with paddle.no_grad():
                weight[0] = 0.0
    model.eval()
    return model


def build_ours(head, library):
    cls, wanted = class_named(head), settings(head, library)
    wanted.pop("summary_type", None)
    if library == "paddlenlp" and head.startswith("ConvBert"):
        wanted["classifier"] = "pooled_mlp"  # PaddleNLP's models have a pooler
    elif type_of_class(head) in ("bert", "ernie"):
        wanted["has_pooler"] = library == "paddlenlp" or head.endswith(("Model", *KINDS[1:2], KINDS[4]))
    if not head.endswith("ForQuestionAnswering"):
        wanted |= dict(num_labels=3, label_names=["no", "yes", "perhaps"])
    config = cls.config_class(**wanted)
    return disturbed(cls(config, config) if head in JOINT else cls(config))


def build_theirs(head, library):
    name = CALLED[library].get(head, head)
    prefix = next(prefix for prefix in PRETRAINED if head.startswith(prefix))
    labels = 2 if head.endswith("ForQuestionAnswering") else 3
    if library == "paddlenlp":
        from paddlenlp import transformers

        model = getattr(transformers, name)(
            getattr(transformers, f"{prefix}Config")(**settings(head, library), num_labels=labels)
        )
        disturbed(model)
        if head in JOINT:  # which there share the words alone
            first, second = (
                getattr(part, prefix.lower()).embeddings for part in (model.generator, model.discriminator)
            )
            first.set_state_dict(second.state_dict())
        return model
    import torch
    import transformers

    torch.manual_seed(0)
    model = getattr(transformers, name)(
        getattr(transformers, f"{prefix}Config")(**settings(head, library), num_labels=labels)
    ).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return model


def answers(model, head, library):
    """The arrays that a model gives for a padded batch with two segments, in multiple choice two for each text."""
    arrays = parity.batch(config_class("bert")(**SIZES), length=30)
    if head.endswith("ForMultipleChoice"):
        arrays = {name: np.stack([array, array[::-1]], 1) for name, array in arrays.items()}
    if library == "hf":
        import torch

        with torch.no_grad():
            found = model.eval()(**{name: torch.from_numpy(array.copy()) for name, array in arrays.items()}).to_tuple()
    else:
        model.eval()
        model.num_choices = 2  # PaddleNLP's BERT doesn't look
        if library == "paddlenlp":
            arrays.pop("attention_mask")  # made of the pad id, as its ConvBERT takes no other
        with paddle.no_grad():
            found = model(**{name: paddle.to_tensor(array) for name, array in arrays.items()})
    return [array.numpy() for array in (found if isinstance(found, tuple) else (found,))]


def same_answers(theirs, ours, head, library):
    if library == "paddlenlp" and head in JOINT:  # whose own forward crashes there, and the ConvBERT's discriminator's
        same_answers(theirs.generator, ours.generator, type(ours.generator).__name__, library)
        head, theirs, ours = type(ours.discriminator).__name__, theirs.discriminator, ours.discriminator
    if head == "ConvBertDiscriminator":  # Hugging Face has its encoder alone
        head, ours = "ConvBertModel", ours.backbone
        theirs = theirs if library == "hf" else theirs.convbert
    for found, expected in zip(answers(ours, head, "ours"), answers(theirs, head, library), strict=False):
        np.testing.assert_allclose(found, expected.reshape(found.shape), rtol=0, atol=1e-5)


AUTO = {  # end of a class's name → what loads it by config.json alone
    **{kind: f"AutoModel{kind.removeprefix('Model')}" for kind in KINDS},
    "ForMaskedLM": "AutoModelForMaskedLM",
    "ForPreTraining": "AutoModelForPreTraining",
}
VOCABULARY = ROOT / "samples/vocab.txt"
TWICE = r"decoder\.(weight|bias)$|decoder_weight$|generator_lm_head\.weight$"  # names of what has another one


def same_weights(first, second, kind, unread=r"^$"):
    """Two folders, bit for bit; a bare encoder's names may be without their beginning, and of `first` some left out."""
    first, second = ({in_full(name, kind): array for name, array in read_weights(f).items()} for f in (first, second))
    left_out = re.compile(f"{unread}|{TWICE}")
    names = [{name for name in side if not left_out.search(name)} for side in (first, second)]
    assert names[0] == names[1]
    for name in names[0]:
        np.testing.assert_array_equal(second[name], first[name], err_msg=name)


def load_theirs(folder, head, library):
    name = CALLED[library].get(head, head)
    if library == "paddlenlp":
        from paddlenlp import transformers

        return getattr(transformers, name).from_pretrained(str(folder))
    import transformers

    name = name or "ConvBertModel"
    auto = AUTO.get(next(kind for kind in AUTO if name.endswith(kind)))
    model, report = getattr(transformers, auto).from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    ours = {"discriminator_predictions"} if head == "ConvBertDiscriminator" else set()
    assert {key.partition(".")[0] for key in report["unexpected_keys"]} <= ours
    assert type(model).__name__ == name
    assert model.config.architectures == [name]
    text = "The convolution of words"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer(text)["input_ids"] == ConvBertTokenizer(VOCABULARY)(text)["input_ids"]
    return model


@pytest.mark.parametrize(("head", "library"), ROWS["from"])
def test_every_head_from_every_library(tmp_path, head, library):
    theirs = build_theirs(head, library)
    as_pickle = {"safe_serialization": False} if head in PICKLED and library == "paddlenlp" else {}
    theirs.save_pretrained(str(tmp_path / "theirs"), **as_pickle)
    ours = OURS.get(head, head)
    assert convert(tmp_path / "theirs", tmp_path / "ours") == ours
    same_answers(theirs, class_named(ours).from_pretrained(tmp_path / "ours", whole=True), ours, library)
    assert convert(tmp_path / "ours", tmp_path / "back", to=FORMAT[library]) == ours
    unread = r"^$" if head not in OURS else r"^cls\.seq_relationship" + (r"|pooler\." if library == "hf" else "")
    same_weights(tmp_path / "theirs", tmp_path / "back", type_of_class(head), unread)


@pytest.mark.parametrize(("head", "library"), ROWS["to"])
def test_every_head_to_every_library(tmp_path, head, library):
    ours = build_ours(head, library)
    ours.save_pretrained(tmp_path / "ours")
    ConvBertTokenizer(VOCABULARY).save_pretrained(tmp_path / "ours")
    assert convert(tmp_path / "ours", tmp_path / "theirs", to=FORMAT[library]) == head
    if head in JOINT and library == "hf":  # two folders
        for part in (ours.discriminator, ours.generator):
            folder = tmp_path / "theirs" / type(part).__name__.removeprefix(head.removesuffix("ForPretraining")).lower()
            same_answers(load_theirs(folder, type(part).__name__, library), part, type(part).__name__, library)
        return
    same_answers(load_theirs(tmp_path / "theirs", head, library), ours, head, library)
    assert convert(tmp_path / "theirs", tmp_path / "back") == head
    same_weights(tmp_path / "ours", tmp_path / "back", type_of_class(head))
    assert read_json(tmp_path / "ours/config.json") == read_json(tmp_path / "back/config.json")
