"""Which columns of anyone's own table are the texts and the label: as named, stored with a model, or found."""

from files.errors import InputError
from tasks.labels import match

TEXT_COLUMNS = (  # what files call their text or texts, in the order in which they are looked for
    ("sentence1", "sentence2"), ("text", "text_pair"), ("text_a", "text_b"), ("text1", "text2"),
    ("sentence_a", "sentence_b"), ("question1", "question2"), ("#1 String", "#2 String"), ("string1", "string2"),
    ("premise", "hypothesis"), ("question", "sentence"), ("question", "passage"), ("question", "context"),
    ("question", "answer"), ("query", "title"), ("query", "passage"), ("query", "document"), ("claim", "evidence"),
    ("text",), ("sentence",), ("content",), ("review",), ("comment",), ("tweet",), ("title",),
)  # fmt: skip
SECOND = ("pair", "2", "b")  # what a second text's column may have after the name of the first one's
SECOND_COLUMNS = (  # what it may be called beside any first one, if there is one of them only
    "text_pair", "sentence_pair", "pair", "second_text", "second_sentence", "text2", "sentence2", "text_b",
    "sentence_b",
)  # fmt: skip
LABEL_COLUMNS = ("label", "labels", "gold_label", "class", "category", "sentiment", "target", "score")  # the same


def find_label(path, columns, name=None, required=True):
    """The column of the label: as named, or by its usual names, whose order decides.

    Raises InputError where there is none; not `required`: None then.
    """
    if name is not None:
        return named(path, columns, "--label_column", name)
    for usual in LABEL_COLUMNS:
        if (column := spelled(columns, usual)) is not None:
            return column
    if not required:
        return None
    raise InputError(f"{path}, line 1: which column is the label? Name it with --label_column: {', '.join(columns)}")


def find_labels(path, columns, label=None, stored=None):
    """The columns of the label, a tuple: as named, one name or a list; as `stored`; or find_label's. Raises InputError.

    Two that are named must differ.
    """
    if isinstance(label, (list, tuple)) and len(label) > 1:
        found = tuple(named(path, columns, "--label_column", name) for name in label)
        if len(set(found)) < len(found):
            raise InputError(f"--label_column: {', '.join(label)} names a column twice")
        return found
    if label is None and stored:
        names = stored if isinstance(stored, list) else [stored]
        if None not in (found := tuple(spelled(columns, str(name)) for name in names)):
            return found
    return (find_label(path, columns, label[0] if isinstance(label, (list, tuple)) else label),)


def find_texts(path, columns, text=None, text_pair=None, labels=(), stored=None):
    """The columns of the one or two texts: as named, as `stored`, by their usual names, or the only one besides labels.

    stored: the columns that a model was trained on, or None. Raises InputError.
    """
    if text or text_pair:
        if not text:
            raise InputError("--text_pair_column: needs --text_column too")
        flags = {"--text_column": text, "--text_pair_column": text_pair}
        return tuple(named(path, columns, flag, name) for flag, name in flags.items() if name)
    others = [column for column in columns if column not in labels] or columns
    for names in (*([stored] if stored else []), *TEXT_COLUMNS):
        found = [spelled(others, name) for name in names]
        if None not in found:
            if len(found) == 1 and names is not stored:
                found += second_column(others, found[0])
            return tuple(found)
    if len(others) != 1:
        names = ", ".join(others) or "there is none"
        raise InputError(f"{path}, line 1: which column is the text? Name it with --text_column: {names}")
    return (others[0],)


def second_column(columns, first):
    """The column of a second text beside the `first` one's, in a list that is empty if there is none for certain."""
    for names in ([f"{first}_{second}" for second in SECOND], SECOND_COLUMNS):
        found = dict.fromkeys(spelled(columns, name) for name in names)
        found = [column for column in found if column not in (None, first)]
        if found:
            return found[:1] if names is not SECOND_COLUMNS or len(found) == 1 else []
    return []


def named(path, columns, flag, name):
    column = spelled(columns, name)
    if column is None:
        raise InputError(f"{path}, line 1: no column {name!r} ({flag}); it has {', '.join(columns)}")
    return column


def spelled(columns, name):
    """The one of `columns` that is called `name`, in any case and with any separators; None if none is for certain."""
    index = match(name, tuple(columns))
    return None if index is None else columns[index]
