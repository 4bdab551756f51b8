"""GLUE's leaderboard: the files of predictions that https://gluebenchmark.com takes, and the zip of all eleven."""

import zipfile
from typing import NamedTuple

import numpy as np

from files.atomic import atomic_file
from files.errors import InputError
from tasks.glue import DIAGNOSTIC, TASKS

LENGTHS = {  # rows of the official test files
    "AX.tsv": 1104, "CoLA.tsv": 1063, "MNLI-m.tsv": 9796, "MNLI-mm.tsv": 9847, "MRPC.tsv": 1725, "QNLI.tsv": 5463,
    "QQP.tsv": 390_965, "RTE.tsv": 3000, "SST-2.tsv": 1821, "STS-B.tsv": 1379, "WNLI.tsv": 146,
}  # fmt: skip
HEADER = "index\tprediction"
SCORE_RANGE = 0.0, 5.0  # of STS-B
BETWEEN = "|"  # several labels of a text


def write_predictions(path, task, predictions):
    """One file: class indices, the numbers of a regression, or marks of several labels, as the site wants them, whole
    or not at all."""
    if task.name == "STS-B":
        words = [f"{value:.3f}" for value in np.clip(predictions, *SCORE_RANGE)]
    elif task.is_regression:
        words = [f"{value:.6g}" for value in predictions]
    elif task.several:
        words = [named(task, marks) for marks in predictions]
    else:
        words = [task.labels[index] for index in predictions]
    with atomic_file(path) as file:
        file.write(_table([" ".join(word.split()) for word in words]))  # a label may hold a tab


def named(task, marks):
    """The labels of a text that may have any number of them. marks: 1 for each that it has, else 0."""
    return BETWEEN.join(label for label, mark in zip(task.labels, marks, strict=True) if mark)


def _table(words):
    return "".join(f"{line}\n" for line in [HEADER, *(f"{i}\t{word}" for i, word in enumerate(words))]).encode()


class Entry(NamedTuple):
    """One file of a submission."""

    name: str
    task: str  # whose model predicts it
    constant: str  # what a missing one says everywhere


def entries():
    """The eleven, in the order of GLUE's tasks."""
    found = []
    for task in (*TASKS.values(), DIAGNOSTIC):
        constant = task.labels[0] if task.labels else f"{SCORE_RANGE[0]:.3f}"
        owner = "MNLI" if task is DIAGNOSTIC else task.name
        found += [Entry(name, owner, constant) for name in task.leaderboard_files]
    return found


def write_submission(folder, sources, for_leaderboard=True):
    """Writes `submission.zip` and `zip_report.txt` into `folder`.

    Args:
        sources: name of a leaderboard file → path of the predictions, for those that there are.
        for_leaderboard: False for predictions on made-up data, of any length.

    Returns:
        list of str: the report's lines.

    Raises:
        InputError: a file has not the official length; there is no zip then, and an old one is gone.
    """
    target = folder / "submission.zip"
    target.unlink(missing_ok=True)
    report, contents = [], {}
    for entry in entries():
        official = LENGTHS[entry.name]
        if entry.name in sources:
            content = sources[entry.name].read_bytes()
            rows = content.count(b"\n") - 1
            if for_leaderboard and rows != official:
                wrong = f"{rows} predictions, but the official test set has {official} rows"
                raise InputError(f"{sources[entry.name]}: {wrong}; no zip written")
            report.append(f"{entry.name}: {rows} predictions from {sources[entry.name].relative_to(folder)}")
        else:
            content = _table([entry.constant] * official)
            report.append(f"{entry.name}: MISSING, {official} times {entry.constant!r} in its place")
        contents[entry.name] = content
    if not for_leaderboard:
        report.append("These are predictions on the samples: not for the leaderboard.")
    with atomic_file(target) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    with atomic_file(folder / "zip_report.txt") as file:
        file.write("".join(f"{line}\n" for line in report).encode())
    return report
