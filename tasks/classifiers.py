"""A classifier and its tokenizer, ConvBERT's or one of PaddleNLP's: loaded for a task, and what it says of texts."""

import tempfile
from pathlib import Path

import numpy as np

from files.downloads import shipped, zoo_file
from files.errors import InputError
from files.json_files import read_json

MODEL_TYPES = ("convbert", "bert", "electra", "ernie")


def load_tokenizer(model_type, source, vocab_file=None, do_lower_case=True):
    """`vocab_file`, else the folder's vocabulary, else that of the model zoo, or that comes with the project."""
    from tokenizer import ConvBertTokenizer

    if vocab_file:
        return ConvBertTokenizer(vocab_file, do_lower_case=do_lower_case)
    source = shipped(source)
    if Path(source).is_dir():
        return ConvBertTokenizer.from_pretrained(source)
    if model_type != "convbert":
        from conversion.paddlenlp_models import save_zoo_vocabulary

        with tempfile.TemporaryDirectory() as folder:
            save_zoo_vocabulary(model_type, source, folder)
            return ConvBertTokenizer.from_pretrained(folder)
    return ConvBertTokenizer(zoo_file(source, "vocab.txt"))


def load_classifier(model_type, source, task, tokenizer, start="head", **settings):
    """The classifier for a task.

    Args:
        source: a name or a folder.
        start: what begins at random: "everything", taking only the source's configuration; "head"; "misfit", the head
            unless there is one for this task's labels; "nothing".
        **settings: configuration fields of ConvBERT that shall differ from the source's.

    Raises:
        InputError: the source can't be had or does not fit the vocabulary; for "nothing", its head is none or another.
    """
    if start in ("misfit", "nothing"):
        labels = list(task.labels) or None
        count, names = stored_labels(source) if Path(source).is_dir() else (None, None)
        fits = (count, names or labels) == (task.num_labels, labels)  # a head without names may be for this task
        if start == "nothing" and not fits:
            found = "no head" if count is None else f"a head for {count} labels ({', '.join(names or ['unnamed'])})"
            wanted = f"labels {', '.join(labels)} in this order" if labels else "one number"
            raise InputError(f"{source}: {found}, but {task.name} needs {wanted}; train first")
        if not fits:
            start = "head"
    load = _load_convbert if model_type == "convbert" else _load_paddlenlp
    model = load(source, task, tokenizer, start, model_type=model_type, **settings)
    if len(tokenizer) > model.config.vocab_size:
        raise InputError(f"the vocabulary has {len(tokenizer)} entries, but {source} only {model.config.vocab_size}")
    return model


def _load_convbert(source, task, tokenizer, start, model_type, **settings):
    from modeling import ConvBertConfig, ConvBertForSequenceClassification

    settings |= dict(num_labels=task.num_labels, label_names=list(task.labels) or None)
    if start == "everything":
        settings |= dict(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
        return ConvBertForSequenceClassification(ConvBertConfig.from_pretrained(source, **settings))
    return ConvBertForSequenceClassification.from_pretrained(
        source, new_head=start == "head", whole=start == "nothing", **settings
    )


def _load_paddlenlp(source, task, tokenizer, start, model_type):
    from conversion.paddlenlp_models import load_paddlenlp_classifier

    return load_paddlenlp_classifier(model_type, source, task.labels or None, len(tokenizer), start)


def enable_recompute(model):
    """Has training keep only each layer's input and compute the rest again in backward."""
    if hasattr(model, "recompute_enable"):  # PaddleNLP's
        model.recompute_enable()
    else:
        model.enable_recompute()


def stored_labels(folder):
    """What a folder's config.json says of its head: the number of outputs, and their names, None if they have none."""
    config = read_json(Path(folder) / "config.json")
    names = [name for _, name in sorted((int(key), name) for key, name in (config.get("id2label") or {}).items())]
    count = len(names) or config.get("num_labels", config.get("num_classes", 2))
    return count, None if names == [f"LABEL_{index}" for index in range(len(names))] else names


# ---------------------------------------------------------------------------------------------------------- predicting


class EncodedTexts:
    """Examples, tokenised once: rows without padding, their lengths in tokens, and `labels` [N] if they have any."""

    def __init__(self, tokenizer, examples, max_length):
        pairs = [example.text_pair for example in examples] if examples[0].text_pair is not None else None
        self.tokenizer = tokenizer
        self.rows = tokenizer([example.text for example in examples], pairs, truncation=True, max_length=max_length)
        self.lengths = np.array([len(ids) for ids in self.rows["input_ids"]])
        labels = [example.label for example in examples]
        if labels[0] is not None:
            self.labels = np.array(labels, "float32" if isinstance(labels[0], float) else "int64")

    def __len__(self):
        return len(self.lengths)

    def arrays(self, indices):
        """The model's inputs for these examples, int64 [B, longest row]."""
        return self.tokenizer.pad({key: [values[index] for index in indices] for key, values in self.rows.items()})

    def inputs(self, indices):
        """The same as tensors."""
        import paddle

        return {key: paddle.to_tensor(array) for key, array in self.arrays(indices).items()}


def predict_logits(engine, texts, batches, num_labels):
    """Logits, float32 [N, num_labels]; rows of examples in none of the `batches`, arrays of indices, stay 0.

    engine: one of programs.ENGINES.
    """
    logits = np.zeros([len(texts), num_labels], np.float32)
    with engine.session():
        for indices in batches:
            logits[indices] = engine(texts.arrays(indices))
    return logits


def probabilities(logits):
    """Softmax over the classes: [N, C]."""
    from scipy.special import softmax

    return softmax(logits.astype(np.float64), axis=-1)


def predictions(task, logits):
    """Class indices [N], or the numbers of a regression."""
    return logits[:, 0] if task.is_regression else logits.argmax(axis=-1)


def losses(task, logits, labels):
    """What training minimises, for every example by itself, float64 [N]: squared error, or cross entropy."""
    from scipy.special import log_softmax

    if task.is_regression:
        return (logits[:, 0].astype(np.float64) - labels) ** 2
    return -log_softmax(logits.astype(np.float64), axis=-1)[np.arange(len(labels)), labels]
