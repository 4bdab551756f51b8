"""The authors' TensorFlow checkpoints: found, read, and brought under our names.

Source: the variable scopes in github.com/yitu-opensource/ConvBert (model/modeling.py, run_pretraining.py, finetune/):
`electra` (the discriminator, or a fine-tuned encoder), `generator`, `generator_predictions`,
`discriminator_predictions` and `task_specific/TASK`. Both encoders read the embeddings in `electra`.
"""

import os
import re
from pathlib import Path

import numpy as np

from conversion import weight_names
from files.errors import InputError

TASKS = {  # the original's name of a task → our class and the label names in the original's order
    **dict.fromkeys(("cola", "sst", "mrpc", "qqp", "wnli", "sts"), ("ConvBertForSequenceClassification", None)),
    **dict.fromkeys(("rte", "qnli"), ("ConvBertForSequenceClassification", ["entailment", "not_entailment"])),
    "mnli": ("ConvBertForSequenceClassification", ["contradiction", "entailment", "neutral"]),
    "chunk": ("ConvBertForTokenClassification", None),
}
SCOPES = {"electra", "generator", "generator_predictions", "discriminator_predictions", "task_specific"}
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
        list of parts, the discriminator and the generator for a pre-training checkpoint, else one: each our class, our
        name → float32 array, and the label names or None.

    Raises:
        InputError: no TensorFlow, a damaged file, or variables that this project has no place for.
    """
    variables = _read_variables(checkpoint)
    scopes = {name.partition("/")[0] for name in variables}
    if "electra" not in scopes or scopes - SCOPES:
        strange = ", ".join(sorted(scopes - SCOPES)) or "no electra/…"
        raise InputError(f"{checkpoint}: not one of the original's checkpoints: it has {strange}")
    tasks = sorted({name.split("/")[1] for name in variables if name.startswith("task_specific/")})

    def part(architecture, encoder, head=None, labels=None):
        """Variables of one encoder and one head, under our names."""
        found = {}
        for name, array in variables.items():
            scope, _, rest = name.partition("/")
            if scope == encoder or name.startswith("electra/embeddings/"):
                found[rest] = array
            elif scope == head:
                found[re.sub("^task_specific/[^/]+", "task_specific", name)] = array
        return architecture, weight_names.from_tensorflow(found, architecture, checkpoint), labels

    if backbone_only or scopes == {"electra"}:
        return [part("ConvBertModel", "electra")]
    if tasks:
        if len(tasks) > 1 or tasks[0] not in TASKS:
            raise InputError(f"{checkpoint}: no head here for {', '.join(tasks)}; --backbone_only converts the encoder")
        architecture, labels = TASKS[tasks[0]]
        return [part(architecture, "electra", "task_specific", labels)]
    if any(name.startswith("generator/embeddings/") for name in variables):
        raise InputError(
            f"{checkpoint}: its generator has embeddings of its own; --backbone_only converts the other encoder"
        )
    parts = []
    if "discriminator_predictions" in scopes:
        parts.append(part("ConvBertDiscriminator", "electra", "discriminator_predictions"))
    if "generator_predictions" in scopes:
        encoder = "generator" if "generator" in scopes else "electra"  # one encoder for both, or masked words alone
        parts.append(part("ConvBertGenerator", encoder, "generator_predictions"))
    return parts


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
