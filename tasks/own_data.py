"""What anyone's own files were understood to hold: read once, said in a line, and written down."""

from collections import Counter
from dataclasses import dataclass

from tasks.columns import second_column, spelled
from tasks.labelled_files import examples, left_out_words, own_task
from tasks.labels import loose, truth
from tasks.scores import OF_ONE_CLASS
from tasks.tables import read_rows

MOST_SAID = 20  # classes whose rows are counted in the line that is printed
WITHOUT = "none of them"  # what rows are that have none of several labels
KINDS = {  # what there is to say of the labels, by the Task's problem
    "regression": "regression",
    "single_label_classification": "classification",
    "multi_label_classification": "multi-label classification",
}


@dataclass
class File:
    """What one file was understood to hold; `cut`, how many texts are longer than the model reads, comes later."""

    path: str
    examples: int
    classes: dict | None  # label → rows
    left_out: dict
    note: str
    words: str  # of left_out
    cut: int = 0


class OwnData:
    """The files of a run, read once.

    Args:
        files: split → path, or None.
        columns: texts and label as named by flags, or None each.
        regression, known_labels, stored, skip_bad_rows, trained, several: see own_task.

    Attributes:
        task: the Task; files: split → File, of those that were read.
    """

    def __init__(
        self, files, columns, regression=None, known_labels=None, stored=None, skip_bad_rows=False, trained=False,
        several=None,
    ):  # fmt: skip
        self._paths, self._skip, self.files = files, skip_bad_rows, {}
        first = files["train"] or files["dev"]
        self._rows = {first: read_rows(first, skip_bad_rows)}
        rows = self._rows[first]
        known = known_labels, stored, skip_bad_rows, trained
        self.task = own_task(first, rows, *columns, regression, *known, several)
        self._first, self._columns = first, rows.columns
        self._unused = [name for name in rows.columns if name not in (*self.task.texts, *self.task.label_columns)]

    def read(self, split):
        """The examples of a split; its rows are let go."""
        path, labelled = self._paths[split], split != "test"
        rows = self._rows.pop(path, None)
        if rows is None:
            rows = read_rows(path, self._skip and labelled)
        found = examples(path, rows, self.task, labelled, self._skip)
        classes = None
        if labelled and not self.task.is_regression:
            classes = self._counts([example.label for example in found])
        words = left_out_words(rows) if rows.left_out else ""
        note = "; ".join(filter(None, [rows.note, self._second_text(rows.columns)]))
        self.files[split] = File(str(path), len(found), classes, dict(rows.left_out), note, words)
        return found

    def _counts(self, labels):
        """Rows of each label, and of none of them where a text may have any number."""
        if not self.task.several:
            counts = Counter(labels)
            return {name: counts[index] for index, name in enumerate(self.task.labels)}
        counts = {name: int(sum(row)) for name, row in zip(self.task.labels, zip(*labels, strict=True), strict=True)}
        without = sum(not any(marks) for marks in labels)
        return counts | ({WITHOUT: without} if without and WITHOUT not in counts else {})

    def _second_text(self, columns):
        """What is said of a second text that the first file hasn't."""
        first = spelled(columns, self.task.texts[0])
        second = [] if self.task.is_pair or first is None else second_column(columns, first)
        unknown = [name for name in second if spelled(self._columns, name) is None]
        return f"not used: {unknown[0]}, as {self._first} has no second text" if unknown else ""

    def facts(self):
        """All of it as JSON has it."""
        task = self.task
        files = {
            split: {"file": file.path, "examples": file.examples}
            | ({"classes": file.classes} if file.classes else {})
            | {"longer_than_max_seq_length": file.cut, "left_out": file.left_out}
            | ({"note": file.note} if file.note else {})
            for split, file in self.files.items()
        }
        return {
            "text_columns": list(task.texts), "label_column": task.label or list(task.indicators),
            "columns_not_used": self._unused, "kind": KINDS[task.problem], "labels": list(task.labels),
            "alike": self._alike(), **files,
        }  # fmt: skip

    def line(self, max_seq_length):
        """All of it in one line."""
        task = self.task
        named = ", ".join(map(repr, task.label_columns))
        parts = [f"own data: text from {' and '.join(map(repr, task.texts))}, label from {named}"]
        if self._unused:
            parts[0] += f" (not used: {', '.join(self._unused)})"
        parts.append("numbers, a regression" if task.is_regression else f"{len(task.labels)} classes")
        if task.several:
            parts[-1] = f"any number of {len(task.labels)} labels for a text"
        if task.main_metric in OF_ONE_CLASS:
            parts[-1] += f"; {task.main_metric} is that of {task.labels[task.positive]!r}"
        if alike := self._alike():
            parts[-1] += f", apart though spelled alike: {', '.join(alike)}"
        for file in self.files.values():
            words = f"{file.path}: {file.examples} examples"
            if file.classes:
                most = sorted(file.classes.items(), key=lambda entry: -entry[1])[:MOST_SAID]
                shown = [entry for entry in file.classes.items() if entry in most]
                more = len(file.classes) - len(shown)
                counts = ", ".join(f"{name} {count}" for name, count in shown)
                words += f" ({counts}{f', {more} more' if more else ''})"
            words += f", {file.cut} longer than {max_seq_length} tokens"
            parts.append(", ".join(part for part in (words, file.words, file.note) if part))
        return " ".join("; ".join(parts).split())

    def _alike(self):
        """Labels of which a person may think that two are one."""
        labels = self.task.labels
        form = truth if len(labels) > 2 and all(truth(name) is not None for name in labels) else loose
        forms = Counter(map(form, labels))
        return [name for name in labels if forms[form(name)] > 1]
