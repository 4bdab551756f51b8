"""Fine-tunes ConvBERT, BERT, ELECTRA or ERNIE to find answers to questions in texts, and evaluates it.

    python run_squad.py --train_file train-v1.1.json --validation_file dev-v1.1.json \\
        --model_name_or_path convbert-small --output_dir output/squad

Texts longer than the model are read in windows that overlap (`--doc_stride`); an answer is always a slice of its text.
Evaluating, saving and going on are as in run_glue.py; beside the best model lie `predictions.json`, which SQuAD's own
scorer reads, `nbest_predictions.json` and, with `--version_2_with_negative`, `null_odds.json`.

Paddle and what needs it are imported inside functions: `--help` and a wrong flag answer at once.
"""

import runtime  # noqa: F401  (before Paddle)

import functools
import math
import sys
import time

from family.architectures import MODEL_TYPES
from files.errors import InputError
from files.json_files import write_json
from flags.command_line import FLAG, ArgumentParser, at_least, script
from flags.computing import add_dtype, add_length
from flags.training import add_fine_tuned_model, add_fine_tuning, add_output, add_training
from tasks.answer_scores import METRICS, metric_for, scores
from tasks.head_runs import begin
from tasks.questions import Reading, TrainingWindows, Windows, count_cut
from training.fine_tuning import Loop, end_run, fine_tune, launch, only_evaluated, parsed

KIND = "ForQuestionAnswering"


def make_parser():
    parser = ArgumentParser("Fine-tune a model to find answers to questions in texts.")
    add_fine_tuned_model(parser, MODEL_TYPES)

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
    return parsed(make_parser(), argv)


# ----------------------------------------------------------------------------------------------------------- training


def pieces(run, windows, batch):
    """See fine_tuning.Loop. As in Hugging Face the softmax is over padding, too: all are as wide as the longest row."""
    from training.order import weighted_pieces

    width, found = int(windows.lengths[batch].max()), []
    for rows, weight in weighted_pieces(batch, run.args.batch_size, run.processes):
        places = {"start_positions": windows.starts[rows], "end_positions": windows.ends[rows]}
        found.append(({**windows.arrays(rows, width), **places}, weight))
    return found


def mean_loss(run, inputs):
    return run.model(**inputs).loss


# --------------------------------------------------------------------------------------------------------- evaluating


def find(run, questions):
    """answers.Spans of some questions."""
    from tasks.answers import Search, find_spans

    args = run.args
    search = Search(args.n_best_size, args.max_answer_length)
    spans = find_spans(
        run.engine(), run.tokenizer, questions, run.windows, search, args.eval_batch_size, run.processes
    )  # fmt: skip
    run.model.train()
    return spans


def evaluate(run, dev, metric):
    """Prints an evaluation's line. Returns its figures, the spans with them, and the number that models are told by."""
    from training.log import log

    start, negative = time.time(), run.args.version_2_with_negative
    spans = find(run, dev)
    texts = [spans.best(question, index)[0]["text"] for index, question in enumerate(dev)]
    margins = [spans.margin(index) for index in range(len(dev))] if negative else None
    found = scores(dev, texts, metric, margins, run.args.null_score_diff_threshold)
    results = {"loss": spans.loss, **found}
    if run.processes.writes:
        words = ", ".join(f"{name}: {value}" for name, value in found.items())
        log(f"eval loss: {spans.loss:f}, {words}, eval done total : {time.time() - start} s")
    number = found["best_f1"] if negative else found["f1"]
    return {"dev": results}, (spans, results), number if math.isfinite(spans.loss) else math.nan


def write_best(run, dev, found):
    """The model and its answers; what answers need of the training is stored with the model."""
    spans, results = found
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
        found, odds[question.id] = spans.best(question, index), spans.margin(index)
        best[question.id] = spans.best(question, index, True) if negative else found
        answers[question.id] = "" if negative and odds[question.id] > threshold else found[0]["text"]
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
    windows = Windows(args.max_seq_length, args.doc_stride, args.max_query_length)
    windows.require()
    files = {"train": args.train_file, "dev": args.validation_file, "test": args.test_file}
    wanted = ["train"] * args.do_train + ["dev"] + ["test"] * args.do_predict
    most = {"train": args.max_train_samples, "dev": args.max_eval_samples}
    questions = {split: read(args, processes, files[split], split)[: most.get(split)] for split in wanted}
    metric = args.metric or metric_for(question.context for question in questions["dev"])
    run = begin(args, processes, KIND, windows, questions)
    if run.model.config.type_vocab_size < 2:
        raise InputError(f"{run.start.source}: knows no second text (type_vocab_size is 1), and questions have one")
    if processes.writes and not args.metric:
        print(f"metric: {metric} (--metric decides)", file=sys.stderr)
    dev = questions["dev"]
    if args.do_train:
        rows = TrainingWindows(run.tokenizer, questions["train"], windows)
        if processes.writes:
            say_windows(args, "train", questions.pop("train"), rows)
        loop = Loop(
            functools.partial(pieces, run, rows), mean_loss, functools.partial(evaluate, run, dev, metric),
            functools.partial(write_best, run, dev), run.save_model,
            'python predict.py --model {} --question "a question" --context "the text that answers it"',
        )  # fmt: skip
        state = fine_tune(run, "answers", rows.lengths, loop)
    else:
        results, (spans, _), score = evaluate(run, dev, metric)
        if processes.writes:
            write_answers(run, run.output, dev, spans)
        state = only_evaluated(results, score)
    cut = count_cut(run.tokenizer, dev, windows)
    if cut and processes.writes:
        print(f"dev: {cut:,} questions cut to --max_query_length", file=sys.stderr)
    if args.do_predict and state["best_score"] is not None:
        spans = find(run.best(KIND) if args.do_train else run, questions["test"])
        if processes.writes:
            write_answers(run, run.output / "predictions", questions["test"], spans)
    end_run(run, "f1", state, task="answers", metric=metric)


@script
def main(argv=None):
    launch(parse_args(argv), run_all)


if __name__ == "__main__":
    sys.exit(main())
