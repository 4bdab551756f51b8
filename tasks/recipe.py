"""`--recipe paper`: the fine-tuning settings of the paper's code, task by task.

They are ELECTRA's, from which that code is derived (google-research/electra, configure_finetuning.py): the learning
rate by size, clipping, layer-wise decay, both orders of the pair where the label does not depend on it.
"""

from pathlib import Path

from family.configurations import PRESETS, preset
from files.json_files import read_json_object

LONG_TASKS = ("RTE", "STS-B")  # with little data: 10 epochs
SMALL = 384  # the largest hidden size for which the paper's small models' learning rate holds


def paper_settings(task_name, model):
    """Flags of run_glue.py → values, for a task in its own spelling and a model's name or folder.

    A model whose size can't be told counts as base.
    """
    return dict(
        learning_rate=3e-4 if _hidden_size(model) <= SMALL else 1e-4,
        num_train_epochs=10 if task_name in LONG_TASKS else 3,
        batch_size=32,
        warmup_proportion=0.1,
        weight_decay=0.01,
        layer_lr_decay=0.8,
        max_grad_norm=1.0,
        double_unordered=True,
    )


def _hidden_size(model):
    if Path(model).is_dir():
        return read_json_object(Path(model) / "config.json").get("hidden_size", 768)
    return preset(model).hidden_size if model in PRESETS else 256 if "small" in model else 768
