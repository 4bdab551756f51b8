"""Folders of a model whose files don't go together: one line that says so, before anything starts at random."""

import logging

import pytest
from conftest import ROOT

import convert
import export
import predict
import run_glue
from files.errors import InputError
from files.json_files import read_json, write_json
from layers.configuration import ConvBertConfig
from modeling import ConvBertForSequenceClassification, ConvBertModel
from tokenizer import ConvBertTokenizer

SIZES = dict(
    vocab_size=1169, embedding_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
    intermediate_size=16, max_position_embeddings=32, num_labels=2, label_names=["0", "1"],
)  # fmt: skip


@pytest.fixture
def model(tmp_path):
    ConvBertForSequenceClassification(ConvBertConfig(**SIZES)).save_pretrained(tmp_path / "model")
    ConvBertTokenizer(ROOT / "samples/vocab.txt").save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def runs(folder, tmp_path):
    """Calls of every script that reads a folder."""
    train = ["--task_name", "SST-2", "--data_dir", str(ROOT / "samples"), "--output_dir", str(tmp_path / "out")]
    return [
        lambda: run_glue.main(["--model_name_or_path", str(folder), "--device", "cpu", "--max_steps", "1", *train]),
        lambda: predict.main(["--model", str(folder), "--device", "cpu", "a film"]),
        lambda: convert.main(["--input", str(folder), "--output", str(tmp_path / "converted")]),
        lambda: export.main(["--model", str(folder), "--output", str(tmp_path / "exported")]),
    ]


def test_a_vocabulary_that_may_be_cut_off_is_said(model, caplog):
    lines = (model / "vocab.txt").read_text().splitlines(keepends=True)
    (model / "vocab.txt").write_text("".join(lines[:600]))
    with caplog.at_level(logging.WARNING, "convbert"):
        ConvBertTokenizer.from_pretrained(model)
    assert "vocab.txt: 600 tokens, but config.json beside it says vocab_size 1,169; is the file cut off" in caplog.text


@pytest.mark.parametrize(("size", "said"), [(1169, False), (1176, False), (1280, False), (1171, True), (1100, False)])
def test_a_few_entries_more_than_tokens_are_padding(model, caplog, size, said):
    write_json(model / "config.json", read_json(model / "config.json") | {"vocab_size": size})
    with caplog.at_level(logging.WARNING, "convbert"):
        ConvBertTokenizer.from_pretrained(model)
    assert ("is it whole?" in caplog.text) == said


@pytest.mark.parametrize("content", ["[]", "5", '"text"', "null"])
def test_a_configuration_is_an_object(model, tmp_path, one_line, content):
    (model / "config.json").write_text(content)
    for run in runs(model, tmp_path):
        one_line(run(), r"model/config\.json: not a JSON object")


@pytest.mark.parametrize("change", [{"vocab_size": 3 * 10**11}, {"hidden_size": 32 * 10**8},
                                    {"num_hidden_layers": 10**8}, {"intermediate_size": 10**9},
                                    {"num_hidden_layers": 900, "hidden_size": 1024}])  # fmt: skip
def test_a_configuration_far_too_large_is_refused_before_a_model_is_made(model, tmp_path, one_line, change):
    write_json(model / "config.json", read_json(model / "config.json") | change)
    (model / "vocab.txt").unlink()
    one_line(convert.main(["--input", str(model), "--output", str(tmp_path / "out")]), "num_hidden_layers|hidden_size")
    with pytest.raises(InputError, match=r"num_hidden_layers|hidden_size"):
        ConvBertModel.from_pretrained(model)


@pytest.mark.parametrize("spelled", ["convbert", "conv_bert", "ConvBERT"])
@pytest.mark.parametrize("asked", ["bert", "electra", "ernie"])
def test_a_folder_of_another_type_of_model(model, tmp_path, one_line, spelled, asked):
    write_json(model / "config.json", read_json(model / "config.json") | {"model_type": spelled})
    flags = ["--model_name_or_path", str(model), "--task_name", "SST-2", "--data_dir", str(ROOT / "samples")]
    status = run_glue.main([*flags, "--model_type", asked, "--device", "cpu", "--output_dir", str(tmp_path / "out")])
    one_line(status, rf"a convbert model, not an? {asked.upper()}; take --model_type convbert")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json"])
def test_a_table_that_is_a_pointer(model, tmp_path, one_line, suffix):
    (tmp_path / f"train{suffix}").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4050\n")
    flags = ["--model_name_or_path", str(model), "--train_file", str(tmp_path / f"train{suffix}"), "--device", "cpu"]
    flags += ["--validation_file", str(tmp_path / f"train{suffix}"), "--output_dir", str(tmp_path / "out")]
    one_line(run_glue.main(flags), rf"train\{suffix}: a Git LFS pointer, not the file of 4,050 bytes")
