"""GLUE downloaded: PaddleNLP's copy, or the files of nyu-mll/glue on the Hugging Face hub. Both hold the same examples.

nyu-mll/glue has a parquet file of each split, mnli/validation_matched-00000-of-00001.parquet for example, whose labels
are numbers, -1 in test splits (https://huggingface.co/datasets/nyu-mll/glue).
"""

import contextlib
import importlib.util
import json
import sys
from pathlib import Path

from conversion import paddlenlp_models
from files.downloads import download
from files.errors import InputError
from files.hub import fetch_data
from tasks.glue import TASKS, Example

GLUE = "nyu-mll/glue"
TEXTS = {  # a task's columns there, where they have other names than in the official files
    "MRPC": ("sentence1", "sentence2"), "MNLI": ("premise", "hypothesis"), "AX": ("premise", "hypothesis")
}  # fmt: skip
LABELS = dict.fromkeys(("MNLI", "AX"), ("entailment", "neutral", "contradiction"))  # its order, where ours is another
SPLITS = {
    "dev": "validation", "dev_matched": "validation_matched", "dev_mismatched": "validation_mismatched",
    "diagnostic": "test",
}  # fmt: skip


def downloaded(task, split, quiet=False):
    """One split of a task, a list of Example. Raises InputError: neither source can be had.

    PaddleNLP's copy is the first choice where paddlenlp is installed; without it, and where that fails, the hub's.
    """
    problem = ""
    if task.paddlenlp_name and importlib.util.find_spec("paddlenlp"):
        try:
            return _from_paddlenlp(task, split)
        except InputError as error:
            problem = f"{error}; "
    try:
        examples = _from_hub(task, split)
    except InputError as error:
        advice = "give --data_dir with the files of GLUE, or --data_dir samples"
        raise InputError(f"{task.name}: {problem}{error}; {advice}") from None
    if problem and not quiet:
        print(f"warning: {task.name}: {problem}{split} is {GLUE}'s of the Hugging Face hub", file=sys.stderr)
    return examples


# -------------------------------------------------------------------------------------------------------------- the hub


def _from_hub(task, split):
    if not importlib.util.find_spec("pyarrow"):
        raise InputError(f"{GLUE} of the Hugging Face hub is read with pyarrow: pip install pyarrow")
    import pyarrow
    from pyarrow import parquet

    original = TASKS.get(task.name, task)  # whose labels are in the order of the files
    texts, tested = TEXTS.get(task.name, task.texts), split in task.test_splits
    name = task.name.lower().replace("-", "")
    examples = []
    for path in fetch_data(GLUE, f"{name}/{SPLITS.get(split, split)}-*.parquet"):
        try:
            table = parquet.read_table(path)
        except (pyarrow.ArrowException, OSError) as error:
            raise InputError(f"{path}: damaged ({str(error).splitlines()[0]}); remove it") from None
        columns = texts if tested else (*texts, "label")
        if missing := [column for column in columns if column not in table.column_names]:
            raise InputError(f"{path}: no column {missing[0]!r}; it has {', '.join(table.column_names)}")
        words = LABELS.get(task.name, original.labels)
        _require_order(path, table.schema, (words, *original.other_labels))
        for number, row in enumerate(table.select(columns).to_pylist()):
            try:
                examples.append(_example(task, words, [row[column] for column in columns], tested))
            except ValueError as error:
                raise InputError(f"{path}, row {number}: {error}") from None
    if not examples:
        raise InputError(f"{GLUE}: no examples in {name}'s {split}")
    return examples


def _example(task, words, values, tested):
    label = None
    if not tested:
        *values, label = values
        if task.is_regression:
            label = task.parse_label(str(label))
        else:
            known = isinstance(label, int) and 0 <= label < len(words)
            label = task.parse_label(words[label] if known else str(label))
    if wrong := [value for value in values if not isinstance(value, str)]:
        raise ValueError(f"{wrong[0]!r} is no text")
    return Example(values[0], values[1] if task.is_pair else None, label)


def _require_order(path, schema, spellings):
    """Raises InputError where the file itself names its labels in another order."""
    stated = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    named = stated.get("info", {}).get("features", {}).get("label", {}).get("names")
    if named and tuple(named) not in spellings:
        raise InputError(f"{path}: its labels are {', '.join(named)}, not {', '.join(spellings[-1])}")


# ------------------------------------------------------------------------------------------------------------ PaddleNLP


def _from_paddlenlp(task, split):
    try:
        load_dataset = paddlenlp_models.paddlenlp_module("datasets").load_dataset
        with contextlib.redirect_stdout(sys.stderr):  # it prints while it unpacks MRPC
            _download_archives(task, split)
            rows = load_dataset("glue", task.paddlenlp_name, splits=split)
    except (OSError, RuntimeError) as error:
        raise InputError(str(error)) from None
    text_columns = ("sentence1", "sentence2") if task.is_pair else ("sentence",)
    examples = []
    for row in rows:
        texts = [row[column] for column in text_columns]
        label = row.get("labels")  # an index; text for a regression; absent in test splits
        if label is not None:  # theirs is the order of TASKS
            label = float(label) if task.is_regression else task.parse_label(TASKS[task.name].labels[label])
        examples.append(Example(texts[0], texts[1] if task.is_pair else None, label))
    return examples


def _download_archives(task, split):
    """Puts what `load_dataset` would download where it looks first: its own download has no time limit."""
    from paddle.dataset.common import md5file

    glue = paddlenlp_models.paddlenlp_module("datasets.glue").Glue
    folder = Path(paddlenlp_models.paddlenlp_module("utils.env").DATA_HOME) / glue.__name__
    source = glue.BUILDER_CONFIGS[task.paddlenlp_name]
    file, checksum, *_ = source["splits"][split]
    if (folder / file).is_file() and md5file(folder / file) == checksum:
        return
    urls, checksums = source["url"], source["md5"]
    if isinstance(urls, str):
        urls, checksums = {"archive": urls}, {"archive": checksums}
    else:
        folder = folder / task.name  # single files, MRPC's, lie beside what is made of them
    for part, url in urls.items():
        target = folder / url.rpartition("/")[2]
        if target.is_file() and md5file(target) == checksums[part]:
            continue
        download(url, target)
        if md5file(target) != checksums[part]:
            raise InputError(f"{url} is not the file that PaddleNLP expects (its MD5 differs)")
