"""The examples of a GLUE task from its official files, or from where they are downloaded."""

import codecs
import sys
from pathlib import Path

from files.errors import InputError
from tasks.glue import TASKS, Example
from tasks.glue_downloads import downloaded


def read_examples(task, split, data_dir=None, skip_bad_rows=False, quiet=False):
    """Reads one split of a task.

    Args:
        task (Task): one of TASKS.
        split (str): "train", one of `task.dev_splits` or one of `task.test_splits`.
        data_dir (str | Path | None): a folder that holds `TASK/` in the official layout, or those files themselves;
            None: see glue_downloads.downloaded.
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
        return downloaded(task, split, quiet)
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
    """Whether there is a file for a split; without `data_dir` it may be downloaded."""
    return data_dir is None or _place(task, split, Path(data_dir)).is_file()


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
