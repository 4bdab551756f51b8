"""The GLUE tasks: one table of everything that differs between them. (Their files: glue_files, glue_downloads.)

The nine tasks of Wang et al. 2018 (https://gluebenchmark.com/tasks). Columns are those of the official files; label
order, and names and splits for the download, are PaddleNLP's (paddlenlp/datasets/glue.py).
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

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


class Example(NamedTuple):
    """One row: text(s) exactly as in the file, and the label."""

    text: str
    text_pair: str | None  # None when the task has single texts
    label: int | float | tuple | None  # as Task.parse_label gives it; None in test splits
