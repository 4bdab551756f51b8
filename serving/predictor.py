"""A fine-tuned folder, or a program made of one, ready to answer."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from files.downloads import shipped
from files.errors import InputError
from files.json_files import read_json_object
from layers.configuration import PROBLEM_TYPES, model_type_of
from tasks import classifiers, programs
from tasks.classifiers import EncodedTexts, load_classifier, load_tokenizer, stored_labels, stored_problem
from tasks.glue import Example, Task
from text.tokenizer_files import stored_length

ENOUGH = 0.5  # from above which a text has a label, where it may have any number of them


class NoNumber(InputError):
    """The model's weights, and not a text, are to blame."""


class Prediction(NamedTuple):
    """What holds for the kind of model; None elsewhere."""

    label: str | None = None  # the likeliest class
    labels: list | None = None  # where a text may have any number of them: those above 0.5
    probabilities: dict | None = None  # label → probability, in the order of the classes
    score: float | None = None  # a regression's number


def precision_of(args):
    """The Precision that a script's flags ask for, on the device that they ask for. Raises InputError."""
    from training.device import choose_device
    from training.precision import choose_inference

    if args.dtype and programs.program_note(shipped(args.model)):
        raise InputError(f"--dtype {args.dtype}: {args.model} holds a program, which computes as it was exported")
    return choose_inference(args.dtype, args.amp, args.amp_dtype, choose_device(args.device))


def make_predictor(args, engine="auto", independent=False):
    """The Predictor that a script's flags ask for."""
    precision = precision_of(args)
    return Predictor(
        args.model, args.max_seq_length, args.batch_size, precision, engine, args.split_special_tokens, independent
    )


def stored_model_type(folder):
    """One of classifiers.MODEL_TYPES. Raises InputError."""
    if not Path(folder).is_dir():
        raise InputError(f"{folder}: no such folder; run_glue.py makes one")
    model_type = model_type_of(read_json_object(Path(folder) / "config.json"))
    if model_type not in classifiers.MODEL_TYPES:
        known = ", ".join(classifiers.MODEL_TYPES)
        raise InputError(f"{folder}/config.json: a {model_type} model; known are {known}")
    return model_type


class Predictor:
    """A fine-tuned folder, or a program that export.py made of one, ready to answer.

    Args:
        folder: as run_glue.py, export.py, `save_pretrained` or Hugging Face made it.
        max_seq_length: longer texts are cut to this many tokens; None: to as many as in training, which the folder
            says, else to the model's positions.
        precision: a precision.Precision; None: float32, OwnInference. Not for programs.
        engine: "auto", or a name of programs.ENGINES, which the folder must be for.
        split_special_tokens: [SEP] and the like in a text are its own words, not the model's tokens, but tokens that
            were added to the vocabulary stay; None: as the folder says, which usually is not.
        independent: a text is answered as if it were alone, whatever it is computed with: a ConvBERT's convolutions do
            not read padding. Not for programs.

    Attributes:
        cut: how many texts were longer than max_seq_length so far.
        reads_padding, shares_scale: whether padding changes an answer; whether the other texts of a batch do, as in a
            program of 8-bit integers, which has one scale for the numbers of all of them.

    Raises:
        InputError: no folder with weights or a program, vocabulary and a classifier, or a head of no use here.
    """

    def __init__(
        self, folder, max_seq_length=None, batch_size=32, precision=None, engine="auto", split_special_tokens=None,
        independent=False,
    ):  # fmt: skip
        from conversion.sources import resolve
        from training.precision import OwnInference

        folder = shipped(folder)
        self.model_type = stored_model_type(folder)
        note = programs.program_note(folder)
        own = note["engine"] if note else "dynamic"
        if engine not in ("auto", own):
            hint = "it holds a program for " + own if note else "export.py makes such a program"
            raise InputError(f"{folder}: not for --engine {engine}; {hint}")
        source = str(folder) if note else resolve(str(folder), self.model_type)
        several, labels = _answers(folder, source)
        self.folder, self.task = folder, Task(str(folder), "", ("text",), "label", labels, "", (), several=several)
        self.tokenizer = load_tokenizer(self.model_type, source)
        if split_special_tokens:
            self.tokenizer.split_own_tokens()
        elif split_special_tokens is not None:
            self.tokenizer.split_special_tokens = False
        masking = {"mask_conv_padding": True} if independent and not note and self.model_type == "convbert" else {}
        if note:
            self.engine = programs.ENGINES[own](folder)
            usual = note["max_seq_length"]
            self.positions = note.get("max_position_embeddings", usual)
        else:
            model = load_classifier(self.model_type, source, self.task, self.tokenizer, "nothing", **masking)
            self.engine = programs.Dynamic(model, precision or OwnInference("float32"))
            self.positions = model.config.max_position_embeddings
            usual = stored_length(source) or self.positions
        config = read_json_object(Path(source) / "config.json") | masking
        self.reads_padding = self.model_type == "convbert" and not config.get("mask_conv_padding", False)
        self.shares_scale = bool(note) and note.get("precision") == "int8"
        self.batch_size, self.cut = batch_size, 0
        self.max_seq_length = min(max_seq_length or usual, self.positions)

    @property
    def labels(self):
        """The classes; none of a regression."""
        return self.task.labels

    def logits(self, texts, pairs=None):
        """float32 [N, num_labels]; batches are of texts of similar length. Raises NoNumber."""
        from training.order import batches_by_length

        examples = [Example(text, pair, None) for text, pair in zip(texts, pairs or [None] * len(texts), strict=True)]
        encoded = EncodedTexts(self.tokenizer, examples, self.max_seq_length)
        batches = batches_by_length(encoded.lengths, self.batch_size)
        logits = classifiers.predict_logits(self.engine, encoded, batches, self.task.num_labels)
        self.cut += encoded.cut
        if not (good := np.isfinite(logits).all(axis=1)).all():
            text = texts[int(good.argmin())]
            shown = repr(text if len(text) <= 40 else f"{text[:39]}…")
            raise NoNumber(f"{self.folder}: no number (NaN or infinity) comes out for {shown}; its weights are damaged")
        return logits

    def __call__(self, texts, pairs=None):
        """One Prediction for each of the texts, or for each of the pairs of texts."""
        return self.answers(self.logits(texts, pairs)) if texts else []

    def encode(self, texts, pairs=None):
        """Each text's, or pair's, inputs of the model, a dict of lists as long as its tokens. Raises InputError."""
        columns = self.tokenizer(texts, pairs, truncation=True, max_length=self.max_seq_length)
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def compute(self, rows):
        """float32 [B, num_labels] of encoded texts as one batch; to be called in a session of the engine."""
        return self.engine(self.tokenizer.pad(rows))

    def answers(self, logits):
        """The Prediction of each row."""
        if self.task.is_regression:
            return [Prediction(score=float(value)) for value in logits[:, 0]]
        found = []
        for row in classifiers.probabilities(logits, self.task.several):
            chances = dict(zip(self.task.labels, map(float, row), strict=True))
            if self.task.several:
                above = [label for label, chance in chances.items() if chance > ENOUGH]
                found.append(Prediction(labels=above, probabilities=chances))
            else:
                found.append(Prediction(label=self.task.labels[row.argmax()], probabilities=chances))
        return found


def _answers(folder, source):
    """Whether a text may have any number of labels; and the labels, none for a regression. Raises InputError."""
    where, problem, (count, names) = f"{folder}/config.json", stored_problem(source), stored_labels(source)
    if problem not in PROBLEM_TYPES:
        raise InputError(f"{where}: problem_type {problem!r} is unknown; known are {', '.join(PROBLEM_TYPES)}")
    if problem == "regression":
        if count > 1:
            raise InputError(f"{where}: a regression of {count} numbers; here a text gets one number, or labels")
        return False, ()
    several = problem == "multi_label_classification"
    if count == 1 and not several:
        raise InputError(f"{where}: problem_type is {problem!r}, but of one label, which is no choice")
    labels = tuple(names or (f"LABEL_{index}" for index in range(count)))
    return several, labels
