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
from layers.model_card import is_own

MASTER = "master_weight"  # the float32 original of a weight that is float16 or bfloat16
FINISHED = "results.json", "checkpoint-*"  # what a run leaves only where it left last/, too
RUN = (
    "last", *FINISHED, "curves.png", "confusion.png", "predictions_dev.tsv", "predictions", "discriminator", "generator"
)  # fmt: skip
MODEL = (
    "model.safetensors", "model_state.pdparams", "vocab.txt", "tokenizer_config.json", "tokenizer.json",
    "added_tokens.json", "special_tokens_map.json", "config.json",  # last: it tells that this is a model's folder
)  # fmt: skip


def prepare_output(output_dir, resume, overwrite, besides=None, trains=True, inputs=()):
    """Creates the output folder, and mends what a kill left there. Removes nothing else.

    Args:
        besides: a path that it may hold.
        trains: whether a run is to follow, which removes an old one (clear_old_run).
        inputs: paths that it reads.

    Raises InputError: it holds something else, and neither flag allows that; it holds a run without `last/`, and there
    is only `resume`; a new run would remove what it reads.
    """
    folder = Path(output_dir)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output_dir {folder}: not a folder")
    allowed = [Path(besides).resolve(), *Path(besides).resolve().parents] if besides else []
    others = [path for path in folder.iterdir() if path.resolve() not in allowed] if folder.is_dir() else []
    if others and not (resume or overwrite):
        raise InputError(f"--output_dir {folder}: not empty; add --resume to go on, --overwrite to start anew")
    folder.mkdir(parents=True, exist_ok=True)
    clear_leftovers(folder)
    if not trains or (resume and (folder / "last").is_dir()):
        return
    if not overwrite and (found := next(_written(folder, FINISHED), None)):
        hint = "rename it to last to go on from there, or" if found.is_dir() else "or"
        raise InputError(f"--resume: {folder} holds {found.name}, but no last/; {hint} add --overwrite to start anew")
    removed = [path.resolve() for path in _written(folder)]
    for given in map(Path, inputs):
        resolved = given.resolve()
        as_model = resolved == folder.resolve() and (folder / "config.json").is_file()
        if as_model or any(path == resolved or path in resolved.parents for path in removed):
            raise InputError(f"{given}: a new run in --output_dir {folder} would remove it; take another folder")


def clear_old_run(folder):
    """Removes what a run leaves in its folder, so that nothing there counts as a new one's; other files stay."""
    for path in _written(folder):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _written(folder, patterns=None):
    """The paths in `folder` that a run writes, or those of them that fit one of the patterns."""
    is_model = (folder / "config.json").is_file()
    card = folder / "README.md"
    if patterns is None and is_model and card.is_file() and is_own(card):
        yield card
    for pattern in patterns or (*RUN, *(MODEL if is_model else ())):
        yield from sorted(folder.glob(pattern))


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


def read_state(folder):
    """The state that save_state wrote. Raises InputError where that can't be one."""
    path = folder / "training_state.json"
    state = read_json(path)
    kinds = dict(step=int, log=list, evaluations=list, precision=dict)
    wrong = [
        name for name, kind in kinds.items() if not isinstance(state, dict) or not isinstance(state.get(name), kind)
    ]
    if wrong or state["step"] < 1:
        raise InputError(
            f"{path}: damaged: its {(wrong or ['step'])[0]} is no run's; start anew, or take a checkpoint-STEP"
        )
    return state


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
    values |= {"master_weights": masters} if masters else {}
    values |= {name: now for name, now in optimizer.state_dict().items() if name == "LR_Scheduler"}  # Paddle 2 wants it
    optimizer.set_state_dict(values)
    return state
