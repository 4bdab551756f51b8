"""--vocab_file of the training scripts, and the switches that say how its texts are normalised."""

import logging
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

import run_glue
import run_pretrain
from pretraining.token_store import TokenStore
from tasks.classifiers import load_tokenizer
from text.tokenizer_files import stored_switches
from tokenizer import ConvBertTokenizer
from tokenizer import main as make_vocabulary

TEXT = "Das Café in Zürich öffnet um 中午. Müller geht hin, die Tür ist zu."
ASKED = ["--no-do_lower_case", "--no-strip_accents", "--no-tokenize_chinese_chars"]
CASED = {"do_lower_case": False, "strip_accents": False, "tokenize_chinese_chars": False}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a text and a cased vocabulary of it, made by tokenizer.py."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "text.txt").write_text(f"{TEXT}\n\n" * 40)
    arguments = ["--input", folder / "text.txt", "--output", folder / "cased.txt", "--size", 200, *ASKED]
    assert make_vocabulary([*map(str, arguments)]) == 0
    return folder


def switches_of(tokenizer):
    return {name: getattr(tokenizer, name) for name in CASED}


def pretrain(made, output, *more):
    arguments = [
        "--input_dir", made / "text.txt", "--model_name_or_path", "convbert-tiny", "--no-init_from_ckpt",
        "--vocab_file", made / "cased.txt", "--output_dir", output, "--max_steps", 1, "--max_seq_length", 16,
        "--train_batch_size", 2, "--device", "cpu", *more,
    ]  # fmt: skip
    return run_pretrain.main([*map(str, arguments)])


def fine_tune(vocab_file, output, *more):
    arguments = [
        "--task_name", "RTE", "--data_dir", ROOT / "samples", "--model_name_or_path", "convbert-tiny", "--from_scratch",
        "--vocab_file", vocab_file, "--output_dir", output, "--max_steps", 1, "--max_seq_length", 16, "--batch_size", 2,
        "--device", "cpu", *more,
    ]  # fmt: skip
    return run_glue.main([*map(str, arguments)])


def test_pre_training_takes_the_switches_beside_the_vocabulary(made, tmp_path):
    assert pretrain(made, tmp_path / "out", "--prepare_only") == 0
    expected = ConvBertTokenizer(made / "cased.txt", **CASED)
    paragraphs = [text for text in (made / "text.txt").read_text().split("\n") if text]
    ids = np.concatenate(expected.encode_ids(paragraphs))
    assert TokenStore.open(tmp_path / "out/data").tokens.tolist() == ids.tolist()
    assert expected.unk_token_id not in ids.tolist()  # as they would be, lower-cased


def test_from_pre_training_to_a_fine_tune_and_a_flag_that_overrides(made, tmp_path, caplog):
    assert pretrain(made, tmp_path / "out") == 0
    assert switches_of(ConvBertTokenizer.from_pretrained(tmp_path / "out/discriminator")) == CASED
    with caplog.at_level(logging.WARNING, "convbert"):
        assert fine_tune(made / "cased.txt", tmp_path / "glue", "--tokenize_chinese_chars") == 0
    found = switches_of(ConvBertTokenizer.from_pretrained(tmp_path / "glue"))
    assert found == CASED | {"tokenize_chinese_chars": True}
    assert "cased.txt: made for tokenize_chinese_chars False, but used with True, as asked" in caplog.text


@pytest.mark.parametrize("flags", [[], ["--no-strip_accents"], ["--no-do_lower_case", "--no-tokenize_chinese_chars"]])
def test_flags_without_anything_stored(made, tmp_path, flags, caplog):
    """Both scripts know all three, and what is left out is guessed and said."""
    for parser, required in ((run_pretrain.make_parser(), []), (run_glue.make_parser(), ["--task_name", "RTE"])):
        args = parser.parse_args([*flags, "--output_dir", "out", *required])
        given = args.do_lower_case, args.strip_accents, args.tokenize_chinese_chars
        expected = tuple(False if f"--no-{name}" in flags else None for name in CASED)
        assert given == expected
    shutil.copy(made / "cased.txt", tmp_path / "copied.txt")
    with caplog.at_level(logging.WARNING, "convbert"):
        tokenizer = load_tokenizer("convbert", "convbert-tiny", tmp_path / "copied.txt", *given)
    defaults = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True}
    asked = {name: value for name, value in zip(CASED, given, strict=True) if value is not None}
    assert switches_of(tokenizer) == defaults | asked
    guesses = [message for message in caplog.messages if "says how its texts are normalised" in message]
    assert len(guesses) == (len(flags) < 2)
    assert any("tokens hold capitals" in message for message in caplog.messages) == (len(flags) < 2)


def test_flags_override_a_model_folder_s_own(made, tmp_path, caplog):
    ConvBertTokenizer(made / "cased.txt", **CASED).save_pretrained(tmp_path)
    assert switches_of(load_tokenizer("convbert", tmp_path)) == CASED
    assert switches_of(load_tokenizer("convbert", tmp_path, tmp_path / "vocab.txt")) == CASED
    with caplog.at_level(logging.WARNING, "convbert"):
        tokenizer = load_tokenizer("convbert", tmp_path, do_lower_case=True)
    assert tokenizer.do_lower_case is True
    assert "made for do_lower_case False, but used with True" in caplog.text


def test_a_guess_and_a_warning_are_lines_on_stderr(made, tmp_path):
    """Where no test catches them."""
    shutil.copy(made / "cased.txt", tmp_path / "copied.txt")
    code = "import sys; from tasks.classifiers import load_tokenizer; load_tokenizer('convbert', 'x', sys.argv[1])"
    arguments = [sys.executable, "-c", code, str(tmp_path / "copied.txt")]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True)
    guess, warning = done.stderr.splitlines()
    assert re.search(r"copied\.txt: no copied\.txt\.tokenizer_config\.json beside it says", guess)
    assert re.search(r"copied\.txt: \d+ of \d+ tokens hold capitals and can never be reached", warning)


@pytest.mark.parametrize("word", ["[MASK]", "[SEP]", "[PAD]", "[CLS]"])
def test_control_tokens_in_a_text_are_text_in_pre_training(tmp_path, word):
    """And no setting of what comes of it: a folder's tokenizer takes them as Hugging Face's does."""
    (tmp_path / "text.txt").write_text(f"the river {word} rose.\nit fell{word}again.\n\n" * 30)
    arguments = ["--input_dir", tmp_path / "text.txt", "--output_dir", tmp_path / "out", "--prepare_only"]
    arguments += ["--model_name_or_path", "convbert-tiny", "--no-init_from_ckpt", "--device", "cpu"]
    arguments += ["--vocab_file", ROOT / "samples/vocab.txt"]
    assert run_pretrain.main([*map(str, arguments)]) == 0
    tokenizer = ConvBertTokenizer(ROOT / "samples/vocab.txt")
    store = TokenStore.open(tmp_path / "out/data")
    assert tokenizer.convert_tokens_to_ids(word) not in store.tokens
    assert tokenizer.convert_tokens_to_ids("river") in store.tokens
    assert stored_switches(ROOT / "samples/vocab.txt")["do_lower_case"] is True
