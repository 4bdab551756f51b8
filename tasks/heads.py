"""Models with a head for every token, as answers and tags need: loaded from a folder, with a new head where needed."""

from pathlib import Path

from family.architectures import config_class, model_class
from files.errors import InputError
from files.json_files import read_json_object
from tasks.classifiers import require_type, stored_labels

KINDS = {"ForQuestionAnswering": "answers", "ForTokenClassification": "tags", "ForSequenceClassification": "texts"}


def stored_head(folder):
    """The kind of head in a folder, one of KINDS, by its config.json; None where it has none of these."""
    return next((kind for kind in KINDS if _named(folder).endswith(kind)), None)


def is_named(folder):
    """Whether a folder says what it holds, as older ones do not."""
    return bool(_named(folder))


def _named(folder):
    path = Path(folder) / "config.json"
    named = read_json_object(path).get("architectures") if path.is_file() else None
    return str(named[0]) if isinstance(named, list) and named else ""


def load_head(model_type, source, kind, tokenizer, start, labels=None, **settings):
    """A model with a head of one of KINDS.

    Args:
        source: a name or a folder.
        start: what begins at random: "everything", taking only the source's configuration; "head"; "misfit", the head
            unless the source has this one; "nothing".
        labels: names of the head's outputs; None: start and end of an answer.
        **settings: configuration fields that shall differ from the source's.

    Raises:
        InputError: the source can't be had or does not fit the vocabulary; for "nothing", its head is none or another.
    """
    require_type(model_type, source)
    model, configuration = model_class(model_type, kind), config_class(model_type)
    folder = Path(source).is_dir()
    if start in ("misfit", "nothing"):
        found = stored_head(source) if folder else None
        fits = found == kind and (labels is None or stored_labels(source)[1] == labels)
        if start == "nothing" and not fits:
            has = "no head" if found is None else f"a head for {KINDS[found]}"
            if found == kind:
                has = f"the tags {', '.join(stored_labels(source)[1] or ['unnamed'])}"
            raise InputError(f"{source}: {has}, which can't give {', '.join(labels or [KINDS[kind]])}; train first")
        if not fits:
            start = "head"
    settings |= dict(num_labels=len(labels or (0, 1)), label_names=labels)
    if start != "nothing":
        settings["problem_type"] = None
    if start == "everything":
        settings |= dict(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
        loaded = model(configuration.from_pretrained(source, **settings))
    else:
        loaded = model.from_pretrained(source, new_head=start == "head", whole=start == "nothing", **settings)
    if len(tokenizer) > loaded.config.vocab_size:
        raise InputError(f"the vocabulary has {len(tokenizer)} entries, but {source} only {loaded.config.vocab_size}")
    return loaded
