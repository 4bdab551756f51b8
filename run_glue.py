"""Fine-tunes ConvBERT, BERT, ELECTRA or ERNIE on a GLUE task or on your own examples, and evaluates it.

    python run_glue.py --task_name SST-2 --model_name_or_path convbert-small --output_dir output/SST-2

Every `--eval_steps` steps and at the last one the model is evaluated: the best so far is in `--output_dir`. Every
`--save_steps` steps, if given, after `--save_minutes` and at the last step the newest is saved with all that `--resume`
needs, in `last/` below it; so it is when SIGTERM or Ctrl-C ends the run. The figures are in `results.json`.

Paddle and what needs it are imported inside functions: `--help` and a wrong flag answer at once.
"""

import runtime  # noqa: F401  (before Paddle)

import argparse
import functools
import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flags.command_line import FLAG, ArgumentParser, script
from flags.computing import add_dtype, add_length
from flags.training import add_fine_tuned_model, add_fine_tuning, add_output, add_training
from tasks.class_table import by_class, table
from tasks.classifiers import (
    MODEL_TYPES,
    EncodedTexts,
    load_classifier,
    load_tokenizer,
    require_known_problem,
    require_type,
)
from tasks.glue import TASKS, Example, find_task
from tasks.glue_data import find_data, say_cut, say_data, say_if_paddlenlp_s, say_order, test_files
from tasks.scores import METRICS
from text.tokenizer_files import stored_length
from training.fine_tuning import Loop, Start, end_run, fine_tune, only_evaluated, precision_of, require_sense

MAX_SEQ_LENGTH = 128  # of training


def make_parser():
    parser = ArgumentParser("Fine-tune a model on a GLUE task or on your own examples.")
    add_fine_tuned_model(parser, MODEL_TYPES)

    data = parser.add_argument_group("data")
    data.add_argument("--task_name", help=f"one of {', '.join(TASKS)}, in any case")
    data.add_argument("--data_dir", help="folder with TASK/train.tsv, … in the official layout; left out: downloaded")
    cut = f"longer texts are cut to this many tokens; left out: {MAX_SEQ_LENGTH}, with --no-do_train as in the training"
    data.add_argument("--skip_bad_rows", action=FLAG, default=False, help="leave out and count rows that can't be used")
    add_length(data, smallest=1, default=None, help=cut)
    data.add_argument("--double_unordered", action=FLAG, default=False, help="MRPC, STS-B: both orders of a pair")
    own = parser.add_argument_group("own data, instead of --task_name: .csv, .tsv, .jsonl, .json")
    own.add_argument("--train_file", help="examples to learn from")
    own.add_argument("--validation_file", help="examples to evaluate on")
    own.add_argument("--test_file", help="texts for --do_predict")
    own.add_argument("--text_column", help="left out: found by its name (text, sentence1, …)")
    own.add_argument("--text_pair_column", help="second text of a pair")
    labels = "left out: found by its name (label, class, score, …); several: of 0 and 1, any number of them for a text"
    own.add_argument("--label_column", nargs="+", help=labels)
    own.add_argument("--regression", action=FLAG, help="labels are numbers; left out: if one has a fraction")
    several = "a text may have any number of labels; left out: if it has a list of them, or several --label_column"
    own.add_argument("--multi_label", action=FLAG, help=several)

    training = add_fine_tuning(add_training(parser))
    metrics = "what the best model has most of; left out: what the log's line ends with"
    training.add_argument("--metric", choices=list(dict.fromkeys(sum(METRICS.values(), ()))), help=metrics)
    weights = "rare classes count as much as frequent ones in training"
    training.add_argument("--class_weights", choices=["balanced"], help=weights)
    training.add_argument("--recipe", choices=["paper"], help="the settings of the paper's code, task by task")

    output = add_output(parser)
    output.add_argument("--do_predict", action=FLAG, default=False, help="at the end, predict the test files")
    add_dtype(output)
    return parser


def parse_args(argv):
    parser = make_parser()
    args = parser.first_look(argv)
    if args.recipe:
        from tasks.recipe import paper_settings

        task_name = find_task(args.task_name).name if args.task_name else None
        parser.set_defaults(**paper_settings(task_name, args.init_from or args.model_name_or_path))
    args = parser.parse_args(argv)
    if bool(args.task_name) == bool(args.train_file or args.validation_file or args.test_file):
        parser.error("give either --task_name or --train_file and --validation_file")
    if not args.task_name and not (args.validation_file and (args.train_file or not args.do_train)):
        parser.error("own data needs --validation_file, and to train --train_file")
    if args.do_predict and not args.task_name and not args.test_file:
        parser.error("--do_predict needs --test_file")
    if args.regression and (args.multi_label or len(args.label_column or ()) > 1):
        parser.error("--regression: a text gets one number, not any number of labels")
    if args.multi_label is False and len(args.label_column or ()) > 1:
        parser.error("--no-multi_label: one --label_column gives the one label of a text")
    if args.class_weights and not args.do_train:
        parser.error("--class_weights is for training; --no-do_train has none")
    require_sense(parser, args)
    if args.do_train and args.max_seq_length is None:
        args.max_seq_length = MAX_SEQ_LENGTH
    return args


# ----------------------------------------------------------------------------------------------------------- training


class Run(NamedTuple):
    """What stays the same from the first step to the last."""

    args: argparse.Namespace
    task: Any  # tasks.glue.Task
    model: Any
    tokenizer: Any
    output: Path
    precision: Any  # precision.Precision
    processes: Any  # processes.Processes
    start: Start | None = None
    last: Path | None = None  # the folder that a stopped run goes on from
    settings: dict | None = None  # of settings.settings_of, of a training
    weights: np.ndarray | None = None  # of the classes, by losses.balanced_weights

    def encoded(self, examples):
        return EncodedTexts(self.tokenizer, examples, self.args.max_seq_length)

    def save_model(self, folder):
        self.model.save_pretrained(folder)
        (folder / "model_state.pdparams").unlink(missing_ok=True)  # of a run that PaddleNLP's model began
        self.tokenizer.save_pretrained(folder)


def pieces(run, texts, batch):
    """See fine_tuning.Loop."""
    from training.order import weighted_pieces

    parts = weighted_pieces(batch, run.args.batch_size, run.processes)
    return [({**texts.arrays(some), "labels": texts.labels[some]}, weight) for some, weight in parts]


def mean_loss(run, inputs):
    from tasks import losses

    labels = inputs.pop("labels")
    return losses.mean_loss(run.task, run.model(**inputs), labels, run.weights)


USE = 'python predict.py --model {} "a text"', 'python predict.py --model {} "a text" --text_pair "another"'


def train(run, texts, dev):
    """See fine_tuning.fine_tune."""

    def write(logits):
        run.save_model(run.output)
        return write_dev_reports(run, dev, logits)

    loop = Loop(
        functools.partial(pieces, run, texts), mean_loss, functools.partial(evaluate_dev, run, dev),
        write, run.save_model, USE[run.task.is_pair], functools.partial(draw_dev_reports, run, dev),
    )  # fmt: skip
    return fine_tune(run, run.task.name, texts.lengths, loop)


def evaluate_dev(run, dev):
    """→ split → loss and scores; split → logits; the number by which models are compared, NaN where logits are none."""
    from tasks.evaluation import evaluate, main_score

    results, logits = evaluate(run.model, run.task, dev, run.args.eval_batch_size, run.precision, run.processes)
    numbers = all(np.isfinite(found).all() for found in logits.values())
    return results, logits, main_score(run.task, results) if numbers else math.nan


def write_dev_reports(run, dev, logits):
    """The tables of what is right and wrong; returns those by class, {"by_class": split → class_table.by_class's}."""
    from tasks.classifiers import predictions
    from tasks.evaluation import write_mistakes

    (run.output / "confusion.png").unlink(missing_ok=True)  # after a kill there may be none, but not another model's
    write_mistakes(run.output / "predictions_dev.tsv", run.task, dev, logits)
    if run.task.is_regression:
        return {}
    found = {split.name: predictions(run.task, logits[split.name]) for split in dev}
    return {"by_class": {split.name: by_class(run.task, found[split.name], split.texts.labels) for split in dev}}


def draw_dev_reports(run, dev, logits):
    from tasks.confusion import draw_confusion
    from training.curves import try_to_draw

    try_to_draw(draw_confusion, run.task, dev, logits, run.output / "confusion.png")


def predict_tests(run, tests):
    """Writes a file of predictions for each of the test sets, list of (name, task, texts)."""
    from tasks import classifiers
    from tasks.evaluation import all_logits
    from tasks.leaderboard import write_predictions

    folder = run.output / "predictions"
    for name, task, texts in tests:
        logits = all_logits(run.model, task, texts, run.args.eval_batch_size, run.precision, run.processes)
        if run.processes.writes:
            folder.mkdir(exist_ok=True)
            write_predictions(folder / name, task, classifiers.predictions(task, logits))


# --------------------------------------------------------------------------------------------------------------- main


def run_all(args, processes):
    from conversion.sources import fetched, resolve
    from tasks.evaluation import DevSplit
    from tasks.losses import balanced_weights
    from training.log import log
    from training.settings import examples_fact, require_same_settings, settings_of
    from training.start import open_output, require_positions

    precision = precision_of(args)
    source = fetched(args.init_from or args.model_name_or_path)
    require_type(args.model_type, source)
    source = source if args.from_scratch else resolve(source, args.model_type)
    require_known_problem(source, args.do_train)
    task, read, own = find_data(args, source, quiet=not processes.writes)
    examples = {"train": read("train")[: args.max_train_samples]} if args.do_train else {}
    examples |= {split: read(split)[: args.max_eval_samples] for split in task.dev_splits}
    tests = test_files(args, task, read, quiet=not processes.writes) if args.do_predict else []
    output, last = open_output(args, processes)

    start = Start.of(args, source, last)
    source, settings = start.source, start.changes
    switches = args.do_lower_case, args.strip_accents, args.tokenize_chinese_chars
    tokenizer = load_tokenizer(args.model_type, source, args.vocab_file, *switches)
    begun = None
    if args.do_train:
        facts = {f"{split} examples": examples_fact(found) for split, found in examples.items()}
        facts |= dict(task=task.name, labels=", ".join(task.labels))
        begun = settings_of(
            args, args.batch_size, processes, args.init_from or args.model_name_or_path, tokenizer, **facts
        )
        if last:
            require_same_settings(last, begun)
            if processes.writes:
                say_if_paddlenlp_s(last)
    model = load_classifier(args.model_type, source, task, tokenizer, start.new, **settings)
    if not args.do_train and processes.writes:
        say_order(args, source, task)
    if args.max_seq_length is None:
        positions = model.config.max_position_embeddings
        args.max_seq_length = min(stored_length(source) or positions, positions)
    require_positions(model, source, args.max_seq_length)
    if args.do_train:
        tokenizer.model_max_length = args.max_seq_length
        model.config.data_columns = {"text": list(task.texts), "label": task.label or list(task.indicators)}
    if args.recompute:
        model.enable_recompute()
    run = Run(args, task, model, tokenizer, output, precision, processes, start, last, begun)

    dev = [DevSplit(split, examples[split], run.encoded(examples[split])) for split in task.dev_splits]
    tests = [(name, owner, run.encoded(found)) for name, owner, found in tests]
    said = {} if own else {split.name: split.texts for split in dev}  # say_data says it of own files
    say_cut(run, said | {name: found for name, _, found in tests})
    if args.do_train:
        if args.double_unordered and task.is_symmetric:
            examples["train"] += [Example(second, first, label) for first, second, label in examples["train"]]
        texts = run.encoded(examples.pop("train"))
        say_data(run, own, {"train": texts, "dev": dev[0].texts})
        if not own:
            say_cut(run, {"train": texts})
        if args.class_weights:
            run = run._replace(weights=balanced_weights(task, texts.labels))
        state = train(run, texts, dev)
    else:
        say_data(run, own, {"dev": dev[0].texts})
        results, logits, score = evaluate_dev(run, dev)
        state = only_evaluated(results, score)
        if processes.writes:
            state |= write_dev_reports(run, dev, logits)
            draw_dev_reports(run, dev, logits)
    if tests and state["best_score"] is not None:
        processes.wait()  # for the best model to be written
        if args.do_train:
            run = run._replace(
                model=load_classifier(args.model_type, str(output), task, tokenizer, "nothing", **settings)
            )
        predict_tests(run, tests)
    facts = {"data": own.facts()} if own else {}
    if own and processes.writes and "by_class" in state:
        for split, classes in state["by_class"].items():
            log("\n".join([f"{split} by class, step {state['best_step']}:", *table(classes)]))
    end_run(run, task.main_metric, state, task=task.name, **facts)


@script
def main(argv=None):
    args = parse_args(argv)
    if args.task_name:
        find_task(args.task_name)

    from training.signals import start

    start(run_all, args)


if __name__ == "__main__":
    sys.exit(main())
