"""Whole-word masking of Chinese: jieba's words, or those of a list, are hidden as a whole."""

import json

import numpy as np
import pytest
from conftest import needs

import run_pretrain
from files.errors import InputError
from files.json_files import read_json
from pretraining.masking import Vocabulary, choose_words
from pretraining.word_boundaries import WordBoundaries, facts, segmenter
from tokenizer import ConvBertTokenizer

TEXT = "北京大学的学生在图书馆里研究自然语言处理，他们使用Paddle训练模型。"
WORDS = ["北京大学", "北京", "学生", "图书馆", "研究", "自然语言", "语言", "处理", "使用", "训练", "模型", "他们"]


@pytest.fixture
def tokenizer(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(TEXT.lower()), "pad", "##dle"]
    (tmp_path / "vocab.txt").write_text("".join(f"{word}\n" for word in dict.fromkeys(words)), "utf-8")
    return ConvBertTokenizer(tmp_path / "vocab.txt")


@pytest.fixture
def listed(tmp_path):
    (tmp_path / "words.txt").write_text("\n".join(WORDS) + "\n的\n", "utf-8")
    return str(tmp_path / "words.txt")


def pieces(tokenizer, cut):
    """The text's words as the masking sees them."""
    ids = np.array([tokenizer(TEXT)["input_ids"]])
    vocabulary = Vocabulary(tokenizer, cut)
    found = []
    for token, goes_on in zip(
        tokenizer.convert_ids_to_tokens(ids[0].tolist()), vocabulary.continued(ids)[0], strict=True
    ):
        if goes_on:
            found[-1] += token.removeprefix("##")
        else:
            found.append(token)
    return found[1:-1]


def test_a_list_s_longest_words(tokenizer, listed):
    expected = [
        "北京大学",
        "的",
        "学生",
        "在",
        "图书馆",
        "里",
        "研究",
        "自然语言",
        "处理",
        "，",
        "他们",
        "使用",
        "paddle",
    ]
    assert pieces(tokenizer, segmenter(listed)) == [*expected, "训练", "模型", "。"]
    assert "北" in pieces(tokenizer, None)


@needs("jieba")
def test_jieba_s_words(tokenizer):
    import jieba

    expected = jieba.lcut(TEXT.lower())
    assert pieces(tokenizer, segmenter("jieba")) == expected


def test_words_are_hidden_as_a_whole(tokenizer, listed):
    ids = np.array([tokenizer(TEXT)["input_ids"]] * 200)
    vocabulary = Vocabulary(tokenizer, segmenter(listed))
    chosen = choose_words(np.random.default_rng(1), ids, vocabulary, 0.15, 8)
    goes_on = vocabulary.continued(ids)
    assert chosen.any(axis=1).all()
    assert (chosen[:, 1:] == chosen[:, :-1])[goes_on[:, 1:]].all()
    alone = choose_words(np.random.default_rng(1), ids, Vocabulary(tokenizer), 0.15, 8)
    assert not (alone[:, 1:] == alone[:, :-1])[goes_on[:, 1:]].all()


def test_rows_without_chinese_and_padding(tokenizer, listed):
    boundaries = WordBoundaries(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))), segmenter(listed))
    rows = tokenizer(["Paddle", "学生", ""], padding=True)["input_ids"]
    found = boundaries(np.array(rows))
    assert found.tolist() == [[False] * 4, [False, False, True, False], [False] * 4]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "must be jieba, or a file with a word a line"),
        (b"\xff\n", "not UTF-8"),
        (b"", "no word of two characters"),
        ("的\n".encode(), "no word of two"),
        ("学生 很 好\n".encode(), "line 1: one word a line, and perhaps its frequency"),
    ],
)
def test_a_list_that_is_none(tmp_path, content, message):
    if content is not None:
        (tmp_path / "words.txt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        segmenter(str(tmp_path / "words.txt"))


def test_frequencies_of_jieba_s_lists_are_no_words(tmp_path):
    (tmp_path / "words.txt").write_text("学生 300 n\n图书馆 5\n", "utf-8")
    assert segmenter(str(tmp_path / "words.txt"))("学生在图书馆") == ["学生", "在", "图书馆"]


def test_a_run_learns_whole_words_and_goes_on_with_the_same_list_alone(tokenizer, listed, tmp_path, one_line, capsys):
    (tmp_path / "text.txt").write_text("\n\n".join([TEXT * 3] * 40), "utf-8")
    sizes = dict(
        vocab_size=len(tokenizer), embedding_size=16, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64, model_type="convbert",
    )  # fmt: skip
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text(json.dumps(sizes))
    common = f"--input_dir {tmp_path / 'text.txt'} --model_name_or_path {tmp_path / 'model'} --no-init_from_ckpt"
    common += f" --vocab_file {tmp_path / 'vocab.txt'} --max_seq_length 32 --train_batch_size 8 --learning_rate 1e-3"
    common += (
        f" --whole_word_masking --device cpu --validation_share 0.1 --logging_steps 1 --output_dir {tmp_path / 'out'}"
    )
    assert run_pretrain.main(f"{common} --max_steps 2 --word_boundaries {listed}".split()) == 0
    assert len(read_json(tmp_path / "out/results.json")["log"]) == 2
    capsys.readouterr()
    one_line(run_pretrain.main(f"{common} --max_steps 3 --resume".split()), r"word boundaries .*, now none")
    before = facts(listed)
    with open(listed, "a", encoding="utf-8") as file:
        file.write("处理模型\n")
    assert facts(listed) != before
    command = f"{common} --max_steps 3 --resume --word_boundaries {listed}"
    one_line(run_pretrain.main(command.split()), r"word boundaries 12 words \(\w+\), now 13 words")


def test_without_whole_words_it_means_nothing(capsys):
    with pytest.raises(SystemExit):
        run_pretrain.main(["--input_dir", "x", "--output_dir", "y", "--word_boundaries", "jieba"])
    assert "--word_boundaries is for --whole_word_masking" in capsys.readouterr().err
