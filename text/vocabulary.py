"""WordPiece vocabularies: reading them with every damage named, writing them, building one from text."""

import codecs
import re
import unicodedata
from collections import Counter

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from files.atomic import atomic_file
from files.errors import InputError
from files.json_files import read_json_object
from files.stand_ins import refuse_stand_in
from text.corpus import Lines, find_files, paragraphs

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def bert_normalizer(do_lower_case, strip_accents, tokenize_chinese_chars):
    return normalizers.BertNormalizer(True, tokenize_chinese_chars, strip_accents, do_lower_case)


def read_object(path):
    """A JSON object; an empty one when there is no such file."""
    return read_json_object(path) if path.exists() else {}


def read_vocabulary(path):
    """The tokens of a vocab.txt or tokenizer.json, in the order of their ids. Raises InputError."""
    tokens = _tokens_of_json(path) if path.suffix == ".json" else _tokens_of_lines(path)
    missing = " ".join(token for token in SPECIAL_TOKENS if token not in tokens)
    if missing:
        raise InputError(f"{path}: {missing} missing; a vocabulary must hold {' '.join(SPECIAL_TOKENS)}")
    return tokens


def _tokens_of_json(path):
    content = read_object(path)
    model, normalizer = content.get("model") or {}, content.get("normalizer") or {}
    ids = model.get("vocab")
    if (model.get("type"), normalizer.get("type")) != ("WordPiece", "BertNormalizer") or not isinstance(ids, dict):
        raise InputError(f"{path}: not a BERT tokenizer (a WordPiece model after a BertNormalizer)")
    if sorted(index for index in ids.values() if isinstance(index, int)) != list(range(len(ids))):
        raise InputError(f"{path}: the ids of its vocabulary must be 0 to {len(ids) - 1}, each once")
    return sorted(ids, key=ids.get)


def _tokens_of_lines(path):
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: can't be read as a vocabulary ({error.strerror})") from None
    refuse_stand_in(path, data)
    if not data:
        raise InputError(f"{path}: empty; a vocabulary has one token a line")
    if data.startswith(codecs.BOM_UTF8):
        raise InputError(f"{path}, line 1: starts with a byte-order mark; save the file without it")
    line_of = {}
    last = len(data.rstrip(b"\n").split(b"\n"))
    for number, line in enumerate(data.removesuffix(b"\n").split(b"\n"), 1):  # U+2028, a line end elsewhere, is a token
        where = f"{path}, line {number}"
        if b"\r" in line:
            raise InputError(f"{where}: holds a carriage return; save the file with LF line ends, not CRLF")
        keep = "its number is an id, so a line that goes shifts every id after it; leave all lines where they are and"
        if not line and number > last:
            raise InputError(f"{where}: empty, as is all that follows; remove the empty lines at the end")
        if not line:
            raise InputError(f"{where}: empty; {keep} write a name there that no text holds, like [empty{number}]")
        try:
            token = line.decode()
        except UnicodeDecodeError as error:
            raise InputError(f"{where}: byte 0x{line[error.start]:02x} is not UTF-8; save the file as UTF-8") from None
        if token in line_of:
            first = line_of[token]
            raise InputError(
                f"{where}: {token!r} is on line {first} already; {keep} write a name that no text holds, like "
                f"[repeat{first}], on line {first} (of two lines Hugging Face and BERT's own code take the later one)"
            )
        line_of[token] = number
    return list(line_of)


def doubts(tokens, do_lower_case, strip_accents):
    """What a vocabulary and the way that texts are normalised have against each other, in a sentence; None: nothing.

    Names in brackets, which stand for no text, don't count.
    """
    words = [token for token in tokens if not re.fullmatch(r"[\[<].+[\]>]", token)]
    capitals = sum(word != word.lower() for word in words)
    if do_lower_case and capitals:
        return (
            f"{capitals:,} of {len(tokens):,} tokens hold capitals and can never be reached, as texts are lower-cased; "
            "if that is not meant, take do_lower_case=False (--no-do_lower_case)"
        )
    if not do_lower_case and not capitals and any(word != word.upper() for word in words):
        return (
            "no token holds a capital, so that words with capitals are unknown, as texts are not lower-cased; if that "
            "is not meant, take do_lower_case=True (--do_lower_case)"
        )
    stripped = do_lower_case if strip_accents is None else strip_accents
    accents = sum(_without_accents(word) != word for word in words if not word.isascii())
    if stripped and accents:
        return (
            f"{accents:,} of {len(tokens):,} tokens hold accents or composed letters and can never be reached, as "
            "texts lose theirs; if that is not meant, take strip_accents=False (--no-strip_accents)"
        )
    return None


def _without_accents(word):
    return "".join(c for c in unicodedata.normalize("NFD", word) if unicodedata.category(c) != "Mn")


def save_vocabulary(tokens, path):
    """Writes one token a line, atomically."""
    with atomic_file(path) as file:
        file.write("".join(f"{token}\n" for token in tokens).encode())


def train_vocabulary(
    files,
    size,
    do_lower_case=True,
    strip_accents=None,
    tokenize_chinese_chars=True,
    limit_alphabet=1000,
    min_frequency=2,
):
    """Builds a WordPiece vocabulary from text: files, folders or patterns as `corpus` takes them, read twice.

    The same files always give the same vocabulary. The library's trainer alone doesn't: it numbers the characters
    inside words in the order of a randomly seeded hash map, and breaks ties by number. So the first pass collects the
    characters, and the second is given them with their numbers.

    Args:
        limit_alphabet: how many different characters are kept, the most frequent first.
        min_frequency: how often two neighbours must occur to become a token.

    Returns:
        list of str: special tokens ([PAD] is id 0), characters, then longer tokens in the order in which they were
        made; `size` in all, fewer when the text doesn't give so many.

    Raises:
        InputError: a file can't be read or isn't UTF-8 (file and line are named), or `size` is too small.
    """
    files = find_files(files)
    normalize = bert_normalizer(do_lower_case, strip_accents, tokenize_chinese_chars).normalize_str
    counts = Counter()

    def counted():
        for text in map(normalize, _paragraphs(files)):
            counts.update(text)
            yield text

    characters = _train(counted(), vocab_size=0)  # "a" and, when seen inside a word, "##a"
    kept = sorted((symbol for symbol in characters if len(symbol) == 1), key=lambda c: (-counts[c], c))[:limit_alphabet]
    first = [*SPECIAL_TOKENS, *sorted(symbol for symbol in characters if symbol[-1] in set(kept))]
    if size < len(first):
        raise InputError(
            f"size {size} is too small: special tokens and characters are {len(first)}; limit the alphabet"
        )
    lines, alphabet = map(normalize, _paragraphs(files)), {"initial_alphabet": kept, "limit_alphabet": len(kept)}
    return _train(lines, vocab_size=size, min_frequency=min_frequency, special_tokens=first, **alphabet)


def _train(lines, **options):
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.train_from_iterator(lines, trainers.WordPieceTrainer(show_progress=False, **options))
    vocabulary = backend.get_vocab()
    return sorted(vocabulary, key=vocabulary.get)


def _paragraphs(files):
    return (text for path in files for text in paragraphs(Lines(path)) if text is not None)
