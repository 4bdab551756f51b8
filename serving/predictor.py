"""A fine-tuned folder, or a program made of one, ready to answer."""

from pathlib import Path
from typing import NamedTuple

from files.downloads import shipped
from files.errors import InputError
from files.json_files import read_json
from tasks import classifiers, programs
from tasks.classifiers import EncodedTexts, load_classifier, load_tokenizer, stored_labels
from tasks.glue import Example, Task


class Prediction(NamedTuple):
    label: str | None  # the likeliest; None for a regression
    probabilities: dict | None  # label → probability, in the order of the classes
    score: float | None  # a regression's number


def make_predictor(args, engine="auto"):
    """The Predictor that a script's flags ask for."""
    from training.device import choose_device
    from training.precision import choose_precision

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
        from conversion.sources import resolve
        from training.precision import Precision

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
        from training.order import batches_by_length

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
