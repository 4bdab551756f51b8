"""Fine-tunes ConvBERT, BERT, ELECTRA or ERNIE on a GLUE task or on your own examples, and evaluates it.

    python run_glue.py --task_name SST-2 --model_name_or_path convbert-small --output_dir output/SST-2

Every `--save_steps` steps and at the last one the model is evaluated and saved: the best so far in `--output_dir`, the
newest with all that `--resume` needs in `last/` below it, the figures in `results.json`.

Paddle and what needs it are imported inside functions: `--help` and a wrong flag answer at once.
"""

import runtime  # noqa: F401  (before Paddle)

import argparse
import functools
import math
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from files.errors import InputError
from files.json_files import write_json
from flags.command_line import ArgumentParser, script
from tasks.classifiers import (
    MODEL_TYPES,
    EncodedTexts,
    enable_recompute,
    load_classifier,
    load_tokenizer,
    stored_labels,
)
from tasks.glue import DIAGNOSTIC, TASKS, Example, find_task, has_split, read_examples

SCHEDULES = ("linear", "cosine", "constant")


def make_parser():
    parser = ArgumentParser("Fine-tune a model on a GLUE task or on your own examples.")
    flag = argparse.BooleanOptionalAction

    model = parser.add_argument_group("model")
    model.add_argument("--model_type", default="convbert", choices=MODEL_TYPES, type=str.lower, help="architecture")
    model.add_argument(
        "--model_name_or_path",
        default="convbert-small",
        help="a published model's name, a checkpoint folder (ours, PaddleNLP's or Hugging Face's), or hf:OWNER/NAME",
    )
    model.add_argument("--init_from", metavar="FOLDER", help="fine-tuned model, MNLI's say, to start from; head anew")
    model.add_argument("--from_scratch", action=flag, default=False, help="take the configuration, start at random")
    model.add_argument("--vocab_file", help="vocabulary; left out, the model's own")
    model.add_argument("--do_lower_case", action=flag, default=True, help="lower-case texts, with --vocab_file")
    model.add_argument(
        "--mask_conv_padding", action=flag, help="convolutions do not see padding; left out, as the model says"
    )

    data = parser.add_argument_group("data")
    data.add_argument("--task_name", help=f"one of {', '.join(TASKS)}, in any case")
    data.add_argument("--data_dir", help="folder with TASK/train.tsv, … in the official layout; left out: downloaded")
    data.add_argument("--max_seq_length", type=int, default=128, help="longer texts are cut to this many tokens")
    data.add_argument("--double_unordered", action=flag, default=False, help="MRPC, STS-B: both orders of a pair")
    own = parser.add_argument_group("own data, instead of --task_name: .csv, .tsv, .jsonl")
    own.add_argument("--train_file", help="examples to learn from")
    own.add_argument("--validation_file", help="examples to evaluate on")
    own.add_argument("--test_file", help="texts for --do_predict")
    own.add_argument("--text_column", help="left out: found by its name (text, sentence1, …)")
    own.add_argument("--text_pair_column", help="second text of a pair")
    own.add_argument("--label_column", help="left out: found by its name (label, class, score, …)")
    own.add_argument("--regression", action=flag, help="labels are numbers; left out: if one has a fraction")

    training = parser.add_argument_group("training")
    training.add_argument("--do_train", action=flag, default=True, help="train; without, only evaluate")
    training.add_argument("--recipe", choices=["paper"], help="the settings of the paper's code, task by task")
    training.add_argument("--batch_size", type=int, default=32, help="examples per step and process")
    training.add_argument("--gradient_accumulation_steps", type=int, default=1, help="batches per step")
    training.add_argument("--learning_rate", type=float, default=1e-4, help="highest learning rate of AdamW")
    training.add_argument("--lr_scheduler_type", choices=SCHEDULES, default="linear", help="how it falls after warm-up")
    training.add_argument("--num_train_epochs", type=int, default=3, help="passes over the training data")
    training.add_argument("--max_steps", type=int, default=-1, help="steps in all; overrides --num_train_epochs")
    training.add_argument("--warmup_proportion", type=float, default=0.1, help="share of the steps that warm up")
    training.add_argument("--warmup_steps", type=int, default=0, help="steps that warm up; overrides the share")
    training.add_argument("--weight_decay", type=float, default=0.0, help="decay of all but biases and norms")
    training.add_argument("--layer_lr_decay", type=float, default=1.0, help="learning rate by the next layer's")
    training.add_argument("--adam_epsilon", type=float, default=1e-6, help="epsilon of AdamW")
    training.add_argument("--tf_compat", action=flag, default=False, help="learn as the paper's code does")
    training.add_argument("--max_grad_norm", type=float, default=0.0, help="longer gradients are cut to it; 0: never")
    training.add_argument("--early_stopping_patience", type=int, default=0, help="evaluations without a new best")
    training.add_argument("--amp", choices=["O1", "O2"], help="O1: matrix products in --amp_dtype; O2: weights too")
    training.add_argument("--amp_dtype", choices=["bfloat16", "float16"], default="bfloat16", help="type for --amp")
    training.add_argument("--recompute", action=flag, default=False, help="less memory: layers run again in backward")
    training.add_argument("--bucket", action=flag, default=True, help="batches of texts of similar length")
    training.add_argument("--seed", type=int, default=42, help="starting point of everything random")

    output = parser.add_argument_group("output")
    output.add_argument("--output_dir", required=True, help="folder for model and results")
    output.add_argument("--do_predict", action=flag, default=False, help="at the end, predict the test files")
    output.add_argument("--logging_steps", type=int, default=100, help="steps between log lines")
    output.add_argument("--save_steps", type=int, default=100, help="steps between evaluations, each of which saves")
    output.add_argument("--keep_checkpoints", type=int, default=0, help="how many checkpoint-STEP/ to keep")
    output.add_argument("--visualdl_dir", help="folder for VisualDL's log")
    output.add_argument("--resume", action=flag, default=False, help="go on from output_dir/last")
    output.add_argument("--verbose", action=flag, default=False, help="say why the process is set up as it is")
    output.add_argument("--overwrite", action=flag, default=False, help="allow an output_dir that is not empty")

    parser.add_argument("--device", help="gpu, gpu:1, cpu or xpu; left out, gpu where there is one, else cpu")
    return parser


POSITIVE = (
    "max_seq_length", "batch_size", "gradient_accumulation_steps", "num_train_epochs", "logging_steps", "save_steps"
)  # fmt: skip
NOT_NEGATIVE = (
    "learning_rate", "warmup_steps", "weight_decay", "adam_epsilon", "max_grad_norm", "early_stopping_patience",
    "keep_checkpoints", "seed",
)  # fmt: skip


def parse_args(argv):
    parser = make_parser()
    args = parser.parse_args(argv)
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
    for name in POSITIVE:
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1, not {getattr(args, name)}")
    for name in NOT_NEGATIVE:
        if not 0 <= getattr(args, name) < math.inf:
            parser.error(f"--{name} must be a number from 0, not {getattr(args, name)}")
    if not 0 <= args.warmup_proportion <= 1:
        parser.error(f"--warmup_proportion must lie in [0, 1], not {args.warmup_proportion}")
    if not 0 < args.layer_lr_decay <= 1:
        parser.error(f"--layer_lr_decay must lie in (0, 1], not {args.layer_lr_decay}")
    return args


# --------------------------------------------------------------------------------------------------------------- data


def find_data(args, source):
    """The task, and a function split → examples."""
    if args.task_name:
        task = find_task(args.task_name)

        def read(split):
            return read_examples(task, split, args.data_dir)
    else:
        from tasks.labelled_files import examples, own_task, read_rows

        rows = functools.cache(read_rows)
        first = args.train_file or args.validation_file
        known = stored_labels(source)[1] if Path(source).is_dir() and not args.from_scratch else None
        columns = args.text_column, args.text_pair_column, args.label_column
        task = own_task(first, rows(first), *columns, args.regression, known)
        files = {"train": args.train_file, "dev": args.validation_file, "test": args.test_file}

        def read(split):
            return examples(files[split], rows(files[split]), task, labelled=split != "test")

    return task, read


def test_files(args, task, read, quiet):
    """The test files that there are: list of (name for the predictions, task, examples). Warns of missing ones."""
    if not args.task_name:
        return [("test.tsv", task, read("test"))]
    sets = [(name, task, split) for name, split in zip(task.leaderboard_files, task.test_splits, strict=True)]
    if task is TASKS["MNLI"]:
        sets += [(*DIAGNOSTIC.leaderboard_files, DIAGNOSTIC, *DIAGNOSTIC.test_splits)]
    found = []
    for name, owner, split in sets:
        if has_split(owner, split, args.data_dir):
            found.append((name, owner, read_examples(owner, split, args.data_dir)))
        elif not quiet:
            print(f"warning: no {owner.name}/{split}.tsv: nothing to predict for {name}", file=sys.stderr)
    return found


# ----------------------------------------------------------------------------------------------------------- training


class Run(NamedTuple):
    """What stays the same from the first step to the last."""

    args: argparse.Namespace
    task: Any  # glue_tasks.Task
    model: Any
    tokenizer: Any
    output: Path
    precision: Any  # precision.Precision
    processes: Any  # processes.Processes

    def encoded(self, examples):
        return EncodedTexts(self.tokenizer, examples, self.args.max_seq_length)

    def save_model(self, folder):
        self.model.save_pretrained(str(folder))
        self.tokenizer.save_pretrained(folder)


def backward(run, texts, batch, step):
    """Gradients of the mean loss of a batch, averaged over all processes. Returns the loss, the same in each."""
    import paddle
    import paddle.nn.functional as F

    from training.order import seed_step, weighted_pieces

    seed_step(run.args.seed, step, run.processes.rank)
    total = 0.0
    with run.precision.context():
        for indices, weight in weighted_pieces(batch, run.args.batch_size, run.processes):
            logits, labels = run.model(**texts.inputs(indices)), paddle.to_tensor(texts.labels[indices])
            if run.task.is_regression:
                loss = F.mse_loss(logits.squeeze(-1), labels)
            else:
                loss = F.cross_entropy(logits, labels)
            loss = loss if weight == 1 else loss * weight
            run.precision.backward(loss)
            total += float(loss)
    run.processes.average_gradients(run.model.parameters())
    return float(run.processes.add(total)) / run.processes.count


def train(run, texts, dev, last=None):
    """The loop, from the start or from the folder `last` of a stopped run.

    Returns the run's state: step, what was logged, every evaluation, the best one's step and score, seconds spent.
    """
    from training.curves import Curves, draw_curves
    from training.log import log, progress
    from training.loop import is_number
    from training.optimizer import adamw, learning_rates
    from training.order import shuffled_batches
    from training.run_folder import load_state

    args, model, writes = run.args, run.model, run.processes.writes
    batch_size = args.batch_size * args.gradient_accumulation_steps * run.processes.count
    steps_per_epoch = -(-len(texts) // batch_size)
    total_steps = args.max_steps if args.max_steps > 0 else steps_per_epoch * args.num_train_epochs
    warmup_steps = args.warmup_steps if args.warmup_steps > 0 else int(args.warmup_proportion * total_steps)
    schedule = learning_rates(
        args.lr_scheduler_type, args.learning_rate, total_steps, warmup_steps, decay_in_warmup=args.tf_compat
    )
    optimizer = adamw(
        model, schedule, args.weight_decay, args.adam_epsilon, args.max_grad_norm, args.layer_lr_decay, args.tf_compat
    )
    run.precision.prepare(model, optimizer)
    run.processes.start_equal(model)
    state = dict(
        step=0, best_step=0, best_score=None, evaluations=[], evaluations_since_best=0, log=[], examples=0,
        skipped_steps=0, skipped_in_a_row=0, train_seconds=0.0, eval_seconds=0.0, precision={},
    )  # fmt: skip
    if last:
        state = load_state(last, model, optimizer)
        run.precision.restore(state["precision"])
        schedule.step(state["step"])

    model.train()
    bar = progress(total_steps, state["step"], shown=writes)
    draw = functools.partial(draw_curves, run.task.name, state, run.output / "curves.png")
    curves = Curves(args.visualdl_dir, draw) if writes else Curves()
    logged_step, clock = state["step"], time.time()  # of the last log line; time spent on evaluation does not count
    for step in range(state["step"] + 1, total_steps + 1):
        if args.early_stopping_patience and state["evaluations_since_best"] >= args.early_stopping_patience:
            print(f"stopped early: no better than at step {state['best_step']} since", file=sys.stderr)
            break
        epoch, batch = divmod(step - 1, steps_per_epoch)
        if batch == 0 or step == state["step"] + 1:
            batches = shuffled_batches(texts.lengths, batch_size, args.seed, epoch, args.bucket)
        loss = backward(run, texts, batches[batch], step)
        state["examples"] += len(batches[batch])
        if is_number(loss, step, state, run.output / "last"):
            run.precision.step(optimizer)
        optimizer.clear_grad()
        schedule.step()
        bar.set_postfix(loss=f"{loss:.4f}", lr=f"{schedule.get_lr():.2e}", refresh=False)
        bar.update()

        ends = step == total_steps
        if ends or step % args.logging_steps == 0 or step % args.save_steps == 0:
            seconds = time.time() - clock
            state["train_seconds"] += seconds
            if ends or step % args.logging_steps == 0:
                state["log"].append({"step": step, "loss": loss, "lr": schedule.get_lr()})
                curves.add(step, {"train/loss": loss, "train/lr": schedule.get_lr()})
                if writes:
                    log(
                        f"global step {step}/{total_steps}, epoch: {epoch}, batch: {batch}, rank_id: 0, "
                        f"loss: {loss:f}, lr: {schedule.get_lr():.10f}, "
                        f"speed: {(step - logged_step) / seconds:.4f} step/s"
                    )
            logged_step, clock = step, time.time()
        if ends or step % args.save_steps == 0:
            state |= dict(step=step, precision=run.precision.state())
            evaluate_and_save(run, dev, state, optimizer, curves)
            state["eval_seconds"] += time.time() - clock
            clock = time.time()
    bar.close()
    curves.close()
    return state


def evaluate_and_save(run, dev, state, optimizer, curves):
    """Evaluates, adds that to `state`, and writes the model if it is the best so far, `last/` and the pictures."""
    from training.run_folder import save_last

    results, logits, score = evaluate_dev(run, dev)
    for split, scores in results.items():
        curves.add(state["step"], {f"{split}/{name}": value for name, value in scores.items()})
    state["evaluations"].append({"step": state["step"], **results})
    state["evaluations_since_best"] += 1
    best = state["best_score"] is None or score > state["best_score"]
    if best:
        state |= dict(best_step=state["step"], best_score=score, evaluations_since_best=0)
    if not run.processes.writes:
        return
    if best:
        run.save_model(run.output)
        write_dev_reports(run, dev, logits)
    save_last(run.output, run.save_model, run.model, optimizer, state, run.args.keep_checkpoints)
    curves.redraw()


def evaluate_dev(run, dev):
    """→ split → loss and scores; split → logits; the number by which models are compared."""
    from tasks.evaluation import evaluate, main_score

    results, logits = evaluate(run.model, run.task, dev, run.args.batch_size, run.precision, run.processes)
    return results, logits, main_score(run.task, results)


def write_dev_reports(run, dev, logits):
    from tasks.confusion import draw_confusion
    from tasks.evaluation import write_mistakes

    write_mistakes(run.output / "predictions_dev.tsv", run.task, dev, logits)
    draw_confusion(run.task, dev, logits, run.output / "confusion.png")


def predict_tests(run, tests):
    """Writes a file of predictions for each of the test sets, list of (name, task, examples)."""
    from tasks import classifiers
    from tasks.evaluation import all_logits
    from tasks.leaderboard import write_predictions

    folder = run.output / "predictions"
    for name, task, examples in tests:
        logits = all_logits(run.model, task, run.encoded(examples), run.args.batch_size, run.precision, run.processes)
        if run.processes.writes:
            folder.mkdir(exist_ok=True)
            write_predictions(folder / name, task, classifiers.predictions(task, logits))


# --------------------------------------------------------------------------------------------------------------- main


def run_all(args, processes):
    from conversion.sources import resolve
    from files.downloads import fetch
    from tasks.evaluation import DevSplit
    from training.facts import run_facts
    from training.precision import choose_precision
    from training.run_folder import prepare_output

    precision = choose_precision(args.amp, args.amp_dtype, args.device, args.model_type)
    source = args.init_from or args.model_name_or_path
    if args.model_type == "convbert" and not args.from_scratch:
        source = resolve(source)
    elif source.startswith("hf:"):
        source = fetch(source.removeprefix("hf:"))
    task, read = find_data(args, source)
    examples = {split: read(split) for split in (*["train"] * args.do_train, *task.dev_splits)}
    tests = test_files(args, task, read, quiet=not processes.writes) if args.do_predict else []
    output = Path(args.output_dir)
    if processes.writes:
        prepare_output(output, args.resume, args.overwrite)
    processes.wait()
    last = output / "last" if args.resume and (output / "last").is_dir() else None

    if last or not args.do_train:
        start = "nothing"
    else:
        start = "head" if args.init_from else "misfit"
    if args.from_scratch and not last:
        start = "everything"
    source = str(last or source)
    settings = {} if args.mask_conv_padding is None else {"mask_conv_padding": args.mask_conv_padding}
    tokenizer = load_tokenizer(args.model_type, source, args.vocab_file, args.do_lower_case)
    model = load_classifier(args.model_type, source, task, tokenizer, start, **settings)
    if args.max_seq_length > model.config.max_position_embeddings:
        positions = model.config.max_position_embeddings
        raise InputError(f"--max_seq_length {args.max_seq_length}: {source} has only {positions} positions")
    if args.recompute:
        enable_recompute(model)
    run = Run(args, task, model, tokenizer, output, precision, processes)

    dev = [DevSplit(split, examples[split], run.encoded(examples[split])) for split in task.dev_splits]
    if args.do_train:
        if args.double_unordered and task.is_symmetric:
            examples["train"] += [Example(second, first, label) for first, second, label in examples["train"]]
        state = train(run, run.encoded(examples["train"]), dev, last)
        state["examples_per_second"] = state["examples"] / max(state["train_seconds"], 1e-9)
    else:
        results, logits, score = evaluate_dev(run, dev)
        if processes.writes:
            write_dev_reports(run, dev, logits)
        state = dict(step=0, evaluations=[{"step": 0, **results}], best_step=0, best_score=score)
    if tests:
        processes.wait()  # for the best model to be written
        if args.do_train:
            run = run._replace(
                model=load_classifier(args.model_type, str(output), task, tokenizer, "nothing", **settings)
            )
        predict_tests(run, tests)
    if processes.writes:
        write_json(output / "results.json", {"task": task.name, **state, **run_facts(), "arguments": vars(args)})
        print(
            f"best {task.main_metric}: {state['best_score']:.4f} at step {state['best_step']}; "
            f"model and results.json in {output}",
            file=sys.stderr,
        )


@script
def main(argv=None):
    args = parse_args(argv)
    if args.task_name:
        find_task(args.task_name)

    import paddle

    from training.device import choose_device
    from training.processes import Processes, launch_on_all_gpus

    launch_on_all_gpus(args.device)
    args.device = choose_device(args.device, args.verbose)
    processes = Processes()
    paddle.seed(args.seed)
    with processes.one_fails_all_fail():
        run_all(args, processes)


if __name__ == "__main__":
    sys.exit(main())
