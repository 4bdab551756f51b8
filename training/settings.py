"""What of a stopped run must be the same when it goes on: the flags, and what its steps read."""

import hashlib
import json
import os
import sys
from pathlib import Path

from files.errors import InputError
from training.run_folder import read_state

IN_LAST = "--mask_conv_padding", "--generator_size"  # kept with the model, where they are left out
# Flags that change no step, or that only say where something is: of those, what is there is compared.
MAY_CHANGE = frozenset((
    "output_dir", "logging_steps", "save_steps", "save_minutes", "eval_steps", "keep_checkpoints",
    "visualdl_dir", "report_to",
    "max_eval_samples", "eval_batch_size", "logging_first_step",  # dev examples are compared
    "resume", "overwrite", "verbose", "device", "recompute", "recipe", "early_stopping_patience",
    "max_steps", "num_train_epochs",  # upwards: see loop.Steps
    "batch_size", "train_batch_size", "gradient_accumulation_steps",  # → examples of a step
    "amp", "amp_dtype",  # → precision
    "task_name", "data_dir", "train_file", "validation_file", "text_column", "text_pair_column", "label_column",
    "regression", "multi_label", "skip_bad_rows", "test_file", "do_predict", "do_train",  # → task, examples
    "input_dir", "data_store", "prepare_only", "shard", "word_boundaries",  # → text, word boundaries
    "model_name_or_path", "init_from", "from_scratch", "init_from_ckpt",  # → model
    "vocab_file", "do_lower_case", "strip_accents", "tokenize_chinese_chars",  # → vocabulary
))  # fmt: skip
WHOLE = 2**24  # bytes up to which a text file is compared as a whole; a larger one by its size and PARTS of it
PARTS, PART = 16, 2**20


def settings_of(args, batch_size, processes, source, tokenizer, **facts):
    """What must be the same, name → what JSON can hold; flags by their names on the command line.

    Args:
        batch_size: examples at a time in a process.
        source: what the model starts from, a name or a folder.
        **facts: the script's own.
    """
    flags = {f"--{name}": value for name, value in vars(args).items() if name not in MAY_CHANGE}
    switches = [tokenizer.do_lower_case, tokenizer.strip_accents, tokenizer.tokenize_chinese_chars]
    vocabulary = [sorted(tokenizer.get_vocab().items()), switches]
    facts = {
        "examples of a step": batch_size * args.gradient_accumulation_steps * processes.count,
        "precision": f"{args.amp} {args.amp_dtype}" if args.amp else "float32",
        "model": str(Path(source).resolve()) if Path(source).exists() else source,
        "vocabulary": f"{len(tokenizer):,} words ({_digest([json.dumps(vocabulary).encode()])})",
        **facts,
    }
    return json.loads(json.dumps(flags | facts))


def examples_fact(examples):
    """What there is to say of examples, tuples of texts and a label, so that others are told from them."""
    return f"{len(examples):,} examples ({_digest(repr(tuple(example)).encode() for example in examples)})"


def files_fact(paths):
    """The same of text files; their names and dates do not count."""
    return f"{len(paths):,} files ({_digest(part for path in paths for part in _parts(path))})"


def _parts(path):
    size = os.path.getsize(path)
    yield b"%d:" % size
    with open(path, "rb") as file:
        if size <= WHOLE:
            yield file.read()
            return
        for number in range(PARTS):
            file.seek((size - PART) * number // (PARTS - 1))
            yield file.read(PART)


def _digest(parts):
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()[:12]


def require_same_settings(last, settings):
    """Raises InputError where the run that stands in the folder `last` was made with other settings.

    Settings that one of both does not know are not compared; a run that stored none goes on, with a warning.
    """
    stored = read_state(last).get("settings")
    if stored is None:
        print(
            f"warning: {last}: of a version that stored no flags; goes on without knowing whether these are the run's",
            file=sys.stderr,
        )
        return
    changed = [
        f"{name} {_shown(stored[name])}, now {_shown(value)}"
        for name, value in settings.items()
        if name in stored and stored[name] != value and not (value is None and name in IN_LAST)
    ]
    if changed:
        raise InputError(
            f"{last}: this run goes on only as it began; changed: {'; '.join(changed)}; "
            "give these as they were, or start anew (--overwrite, or another --output_dir)"
        )


def _shown(value):
    return "left out" if value is None else value
