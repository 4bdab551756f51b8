"""The folder of a tokenizer: as PaddleNLP and Hugging Face (4.x, 5.x) lay it out, and as all of them read ours."""

from pathlib import Path
from typing import NamedTuple

from files.atomic import atomic_file
from files.errors import InputError
from files.json_files import write_json
from text.vocabulary import SPECIAL_TOKENS, read_object, save_vocabulary

NO_LIMIT = 1e9  # Hugging Face writes 1e30 for a tokenizer without a longest text; ours is then 512, like the model's
ADDED_TOKEN_FLAGS = ("single_word", "lstrip", "rstrip", "normalized")


class AddedTokenEntry(NamedTuple):
    content: str
    special: bool
    flags: dict  # those of ADDED_TOKEN_FLAGS that are stored


def read_tokenizer(folder):
    """Reads a tokenizer's folder.

    Returns:
        Path: the vocabulary; dict: the other arguments of ConvBertTokenizer; dict: id → AddedTokenEntry, BERT's special
        tokens among them where the folder lists them.

    Raises:
        InputError: a damaged file, or special tokens that are not BERT's.
    """
    folder = Path(folder)
    config, saved = read_object(folder / "tokenizer_config.json"), read_object(folder / "tokenizer.json")
    for token in SPECIAL_TOKENS:
        spelled = config.get(f"{token[1:-1].lower()}_token", token)
        spelled = spelled.get("content") if isinstance(spelled, dict) else spelled
        if spelled != token:
            raise InputError(f"{folder / 'tokenizer_config.json'}: writes {token} as {spelled!r}; only {token} works")
    vocab_file = folder / "vocab.txt"
    if saved and not vocab_file.exists():
        vocab_file = folder / "tokenizer.json"
    switches, longest = saved.get("normalizer") or {}, config.get("model_max_length") or NO_LIMIT
    settings = {
        "do_lower_case": config.get("do_lower_case", switches.get("lowercase", True)),
        "strip_accents": config.get("strip_accents", switches.get("strip_accents")),
        "tokenize_chinese_chars": config.get("tokenize_chinese_chars", switches.get("handle_chinese_chars", True)),
        "model_max_length": longest if longest < NO_LIMIT else 512,
    }
    return vocab_file, settings, _added_tokens(folder, config, saved)


def _added_tokens(folder, config, saved):
    """Id → AddedTokenEntry, from the newest of the three places where they are kept."""
    if saved.get("added_tokens"):
        return {entry["id"]: _entry(entry) for entry in saved["added_tokens"]}
    if config.get("added_tokens_decoder"):
        return {int(index): _entry(entry) for index, entry in config["added_tokens_decoder"].items()}
    special = config.get("additional_special_tokens") or []
    special = special + read_object(folder / "special_tokens_map.json").get("additional_special_tokens", [])
    special = {entry["content"] if isinstance(entry, dict) else entry for entry in special}
    names = read_object(folder / "added_tokens.json")
    return {index: AddedTokenEntry(name, name in special, {}) for name, index in names.items()}


def _entry(fields):
    flags = {name: fields[name] for name in ADDED_TOKEN_FLAGS if name in fields}
    return AddedTokenEntry(fields["content"], fields.get("special", False), flags)


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
    added = backend.get_added_tokens_decoder()
    added = {index: token for index, token in sorted(added.items()) if token.content not in SPECIAL_TOKENS}
    if added:
        config["additional_special_tokens"] = [token.content for token in added.values() if token.special]
        names = {token.content: index for index, token in added.items() if index >= len(tokens)}
        write_json(folder / "added_tokens.json", names)
        with atomic_file(folder / "tokenizer.json") as file:
            file.write(backend.to_str(pretty=True).encode())
    save_vocabulary(tokens, folder / "vocab.txt")
    write_json(folder / "tokenizer_config.json", config | {"tokenizer_class": "ConvBertTokenizer"})
