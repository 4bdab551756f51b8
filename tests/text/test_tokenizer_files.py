"""A tokenizer's folder: special tokens however they are declared, and the switches that stand beside a vocabulary."""

import json
import logging
import re

import pytest

from conversion.formats import convert
from files.errors import InputError
from layers.configuration import ConvBertConfig
from modeling import ConvBertModel
from text.tokenizer_files import SWITCHES, choose_switches, stored_switches, write_switches
from text.vocabulary import SPECIAL_TOKENS, save_vocabulary
from tokenizer import ConvBertTokenizer

WORDS = ["a", "b", "e", "##1", "x", "n", "[E1]", "[E2]", "<bos>", "word2vec", "e1"]
VOCABULARY = [*SPECIAL_TOKENS, *WORDS]
FIRST, NEW = VOCABULARY.index("[E1]"), len(VOCABULARY)
TEXT = "a [E1] b[E2] x [N1] [n1] [e1]  [N2]<bos> <eos> Word2vec word2vec [MASK] [E1]x"


def token(content, **flags):
    return {"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, **flags}


def special(content, **flags):
    return token(content, special=True, **flags)


def saved_by_the_library(*added):
    """A tokenizer.json of this vocabulary."""
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [
            *({"id": index, **special(content)} for index, content in enumerate(SPECIAL_TOKENS)),
            *({"id": index, **fields} for index, fields in added),
        ],
        "normalizer": {
            "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {
                name: {"id": name, "ids": [SPECIAL_TOKENS.index(name)], "tokens": [name]} for name in ("[CLS]", "[SEP]")
            },
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": {word: index for index, word in enumerate(VOCABULARY)},
        },
    }  # fmt: skip


CONFIG, MAP, ADDED, SAVED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.json"
MORE = "additional_special_tokens"
DECLARED = {
    "in the map": {MAP: {MORE: ["[E1]", "[E2]"]}},
    "in the map, as objects": {MAP: {MORE: [token("[E1]"), token("[E2]", lstrip=True)]}},
    "in the map, as bare objects": {MAP: {MORE: [{"content": "[E1]"}]}},
    "in the map, normalised": {MAP: {MORE: [token("[E1]", normalized=True)]}},
    "in the map, null": {MAP: {MORE: None}},
    "in the settings": {CONFIG: {MORE: ["[E1]", "[E2]"]}},
    "in the settings, as objects": {CONFIG: {MORE: [{"__type": "AddedToken", **special("[E1]", rstrip=True)}]}},
    "in both": {CONFIG: {MORE: ["[E1]"]}, MAP: {MORE: ["[E2]", "[E1]"]}},
    "in one, null in the other": {CONFIG: {MORE: None}, MAP: {MORE: ["[E2]"]}},
    "not in the vocabulary": {MAP: {MORE: ["[N1]", "[E1]", "[N2]"]}},
    "twice, or BERT's": {MAP: {MORE: ["[E1]", "[E1]", "[SEP]"]}},
    "one within another": {MAP: {MORE: ["[E1]x", "[E1]"]}},
    "a word": {MAP: {MORE: ["word2vec"]}},
    "by a name": {CONFIG: {"eos_token": "<eos>", "bos_token": "<bos>", MORE: ["[N1]"]}},
    "by a name, in the map": {MAP: {"bos_token": "<bos>", "eos_token": {"content": "<eos>", "lstrip": True}}},
    "by a name of their own": {CONFIG: {"extra_special_tokens": {"entity_token": "[E1]", "new_token": "[N1]"}}},
    "BERT's own ways": {MAP: {"cls_token": token("[CLS]"), "mask_token": token("[MASK]", lstrip=True)}},
    "with ids": {ADDED: {"[N1]": NEW, "[N2]": NEW + 1}},
    "with ids, and called special": {ADDED: {"[N1]": NEW}, MAP: {MORE: ["[N1]", "[E1]"]}},
    "with ids, and some without": {ADDED: {"[N1]": NEW}, MAP: {MORE: ["[N2]", "[N1]"]}},
    "with ids of the vocabulary": {ADDED: {"[E1]": FIRST, "word2vec": VOCABULARY.index("word2vec")}},
    "in the decoder": {CONFIG: {"added_tokens_decoder": {str(FIRST): special("[E1]"), str(NEW): special("[N1]")}}},
    "in the decoder and by name": {
        CONFIG: {"added_tokens_decoder": {str(FIRST): special("[E1]")}, MORE: ["[E2]", "[N1]"]}
    },
    "in the decoder, which hides the map": {
        CONFIG: {"added_tokens_decoder": {str(FIRST): special("[E1]")}}, MAP: {MORE: ["[E2]"]},
    },
    "in the decoder, but special by name only": {
        CONFIG: {"added_tokens_decoder": {str(FIRST): token("[E1]", special=False, normalized=True)}, MORE: ["[E1]"]}
    },
    "in tokenizer.json": {SAVED: saved_by_the_library((FIRST, special("[E1]")))},
    "in tokenizer.json and the settings": {
        SAVED: saved_by_the_library((FIRST, special("[E1]"))), CONFIG: {MORE: ["[E1]", "[E2]", "[N1]"]},
    },
    "beside tokenizer.json": {SAVED: saved_by_the_library(), MAP: {MORE: ["[E1]", "[N1]"], "bos_token": "<bos>"}},
    "in tokenizer.json and more in added_tokens.json": {
        SAVED: saved_by_the_library((NEW, special("[N1]"))), ADDED: {"[N1]": NEW, "[N2]": NEW + 1},
    },
    "in tokenizer.json and more in the decoder": {
        SAVED: saved_by_the_library((NEW, special("[N1]"))),
        CONFIG: {"added_tokens_decoder": {str(NEW): special("[N1]"), str(FIRST): special("[E1]", lstrip=True)}},
    },
    "without vocab.txt": {
        SAVED: saved_by_the_library((NEW, special("[N1]"))), MAP: {MORE: ["[E1]"]}, "vocab.txt": None
    },
}  # fmt: skip


def write(folder, files):
    folder.mkdir(exist_ok=True)
    if "vocab.txt" not in files:
        save_vocabulary(VOCABULARY, folder / "vocab.txt")
    for name, content in files.items():
        if content is not None:
            (folder / name).write_text(json.dumps(content))


def what_it_does(tokenizer):
    encoded = tokenizer(TEXT, return_offsets_mapping=True)
    offsets = [tuple(offset) for offset in encoded["offset_mapping"]]
    decoded = tokenizer.decode(encoded["input_ids"], skip_special_tokens=True)
    ids = [tokenizer.convert_tokens_to_ids(name) for name in ("[E1]", "[N1]", "[N2]", "<eos>")]
    return encoded["input_ids"], offsets, decoded.replace(" ", ""), ids, len(tokenizer)


@pytest.fixture(scope="module")
def hugging_face():
    transformers = pytest.importorskip("transformers")
    if int(transformers.__version__.partition(".")[0]) > 4:
        pytest.skip("5.x reads some of these layouts in other ways than 4.x")
    return transformers.ConvBertTokenizerFast


@pytest.mark.parametrize("how", DECLARED)
def test_special_tokens_are_hugging_faces_however_they_are_declared(tmp_path, hugging_face, how):
    write(tmp_path / "given", DECLARED[how])
    expected = what_it_does(hugging_face.from_pretrained(tmp_path / "given"))
    ours = ConvBertTokenizer.from_pretrained(tmp_path / "given")
    assert what_it_does(ours) == expected
    ours.save_pretrained(tmp_path / "saved")
    assert what_it_does(ConvBertTokenizer.from_pretrained(tmp_path / "saved")) == expected
    assert what_it_does(hugging_face.from_pretrained(tmp_path / "saved")) == expected


def test_a_list_of_extra_special_tokens_as_5x_writes_it(tmp_path):
    write(tmp_path, {CONFIG: {"extra_special_tokens": ["[E1]", "[N1]"]}})
    tokenizer = ConvBertTokenizer.from_pretrained(tmp_path)
    assert tokenizer("[E1] [N1]")["input_ids"][1:-1] == [FIRST, NEW]


def test_conversion_keeps_them_both_ways(tmp_path):
    sizes = dict(vocab_size=len(VOCABULARY) + 1, embedding_size=8, hidden_size=16, num_hidden_layers=1)
    config = ConvBertConfig(num_attention_heads=4, intermediate_size=16, max_position_embeddings=16, **sizes)
    ConvBertModel(config).save_pretrained(tmp_path / "given")
    write(tmp_path / "given", {MAP: {MORE: ["[E1]", token("[N1]", lstrip=True)]}})
    expected = what_it_does(ConvBertTokenizer.from_pretrained(tmp_path / "given"))
    assert FIRST in expected[0]
    convert(tmp_path / "given", tmp_path / "hf", to="hf")
    convert(tmp_path / "hf", tmp_path / "back")
    for folder in ("hf", "back"):
        assert what_it_does(ConvBertTokenizer.from_pretrained(tmp_path / folder)) == expected


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({MAP: {"unk_token": "<unk>"}}, r"special_tokens_map\.json: writes \[UNK\] as '<unk>'"),
        ({MAP: {MORE: "[E1]"}}, r"special_tokens_map\.json: additional_special_tokens is '\[E1\]', not a JSON list"),
        ({CONFIG: {MORE: [7]}}, r"tokenizer_config\.json: 7 is not an added token"),
        ({CONFIG: {MORE: [{"special": True}]}}, r"tokenizer_config\.json: .* is not an added token"),
        ({CONFIG: {"added_tokens_decoder": ["[E1]"]}}, "added_tokens_decoder is .*, not a JSON object"),
        ({CONFIG: {"added_tokens_decoder": {"last": special("[N1]")}}}, "'last', for the added token .* is not an id"),
        ({ADDED: {"[N1]": "next"}}, r"added_tokens\.json: 'next', for the added token '\[N1\]', is not an id"),
        ({ADDED: {"[N1]": NEW + 3}}, f"id {NEW + 3} can't be given"),
        ({ADDED: {"[E1]": NEW}}, f"id {NEW} can't be given"),
        ({SAVED: {"added_tokens": ["[E1]"]}}, r"tokenizer\.json: None, for the added token '\[E1\]', is not an id"),
        (
            {CONFIG: {"do_lower_case": "false"}},
            r"tokenizer_config\.json: do_lower_case is 'false'; write true or false",
        ),
        ({CONFIG: {"split_special_tokens": 1}}, "split_special_tokens is 1; write true or false"),
        (
            {SAVED: saved_by_the_library() | {"model": {"vocab": {"[PAD]": 0}}}},
            r"vocab\.txt: not the vocabulary of tokenizer\.json beside it",
        ),
    ],
    ids=str,
)
def test_what_can_t_be_meant_is_an_error_of_one_line(tmp_path, files, message):
    write(tmp_path, files)
    with pytest.raises(InputError, match=message) as caught:
        ConvBertTokenizer.from_pretrained(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------------------------------------ switches

NOTHING = dict.fromkeys(SWITCHES)
CASED = {"do_lower_case": False, "strip_accents": True, "tokenize_chinese_chars": False}


def test_several_vocabularies_in_a_folder_have_switches_of_their_own(tmp_path):
    for name, switches in (("vocab.txt", SWITCHES), ("cased.txt", CASED), ("cased.vocab", SWITCHES)):
        write_switches(tmp_path / name, switches)
    assert stored_switches(tmp_path / "vocab.txt") == stored_switches(tmp_path / "cased.vocab") == SWITCHES
    assert stored_switches(tmp_path / "cased.txt") == CASED
    assert stored_switches(tmp_path / "other.txt") == {}  # not those of vocab.txt


def test_switches_of_a_tokenizer_json_are_its_normalizer_s(tmp_path):
    write(tmp_path, {SAVED: saved_by_the_library(), "vocab.txt": None})
    content = json.loads((tmp_path / SAVED).read_text())
    content["normalizer"] |= {"lowercase": False, "handle_chinese_chars": False}
    (tmp_path / "some.json").write_text(json.dumps(content))
    expected = {"do_lower_case": False, "strip_accents": None, "tokenize_chinese_chars": False}
    assert choose_switches(tmp_path / "some.json", **NOTHING) == expected
    assert choose_switches(tmp_path / SAVED, **NOTHING) == SWITCHES


@pytest.mark.parametrize(
    ("stored", "given", "chosen", "said"),
    [
        (CASED, {}, CASED, None),
        (CASED, {"do_lower_case": False}, CASED, None),
        (CASED, {"do_lower_case": True}, CASED | {"do_lower_case": True}, "made for do_lower_case False, .* with True"),
        (SWITCHES, {"strip_accents": True}, SWITCHES | {"strip_accents": True}, None),  # which it is anyway
        (SWITCHES, {"strip_accents": False}, SWITCHES | {"strip_accents": False}, "made for strip_accents True"),
        (
            SWITCHES,
            {"tokenize_chinese_chars": False},
            SWITCHES | {"tokenize_chinese_chars": False},
            "made for tokenize_chinese_chars True, but used with False, as asked",
        ),
        ({}, {}, SWITCHES, r"no words\.txt\.tokenizer_config\.json beside it .* do_lower_case True, tokenize_chinese"),
        ({}, {"do_lower_case": False}, SWITCHES | {"do_lower_case": False}, "taken: tokenize_chinese_chars True;"),
        ({}, CASED, CASED, None),  # nothing is guessed
    ],
    ids=str,
)
def test_a_guess_and_a_contradiction_are_said_in_a_line(tmp_path, caplog, stored, given, chosen, said):
    path = tmp_path / "words.txt"
    save_vocabulary(VOCABULARY, path)
    if stored:
        write_switches(path, stored)
    with caplog.at_level(logging.WARNING, "convbert"):
        assert choose_switches(path, **NOTHING | given) == chosen
    assert len(caplog.messages) == (said is not None)
    assert said is None or re.search(said, caplog.messages[0]), caplog.messages


def test_switches_of_a_folder_can_be_overridden(tmp_path, caplog):
    write(tmp_path, {CONFIG: {"do_lower_case": False, "tokenize_chinese_chars": False}})
    with caplog.at_level(logging.WARNING, "convbert"):
        tokenizer = ConvBertTokenizer.from_pretrained(tmp_path, do_lower_case=True)
    assert (tokenizer.do_lower_case, tokenizer.tokenize_chinese_chars) == (True, False)
    assert "made for do_lower_case False, but used with True" in caplog.text
