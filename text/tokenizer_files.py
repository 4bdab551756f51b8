"""The folder of a tokenizer: as PaddleNLP and Hugging Face (4.x, 5.x) lay it out, and as all of them read ours."""

import logging
from pathlib import Path
from typing import NamedTuple

from files.atomic import atomic_file
from files.errors import InputError
from files.json_files import write_json
from text.vocabulary import SPECIAL_TOKENS, read_object, read_vocabulary, save_vocabulary

logger = logging.getLogger("convbert")

SHORTEST = 3  # tokens of a text: [CLS], one of it, [SEP]
SWITCHES = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True}  # None: as do_lower_case
NORMALIZER_NAMES = {  # of the switches in tokenizer.json
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
PADDING = 127  # entries at most that a model has more than there are tokens; of a large one 1 %
NO_LIMIT = 1e9  # Hugging Face writes 1e30 for a tokenizer without a longest text; ours is then 512, like the model's
ADDED_TOKEN_FLAGS = ("single_word", "lstrip", "rstrip", "normalized")
NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class AddedTokenEntry(NamedTuple):
    content: str
    special: bool
    flags: dict  # those of ADDED_TOKEN_FLAGS that are stored


def stored_length(folder):
    """The longest text, in tokens, that a folder's tokenizer is for, as run_glue.py stores it; None: not said.

    Raises InputError.
    """
    path = Path(folder) / "tokenizer_config.json"
    config = read_object(path)
    longest = config.get("model_max_length", config.get("max_len"))  # Hugging Face's old name
    if not longest:
        return None
    if isinstance(longest, bool) or not isinstance(longest, (int, float)) or not longest >= SHORTEST:
        raise InputError(f"{path}: model_max_length is {longest!r}, not a number of tokens from {SHORTEST} on")
    return int(longest) if longest < NO_LIMIT else None


def read_tokenizer(folder, **given):
    """Reads a tokenizer's folder.

    Args:
        given: those of SWITCHES that are not None count instead of the folder's.

    Returns:
        Path: the vocabulary; dict: the other arguments of ConvBertTokenizer; dict: id → AddedTokenEntry, BERT's special
        tokens among them where the folder lists them; list: AddedTokenEntry of the special tokens that have a name
        only, and the id of their line in the vocabulary or the next that is free.

    Raises:
        InputError: a damaged file, or special tokens that are not BERT's.
    """
    folder = Path(folder)
    vocab_file = folder / "vocab.txt"
    config, saved = read_object(folder / "tokenizer_config.json"), read_object(folder / "tokenizer.json")
    if saved and not vocab_file.exists():
        vocab_file = folder / "tokenizer.json"
    ids = (saved.get("model") or {}).get("vocab")
    if ids and vocab_file.name == "vocab.txt" and ids != {t: i for i, t in enumerate(read_vocabulary(vocab_file))}:
        raise InputError(f"{vocab_file}: not the vocabulary of tokenizer.json beside it; remove the one that is wrong")
    added, declared = _added_tokens(folder, config, saved)
    _say_if_cut(vocab_file, added)
    settings = _choose(vocab_file, stored_switches(vocab_file), given)
    settings["model_max_length"] = stored_length(folder) or 512
    settings |= _read_bools(folder / "tokenizer_config.json", config, split_special_tokens="split_special_tokens")
    return vocab_file, settings, added, declared


def _say_if_cut(vocab_file, added):
    """Warns where a vocabulary with its added tokens is smaller than the model beside it.

    Models have a few entries more than tokens: up to the next multiple of 8, 64, 128.
    """
    size = read_object(vocab_file.with_name("config.json")).get("vocab_size")
    if not isinstance(size, int) or not vocab_file.exists():
        return
    count = len(set(range(len(read_vocabulary(vocab_file)))) | added.keys())
    told = f"{vocab_file}: {count:,} tokens, but config.json beside it says vocab_size {size:,}"
    if size - count > max(PADDING, size // 100):
        logger.warning("%s; is the file cut off, or another model's?", told)
    elif size > count and size % 8:
        logger.warning("%s; is it whole?", told)


def switches_file(vocab_file):
    """Where a vocabulary's switches stand: beside it, for vocab.txt as Hugging Face has it, else by its own name."""
    own = "" if vocab_file.name in ("vocab.txt", "tokenizer.json") else f"{vocab_file.name}."
    return vocab_file.with_name(f"{own}tokenizer_config.json")


def stored_switches(vocab_file):
    """What is said beside a vocabulary of how its texts are normalised: those of SWITCHES. Raises InputError."""
    vocab_file = Path(vocab_file)
    path, stored = switches_file(vocab_file), {}
    if path.name == "tokenizer_config.json" or vocab_file.suffix == ".json":
        saved = vocab_file if vocab_file.suffix == ".json" else vocab_file.with_name("tokenizer.json")
        stored = _read_bools(saved, read_object(saved).get("normalizer") or {}, **NORMALIZER_NAMES)
    return stored | _read_bools(path, read_object(path), **{name: name for name in SWITCHES})


def _read_bools(path, content, **names):
    """Those of `names`, ours → the file's, that are there."""
    found = {own: content[name] for own, name in names.items() if name in content}
    for own, value in found.items():
        if not isinstance(value, bool) and not (value is None and own == "strip_accents"):
            raise InputError(f"{path}: {names[own]} is {value!r}; write true or false")
    return found


def choose_switches(vocab_file, **given):
    """All of SWITCHES for a vocabulary: `given` unless None, else those beside it, else the default.

    A contradiction or a guess is said in a line.
    """
    stored = stored_switches(vocab_file)
    chosen = _choose(vocab_file, stored, given)
    guessed = [f"{name} {chosen[name]}" for name in given if given[name] is None and SWITCHES[name] is not None]
    if guessed and not stored and Path(vocab_file).is_file():
        logger.warning(
            "%s: no %s beside it says how its texts are normalised; taken: %s; flags of these names decide otherwise",
            vocab_file, switches_file(Path(vocab_file)).name, ", ".join(guessed),
        )  # fmt: skip
    return chosen


def _choose(where, stored, given):
    given = {name: value for name, value in given.items() if value is not None}
    before, chosen = SWITCHES | stored, SWITCHES | stored | given
    for name in [name for name in given if name in stored]:
        said, asked = (s["do_lower_case"] if s[name] is None else s[name] for s in (before, chosen))
        if asked != said:
            logger.warning("%s: made for %s %s, but used with %s, as asked", where, name, said, asked)
    return chosen


def write_switches(vocab_file, switches):
    """Writes SWITCHES beside a vocabulary, for vocab.txt so that Hugging Face reads the folder."""
    write_json(switches_file(vocab_file), switches | {"tokenizer_class": "ConvBertTokenizer"})


def _added_tokens(folder, config, saved):
    """Id → AddedTokenEntry, and those without an id, from all the places where Hugging Face looks for them.

    With an added_tokens_decoder it reads neither added_tokens.json nor special_tokens_map.json. Of an id that is in
    several places the last counts: added_tokens.json, tokenizer.json, added_tokens_decoder.
    """
    decoder = _list_or_dict(folder / "tokenizer_config.json", config, "added_tokens_decoder", dict)
    contents, numbered = {folder / "tokenizer_config.json": config}, []
    if "added_tokens_decoder" not in config:
        path = folder / "special_tokens_map.json"
        contents[path] = read_object(path)
        path = folder / "added_tokens.json"
        numbered += [(path, index, content) for content, index in read_object(path).items()]
    path = folder / "tokenizer.json"
    for fields in _list_or_dict(path, saved, "added_tokens", list):
        numbered.append((path, fields.get("id") if isinstance(fields, dict) else None, fields))
    path = folder / "tokenizer_config.json"
    numbered += [(path, int(index) if index.isdecimal() else index, fields) for index, fields in decoder.items()]

    declared, entries = _declared_tokens(contents), {}
    for path, index, fields in numbered:
        if not isinstance(index, int):
            raise InputError(f"{path}: {index!r}, for the added token {fields!r}, is not an id")
        entry = _entry(path, fields)
        entries[index] = entry._replace(special=entry.special or entry.content in declared)
    known = {entry.content for entry in entries.values()}
    return entries, [entry for content, entry in declared.items() if content not in known]


def _declared_tokens(contents):
    """Content → AddedTokenEntry of the special tokens that are called so by name; path → what this JSON file holds."""
    named, others = {}, []
    for path, content in contents.items():
        named |= {name: (path, content[name]) for name in NAMED_TOKENS if content.get(name)}
        others += [(path, fields) for fields in _list_or_dict(path, content, "additional_special_tokens", list)]
        extra = _list_or_dict(path, content, "extra_special_tokens", list, dict)  # Hugging Face 5.x, and 4.x
        others += [(path, fields) for fields in (extra.values() if isinstance(extra, dict) else extra)]
    for token in SPECIAL_TOKENS:
        path, fields = named.get(f"{token[1:-1].lower()}_token", (None, token))
        spelled = fields.get("content") if isinstance(fields, dict) else fields
        if spelled != token:
            raise InputError(f"{path}: writes {token} as {spelled!r}; only {token} works")
    entries = {}
    for path, fields in [*(named[name] for name in NAMED_TOKENS if name in named), *others]:
        entry = _entry(path, fields)
        entries.setdefault(entry.content, entry._replace(special=True))
    return entries


def _list_or_dict(path, content, name, *kinds):
    found = content.get(name)
    if found is not None and not isinstance(found, kinds):
        raise InputError(f"{path}: {name} is {found!r}, not a JSON {'object' if kinds[-1] is dict else 'list'}")
    return found or kinds[0]()


def _entry(path, fields):
    """An AddedTokenEntry of what a JSON file holds: a dict, or the token alone."""
    if isinstance(fields, str):
        return AddedTokenEntry(fields, False, {})
    if not isinstance(fields, dict) or not isinstance(fields.get("content"), str):
        raise InputError(f"{path}: {fields!r} is not an added token: neither a text nor an object with a content")
    special = fields.get("special", False)
    flags = {name: fields[name] for name in ADDED_TOKEN_FLAGS if name in fields}
    return AddedTokenEntry(fields["content"], special, flags)


def write_tokenizer(folder, tokens, settings, backend):
    """Writes vocab.txt and tokenizer_config.json, which Hugging Face 4.55 and 5.x and PaddleNLP read too.

    Added tokens go to tokenizer.json (which Hugging Face reads) and added_tokens.json (which PaddleNLP reads).

    Args:
        tokens: the vocabulary, in the order of ids.
        settings: as from read_tokenizer.
        backend: the `tokenizers.Tokenizer`, which knows the added tokens.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = {f"{token[1:-1].lower()}_token": token for token in SPECIAL_TOKENS} | settings
    for stale in ("tokenizer.json", "added_tokens.json", "special_tokens_map.json"):
        (folder / stale).unlink(missing_ok=True)
    found = sorted(backend.get_added_tokens_decoder().items())
    added = {index: token for index, token in found if token.content not in SPECIAL_TOKENS}
    own_ways = any(getattr(token, flag) for _, token in found for flag in ADDED_TOKEN_FLAGS)  # of "[MASK]", say
    if added:
        config["additional_special_tokens"] = [token.content for token in added.values() if token.special]
        names = {token.content: index for index, token in added.items() if index >= len(tokens)}
        write_json(folder / "added_tokens.json", names)
    if added or own_ways:
        with atomic_file(folder / "tokenizer.json") as file:
            file.write(backend.to_str(pretty=True).encode())
    save_vocabulary(tokens, folder / "vocab.txt")
    write_json(folder / "tokenizer_config.json", config | {"tokenizer_class": "ConvBertTokenizer"})
