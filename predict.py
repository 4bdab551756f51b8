"""Labels and probabilities for your own texts, by a folder that run_glue.py made.

    python predict.py --model output/SST-2 "A film one wants to see twice." "A waste of time."
    python predict.py --model output/MRPC --input_file pairs.tsv --output_file answers.csv
    cat sentences.txt | python predict.py --model output/SST-2 --input_file -

Files: .csv, .tsv and .jsonl with columns as for run_glue.py; any other, and standard input, one text a line, a pair
separated by a tab. Answers are JSON lines, or CSV for a file of that name, in the order of the texts.
"""

import contextlib
import csv
import io
import json
import sys
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import classifiers
import programs
import runtime  # noqa: F401  (before Paddle)
from checkpoint_files import InputError, atomic_file, read_json, shipped
from classifiers import EncodedTexts, load_classifier, load_tokenizer, stored_labels
from command_line import ArgumentParser, script
from glue_tasks import Example, Task
from labelled_files import find_texts, read_rows

TABLES = (".csv", ".tsv", ".jsonl", ".json")
CHUNK = 4096  # texts that are read, sorted by length and answered at a time


class Prediction(NamedTuple):
    label: str | None  # the likeliest; None for a regression
    probabilities: dict | None  # label → probability, in the order of the classes
    score: float | None  # a regression's number


def make_predictor(args, engine="auto"):
    """The Predictor that a script's flags ask for."""
    from precision import choose_precision
    from training import choose_device

    device = choose_device(args.device)
    precision = choose_precision(args.amp, args.amp_dtype, device, stored_model_type(shipped(args.model)))
    return Predictor(args.model, args.max_seq_length, args.batch_size, precision, engine)


def stored_model_type(folder):
    """One of classifiers.MODEL_TYPES. Raises InputError."""
    if not Path(folder).is_dir():
        raise InputError(f"{folder}: no such folder; run_glue.py makes one")
    model_type = read_json(Path(folder) / "config.json").get("model_type", "convbert")
    if model_type not in classifiers.MODEL_TYPES:
        known = ", ".join(classifiers.MODEL_TYPES)
        raise InputError(f"{folder}/config.json: a {model_type} model; known are {known}")
    return model_type


class Predictor:
    """A fine-tuned folder, or a program that export.py made of one, ready to answer.

    Args:
        folder: as run_glue.py, export.py, `save_pretrained` or Hugging Face made it.
        max_seq_length: longer texts are cut to this many tokens.
        precision: a precision.Precision; None: float32. Not for programs.
        engine: "auto", or a name of programs.ENGINES, which the folder must be for.

    Raises:
        InputError: no folder with weights or a program, vocabulary and a classifier.
    """

    def __init__(self, folder, max_seq_length=128, batch_size=32, precision=None, engine="auto"):
        from convert import resolve
        from precision import Precision

        folder = shipped(folder)
        self.model_type = stored_model_type(folder)
        note = programs.program_note(folder)
        own = note["engine"] if note else "dynamic"
        if engine not in ("auto", own):
            hint = "it holds a program for " + own if note else "export.py makes such a program"
            raise InputError(f"{folder}: not for --engine {engine}; {hint}")
        source = str(folder)
        if self.model_type == "convbert" and not note:
            source = resolve(source)
        count, names = stored_labels(source)
        labels = () if count == 1 else tuple(names or (f"LABEL_{index}" for index in range(count)))
        self.task = Task(str(folder), "", ("text",), "label", labels, "", ())
        self.tokenizer = load_tokenizer(self.model_type, source)
        if note:
            self.engine, longest = programs.ENGINES[own](folder), note["max_seq_length"]
        else:
            model = load_classifier(self.model_type, source, self.task, self.tokenizer, "nothing")
            self.engine, longest = (
                programs.Dynamic(model, precision or Precision()),
                model.config.max_position_embeddings,
            )
        self.batch_size, self.max_seq_length = batch_size, min(max_seq_length, longest)

    def logits(self, texts, pairs=None):
        """float32 [N, num_labels]; batches are of texts of similar length."""
        from training import batches_by_length

        examples = [Example(text, pair, None) for text, pair in zip(texts, pairs or [None] * len(texts), strict=True)]
        encoded = EncodedTexts(self.tokenizer, examples, self.max_seq_length)
        batches = batches_by_length(encoded.lengths, self.batch_size)
        return classifiers.predict_logits(self.engine, encoded, batches, self.task.num_labels)

    def __call__(self, texts, pairs=None):
        """One Prediction for each of the texts, or for each of the pairs of texts."""
        if not texts:
            return []
        logits = self.logits(texts, pairs)
        if self.task.is_regression:
            return [Prediction(None, None, float(value)) for value in logits[:, 0]]
        chances = classifiers.probabilities(logits)
        labels = self.task.labels
        return [
            Prediction(labels[row.argmax()], dict(zip(labels, map(float, row), strict=True)), None) for row in chances
        ]


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
    parser.add_argument("--max_seq_length", type=int, default=128, help="longer texts are cut to this many tokens")
    parser.add_argument("--batch_size", type=int, default=32, help="texts that are computed together")
    parser.add_argument(
        "--engine", choices=["auto", *programs.ENGINES], default="auto", help="what computes; auto: as the folder is"
    )
    parser.add_argument("--amp", choices=["O1", "O2"], help="matrix products in --amp_dtype")
    parser.add_argument("--amp_dtype", choices=["bfloat16", "float16"], default="bfloat16", help="type for --amp")
    parser.add_argument("--device", help="gpu, gpu:1, cpu or xpu; left out, gpu where there is one, else cpu")
    args = parser.parse_args(argv)
    if bool(args.texts) == bool(args.input_file):
        parser.error("give either texts or --input_file")
    if args.text_pair and len(args.text_pair) != len(args.texts):
        parser.error(f"--text_pair: {len(args.text_pair)} texts for {len(args.texts)}")
    for name in ("max_seq_length", "batch_size"):
        if getattr(args, name) < (3 if name == "max_seq_length" else 1):
            parser.error(f"--{name} is too small: {getattr(args, name)}")
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
        from explanation import explain
        from figures import draw_explanation

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
