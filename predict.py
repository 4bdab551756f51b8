"""Labels and probabilities for your own texts, by a folder that run_glue.py made.

    python predict.py --model output/SST-2 "A film one wants to see twice." "A waste of time."
    python predict.py --model output/MRPC --input_file pairs.tsv --output_file answers.csv
    cat sentences.txt | python predict.py --model output/SST-2 --input_file -

Files: .csv, .tsv and .jsonl with columns as for run_glue.py; any other, and standard input, one text a line, a pair
separated by a tab. Answers are JSON lines, or CSV for a file of that name, in the order of the texts.
"""

import runtime  # noqa: F401  (before Paddle)

import contextlib
import csv
import io
import json
import sys
from itertools import islice
from pathlib import Path

from files.atomic import atomic_file
from files.errors import InputError
from flags.command_line import ArgumentParser, script
from flags.computing import add_inference
from serving.predictor import make_predictor
from tasks import programs
from tasks.labelled_files import find_texts, read_rows

TABLES = (".csv", ".tsv", ".jsonl", ".json")
CHUNK = 4096  # texts that are read, sorted by length and answered at a time


# ------------------------------------------------------------------------------------------------------ texts, answers


def read_texts(path, text_column=None, text_pair_column=None):
    """Yields (text, text_pair or None). path: a file, or "-" for standard input. Raises InputError."""
    if path != "-" and Path(path).suffix.lower() in TABLES:
        rows = read_rows(path)
        columns = list(rows[0].values)
        label = next((column for column in columns if column.lower() in ("label", "labels")), None)
        wanted = find_texts(path, columns, text_column, text_pair_column, label)
        for line, values in rows:
            if missing := [column for column in wanted if column not in values]:
                raise InputError(f"{path}, line {line}: no {missing[0]!r}")
            yield (*(values[column] for column in wanted), None)[:2]
        return
    with contextlib.ExitStack() as stack:
        try:
            lines = sys.stdin.buffer if path == "-" else stack.enter_context(open(path, "rb"))
        except OSError as error:
            raise InputError(f"{path}: can't be read ({error.strerror})") from None
        pairs = None
        for number, line in enumerate(lines, start=1):
            name = f"{'standard input' if path == '-' else path}, line {number}"
            try:
                texts = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n").split("\t")
            except UnicodeDecodeError:
                raise InputError(f"{name}: not UTF-8; convert the file") from None
            if len(texts) > 2 or (pairs is not None and pairs != (len(texts) == 2)):
                raise InputError(
                    f"{name}: {len(texts)} texts between tabs; every line must have one, or every line two"
                )
            pairs = len(texts) == 2
            yield (*texts, None)[:2]


def as_json(text, text_pair, prediction):
    """One line of JSON."""
    found = {"text": text} | ({} if text_pair is None else {"text_pair": text_pair})
    found |= {name: value for name, value in prediction._asdict().items() if value is not None}
    return json.dumps(found, ensure_ascii=False) + "\n"


def csv_header(labels, pairs):
    answers = ["label", *(f"probability {label}" for label in labels)] if labels else ["score"]
    return as_csv(["text", "text_pair"][: 1 + pairs] + answers)


def as_csv(cells):
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


def answers(predictor, texts, form):
    """Yields the lines of the answer to an iterator of (text, text_pair); form: "jsonl" or "csv"."""
    texts, first = iter(texts), True
    while chunk := list(islice(texts, CHUNK)):
        singles, seconds = zip(*chunk, strict=True)
        pairs = seconds[0] is not None
        if first and form == "csv":
            yield csv_header(predictor.task.labels, pairs)
        first = False
        for text, second, found in zip(singles, seconds, predictor(singles, seconds if pairs else None), strict=True):
            if form == "jsonl":
                yield as_json(text, second, found)
            else:
                values = [found.score] if found.label is None else [found.label, *found.probabilities.values()]
                yield as_csv([text, second][: 1 + pairs] + values)


def parse_args(argv):
    parser = ArgumentParser("Predict labels and probabilities of your own texts.")
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="texts to classify")
    parser.add_argument("--model", required=True, metavar="FOLDER", help="fine-tuned model")
    parser.add_argument("--text_pair", nargs="+", metavar="TEXT", help="the second of each pair of texts")
    parser.add_argument("--input_file", help="texts in a file; - for standard input")
    parser.add_argument("--text_column", help="column of the text; left out: found by its name")
    parser.add_argument("--text_pair_column", help="column of the second text")
    parser.add_argument("--output_file", help="left out: standard output")
    parser.add_argument("--format", choices=["jsonl", "csv"], help="left out: csv if --output_file ends so, else jsonl")
    parser.add_argument("--explain", metavar="PNG", help="picture of what the model does with the first text")
    parser.add_argument("--layer", type=int, help="layer that --explain looks into, from 1; left out: the middle one")
    parser.add_argument(
        "--engine", choices=["auto", *programs.ENGINES], default="auto", help="what computes; auto: as the folder is"
    )
    add_inference(parser)
    args = parser.parse_args(argv)
    if bool(args.texts) == bool(args.input_file):
        parser.error("give either texts or --input_file")
    if args.text_pair and len(args.text_pair) != len(args.texts):
        parser.error(f"--text_pair: {len(args.text_pair)} texts for {len(args.texts)}")
    if args.explain and not (args.texts and args.explain.lower().endswith((".png", ".svg"))):
        parser.error("--explain takes a .png or .svg, and texts on the command line")
    if args.format is None:
        args.format = "csv" if (args.output_file or "").lower().endswith(".csv") else "jsonl"
    return args


@script
def main(argv=None):
    args = parse_args(argv)
    predictor = make_predictor(args, args.engine)
    if args.explain:
        from serving.explanation import draw_explanation, explain

        pair = args.text_pair[0] if args.text_pair else None
        draw_explanation(explain(predictor, args.texts[0], pair, args.layer), args.explain)
    if args.texts:
        texts = zip(args.texts, args.text_pair or [None] * len(args.texts), strict=True)
    else:
        texts = read_texts(args.input_file, args.text_column, args.text_pair_column)
    lines = answers(predictor, texts, args.format)
    if args.output_file:
        with atomic_file(args.output_file) as file:
            for line in lines:
                file.write(line.encode())
    else:
        for line in lines:
            sys.stdout.write(line)
            sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
