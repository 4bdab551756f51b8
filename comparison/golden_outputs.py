"""Golden outputs: what a checkpoint computed once, kept in one file, so that later versions can be held to it."""

import hashlib
import json

import numpy as np

from comparison import parity
from files.atomic import atomic_file
from files.errors import InputError

INPUTS = ("input_ids", "token_type_ids", "attention_mask")


def store(ours, path):
    """Writes inputs, every layer's output, the logits and the weights' fingerprint to `path`, a new .npz file."""
    from training.facts import run_facts

    inputs = parity.inputs_for(_architecture(ours), ours.config)
    found = ours.forward(inputs)
    about = {"architecture": _architecture(ours), "weights": fingerprint(ours), **run_facts()}
    arrays = {**inputs, **_named(found), "about": np.array(json.dumps(about))}
    with atomic_file(path) as file:
        np.savez_compressed(file, **arrays)


def check(ours, path, tolerance):
    """Findings of the model's outputs against those in `path`. Raises InputError when they belong to other weights."""
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = dict(file)
        about = json.loads(str(stored["about"]))
        inputs = {name: stored[name] for name in INPUTS}
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise InputError(f"{path}: no golden outputs in here ({error})") from None
    if about["architecture"] != _architecture(ours) or about["weights"] != fingerprint(ours):
        raise InputError(f"{path}: made from other weights ({about['architecture']}); delete it to store these")
    found = _named(ours.forward(inputs))
    return [
        parity.closeness("golden", name, array, found[name], tolerance)
        for name, array in stored.items()
        if name not in (*INPUTS, "about")
    ]


def fingerprint(ours):
    """SHA-256 over names, shapes and bytes of all weights."""
    digest = hashlib.sha256()
    for name, array in sorted(ours.weights().items()):
        digest.update(f"{name} {array.shape} {array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _architecture(ours):
    return type(ours.model).__name__


def _named(found):
    """Outputs as name → array, in the order in which the model computes them."""
    layers = {parity.layer_name(number): array for number, array in enumerate(found.hidden_states)}
    return layers | {f"logits {number}": array for number, array in enumerate(found.logits)}
