"""The data of run_glue.py: a GLUE task's or one's own files, as flags and the model say, and what is said of them."""

import sys
from dataclasses import replace
from pathlib import Path

from files.errors import InputError
from files.json_files import read_json_object
from tasks.classifiers import stored_columns, stored_labels, stored_problem
from tasks.glue import DIAGNOSTIC, find_task
from tasks.glue_files import has_split, read_examples
from tasks.own_data import OwnData
from tasks.scores import compared_by


def find_data(args, source, quiet=False):
    """The task, a function split → examples, and what own files were understood to hold, None for a GLUE task.

    source: the model that begins; where its head is used, the labels have the order that it has.
    """
    names, problem, stored = None, None, None
    if Path(source).is_dir() and not args.from_scratch:
        names = stored_labels(source)[1]
        if not args.do_train:
            problem, stored = stored_problem(source), stored_columns(source)
    own = None
    if args.task_name:
        task = find_task(args.task_name)
        if names and not args.init_from:
            task = task.in_order(names) or task

        def read(split):
            return read_examples(task, split, args.data_dir, args.skip_bad_rows, quiet)
    else:
        files = {"train": args.train_file, "dev": args.validation_file, "test": args.test_file}
        columns = args.text_column, args.text_pair_column, args.label_column
        regression, several = args.regression, args.multi_label
        if regression is None and problem == "regression":
            regression = True
        if several is None and problem:
            several = problem == "multi_label_classification"
        trained = bool(names) and not args.do_train
        own = OwnData(files, columns, regression, names, stored, args.skip_bad_rows, trained, several)
        task, read = own.task, own.read
    if args.class_weights and task.is_regression:
        raise InputError(f"--class_weights: {task.name} has numbers, no classes")
    if args.metric:
        task = compared_by(task, args.metric)
    if own:
        own.task = task
    return task, read, own


def say_order(args, source, task):
    """For a head whose labels have no names: which is taken for which."""
    if not task.is_regression and stored_labels(source)[1] is None:
        order = ", ".join(task.names)
        print(f"warning: {args.model_name_or_path} does not name its labels; assumed order: {order}", file=sys.stderr)


def say_if_paddlenlp_s(last):
    """For a run that an older version began."""
    if "paddlenlp_version" in read_json_object(last / "config.json"):
        words = "goes on with this project's model, whose dropout is another: not bit for bit the same run"
        print(f"warning: {last}: of a version that trained PaddleNLP's model; {words}", file=sys.stderr)


def test_files(args, task, read, quiet):
    """The test files that there are: list of (name for the predictions, task, examples). Warns of missing ones."""
    if not args.task_name:
        return [("test.tsv", task, read("test"))]
    sets = [(name, task, split) for name, split in zip(task.leaderboard_files, task.test_splits, strict=True)]
    if task.name == "MNLI":
        diagnostic = replace(DIAGNOSTIC, labels=task.labels)
        sets += [(*DIAGNOSTIC.leaderboard_files, diagnostic, *DIAGNOSTIC.test_splits)]
    found = []
    for name, owner, split in sets:
        problem = f"no {owner.name}/{split}.tsv"
        if has_split(owner, split, args.data_dir):
            try:
                found.append((name, owner, read_examples(owner, split, args.data_dir, quiet=quiet)))
                continue
            except InputError as error:
                if owner is task or args.data_dir:
                    raise
                problem = str(error)  # the diagnostic set, which only the hub has
        if not quiet:
            print(f"warning: {problem}: nothing to predict for {name}", file=sys.stderr)
    return found


def say_data(run, own, texts):
    """One line on what own files were understood to hold. texts: split → EncodedTexts."""
    if own:
        for split, encoded in texts.items():
            own.files[split].cut = encoded.cut
        if run.processes.writes:
            print(own.line(run.args.max_seq_length), file=sys.stderr)


def say_cut(run, texts):
    """One line where texts are longer than the model is given. texts: name → EncodedTexts."""
    cut = ", ".join(f"{found.cut:,} of {len(found):,} in {name}" for name, found in texts.items() if found.cut)
    if cut and run.processes.writes:
        print(f"more than {run.args.max_seq_length} tokens, and cut (--max_seq_length): {cut}", file=sys.stderr)
