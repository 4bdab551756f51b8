"""A classifier of any architecture and its tokenizer: loaded for a task, and what it says of texts."""

from pathlib import Path

import numpy as np

from family.architectures import MODEL_TYPES, config_class, model_class
from family.configurations import PRESETS
from files.downloads import shipped, zoo_file
from files.errors import InputError
from files.json_files import read_json_object
from layers.configuration import PROBLEM_TYPES, label_names, model_type_of, with_article
from tasks.token_rows import TokenRows

ENCODED_AT_ONCE = 1024  # texts of which Python lists exist at a time


def load_tokenizer(
    model_type, source, vocab_file=None, do_lower_case=None, strip_accents=None, tokenize_chinese_chars=None
):
    """`vocab_file`, else the folder's vocabulary, else that of the model zoo, or that comes with the project.

    do_lower_case, strip_accents, tokenize_chinese_chars: None means as stored with the vocabulary.
    """
    from text.tokenizer_files import choose_switches
    from tokenizer import ConvBertTokenizer

    switches = dict(
        do_lower_case=do_lower_case, strip_accents=strip_accents, tokenize_chinese_chars=tokenize_chinese_chars
    )
    if vocab_file:
        return ConvBertTokenizer(vocab_file, **choose_switches(vocab_file, **switches))
    source = shipped(source)
    if Path(source).is_dir():
        return ConvBertTokenizer.from_pretrained(source, **switches)
    if model_type != "convbert":
        from conversion.sources import zoo_folder

        return ConvBertTokenizer.from_pretrained(zoo_folder(source, model_type, weights=False), **switches)
    switches = {name: value for name, value in switches.items() if value is not None}
    return ConvBertTokenizer(zoo_file(source, "vocab.txt"), **switches)


def load_classifier(model_type, source, task, tokenizer, start="head", **settings):
    """The classifier for a task.

    Args:
        source: a name or a folder.
        start: what begins at random: "everything", taking only the source's configuration; "head"; "misfit", the head
            unless there is one for this task's labels; "nothing".
        **settings: configuration fields that shall differ from the source's.

    Raises:
        InputError: the source can't be had or does not fit the vocabulary; for "nothing", its head is none or another.
    """
    require_type(model_type, source)
    if start in ("misfit", "nothing"):
        labels = list(task.labels) or None
        count, names = stored_labels(source) if Path(source).is_dir() else (None, None)
        fits = count == task.num_labels and (not labels or names is None or task.in_order(names) is task)
        fits = fits and stored_problem(source) == task.problem
        if start == "nothing" and not fits:
            found = "no head" if count is None else f"a head for {count} labels ({', '.join(names or ['unnamed'])})"
            if count is not None and stored_problem(source) == "multi_label_classification":
                found += ", any number of them for a text"
            wanted = f"labels {', '.join(labels)} in this order" if labels else "one number"
            wanted = f"any number of {wanted}" if task.several else wanted
            raise InputError(f"{source}: {found}, but {task.name} needs {wanted}; train first")
        if not fits:
            start = "head"
    model = _load(model_type, source, task, tokenizer, start, **settings)
    if len(tokenizer) > model.config.vocab_size:
        raise InputError(f"the vocabulary has {len(tokenizer)} entries, but {source} only {model.config.vocab_size}")
    if task.is_pair and model.config.type_vocab_size < 2:
        raise InputError(f"{source}: knows no second text (type_vocab_size is 1), and {task.name} has pairs")
    return model


def require_type(model_type, source):
    """Raises InputError where a published model, or a folder by what it says, is of another type."""
    path = Path(source) / "config.json"
    content = read_json_object(path) if path.is_file() else {}
    stated, where = model_type_of(content, model_type), path
    if source in PRESETS and not Path(source).is_dir():
        stated, where = PRESETS[source].model_type, source
    if stated.lower() != model_type:
        advice = f"; take --model_type {stated.lower()}" if stated.lower() in MODEL_TYPES else ""
        raise InputError(f"{where}: a {stated} model, not {with_article(config_class(model_type).title)}{advice}")


def _load(model_type, source, task, tokenizer, start, **settings):
    classifier, configuration = model_class(model_type, "ForSequenceClassification"), config_class(model_type)
    settings |= dict(num_labels=task.num_labels, label_names=list(task.names) or None)
    if start != "nothing":
        settings["problem_type"] = task.problem if task.several else None  # else told by the number of labels
    if start == "everything":
        settings |= dict(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
        if classifier.needs_pooler:
            settings |= configuration.of_pooler(True)
        return classifier(configuration.from_pretrained(source, **settings))
    return classifier.from_pretrained(source, new_head=start == "head", whole=start == "nothing", **settings)


def stored_labels(folder):
    """What a folder's config.json says of its head: the number of outputs, and their names, None if they have none."""
    config = read_json_object(Path(folder) / "config.json")
    names = label_names(config)
    count = len(names) or config.get("num_labels", config.get("num_classes", 2))
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise InputError(f"{folder}/config.json: num_labels must be a whole number from 1, not {count!r}")
    return count, None if names == [f"LABEL_{index}" for index in range(len(names))] else names


def stored_columns(folder):
    """The columns of the table that a folder's model was trained on, {"text": [one or two], "label": …}, or None."""
    columns = read_json_object(Path(folder) / "config.json").get("data_columns")
    texts = columns.get("text") if isinstance(columns, dict) else None
    return columns if isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts) else None


def stored_problem(folder):
    """What a folder's config.json says that its head answers, one of layers.configuration.PROBLEM_TYPES, if any."""
    problem = read_json_object(Path(folder) / "config.json").get("problem_type")
    return problem or ("regression" if stored_labels(folder)[0] == 1 else "single_label_classification")


def require_known_problem(source, trains):
    """Raises InputError where a folder's head can't be trained, or scored, here."""
    if not (Path(source) / "config.json").is_file():
        return
    problem, (count, _) = stored_problem(source), stored_labels(source)
    if problem not in PROBLEM_TYPES:
        known = ", ".join(PROBLEM_TYPES)
        raise InputError(f"{source}/config.json: problem_type {problem!r} is unknown; known are {known}")
    if problem == "regression" and count > 1 and not trains:
        raise InputError(
            f"{source}/config.json: a regression of {count} numbers; here a text gets one number, or a label"
        )


# ---------------------------------------------------------------------------------------------------------- predicting


class EncodedTexts(TokenRows):
    """Examples, tokenised once: how many were `cut`, and `labels` [N], or [N, C] of several, if they have any."""

    def __init__(self, tokenizer, examples, max_length):
        self.cut, self._max_length = 0, max_length
        super().__init__(tokenizer, self._chunks(examples))
        if (label := examples[0].label) is not None:
            kind = np.int64 if isinstance(label, int) else np.float32
            self.labels = np.array([example.label for example in examples], kind)

    def _chunks(self, examples):
        for start in range(0, len(examples), ENCODED_AT_ONCE):
            some = examples[start : start + ENCODED_AT_ONCE]
            columns = self._encode(some, self._max_length)
            rows = zip(some, columns["input_ids"], strict=True)
            full = [example for example, row in rows if len(row) == self._max_length]
            self.cut += sum(
                len(row) > self._max_length for row in self._encode(full, self._max_length + 1)["input_ids"]
            )
            yield columns

    def _encode(self, examples, length):
        pairs = None if not examples or examples[0].text_pair is None else [e.text_pair for e in examples]
        return self.tokenizer([e.text for e in examples], pairs, truncation=True, max_length=length)


def predict_logits(engine, texts, batches, num_labels):
    """Logits, float32 [N, num_labels]; rows of examples in none of the `batches`, arrays of indices, stay 0.

    engine: one of programs.ENGINES.
    """
    logits = np.zeros([len(texts), num_labels], np.float32)
    with engine.session():
        for indices in batches:
            logits[indices] = engine(texts.arrays(indices))
    return logits


def probabilities(logits, several=False):
    """Softmax over the classes: [N, C]; `several`: the sigmoid of each, where a text may have any number of labels."""
    from scipy.special import expit, softmax

    logits = logits.astype(np.float64)
    return expit(logits) if several else softmax(logits, axis=-1)


def predictions(task, logits):
    """Class indices [N], or the numbers of a regression, or 1 for each of several labels that a text has: [N, C]."""
    if task.several:
        return (logits > 0).astype(np.int64)  # a probability above 0.5
    return logits[:, 0] if task.is_regression else logits.argmax(axis=-1)
