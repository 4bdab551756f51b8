"""Labels, answers or tags for your own texts, by a folder that run_glue.py, run_squad.py or run_tagging.py made.

    python predict.py --model output/SST-2 "A film one wants to see twice." "A waste of time."
    python predict.py --model output/MRPC --input_file pairs.tsv --output_file answers.csv
    cat sentences.txt | python predict.py --model output/SST-2 --input_file -
    python predict.py --model output/squad --question "Who wrote it?" --context "It was written by Ada."
    python predict.py --model output/tags "Ada lives in London."

Files: .csv, .tsv, .jsonl and .json with the columns of the training, or such as run_glue.py finds; any other, and
standard input, one text a line, a pair separated by a tab, each answered when it comes. Answers are JSON lines, or CSV
for a file of that name, in the order of the texts. A text that begins with a dash is one, unless it is a flag or looks
like one: then -- goes before the texts.

Questions come from --question and --context, from JSON lines of both, or from a .json file in SQuAD's layout; what is
to be tagged is a text a line, or JSON lines of `tokens` or `text`. Both are answered in JSON lines.
"""

import runtime  # noqa: F401  (before Paddle)

import csv
import io
import json
import sys

import numpy as np

from files.atomic import atomic_file
from files.downloads import shipped
from files.errors import InputError
from flags.command_line import ArgumentParser, add_overwrite, is_picture, require_new, script
from flags.computing import add_inference
from serving.arriving import ArrivingLines, chunks, is_table, read_questions, read_texts, read_untagged
from serving.heads import HEADS, make_head
from serving.predictor import make_predictor, precision_of
from tasks import programs
from tasks.classifiers import stored_columns
from tasks.heads import stored_head
from tasks.leaderboard import BETWEEN

# ------------------------------------------------------------------------------------------------------ texts, answers


def as_json(text, text_pair, prediction):
    """One line of JSON."""
    found = {"text": text} | ({} if text_pair is None else {"text_pair": text_pair})
    found |= {name: value for name, value in prediction._asdict().items() if value is not None}
    return json.dumps(found, ensure_ascii=False) + "\n"


def csv_header(predictor, pairs):
    labels = predictor.task.labels
    answers = ["score"]
    if labels:
        answers = ["labels" if predictor.task.several else "label", *(f"probability {label}" for label in labels)]
    return as_csv(["text", "text_pair"][: 1 + pairs] + answers)


def csv_cells(prediction):
    if prediction.score is not None:
        return [prediction.score]
    label = prediction.label if prediction.labels is None else BETWEEN.join(prediction.labels)
    return [label, *prediction.probabilities.values()]


def as_csv(cells):
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


def answers(predictor, texts, form, ready=lambda: True):
    """Yields the lines of the answer to an iterator of (text, text_pair).

    Args:
        form: "jsonl" or "csv".
        ready: function that says whether the next text is there.
    """
    first = True
    for chunk in chunks(iter(texts), ready):
        singles, seconds = zip(*chunk, strict=True)
        pairs = seconds[0] is not None
        if first and form == "csv":
            yield csv_header(predictor, pairs)
        first = False
        for text, second, found in zip(singles, seconds, predictor(singles, seconds if pairs else None), strict=True):
            if form == "jsonl":
                yield as_json(text, second, found)
            else:
                yield as_csv([text, second][: 1 + pairs] + csv_cells(found))


# ---------------------------------------------------------------------------------------------------- questions, tags


def told(args, head):
    """Yields the lines of the answer of a model that answers or tags."""
    model = make_head(args, head)
    lines = ArrivingLines(args.input_file) if args.input_file else None
    ready = lines.ready if lines else lambda: True
    if head == "ForQuestionAnswering":
        given = [(None, args.question, args.context)] if args.question else read_questions(args.input_file, lines)
        for chunk in chunks(iter(given), ready):
            for (number, question, _), found in zip(chunk, model([pair[1:] for pair in chunk]), strict=True):
                named = {} if number is None else {"id": number}
                yield json.dumps({**named, "question": question, **found}, ensure_ascii=False) + "\n"
        return
    given = args.texts or read_untagged(args.input_file, lines)
    for chunk in chunks(iter(given), ready):
        for found in model(chunk):
            yield json.dumps(found, ensure_ascii=False) + "\n"


def embedded(args, texts, ready):
    """Yields the lines of the vectors of (text, text_pair), or for a .npy file its bytes."""
    from serving.embeddings import Embedder

    embedder = Embedder.of_folder(args.model, args.max_seq_length, args.batch_size, precision_of(args))
    whole = (args.output_file or "").lower().endswith(".npy")
    kept = [np.zeros([0, embedder.width], np.float32)]
    for chunk in chunks(iter(texts), ready):
        singles, seconds = zip(*chunk, strict=True)
        vectors = embedder(singles, None if seconds[0] is None else seconds, args.embeddings)
        if whole:
            kept.append(vectors)
            continue
        for text, second, vector in zip(singles, seconds, vectors, strict=True):
            found = {"text": text} | ({} if second is None else {"text_pair": second})
            yield json.dumps(found | {"embedding": [round(float(x), 7) for x in vector]}, ensure_ascii=False) + "\n"
    if whole:
        content = io.BytesIO()
        np.save(content, np.concatenate(kept))
        yield content.getvalue()
    say_what_was_cut(embedder)


def require_fitting(args, head):
    """Raises InputError where flags are for another kind of model."""
    if args.embeddings:
        if wrong := [name for name in ("question", "explain", "layer", "split_special_tokens") if getattr(args, name)]:
            raise InputError(f"--{wrong[0]}: not with --embeddings")
        if args.format == "csv" or args.engine != "auto":
            raise InputError("--embeddings writes JSON lines, or a .npy file, and computes with the model itself")
        return
    answers = head == "ForQuestionAnswering"
    if bool(args.question) and not answers:
        raise InputError(f"--question: {args.model} has no head for answers; run_squad.py trains one")
    if answers and args.texts:
        raise InputError(f"{args.model} answers questions: give --question and --context, or --input_file")
    if head in HEADS:
        others = ("text_pair", "text_column", "text_pair_column", "explain", "layer", "split_special_tokens")
        if wrong := [name for name in others if getattr(args, name)]:
            raise InputError(f"--{wrong[0]}: not for a model of answers or tags, as {args.model} is")
        if args.format == "csv":
            raise InputError("--format csv: answers and tags are written as JSON lines")


def say_what_was_cut(predictor):
    if predictor.cut:
        have, were = ("1 text has", "was") if predictor.cut == 1 else (f"{predictor.cut:,} texts have", "were")
        flag = " (--max_seq_length)" if predictor.max_seq_length < predictor.positions else ""
        print(f"warning: {have} more than {predictor.max_seq_length} tokens and {were} cut{flag}", file=sys.stderr)


def parse_args(argv):
    parser = ArgumentParser("Predict labels and probabilities of your own texts.", texts=True)
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="texts to classify")
    parser.add_argument("--model", required=True, metavar="FOLDER", help="fine-tuned model")
    parser.add_argument("--text_pair", nargs="+", metavar="TEXT", help="the second of each pair of texts")
    parser.add_argument("--question", help="what a model of answers is asked")
    parser.add_argument("--context", help="the text that holds the answer")
    parser.add_argument("--input_file", help="texts in a file; - for standard input")
    parser.add_argument("--text_column", help="column of the text; left out: found by its name")
    parser.add_argument("--text_pair_column", help="column of the second text")
    parser.add_argument("--output_file", help="left out: standard output")
    parser.add_argument("--format", choices=["jsonl", "csv"], help="left out: csv if --output_file ends so, else jsonl")
    parser.add_argument(
        "--embeddings", choices=["cls", "mean"],
        help="no answers but vectors of any model's encoder, the first token's or the mean; JSON lines, or a .npy file",
    )  # fmt: skip
    parser.add_argument("--explain", metavar="PNG", help="picture of what the model does with the first text")
    parser.add_argument("--layer", type=int, help="layer that --explain looks into, from 1; left out: the middle one")
    parser.add_argument(
        "--engine", choices=["auto", *programs.ENGINES], default="auto", help="what computes; auto: as the folder is"
    )
    add_overwrite(parser)
    add_inference(parser)
    args = parser.parse_args(argv)
    if bool(args.texts) + bool(args.input_file) + bool(args.question) != 1:
        parser.error("give either texts, --input_file, or --question and --context")
    if bool(args.question) != (args.context is not None):
        parser.error("--question and --context belong together")
    if args.text_pair and len(args.text_pair) != len(args.texts):
        parser.error(f"--text_pair: {len(args.text_pair)} texts for {len(args.texts)}")
    if args.explain and not (args.texts and is_picture(args.explain)):
        parser.error("--explain takes a .png or .svg, and texts on the command line")
    if args.format is None:
        args.format = "csv" if (args.output_file or "").lower().endswith(".csv") else "jsonl"
    require_new(args.overwrite, output_file=args.output_file, explain=args.explain)
    return args


@script
def main(argv=None):
    args = parse_args(argv)
    head = stored_head(shipped(args.model))
    require_fitting(args, head)
    if head in HEADS and not args.embeddings:
        write(args, told(args, head))
        return
    if args.embeddings:
        write(args, embedded(args, *given_texts(args)))
        return
    predictor = make_predictor(args, args.engine)
    if args.explain:
        from serving.explanation import draw_explanation, explain

        pair = args.text_pair[0] if args.text_pair else None
        draw_explanation(explain(predictor, args.texts[0], pair, args.layer), args.explain)
        predictor.cut = 0  # the text is counted below
    texts, ready = given_texts(args)
    try:
        write(args, answers(predictor, texts, args.format, ready))
    except KeyboardInterrupt:
        say_what_was_cut(predictor)
        raise
    say_what_was_cut(predictor)


def given_texts(args):
    """An iterable of (text, text_pair), and a function that says whether the next one is there."""
    if args.texts:
        texts, ready = zip(args.texts, args.text_pair or [None] * len(args.texts), strict=True), lambda: True
    else:
        lines = None if is_table(args.input_file) else ArrivingLines(args.input_file)
        stored = (stored_columns(shipped(args.model)) or {}).get("text")
        texts = read_texts(args.input_file, args.text_column, args.text_pair_column, lines, stored)
        ready = lines.ready if lines else lambda: True
    return texts, ready


def write(args, lines):
    """Answers to standard output, each when it is known, or to a file that is there when all are."""
    if not args.output_file:
        for line in lines:
            sys.stdout.write(line)
            sys.stdout.flush()
        return
    with atomic_file(args.output_file) as file:
        for line in lines:
            file.write(line if isinstance(line, bytes) else line.encode())


if __name__ == "__main__":
    sys.exit(main())
