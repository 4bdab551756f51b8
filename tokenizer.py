"""ConvBERT's tokenizer: WordPiece on the `tokenizers` library, and the building of a new vocabulary.

Ids, offsets and truncation are those of Hugging Face's fast tokenizer (4.55 and 5.x). PaddleNLP's ids differ where a
symbol touches a letter or another symbol ("10€", "😀😀") and for characters that one side's Unicode tables don't know.
"""

import argparse
import copy
import json
import logging
import sys
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from files.errors import InputError
from flags.command_line import ArgumentParser, add_overwrite, require_new, script
from text.corpus import find_files
from text.tokenizer_files import SWITCHES, read_tokenizer, switches_file, write_switches, write_tokenizer
from text.vocabulary import SPECIAL_TOKENS, bert_normalizer, doubts, read_vocabulary, save_vocabulary, train_vocabulary

logger = logging.getLogger("convbert")

CLEAN_UP = {" .": ".", " ?": "?", " !": "!", " ,": ",", " ' ": "'"}
CLEAN_UP |= {f" {ending}": ending for ending in ("n't", "'m", "'s", "'ve", "'re")}


class ConvBertTokenizer:
    """Text to ids and back. Threads may share one, as long as none of them adds tokens.

    Args:
        vocab_file: one token a line, in the order of ids; or a Hugging Face tokenizer.json with such a vocabulary.
        strip_accents: None means as do_lower_case.
        model_max_length: what max_length is when a call doesn't say.
        split_special_tokens: whether "[SEP]", "[MASK]" and the like inside a text are split as any text is. By default
            they become the model's own tokens, as in Hugging Face: whoever writes a text can end it, or mask a word.
            BERT's and ELECTRA's own code splits them; run_pretrain.py does too, and serve.py unless told not to.

    Raises:
        InputError: a damaged vocabulary; the message names file and line.
    """

    def __init__(
        self,
        vocab_file,
        do_lower_case=True,
        strip_accents=None,
        tokenize_chinese_chars=True,
        model_max_length=512,
        split_special_tokens=False,
    ):
        self._tokens = read_vocabulary(Path(vocab_file))
        if doubt := doubts(self._tokens, do_lower_case, strip_accents):
            logger.warning("%s: %s", vocab_file, doubt)
        self.do_lower_case, self.strip_accents = do_lower_case, strip_accents
        self.tokenize_chinese_chars, self.model_max_length = tokenize_chinese_chars, model_max_length
        self.split_special_tokens, self._splitting = split_special_tokens, None
        ids = {token: index for index, token in enumerate(self._tokens)}
        self.pad_token_id, self.unk_token_id, self.cls_token_id, self.sep_token_id, self.mask_token_id = (
            ids[token] for token in SPECIAL_TOKENS
        )
        self._backend = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
        self._backend.normalizer = bert_normalizer(do_lower_case, strip_accents, tokenize_chinese_chars)
        self._backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self._backend.decoder = decoders.WordPiece()
        self._backend.post_processor = processors.TemplateProcessing(  # not used here; for readers of tokenizer.json
            single="[CLS]:0 $A:0 [SEP]:0",
            pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
            special_tokens=[("[CLS]", self.cls_token_id), ("[SEP]", self.sep_token_id)],
        )
        self._backend.add_special_tokens(list(SPECIAL_TOKENS))

    # -------------------------------------------------------------------------------------------------------- folders

    @classmethod
    def from_pretrained(cls, folder, do_lower_case=None, strip_accents=None, tokenize_chinese_chars=None):
        """Reads a folder of ours, PaddleNLP's or Hugging Face's (4.x, 5.x), added and special tokens included.

        Args:
            do_lower_case, strip_accents, tokenize_chinese_chars: None means as the folder says.

        Raises:
            InputError: no vocabulary, a damaged file, or special tokens that are not BERT's.
        """
        switches = dict(zip(SWITCHES, (do_lower_case, strip_accents, tokenize_chinese_chars), strict=True))
        vocab_file, settings, added, declared = read_tokenizer(folder, **switches)
        tokenizer = cls(vocab_file, **settings)
        for index, (token, special, flags) in sorted(added.items()):
            tokenizer.add_tokens([token], special, **flags)
            if tokenizer._backend.token_to_id(token) != index:
                raise InputError(f"{folder}: id {index} can't be given to the added token {token!r}")
        for token, special, flags in declared:
            tokenizer.add_tokens([token], special, **flags)
        return tokenizer

    def save_pretrained(self, folder):
        """Writes a folder that Hugging Face 4.55 and 5.x and PaddleNLP read too, added tokens included."""
        names = [*SWITCHES, "model_max_length", *["split_special_tokens"] * self.split_special_tokens]
        write_tokenizer(folder, self._tokens, {name: getattr(self, name) for name in names}, self._backend)

    # ------------------------------------------------------------------------------------------------------- encoding

    def __call__(
        self,
        text,
        text_pair=None,
        add_special_tokens=True,
        padding=False,
        truncation=False,
        max_length=None,
        is_split_into_words=False,
        return_attention_mask=True,
        return_offsets_mapping=False,
        return_special_tokens_mask=False,
        split_special_tokens=None,
        stride=0,
        return_overflowing_tokens=False,
        return_word_ids=False,
        return_sequence_ids=False,
    ):
        """Encodes one text (a str; with is_split_into_words a list of words) or a list of texts, alone or in pairs.

        Args:
            text: a list's members may be pairs themselves: lists or tuples of two texts.
            text_pair: the second text, or a list of them.
            split_special_tokens: None means as the tokenizer's own.
            padding: False, True or "longest" (of this call), "max_length".
            truncation: False, True or "longest_first", "only_first", "only_second".
            max_length: counts special tokens; is for truncation and padding="max_length", and nothing without them.
            return_offsets_mapping: each token's start and end in its text, or in its word when split into words.
            return_overflowing_tokens: what truncation cuts off follows as further rows, windows of the same text;
                `overflow_to_sample_mapping` says of which. One text gives a batch then, too.
            stride: how many tokens of a window the next one begins with.

        Returns:
            dict of lists (for a batch, of lists of lists): input_ids, token_type_ids and, if asked for, attention_mask,
            offset_mapping, special_tokens_mask (1 for [CLS], [SEP], [PAD] put here, 0 for those in the text), word_ids
            (the number of a token's word in its text), sequence_ids (0, or 1 in the second text); the last two are None
            for what was put here. overflow_to_sample_mapping is one list.

        Raises:
            InputError: an argument that can't be used, or a text that can't be cut to max_length.
        """
        truncation = "longest_first" if truncation is True else truncation or None
        padding = "longest" if padding is True else padding or None
        if truncation not in (None, "longest_first", "only_first", "only_second"):
            raise InputError(f"truncation={truncation!r}: take True, False, longest_first, only_first or only_second")
        if padding not in (None, "longest", "max_length"):
            raise InputError(f"padding={padding!r}: take True, False, longest or max_length")
        if stride < 0:
            raise InputError(f"stride={stride}: take a number of tokens from 0")
        one = not isinstance(text, (list, tuple)) or (
            is_split_into_words and all(isinstance(word, str) for word in text)
        )
        pairs = [text_pair] if one and text_pair is not None else text_pair
        texts = _examples([text] if one else text, pairs, is_split_into_words)
        flat = [part for parts in texts for part in parts]
        details = return_offsets_mapping or return_overflowing_tokens or return_word_ids
        split = self.split_special_tokens if split_special_tokens is None else split_special_tokens
        encodings = iter(self._encode(flat, is_split_into_words, details, split))
        limit = self.model_max_length if max_length is None else max_length
        examples = []  # of each one: its one or two encodings, and how many tokens of each are kept
        for index, parts in enumerate([next(encodings) for _ in parts] for parts in texts):
            lengths = [len(part) for part in parts]
            room = limit - self.num_special_tokens_to_add(len(parts) == 2) if add_special_tokens else limit
            if truncation and sum(lengths) > room:
                lengths = _shortened(lengths, room, truncation)
                if lengths is None:
                    raise InputError(f"text {index} can't be cut to {limit} tokens with truncation={truncation!r}")
            for part, kept in zip(parts, lengths, strict=True) if return_overflowing_tokens else ():
                if 0 < kept < len(part) and stride >= kept:
                    raise InputError(f"stride={stride}: text {index} has windows of {kept} tokens; take a smaller one")
                part.truncate(kept, stride=stride if kept else 0)
            examples.append(list(zip(parts, lengths, strict=True)))
        samples = range(len(examples))
        if return_overflowing_tokens:
            windows = [_windows(example) for example in examples]
            samples = [index for index, found in enumerate(windows) for _ in found]
            examples = [window for found in windows for window in found]

        once = int(add_special_tokens)

        def rows(start, end, content):
            start, end = [start] * once, [end] * once
            return [sum((content(part)[:kept] + end for part, kept in example), start) for example in examples]

        columns = {"input_ids": rows(self.cls_token_id, self.sep_token_id, lambda part: part.ids)}
        columns["token_type_ids"] = [
            [0] * once + [kind for kind, (_, kept) in enumerate(example) for _ in range(kept + once)]
            for example in examples
        ]
        if return_attention_mask:
            columns["attention_mask"] = [[1] * len(row) for row in columns["input_ids"]]
        if return_offsets_mapping:
            columns["offset_mapping"] = rows((0, 0), (0, 0), lambda part: part.offsets)
        if return_special_tokens_mask:
            columns["special_tokens_mask"] = rows(1, 1, lambda part: [0] * len(part))
        if return_word_ids:
            columns["word_ids"] = rows(None, None, lambda part: part.word_ids)
        if return_sequence_ids:
            kinds = ([(kind, kept) for kind, (_, kept) in enumerate(example)] for example in examples)
            start = [None] * once
            columns["sequence_ids"] = [sum(([kind] * kept + start for kind, kept in row), start) for row in kinds]
        if padding:
            width = limit if padding == "max_length" else max(map(len, columns["input_ids"]), default=0)
            for name, column in columns.items():
                for row in column:
                    row.extend([self._padding(name)] * (width - len(row)))
        if return_overflowing_tokens:
            return columns | {"overflow_to_sample_mapping": list(samples)}
        return {name: column[0] for name, column in columns.items()} if one else columns

    def encode_ids(self, texts, split_special_tokens=None):
        """Ids of many str, without [CLS] and [SEP] around them, by all threads: list of lists."""
        _require_texts(texts)
        split = self.split_special_tokens if split_special_tokens is None else split_special_tokens
        return [encoding.ids for encoding in self._encode(texts, False, False, split)]

    def _encode(self, texts, is_split_into_words, offsets, split_special_tokens):
        backend = self._backend
        if split_special_tokens:  # a copy: the library's switch is one for all threads
            if self._splitting is None:
                splitting = copy.deepcopy(backend)
                splitting.encode_special_tokens = True
                self._splitting = splitting
            backend = self._splitting
        encode = backend.encode_batch
        if not offsets:  # encode_batch_fast, where the library has it, leaves out offsets and the tokens' text
            encode = getattr(backend, "encode_batch_fast", encode)
        try:
            return encode(texts, is_pretokenized=is_split_into_words, add_special_tokens=False)
        except TypeError:  # what is no Unicode, as all of them are str
            damaged = next(text for text in texts if not _is_unicode(text))
            raise InputError(f"every text must be without lone surrogates, as in {str(damaged)[:40]!r}") from None

    def __getstate__(self):
        return self.__dict__ | {"_splitting": None}  # which would lose its switch on the way

    def _padding(self, name):
        nothing = {"offset_mapping": (0, 0), "word_ids": None, "sequence_ids": None}
        return {"input_ids": self.pad_token_id, "special_tokens_mask": 1, **nothing}.get(name, 0)

    def pad(self, examples, max_length=None):
        """Makes one array of each field.

        Args:
            examples: a list of dicts of lists, or one dict of lists of lists.
            max_length: the width; None means the longest row's.

        Returns:
            dict: name → int64 [B, L], filled up with the pad id, in special_tokens_mask with 1, in word_ids and
            sequence_ids, where there is none, with -1, elsewhere with 0.

        Raises:
            InputError: a row is longer than max_length.
        """
        if not isinstance(examples, dict):
            examples = {name: [example[name] for example in examples] for name in examples[0]}
        arrays = {}
        for name, column in examples.items():
            longest = max(map(len, column), default=0)
            if max_length is not None and longest > max_length:
                raise InputError(
                    f"{name}: a row of {longest} is longer than max_length {max_length}; truncate it first"
                )
            shape = len(column), longest if max_length is None else max_length
            padding = self._padding(name)
            arrays[name] = np.full(shape, -1 if padding is None else padding, dtype=np.int64)
            for row, values in zip(arrays[name], column, strict=True):
                row[: len(values)] = [-1 if value is None else value for value in values] if padding is None else values
        return arrays

    # ------------------------------------------------------------------------------------------------ tokens and text

    def tokenize(self, text):
        """The tokens of a str, without [CLS] and [SEP]."""
        _require_texts([text])
        return self._encode([text], False, True, self.split_special_tokens)[0].tokens

    def decode(self, ids, skip_special_tokens=False):
        """Text for ids, with the spaces before "n't" and the like closed, as Hugging Face 4.55 (not 5.x) does."""
        text = self._backend.decode([int(index) for index in ids], skip_special_tokens=skip_special_tokens)
        for spaced, closed in CLEAN_UP.items():
            text = text.replace(spaced, closed)
        return text

    def batch_decode(self, rows, skip_special_tokens=False):
        """One text for each row of ids."""
        return [self.decode(row, skip_special_tokens) for row in rows]

    def convert_tokens_to_ids(self, tokens):
        """A token's id, or those of a list; unknown tokens get unk_token_id."""
        if not isinstance(tokens, str):
            return [self.convert_tokens_to_ids(token) for token in tokens]
        index = self._backend.token_to_id(tokens)
        return self.unk_token_id if index is None else index

    def convert_ids_to_tokens(self, ids):
        """An id's token, or those of a list; None for an id that no token has."""
        if isinstance(ids, (int, np.integer)):
            return self._backend.id_to_token(int(ids))
        return [self.convert_ids_to_tokens(index) for index in ids]

    def add_tokens(self, tokens, special=False, **flags):
        """Adds tokens that are found before the text is split into words.

        Args:
            tokens: a str, or a list of them.
            flags: single_word, lstrip, rstrip, normalized, as in `tokenizers.AddedToken`.

        Returns:
            int: how many were new.
        """
        self._splitting = None
        tokens = [tokens] if isinstance(tokens, str) else tokens
        add = self._backend.add_special_tokens if special else self._backend.add_tokens
        return add([AddedToken(token, special=special, **{"normalized": not special} | flags) for token in tokens])

    def split_own_tokens(self):
        """From now on a text's [SEP], [MASK] and the like are split; special tokens that were added are not."""
        content = json.loads(self._backend.to_str())
        for token in content["added_tokens"]:
            token["special"] = token["content"] in SPECIAL_TOKENS
        self._backend, self._splitting = Tokenizer.from_str(json.dumps(content)), None
        self.split_special_tokens = True

    def num_special_tokens_to_add(self, pair=False):
        """[CLS] and a [SEP] after each text."""
        return 3 if pair else 2

    @property
    def vocab_size(self):
        """How many tokens vocab.txt has; `len()` counts added ones too."""
        return len(self._tokens)

    def __len__(self):
        return self._backend.get_vocab_size()

    def get_vocab(self):
        """Token → id, with added tokens."""
        return self._backend.get_vocab()


def _examples(texts, pairs, is_split_into_words):
    """Of each example its one or two texts; without `pairs` a member of `texts` may be a pair itself. Checks all."""
    if pairs is not None and (not isinstance(pairs, (list, tuple)) or len(texts) != len(pairs)):
        raise InputError(f"text_pair must be a list as long as text, {len(texts)}")
    examples = []
    for index, text in enumerate(texts):
        parts = (text,) if pairs is None else (text, pairs[index])
        if pairs is None and _is_pair(text, is_split_into_words):
            parts = text
            if len(parts) != 2:
                raise InputError(f"text {index} is a list of {len(parts)}: neither a text nor a pair, a list of two")
        _require_texts(parts, f"text {index}: ", is_split_into_words)
        examples.append(parts)
    return examples


def _is_pair(text, is_split_into_words):
    listed = isinstance(text, (list, tuple))
    return listed and (not is_split_into_words or any(isinstance(words, (list, tuple)) for words in text))


def _require_texts(texts, where="", is_split_into_words=False):
    for text in texts:
        words = text if is_split_into_words and isinstance(text, (list, tuple)) else [text]
        if not all(isinstance(word, str) for word in words) or (is_split_into_words and words is not text):
            wanted = "a list of str" if is_split_into_words else "a str"
            raise InputError(f"{where}every text must be {wanted}, not {_kind(text)}")


def _windows(example):
    """The rows that truncated encodings, (encoding, tokens kept) of one or two texts, make, in Hugging Face's order."""
    parts = [[part, *part.overflowing] for part, _ in example]
    if len(parts) == 1:
        rows = [[part] for part in parts[0]]
    else:
        (first, *others), second = parts
        rows = [[first, second[0]], *([a, b] for a in others for b in second), *([first, b] for b in second[1:])]
    return [[(part, len(part)) for part in row] for row in rows]


def _is_unicode(text):
    try:
        return "".join(text).encode() is not None
    except UnicodeEncodeError:
        return False


def _kind(value):
    inner = f" of {type(value[0]).__name__}" if isinstance(value, (list, tuple)) and value else ""
    return type(value).__name__ + inner


def _shortened(lengths, room, strategy):
    """Lengths of one or two texts cut to `room` in all as `tokenizers` does in truncate_encodings; None if it can't."""
    if room <= 0:
        return [0] * len(lengths) if room == 0 else None
    if strategy == "longest_first" and len(lengths) == 2:
        short = min(*lengths, room // 2)
        return [room - short, short] if lengths[0] > lengths[1] else [short, room - short]
    target = 1 if strategy == "only_second" else 0
    rest = sum(lengths) - sum(lengths[target : target + 1])
    if rest >= room:
        return None
    return [room - rest if side == target else length for side, length in enumerate(lengths)]


# --------------------------------------------------------------------------------------------------- a new vocabulary


@script
def main(argv=None):
    parser = ArgumentParser("Builds a WordPiece vocabulary from text.")
    switch = argparse.BooleanOptionalAction
    group = parser.add_argument_group("files")
    group.add_argument(
        "--input",
        nargs="+",
        required=True,
        metavar="PATH",
        help="text: files, folders or patterns; .txt, JSON lines or WikiExtractor's folders, also .gz or .bz2",
    )
    group.add_argument("--output", default="vocab.txt", help="where the vocabulary goes, one token a line")
    add_overwrite(group)
    group = parser.add_argument_group("vocabulary")
    group.add_argument("--size", type=int, default=30522, help="how many tokens, special ones included")
    group.add_argument("--limit_alphabet", type=int, default=1000, help="how many different characters are kept")
    group.add_argument("--min_frequency", type=int, default=2, help="how often two neighbours must occur to be joined")
    group = parser.add_argument_group("text", "They are written beside the vocabulary, where --vocab_file finds them.")
    group.add_argument("--do_lower_case", action=switch, default=True, help="lower-case the text")
    group.add_argument("--strip_accents", action=switch, help="remove accents; None means as do_lower_case")
    group.add_argument(
        "--tokenize_chinese_chars", action=switch, default=True, help="make each Chinese character a word"
    )
    options = vars(parser.parse_args(argv))
    files, output, size = options.pop("input"), Path(options.pop("output")), options.pop("size")
    overwrite = options.pop("overwrite")
    require_new(overwrite, output=output)
    require_new(overwrite, output=switches_file(output))
    texts = {path.resolve() for path in find_files(files)}
    for written in (output, switches_file(output)):
        if written.resolve() in texts:
            raise InputError(f"--output {output}: would replace {written}, a text of --input; take another name")
    tokens = train_vocabulary(files, size, **options)
    write_switches(output, {name: options[name] for name in SWITCHES})
    save_vocabulary(tokens, output)
    print(f"{output}: {len(tokens)} tokens" + (f", the text gives no {size}" if len(tokens) < size else ""))


if __name__ == "__main__":
    sys.exit(main())
