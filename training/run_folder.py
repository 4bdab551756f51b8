"""A training run's folder: the best model, `last/` with all that a run needs to go on, older checkpoints if wanted.

What is written is written whole: a run that is killed at any moment finds its last checkpoint again.
"""

import re
import shutil
from pathlib import Path

import paddle

from files.atomic import atomic_folder, clear_leftovers
from files.errors import InputError
from files.json_files import read_json, write_json
from files.weights import read_weights, write_safetensors

MASTER = "master_weight"  # the float32 original of a weight that is float16 or bfloat16


def prepare_output(output_dir, resume, overwrite, besides=None):
    """Creates the output folder, and mends what a kill left there.

    Raises InputError when it holds anything but the path `besides`, and neither flag allows that.
    """
    folder = Path(output_dir)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output_dir {folder}: not a folder")
    if folder.is_dir() and set(folder.iterdir()) - {besides} and not (resume or overwrite):
        raise InputError(f"--output_dir {folder}: not empty; add --resume to go on, --overwrite to start anew")
    folder.mkdir(parents=True, exist_ok=True)
    clear_leftovers(folder)
    last = folder / "last"
    if not resume and last.exists():  # of the run that is overwritten; --resume must not find it later
        shutil.rmtree(last)


def save_last(output, write_model, model, optimizer, state, keep=0):
    """Replaces `last/`, and keeps a copy of it as `checkpoint-STEP` where the newest `keep` of those are wanted.

    Args:
        write_model: function of a folder.
        state: dict that JSON can hold, with "step".
    """
    with atomic_folder(output / "last") as folder:
        write_model(folder)
        save_state(folder, model, optimizer, state)
    if keep:
        name = f"checkpoint-{state['step']}"
        with atomic_folder(output / name) as folder:
            shutil.copytree(output / "last", folder, dirs_exist_ok=True)
        steps = (re.fullmatch(r"checkpoint-(\d+)", path.name) for path in output.iterdir())
        for step in sorted(int(match[1]) for match in steps if match)[:-keep]:
            shutil.rmtree(output / f"checkpoint-{step}")


def save_state(folder, model, optimizer, state):
    """Writes what a run needs to go on beside the model's own files: optimizer.safetensors and training_state.json."""
    names = {p.name: name for name, p in model.named_parameters()}
    arrays = {}
    values = optimizer.state_dict()
    masters = values.pop("master_weights", {})
    for key, value in (values | {f"{name}_{MASTER}": value for name, value in masters.items()}).items():
        owner = max((p for p in names if key.startswith(f"{p}_")), key=len, default=None)
        if owner is not None:  # "linear_3.w_0_moment1_0" → "classifier.dense.weight:moment1_0"
            arrays[f"{names[owner]}:{key[len(owner) + 1 :]}"] = value.numpy()
    write_safetensors(folder / "optimizer.safetensors", arrays)
    write_json(folder / "training_state.json", state)


def load_state(folder, model, optimizer):
    """Restores the optimizer from what save_state wrote and returns `state`. Raises InputError."""
    names = {name: p.name for name, p in model.named_parameters()}
    state = read_json(folder / "training_state.json")
    values, masters = {}, {}
    for key, array in read_weights(folder / "optimizer.safetensors").items():
        name, _, kind = key.partition(":")
        if name not in names:
            raise InputError(f"{folder / 'optimizer.safetensors'}: {name} is no parameter of this model")
        if kind == MASTER:  # its moments are found by the name that Paddle gives it
            masters[names[name]] = paddle.to_tensor(array)
            masters[names[name]].name = f"{names[name]}_fp32_master_0"
        else:
            values[f"{names[name]}_{kind}"] = paddle.to_tensor(array)
    optimizer.set_state_dict(values | ({"master_weights": masters} if masters else {}))
    return state
