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
import select
import sys
from collections import deque
from pathlib import Path

import numpy as np

from files.atomic import atomic_file
from files.downloads import shipped
from files.errors import InputError
from flags.command_line import ArgumentParser, add_overwrite, is_picture, require_new, script
from flags.computing import add_inference
from serving.heads import HEADS, make_head
from serving.predictor import make_predictor
from tasks import programs
from tasks.classifiers import stored_columns
from tasks.heads import stored_head
from tasks.labelled_files import find_label, find_texts
from tasks.tables import READERS, read_rows

CHUNK = 4096  # texts that are read, sorted by length and answered at a time, if they are there
PATIENCE = 0.02  # seconds without a further line after which those that came are answered


# ------------------------------------------------------------------------------------------------------ texts, answers


def is_table(path):
    return path != "-" and Path(path).suffix.lower() in READERS


class ArrivingLines:
    """The lines of a file, a pipe or a terminal, as bytes, each as soon as it is there; "-" is standard input."""

    def __init__(self, path):
        try:
            self._file = open(path, "rb") if path != "-" else getattr(sys.stdin, "buffer", None)  # noqa: SIM115
        except OSError as error:
            raise InputError(f"{path}: can't be read ({error.strerror})") from None
        if self._file is None:
            raise InputError("standard input is closed; --input_file takes a file too")
        self._lines, self._begun, self._ended = deque(), [], False

    def __iter__(self):
        while self._lines or not self._ended:
            if self._lines:
                yield self._lines.popleft()
            else:
                self._read()

    def _read(self):
        block = self._file.read1(2**20)  # what is there, and no more than that
        *lines, rest = block.split(b"\n")
        for line in lines:
            self._lines.append(b"".join([*self._begun, line]))
            self._begun.clear()
        self._begun.append(rest)
        if not block:
            self._ended = True
            if any(self._begun):
                self._lines.append(b"".join(self._begun))

    def ready(self):
        """Whether another line, or the end, is there or comes at once."""
        while not (self._lines or self._ended):
            if not select.select([self._file], [], [], PATIENCE)[0]:
                return False
            self._read()
        return True


def read_texts(path, text_column=None, text_pair_column=None, lines=None, stored=None):
    """Yields (text, text_pair or None). Raises InputError.

    path: a file, or "-" for standard input; lines: its own, if it is no table and they were begun already; stored: the
    columns that the model was trained on, used where a table has them.
    """
    if is_table(path):
        rows = read_rows(path)
        label = find_label(path, rows.columns, required=False)
        wanted = find_texts(path, rows.columns, text_column, text_pair_column, label, stored)
        for line, values in rows:
            if missing := [column for column in wanted if column not in values]:
                raise InputError(f"{path}, line {line}: no {missing[0]!r}; there are {', '.join(values)}")
        notes = [f"text from {' and '.join(map(repr, wanted))}", *[rows.note] * bool(rows.note)]
        print(f"{path}: {'; '.join(notes)}", file=sys.stderr)
        for _, values in rows:
            yield (*(values[column] for column in wanted), None)[:2]
        return
    pairs = None
    for number, line in enumerate(lines or ArrivingLines(path), start=1):
        name = f"{'standard input' if path == '-' else path}, line {number}"
        try:
            texts = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n").split("\t")
        except UnicodeDecodeError:
            raise InputError(f"{name}: not UTF-8; convert the file") from None
        if len(texts) > 2 or (pairs is not None and pairs != (len(texts) == 2)):
            raise InputError(f"{name}: {len(texts)} texts between tabs; every line must have one, or every line two")
        pairs = len(texts) == 2
        yield (*texts, None)[:2]


def as_json(text, text_pair, prediction):
    """One line of JSON."""
    found = {"text": text} | ({} if text_pair is None else {"text_pair": text_pair})
    found |= {name: value for name, value in prediction._asdict().items() if value is not None}
    return json.dumps(found, ensure_ascii=False) + "\n"


def csv_header(predictor, pairs):
    labels = predictor.task.labels
    answers = ["score"]
    if labels:
        answers = ["labels" if predictor.has_several else "label", *(f"probability {label}" for label in labels)]
    return as_csv(["text", "text_pair"][: 1 + pairs] + answers)


def csv_cells(prediction):
    if prediction.score is not None:
        return [prediction.score]
    label = prediction.label if prediction.labels is None else "|".join(prediction.labels)
    return [label, *prediction.probabilities.values()]


def as_csv(cells):
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


def chunks(texts, ready):
    """Yields lists of up to CHUNK of an iterator's texts, shorter where `ready` says that the next one is not there."""
    for text in texts:
        chunk = [text]
        while len(chunk) < CHUNK and ready():
            if (text := next(texts, None)) is None:
                break
            chunk.append(text)
        yield chunk


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


def read_questions(path, lines):
    """Yields (id or None, question, context). Raises InputError."""
    from tasks.questions import Reading

    if path.lower().endswith(".json"):
        for question in Reading(path, unanswerable=True, labelled=False).questions:
            yield question.id, question.text, question.context
        return
    for where, record in json_records(path, lines):
        for name in ("question", "context"):
            if not isinstance(record.get(name), str):
                raise InputError(f"{where}: {name!r} must be a text; JSON lines of question and context are wanted")
        yield record.get("id"), record["question"], record["context"]


def read_untagged(path, lines):
    """Yields texts, and lists of words. Raises InputError."""
    if not path.lower().endswith(".jsonl"):
        yield from (text for text, _ in read_texts(path, lines=lines))
        return
    for where, record in json_records(path, lines):
        words = record.get("tokens", record.get("text"))
        if not isinstance(words, str) and not (
            isinstance(words, list) and words and all(isinstance(word, str) and word.strip() for word in words)
        ):
            raise InputError(f"{where}: 'tokens', a list of words, or 'text' is wanted")
        yield words


def json_records(path, lines):
    """(where, dict) of every line that is not empty."""
    for number, line in enumerate(lines, 1):
        where = f"{'standard input' if path == '-' else path}, line {number}"
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise InputError(f"{where}: not JSON ({getattr(error, 'msg', 'not UTF-8')})") from None
        if not isinstance(record, dict):
            raise InputError(f"{where}: must be a JSON object")
        yield where, record


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
    from training.device import choose_device
    from training.precision import choose_inference

    precision = choose_inference(args.dtype, args.amp, args.amp_dtype, choose_device(args.device))
    embedder = Embedder(args.model, args.embeddings, args.max_seq_length, args.batch_size, precision)
    whole = (args.output_file or "").lower().endswith(".npy")
    kept = [np.zeros([0, embedder.width], np.float32)]
    for chunk in chunks(iter(texts), ready):
        singles, seconds = zip(*chunk, strict=True)
        vectors = embedder(singles, None if seconds[0] is None else seconds)
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
