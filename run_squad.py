"""Fine-tunes ConvBERT, BERT, ELECTRA or ERNIE to find answers to questions in texts, and evaluates it.

    python run_squad.py --train_file train-v1.1.json --validation_file dev-v1.1.json \\
        --model_name_or_path convbert-small --output_dir output/squad

Texts longer than the model are read in windows that overlap (`--doc_stride`); an answer is always a slice of its text.
Evaluating, saving and going on are as in run_glue.py; beside the best model lie `predictions.json`, which SQuAD's own
scorer reads, `nbest_predictions.json` and, with `--version_2_with_negative`, `null_odds.json`.

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

from family.architectures import MODEL_TYPES
from files.errors import InputError
from files.json_files import write_json
from flags.command_line import FLAG, ArgumentParser, at_least, script
from flags.computing import add_dtype, add_length
from flags.training import add_fine_tuning, add_model, add_output, add_training
from tasks.answer_scores import METRICS, metric_for, scores
from tasks.questions import Reading, TrainingWindows, Windows, count_cut

KIND = "ForQuestionAnswering"


def make_parser():
    parser = ArgumentParser("Fine-tune a model to find answers to questions in texts.")
    names = "a published model's name, a checkpoint folder (ours, PaddleNLP's or Hugging Face's), or hf:OWNER/NAME"
    model = add_model(parser, MODEL_TYPES, model_name_or_path=dict(help=names))
    model.add_argument("--init_from", metavar="FOLDER", help="fine-tuned model to start from; head anew")
    model.add_argument("--from_scratch", action=FLAG, default=False, help="take the configuration, start at random")

    data = parser.add_argument_group("data, in SQuAD's layout or JSON lines of id, question, context, answers")
    data.add_argument("--train_file", help="questions to learn from")
    data.add_argument("--validation_file", required=True, help="questions to evaluate on")
    data.add_argument("--test_file", help="questions for --do_predict")
    data.add_argument("--version_2_with_negative", action=FLAG, default=False, help="some questions have no answer")
    add_length(data, smallest=8, default=384, help="tokens of a window: question and a part of the text")
    data.add_argument("--doc_stride", type=at_least(0), default=128, help="tokens that two windows have in common")
    data.add_argument("--max_query_length", type=at_least(1), default=64, help="longer questions are cut to it")

    answers = parser.add_argument_group("answers")
    answers.add_argument("--n_best_size", type=at_least(1), default=20, help="answers that are kept, the best first")
    answers.add_argument("--max_answer_length", type=at_least(1), default=30, help="tokens of an answer at most")
    answers.add_argument(
        "--null_score_diff_threshold", type=float, default=0.0,
        help="no answer is given where none is likelier by more than this",
    )  # fmt: skip
    chosen = "left out: cmrc, by character, where most letters of the texts are CJK, else squad"
    answers.add_argument("--metric", choices=METRICS, help=f"how answers are scored; {chosen}")

    add_fine_tuning(add_training(parser))
    output = add_output(parser)
    output.add_argument("--do_predict", action=FLAG, default=False, help="at the end, answer --test_file")
    add_dtype(output)
    return parser


def parse_args(argv):
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.do_train and not args.train_file:
        parser.error("training needs --train_file; --no-do_train only evaluates")
    if args.do_predict and not args.test_file:
        parser.error("--do_predict needs --test_file")
    if args.mask_conv_padding is not None and args.model_type != "convbert":
        parser.error(f"--mask_conv_padding is for convolutions; --model_type {args.model_type} has none")
    if args.dtype and args.do_train:
        parser.error("--dtype is for --no-do_train; --amp O1 trains with products in bfloat16")
    if args.resume and not args.do_train:
        parser.error("--resume goes on with a training; to evaluate, take another --output_dir, or --overwrite")
    return args


# ----------------------------------------------------------------------------------------------------------- training


class Run(NamedTuple):
    """What stays the same from the first step to the last."""

    args: argparse.Namespace
    model: Any
    tokenizer: Any
    windows: Windows
    metric: str  # of answer_scores.METRICS
    output: Path
    precision: Any  # precision.Precision
    processes: Any  # processes.Processes

    def save_model(self, folder):
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def backward(run, windows, batch, step):
    """Gradients of the mean loss of a batch, averaged over all processes. Returns the loss, the same in each."""
    import paddle

    from training.order import seed_step, weighted_pieces

    seed_step(run.args.seed, step, run.processes.rank)
    total = 0.0
    with run.precision.training():
        for rows, weight in weighted_pieces(batch, run.args.batch_size, run.processes):
            starts, ends = (paddle.to_tensor(places[rows]) for places in (windows.starts, windows.ends))
            loss = run.model(**windows.inputs(rows), start_positions=starts, end_positions=ends).loss
            loss = loss if weight == 1 else loss * weight
            run.precision.backward(loss)
            total += float(loss)
    run.processes.average_gradients(run.model.parameters())
    return float(run.processes.add(total)) / run.processes.count


def train(run, windows, dev, last=None, settings=None):
    """The loop, from the start or from the folder `last` of a stopped run; settings: of settings.settings_of.

    Returns the run's state: step, what was logged, every evaluation, the best one's step and score, seconds spent.
    """
    from training.curves import draw_curves
    from training.loop import Plan, Steps
    from training.order import shuffled_batches

    args = run.args
    plan = Plan.of(args, len(windows), args.batch_size, run.processes)
    warmup_steps = args.warmup_steps or int(args.warmup_proportion * plan.total_steps)
    steps = Steps(
        args, plan, warmup_steps, run.model, run.output, last, run.precision, run.processes,
        functools.partial(draw_curves, "answers"),
        dict(best_step=0, best_score=None, best_loss=None, evaluations_since_best=0, examples=0, settings=settings),
        args.layer_lr_decay, args.early_stopping_patience,
    )  # fmt: skip

    @functools.lru_cache(1)
    def batches(epoch):
        return shuffled_batches(windows.lengths, plan.batch_size, args.seed, epoch, args.bucket)

    for step in steps:
        batch = batches(steps.epoch)[steps.batch]
        loss = backward(run, windows, batch, step)
        steps.state["examples"] += len(batch)
        steps.learn(loss)

        due = steps.due()
        if due.log:
            steps.log(f"batch: {steps.batch}, rank_id: 0, loss: {loss:f}", {"loss": loss})
        if due.evaluate:
            results, spans, score = evaluate(run, dev)
            if steps.evaluated({"dev": results}, score) and run.processes.writes:
                write_best(run, dev, spans, results)
        if steps.saves:
            steps.save(run.save_model)
    return steps.state


# --------------------------------------------------------------------------------------------------------- evaluating


def find(run, questions):
    """answers.Spans of some questions."""
    from tasks.answers import Search, find_spans
    from tasks.programs import Dynamic

    search = Search(run.args.n_best_size, run.args.max_answer_length)
    engine = Dynamic(run.model, run.precision)
    spans = find_spans(
        engine, run.tokenizer, questions, run.windows, search, run.args.batch_size, run.processes
    )  # fmt: skip
    run.model.train()
    return spans


def evaluate(run, dev):
    """Prints the line of an evaluation. Returns its figures, the spans, and the number by which models are compared."""
    from training.log import log

    start, negative = time.time(), run.args.version_2_with_negative
    spans = find(run, dev)
    texts = [spans.best(question, index)[0]["text"] for index, question in enumerate(dev)]
    margins = [spans.margin(index) for index in range(len(dev))] if negative else None
    found = scores(dev, texts, run.metric, margins, run.args.null_score_diff_threshold)
    results = {"loss": spans.loss, **found}
    if run.processes.writes:
        words = ", ".join(f"{name}: {value}" for name, value in found.items())
        log(f"eval loss: {spans.loss:f}, {words}, eval done total : {time.time() - start} s")
    number = found["best_f1"] if negative else found["f1"]
    return results, spans, number if math.isfinite(spans.loss) else math.nan


def write_best(run, dev, spans, results):
    """The model and its answers; what answers need of the training is stored with the model."""
    kept = dict(run.windows._asdict(), version_2_with_negative=run.args.version_2_with_negative)
    del kept["max_seq_length"]  # the tokenizer's
    kept |= dict(n_best_size=run.args.n_best_size, max_answer_length=run.args.max_answer_length)
    if "best_f1_threshold" in results:
        kept["null_score_diff_threshold"] = results["best_f1_threshold"]
    run.model.config.trained_with = kept
    run.save_model(run.output)
    write_answers(run, run.output, dev, spans)


def write_answers(run, folder, questions, spans):
    """predictions.json, nbest_predictions.json and, for SQuAD 2.0, null_odds.json, as official scorers read them."""
    negative, threshold = run.args.version_2_with_negative, run.args.null_score_diff_threshold
    best, answers, odds = {}, {}, {}
    for index, question in enumerate(questions):
        best[question.id] = spans.best(question, index, negative)
        odds[question.id] = spans.margin(index)
        refused = negative and odds[question.id] > threshold
        answers[question.id] = "" if refused else spans.best(question, index)[0]["text"]
    folder.mkdir(exist_ok=True)
    write_json(folder / "predictions.json", answers)
    write_json(folder / "nbest_predictions.json", best)
    if negative:
        write_json(folder / "null_odds.json", odds)


# --------------------------------------------------------------------------------------------------------------- main


def read(args, processes, path, split):
    """A file's questions; those of training that have no place in their text are left out."""
    found = Reading(path, args.version_2_with_negative, labelled=split != "test")
    if processes.writes:
        found.say("; these questions are left out" if split == "train" else "")
    if split != "train":
        return found.questions
    return [question for question in found.questions if not question.answers or question.answers[0][1] >= 0]


def say_windows(args, name, questions, rows):
    """One line of how many windows a split has, and what they lose."""
    lost = [f"{rows.cut:,} questions cut to --max_query_length"] * bool(rows.cut)
    lost += [f"{rows.unseen:,} answers whole in no window"] * bool(rows.unseen)
    words = f"{name}: {len(questions):,} questions, {len(rows):,} windows of at most {args.max_seq_length} tokens"
    print("; ".join([words, *lost]), file=sys.stderr)


def run_all(args, processes):
    from conversion.sources import fetched, resolve
    from tasks.classifiers import load_tokenizer, require_type
    from tasks.heads import load_head
    from training.precision import choose_inference, choose_precision
    from training.settings import examples_fact, require_same_settings, settings_of
    from training.start import open_output, require_positions, write_results

    windows = Windows(args.max_seq_length, args.doc_stride, args.max_query_length)
    windows.require()
    if args.do_train:
        precision = choose_precision(args.amp, args.amp_dtype, args.device)
    else:
        precision = choose_inference(args.dtype, args.amp, args.amp_dtype, args.device)
    files = {"train": args.train_file, "dev": args.validation_file, "test": args.test_file}
    wanted = ["train"] * args.do_train + ["dev"] + ["test"] * args.do_predict
    questions = {split: read(args, processes, files[split], split) for split in wanted}
    metric = args.metric or metric_for(question.context for question in questions["dev"])
    source = fetched(args.init_from or args.model_name_or_path)
    require_type(args.model_type, source)
    source = source if args.from_scratch else resolve(source, args.model_type)
    output, last = open_output(args, processes)

    start = "nothing" if last or not args.do_train else "head" if args.init_from else "misfit"
    if args.from_scratch and not last:
        start = "everything"
    source = str(last or source)
    settings = {} if args.mask_conv_padding is None else {"mask_conv_padding": args.mask_conv_padding}
    switches = args.do_lower_case, args.strip_accents, args.tokenize_chinese_chars
    tokenizer = load_tokenizer(args.model_type, source, args.vocab_file, *switches)
    begun = None
    if args.do_train:
        facts = {f"{split} questions": examples_fact(found) for split, found in questions.items()}
        begun = settings_of(
            args, args.batch_size, processes, args.init_from or args.model_name_or_path, tokenizer, **facts
        )
        if last:
            require_same_settings(last, begun)
    model = load_head(args.model_type, source, KIND, tokenizer, start, **settings)
    require_positions(model, source, args.max_seq_length)
    if model.config.type_vocab_size < 2:
        raise InputError(f"{source}: knows no second text (type_vocab_size is 1), and questions have one")
    tokenizer.model_max_length = args.max_seq_length
    if args.recompute:
        model.enable_recompute()
    run = Run(args, model, tokenizer, windows, metric, output, precision, processes)

    if processes.writes and not args.metric:
        print(f"metric: {metric} (--metric decides)", file=sys.stderr)
    if args.do_train:
        rows = TrainingWindows(tokenizer, questions["train"], windows)
        if processes.writes:
            say_windows(args, "train", questions.pop("train"), rows)
        state = train(run, rows, questions["dev"], last, begun)
        state["examples_per_second"] = state["examples"] / max(state["train_seconds"], 1e-9)
    else:
        results, spans, score = evaluate(run, questions["dev"])
        if processes.writes:
            write_answers(run, output, questions["dev"], spans)
        best = None if math.isnan(score) else score
        state = dict(step=0, evaluations=[{"step": 0, "dev": results}], best_step=0, best_score=best)
    cut = count_cut(tokenizer, questions["dev"], windows)
    if cut and processes.writes:
        print(f"dev: {cut:,} questions cut to --max_query_length", file=sys.stderr)
    if args.do_predict and state["best_score"] is not None:
        processes.wait()  # for the best model to be written
        if args.do_train:
            run = run._replace(model=load_head(args.model_type, str(output), KIND, tokenizer, "nothing", **settings))
        spans = find(run, questions["test"])
        if processes.writes:
            write_answers(run, output / "predictions", questions["test"], spans)
    if processes.writes:
        write_results(output, args, task="answers", metric=metric, **state)
    if state["best_score"] is None:
        kept = f"{output / 'last'} holds step {state['step']}" if args.do_train else "its weights are damaged"
        raise InputError(f"{source}: no evaluation gave a number (but NaN or infinity); {kept}")
    if processes.writes:
        print(
            f"best f1: {state['best_score']:.4f} at step {state['best_step']}; model and results.json in {output}",
            file=sys.stderr,
        )


@script
def main(argv=None):
    args = parse_args(argv)

    from training.signals import start

    start(run_all, args)


if __name__ == "__main__":
    sys.exit(main())
