"""The GLUE tasks: one table of everything that differs between them, and readers for their files.

The nine tasks of Wang et al. 2018 (https://gluebenchmark.com/tasks). Columns are those of the official files; label
order, and names and splits for the download, are PaddleNLP's (paddlenlp/datasets/glue.py).
"""

import codecs
import contextlib
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from conversion import paddlenlp_models
from files.downloads import download
from files.errors import InputError
from tasks.labels import match, order_of
from tasks.several_labels import marks

# ---------------------------------------------------------------------------------------------------------- the tasks

BINARY = ("0", "1")
ENTAILED_OR_NOT = ("entailment", "not_entailment")


@dataclass(frozen=True)
class Task:
    """One task of the benchmark. Columns are header names; a file of split S is `S.tsv`."""

    name: str  # also the name of its folder
    paddlenlp_name: str  # in load_dataset("glue", paddlenlp_name, splits=...)
    texts: tuple[str, ...]  # columns of the one or two texts
    label: str  # column of the label in train and dev files
    labels: tuple[str, ...]  # label words, the index of each is its class; empty: the label is a number
    metric: str  # kind of score, a key of scores.SCORERS
    leaderboard_files: tuple[str, ...]  # the benchmark's name for the predictions on each test split
    dev_splits: tuple[str, ...] = ("dev",)
    test_splits: tuple[str, ...] = ("test",)
    headerless_columns: tuple[str, ...] = ()  # names for the columns of train and dev files that come without a header
    is_symmetric: bool = False  # the label of a pair is that of the reversed pair
    undecided_label: str | None = None  # annotators did not agree: the row is left out
    splits_with_broken_rows: tuple[str, ...] = ()  # official files in which a stray line end cuts some rows in two
    other_labels: tuple[
        tuple[str, ...], ...
    ] = ()  # what models call the labels, ours the first of these, in that order
    folders: tuple[str, ...] = ()  # other names of its folder, which may lie beside another task's
    best_by: str = ""  # the score by which checkpoints are compared, a key of scores.SCORERS; "": metric
    several: bool = False  # a text may have any number of the labels
    indicators: tuple[str, ...] = ()  # columns of 0 and 1, one for each of the labels in their order; then no `label`
    separator: str = "|"  # between several labels in a cell that is no list

    @property
    def num_labels(self):
        """Number of outputs a model needs: classes, or 1 for a regression."""
        return len(self.labels) or 1

    @property
    def names(self):
        """What models, pictures and tables call the labels, where files have 0 and 1."""
        return self.other_labels[0] if self.other_labels else self.labels

    @property
    def is_pair(self):
        return len(self.texts) == 2

    @property
    def is_regression(self):
        return not self.labels

    @property
    def problem(self):
        """What a model for it answers, one of layers.configuration.PROBLEM_TYPES."""
        if self.is_regression:
            return "regression"
        return "multi_label_classification" if self.several else "single_label_classification"

    @property
    def label_columns(self):
        return self.indicators or (self.label,)

    @property
    def splits(self):
        return (*(("train",) if self.dev_splits else ()), *self.dev_splits, *self.test_splits)

    @property
    def main_metric(self):
        """The key of `scores.score`'s result by which checkpoints are compared."""
        return self.best_by or self.metric

    @property
    def positive(self):
        """Of two classes the index of the one that precision, recall and F1 are of: 1, wherever it stands."""
        return self.labels.index("1") if "1" in self.labels and len(self.labels) == 2 else 1

    def in_order(self, names):
        """This task with its labels in the order of a model's names for them; None: they are other labels."""
        for spelling in (self.labels, *self.other_labels):
            if order := order_of(names, spelling):
                if order == sorted(order):
                    return self
                labels, *others = (tuple(each[index] for index in order) for each in (self.labels, *self.other_labels))
                return replace(self, labels=labels, other_labels=tuple(others))
        return None

    def parse_label(self, word, *others):
        """A label as files have it → index of its class, or a regression's number; of several labels 1 for each that is
        there, else 0, a tuple of float. ValueError says what is wrong.

        others: the cells of further `indicators`.
        """
        if self.several:
            return marks((word, *others), self)
        if word == "":
            raise ValueError(f"the label is missing ({self.label} is empty)")
        if self.is_regression:
            try:
                number = float(word)
            except ValueError:
                number = math.nan
            if not math.isfinite(number):
                raise ValueError(f"{self.label} is {word!r}, not a finite number")
            return number
        index = match(word, self.labels)
        if index is None:
            raise ValueError(f"unknown label {word!r}; {self.name} has {', '.join(self.labels)}")
        return index


TASKS = {
    task.name: task
    for task in (
        Task(
            "CoLA", "cola", ("sentence",), "label", BINARY, "mcc", ("CoLA.tsv",),
            headerless_columns=("source", "label", "star", "sentence"), other_labels=(("unacceptable", "acceptable"),),
        ),
        Task(
            "SST-2", "sst-2", ("sentence",), "label", BINARY, "acc", ("SST-2.tsv",),
            other_labels=(("negative", "positive"), ("neg", "pos")),
        ),
        Task(
            "MRPC", "mrpc", ("#1 String", "#2 String"), "Quality", BINARY, "acc and f1", ("MRPC.tsv",),
            is_symmetric=True, other_labels=(("not_equivalent", "equivalent"),),
        ),
        Task(
            "STS-B", "sts-b", ("sentence1", "sentence2"), "score", (), "pearson and spearman", ("STS-B.tsv",),
            is_symmetric=True,
        ),
        Task(
            "QQP", "qqp", ("question1", "question2"), "is_duplicate", BINARY, "acc and f1", ("QQP.tsv",),
            splits_with_broken_rows=("train", "dev"),  # https://github.com/nyu-mll/GLUE-baselines/issues/5
            other_labels=(("not_duplicate", "duplicate"),),
        ),
        Task(
            "MNLI", "mnli", ("sentence1", "sentence2"), "gold_label", ("contradiction", "entailment", "neutral"), "acc",
            ("MNLI-m.tsv", "MNLI-mm.tsv"),
            dev_splits=("dev_matched", "dev_mismatched"),
            test_splits=("test_matched", "test_mismatched"),
            undecided_label="-",
        ),
        Task("QNLI", "qnli", ("question", "sentence"), "label", ENTAILED_OR_NOT, "acc", ("QNLI.tsv",)),
        Task("RTE", "rte", ("sentence1", "sentence2"), "label", ENTAILED_OR_NOT, "acc", ("RTE.tsv",)),
        Task(
            "WNLI", "wnli", ("sentence1", "sentence2"), "label", BINARY, "acc", ("WNLI.tsv",),
            other_labels=(("not_entailment", "entailment"),),
        ),
    )
}  # fmt: skip

DIAGNOSTIC = Task(  # GLUE's diagnostic set: no training data, predicted by MNLI's model
    "AX", "", ("sentence1", "sentence2"), "", TASKS["MNLI"].labels, "acc", ("AX.tsv",), dev_splits=(),
    test_splits=("diagnostic",), folders=("diagnostic",),
)  # fmt: skip


def find_task(name):
    """The Task called `name`, in any case and with or without its hyphen. Raises InputError that lists the names."""
    for task in TASKS.values():
        if task.name.replace("-", "").lower() == name.replace("-", "").lower():
            return task
    raise InputError(f"unknown task {name!r}; known are {', '.join(TASKS)}")


# ------------------------------------------------------------------------------------------------------------ reading


class Example(NamedTuple):
    """One row: text(s) exactly as in the file, and the label."""

    text: str
    text_pair: str | None  # None when the task has single texts
    label: int | float | tuple | None  # as Task.parse_label gives it; None in test splits


def read_examples(task, split, data_dir=None, skip_bad_rows=False, quiet=False):
    """Reads one split of a task.

    Args:
        task (Task): one of TASKS.
        split (str): "train", one of `task.dev_splits` or one of `task.test_splits`.
        data_dir (str | Path | None): a folder that holds `TASK/` in the official layout, or those files themselves;
            None: PaddleNLP's copy, downloaded when its cache lacks it.
        skip_bad_rows: rows of train and dev that can't be used are left out, and counted in a warning.
        quiet: no warnings.

    Returns:
        list[Example]: in the order of the file.

    Raises:
        InputError: a file that is missing or not in the official layout (names file and line); a download that fails.
    """
    if split not in task.splits:
        raise InputError(f"{task.name} has no split {split!r}; it has {', '.join(task.splits)}")
    if data_dir is None:
        return _load_from_paddlenlp(task, split)
    path = _split_path(task, split, Path(data_dir))
    lines = _read_lines(path)
    if task.headerless_columns and split not in task.test_splits:
        header, first = list(task.headerless_columns), 0
    else:
        header, first = lines[0].split("\t"), 1
    wanted = task.texts if split in task.test_splits else (*task.texts, task.label)
    for column in wanted:
        if column not in header:
            raise InputError(f"{path}, line 1: no column {column!r}; {task.name}'s {split}.tsv has {', '.join(wanted)}")
    indices = [header.index(column) for column in wanted]

    examples = []
    broken_rows, bad_rows, undecided = 0, [], 0
    for number, line in enumerate(lines[first:], start=first + 1):
        cells = line.split("\t")
        if len(cells) < len(header) and split in task.splits_with_broken_rows:
            broken_rows += 1
            continue
        try:
            if len(cells) != len(header):
                raise ValueError(f"{len(cells)} tab-separated columns where {len(header)} belong")
            example = _example(task, split, [cells[index] for index in indices])
        except ValueError as error:
            if not skip_bad_rows or split in task.test_splits:
                raise InputError(f"{path}, line {number}: {error}") from None
            bad_rows.append(f"line {number}: {error}")
            continue
        if example is None:
            undecided += 1
        else:
            examples.append(example)
    skipped = {
        "they lack columns": broken_rows,
        "annotators did not agree on a label": undecided,
        f"they can't be used ({''.join(bad_rows[:1])})": len(bad_rows),
    }
    skipped = [f"rows skipped because {why}: {count}" for why, count in skipped.items() if count]
    if not examples:
        raise InputError("; ".join([f"{path}: no examples in it", *skipped]))
    for words in [] if quiet else skipped:
        print(f"warning: {path}: {words}", file=sys.stderr)
    return examples


def has_split(task, split, data_dir=None):
    """Whether there is a file for a split; without `data_dir`, whether PaddleNLP has one."""
    return bool(task.paddlenlp_name) if data_dir is None else _place(task, split, Path(data_dir)).is_file()


def _place(task, split, data_dir):
    """The file of a split: in the task's folder, else in `data_dir` itself; the diagnostic set's also beside it."""
    folders = _folders(task, data_dir)
    if not task.folders:
        return (folders[0] if folders else data_dir) / f"{split}.tsv"
    folders += [data_dir, *_folders(TASKS["MNLI"], data_dir), *_folders(task, data_dir.resolve().parent)]
    places = [folder / name for folder in folders for name in (f"{split}.tsv", f"{task.name}.tsv")]
    return next((place for place in places if place.is_file()), places[0])


def _folders(task, above):
    """The folders of a task in another: its name first, then in any case, with or without its hyphen."""
    names = [name.replace("-", "").lower() for name in (task.name, *task.folders)]
    found = [path for path in above.iterdir() if path.is_dir()] if above.is_dir() else []
    found = [path for path in found if path.name.replace("-", "").lower() in names]
    return sorted(found, key=lambda path: (path.name != task.name, path.name))


def _split_path(task, split, data_dir):
    path = _place(task, split, data_dir)
    if not path.is_file():
        raise InputError(
            f"{path}: no such file; --data_dir takes the folder with {task.name}'s "
            f"{', '.join(f'{name}.tsv' for name in task.splits)} or the folder above {task.name}/"
        )
    return path


def _read_lines(path):
    """The lines of a file, which only "\\n" ends: texts may hold U+2028, U+0085 and more that splitlines() cuts at."""
    try:
        content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror})") from None
    try:
        lines = content.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line}: not UTF-8; convert the file") from None
    while lines and not lines[-1].strip(" \r"):
        lines.pop()
    if not lines:
        raise InputError(f"{path}: the file is empty")
    return [line.removesuffix("\r") for line in lines]


def _example(task, split, values):
    """An Example of the text(s) and the label, or None where the label is undecided. ValueError: an unusable label."""
    if split in task.test_splits:
        label = None
    else:
        *values, word = values
        if word == task.undecided_label:
            return None
        label = task.parse_label(word)
    return Example(values[0], values[1] if task.is_pair else None, label)


# -------------------------------------------------------------------------------------------------------- downloading


def _load_from_paddlenlp(task, split):
    try:
        load_dataset = paddlenlp_models.paddlenlp_module("datasets").load_dataset
        with contextlib.redirect_stdout(sys.stderr):  # it prints while it unpacks MRPC
            _download_archives(task, split)
            rows = load_dataset("glue", task.paddlenlp_name, splits=split)
    except (InputError, OSError, RuntimeError) as error:
        advice = "give --data_dir with the files of GLUE, or --data_dir samples"
        raise InputError(f"{task.name}: {error}; {advice}") from None
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
