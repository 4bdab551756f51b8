"""The README.md of what the scripts save: valid for the hub, true, and never in the place of somebody else's."""

import shutil

import pytest
from conftest import ROOT
from huggingface_hub import ModelCard

import convert
import run_glue
import run_pretrain
import run_tagging
from files.json_files import read_json
from layers.model_card import WRITTEN, table

COMMON = ["--model_name_or_path", "convbert-tiny", "--device", "cpu", "--seed", "7"]


def glue(output, *flags, task="MNLI"):
    return run_glue.main(
        ["--task_name", task, "--data_dir", str(ROOT / "samples"), "--max_steps", "4", "--save_steps", "2",
         "--batch_size", "4", "--max_train_samples", "16", "--max_eval_samples", "16", "--output_dir", str(output),
         *COMMON, *flags]
    )  # fmt: skip


def test_a_classifier_s_card(tmp_path):
    output = tmp_path / "my-model"
    assert not glue(output)
    card = ModelCard.load(output / "README.md")
    results = read_json(output / "results.json")
    best = next(found for found in results["evaluations"] if found["step"] == results["best_step"])
    found = {(entry.dataset_split, entry.metric_type): entry.metric_value for entry in card.data.eval_results}
    assert found == {
        (split, "accuracy"): pytest.approx(best[split]["acc"], abs=1e-6) for split in ("dev_matched", "dev_mismatched")
    }
    assert card.data.pipeline_tag == "text-classification"
    assert card.data.model_name == "my-model"
    assert card.data.tags == ["paddlepaddle", "convbert"]
    assert {entry.dataset_name for entry in card.data.eval_results} == {"samples/MNLI"}  # not what GLUE says
    assert card.data.datasets is None
    for words in (
        f"| dev_matched | acc | {best['dev_matched']['acc']:.4f} |", f"After step {results['best_step']}",
        "Labels, in their order: contradiction, entailment, neutral", "It began as `convbert-tiny`",
        "python run_glue.py --task_name MNLI", "--seed 7", "Seed 7, float32, 1 process(es)",
        f"paddlepaddle {results['versions']['paddlepaddle']}", "--text_pair",
    ):  # fmt: skip
        assert words in card.text, words


def test_a_card_of_somebody_s_stays(tmp_path, caplog):
    output = tmp_path / "out"
    assert not glue(output, task="SST-2")
    assert WRITTEN in (output / "README.md").read_text()
    own = "# My model\n"
    (output / "README.md").write_text(own)
    assert not glue(output, "--overwrite", task="SST-2")
    assert (output / "README.md").read_text() == own
    assert "README.md: not written by a script here, and left as it is" in caplog.text


@pytest.mark.slow
def test_a_new_run_s_card_takes_the_place_of_an_old_one_s(tmp_path):
    output = tmp_path / "out"
    assert not glue(output, task="SST-2")
    scratch = ["--from_scratch", "--vocab_file", str(ROOT / "samples/vocab.txt")]
    assert not glue(output, "--overwrite", *scratch, task="RTE")
    text = (output / "README.md").read_text()
    assert "# ConvBERT for samples/RTE" in text
    assert "Of the size of `convbert-tiny`; it began at random." in text


def test_the_card_of_tags(tmp_path):
    tags = ROOT / "samples/tags"
    assert not run_tagging.main(
        ["--train_file", str(tags / "train.conll"), "--validation_file", str(tags / "dev.conll"), "--max_steps", "2",
         "--output_dir", str(tmp_path / "out"), *COMMON]
    )  # fmt: skip
    card = ModelCard.load(tmp_path / "out/README.md")
    assert card.data.pipeline_tag == "token-classification"
    assert {entry.dataset_name for entry in card.data.eval_results} == {"tags/train.conll"}
    assert "## Scores" in card.text


def test_the_cards_of_pre_training(tmp_path):
    assert not run_pretrain.main(
        ["--input_dir", str(ROOT / "samples/corpus.txt"), "--max_steps", "2", "--max_seq_length", "32",
         "--train_batch_size", "4", "--output_dir", str(tmp_path / "out"), *COMMON]
    )  # fmt: skip
    for part, pipeline in (("discriminator", None), ("generator", "fill-mask")):
        card = ModelCard.load(tmp_path / "out" / part / "README.md")
        assert card.data.pipeline_tag == pipeline
        assert f"the {part}" in card.text
        assert "After step 2." in card.text
        assert "| disc_recall |" in card.text


def test_a_converted_folder_s_card(tmp_path):
    """The source's, or one that says where the model comes from."""
    source = tmp_path / "some/source"
    shutil.copytree(ROOT / "pretrained/convbert-tiny", source)
    (source / "README.md").unlink(missing_ok=True)
    flags = ["--input", str(source), "--backbone_only", "--to", "hf"]
    assert not convert.main([*flags, "--output", str(tmp_path / "hf")])
    card = ModelCard.load(tmp_path / "hf/README.md")
    assert card.data.library_name == "transformers"
    assert card.data.pipeline_tag == "feature-extraction"
    assert card.text.lstrip().startswith(WRITTEN)
    assert "# ConvBERT from some/source" in card.text
    (source / "README.md").write_text("# Theirs\n")
    assert not convert.main([*flags, "--output", str(tmp_path / "again")])
    assert (tmp_path / "again/README.md").read_text() == "# Theirs\n"


def test_a_table_s_cells():
    assert table(["a"], [["x|y\nz"], [0.5], [3]]) == "| a |\n| --- |\n| x\\|y z |\n| 0.5000 |\n| 3 |"
