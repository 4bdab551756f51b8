"""Checkpoints of ConvBERT's, ELECTRA's and BERT's TensorFlow code: found, read, and brought under our names.

Sources: the variable scopes in github.com/yitu-opensource/ConvBert (model/modeling.py, run_pretraining.py, finetune/),
which are those of github.com/google-research/electra: `electra` (the discriminator, or a fine-tuned encoder),
`generator`, `generator_predictions`, `discriminator_predictions` and `task_specific/TASK`; both encoders read the
embeddings in `electra`. And in github.com/google-research/bert (modeling.py, run_pretraining.py, run_classifier.py,
run_squad.py): `bert`, `cls/predictions`, `cls/seq_relationship`, `cls/squad`, `output_weights` and `output_bias`.
"""

import os
import re
from pathlib import Path

import numpy as np

from conversion import weight_names
from family.architectures import ARCHITECTURES
from files.errors import InputError

TASKS = {  # the original's name of a task → our head and the label names in the original's order
    **dict.fromkeys(("cola", "sst", "mrpc", "qqp", "wnli", "sts"), ("ForSequenceClassification", None)),
    **dict.fromkeys(("rte", "qnli"), ("ForSequenceClassification", ["entailment", "not_entailment"])),
    "mnli": ("ForSequenceClassification", ["contradiction", "entailment", "neutral"]),
    "chunk": ("ForTokenClassification", None),
}
SCOPES = {"electra", "generator", "generator_predictions", "discriminator_predictions", "task_specific"}
BERT_SCOPES = {"bert", "cls", "output_weights", "output_bias"}
OPTIMIZER = ("/adam_m", "/adam_v", "global_step")  # endings of what is not the model's


def find(path):
    """TensorFlow's name for a checkpoint (the path before `.index`), given as that, as the index file, or as a folder.

    Of a folder's checkpoints it is the one that its file `checkpoint` names, else the one of the last step.

    Returns:
        str, or None when there is no such checkpoint.
    """
    path = Path(path)
    if not path.is_dir():
        path = path.with_suffix("") if path.suffix == ".index" else path
        return str(path) if Path(f"{path}.index").is_file() else None
    names = [index.name.removesuffix(".index") for index in path.glob("*.index")]
    latest = path / "checkpoint"
    named = re.search(r'model_checkpoint_path: "(?:.*/)?(.+)"', latest.read_text("utf-8")) if latest.is_file() else None
    if named and named[1] in names:
        return str(path / named[1])
    return str(path / max(names, key=lambda name: int(re.search(r"\d*$", name)[0] or -1))) if names else None


def read(checkpoint, backbone_only=False):
    """Reads a checkpoint by its name.

    Args:
        backbone_only: the encoder alone; of a pre-training checkpoint, the discriminator's.

    Returns:
        The model type and a list of parts, the discriminator and the generator for a pre-training checkpoint, else one:
        each our class, our name → float32 array, and the label names or None.

    Raises:
        InputError: no TensorFlow, a damaged file, or variables that this project has no place for.
    """
    variables = _read_variables(checkpoint)
    scopes = {name.partition("/")[0] for name in variables}
    if "bert" in scopes and "electra" not in scopes:
        return "bert", _bert_parts(checkpoint, variables, scopes, backbone_only)
    kind = "convbert" if any("/conv_attn_" in name for name in variables) else "electra"
    return kind, _electra_parts(checkpoint, kind, variables, scopes, backbone_only)


def _electra_parts(checkpoint, kind, variables, scopes, backbone_only):
    prefix = ARCHITECTURES[kind].prefix
    if "electra" not in scopes or scopes - SCOPES:
        strange = ", ".join(sorted(scopes - SCOPES)) or "no electra/…"
        raise InputError(f"{checkpoint}: not one of the original's checkpoints: it has {strange}")
    tasks = sorted({name.split("/")[1] for name in variables if name.startswith("task_specific/")})

    def part(head, encoder, head_scope=None, labels=None):
        """Variables of one encoder and one head, under our names."""
        found = {}
        for name, array in variables.items():
            scope, _, rest = name.partition("/")
            if scope == encoder or name.startswith("electra/embeddings/"):
                found[rest] = array
            elif scope == head_scope:
                found[re.sub("^task_specific/[^/]+", "task_specific", name)] = array
        architecture = f"{prefix}{head}"
        return architecture, weight_names.from_tensorflow(found, architecture, checkpoint), labels

    if backbone_only or scopes == {"electra"}:
        return [part("Model", "electra")]
    if tasks:
        if len(tasks) > 1 or tasks[0] not in TASKS:
            raise InputError(f"{checkpoint}: no head here for {', '.join(tasks)}; --backbone_only converts the encoder")
        head, labels = TASKS[tasks[0]]
        if kind == "electra" and head == "ForSequenceClassification":
            raise InputError(
                f"{checkpoint}: its classifier is one dense layer, those of ELECTRA here two; --backbone_only converts "
                "the encoder"
            )
        return [part(head, "electra", "task_specific", labels)]
    if any(name.startswith("generator/embeddings/") for name in variables):
        raise InputError(
            f"{checkpoint}: its generator has embeddings of its own; --backbone_only converts the other encoder"
        )
    parts = []
    if "discriminator_predictions" in scopes:
        parts.append(part("Discriminator", "electra", "discriminator_predictions"))
    if "generator_predictions" in scopes:
        encoder = "generator" if "generator" in scopes else "electra"  # one encoder for both, or masked words alone
        parts.append(part("Generator", encoder, "generator_predictions"))
    return parts


def _bert_parts(checkpoint, variables, scopes, backbone_only):
    if scopes - BERT_SCOPES:
        strange = ", ".join(sorted(scopes - BERT_SCOPES))
        raise InputError(f"{checkpoint}: not one of BERT's checkpoints: it has {strange}")
    if backbone_only:
        variables = {name: array for name, array in variables.items() if name.startswith("bert/")}
    heads = {
        "cls/squad/output_weights": "BertForQuestionAnswering",
        "output_weights": "BertForSequenceClassification",
        "cls/predictions/output_bias": "BertForMaskedLM",
    }
    architecture = next((name for sign, name in heads.items() if sign in variables), "BertModel")
    found = {name.removeprefix("bert/"): array for name, array in variables.items()}
    return [(architecture, weight_names.from_tensorflow(found, architecture, checkpoint), None)]


def _read_variables(checkpoint):
    """Variable's name → float32 array, without the optimizer's; the names of grouped layers as those of plain ones."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import tensorflow
    except ImportError:
        raise InputError(f"{checkpoint}: reading it needs TensorFlow: pip install tensorflow-cpu") from None
    try:
        reader = tensorflow.train.load_checkpoint(checkpoint)
        names = sorted(name for name in reader.get_variable_to_shape_map() if not name.endswith(OPTIMIZER))
        return {n.replace("/g_dense/", "/dense/"): np.asarray(reader.get_tensor(n)).astype(np.float32) for n in names}
    except (tensorflow.errors.OpError, ValueError, TypeError) as error:
        raise InputError(f"{checkpoint}: damaged or not a checkpoint ({str(error).splitlines()[0]})") from None
