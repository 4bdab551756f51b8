"""run_tagging.py: learning, its losses beside Hugging Face's, going on, prediction, evaluation alone."""

import re

import numpy as np
import pytest
from conftest import ROOT, needs
from family_models import saved
from test_run_glue import command as glue_command

import run_tagging
from files.json_files import read_json
from files.weights import read_weights
from tasks.tags import TaggedWindows, Windows, read_sentences, tags_of
from tokenizer import ConvBertTokenizer
from training import fine_tuning

TAGS = ROOT / "samples/tags"
SIZES = dict(
    vocab_size=1176, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
    max_position_embeddings=96,
)  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    saved(folder, "bert", "Model", **SIZES)
    (folder / "vocab.txt").write_bytes((ROOT / "samples/vocab.txt").read_bytes())
    return folder


def command(model, output, **flags):
    settings = dict(
        task_name=None, data_dir=None, train_file=TAGS / "train.conll", validation_file=TAGS / "dev.conll",
        max_seq_length=16, stride=4, from_scratch=None, model_type="bert", batch_size=16,
    )  # fmt: skip
    return glue_command(model, output, **{**settings, **flags})


LINE = r"eval loss: [\d.]+, precision: [\d.]+, recall: [\d.]+, f1: [\d.]+, accuracy: [\d.]+, eval done total : [\d.]+ s"


def test_a_run_learns_and_loses_no_word(tiny, tmp_path, capsys):
    arguments = command(tiny, tmp_path / "out", max_steps=60, save_steps=30, learning_rate=5e-3, do_predict=True,
                        test_file=TAGS / "dev.conll")  # fmt: skip
    assert run_tagging.main(arguments) == 0
    printed = capsys.readouterr()
    assert len(re.findall(f"^{LINE}$", printed.out, re.M)) == 2
    assert "scheme: bio (--scheme decides)" in printed.err
    results = read_json(tmp_path / "out/results.json")
    assert results["best_score"] > 0.9
    assert set(results["by_type"]) == {"person", "place", "thing", "time"}
    assert all(found["entities"] == 30 for found in results["by_type"].values())
    assert (tmp_path / "out/confusion.png").stat().st_size > 5000
    sentences = read_sentences(TAGS / "dev.conll")
    blocks = (tmp_path / "out/predictions_dev.conll").read_text("utf-8").strip().split("\n\n")
    for block, sentence in zip(blocks, sentences, strict=True):
        cells = [line.split("\t") for line in block.split("\n")]
        assert [cell[:2] for cell in cells] == [list(pair) for pair in zip(sentence.words, sentence.tags, strict=True)]
    tested = (tmp_path / "out/predictions_test.conll").read_text("utf-8")
    assert [line.split("\t")[-1] for line in tested.split("\n")] == [
        line.split("\t")[-1] for line in (tmp_path / "out/predictions_dev.conll").read_text("utf-8").split("\n")
    ]
    config = read_json(tmp_path / "out/config.json")
    assert config["architectures"] == ["BertForTokenClassification"]
    assert config["trained_with"] == {"scheme": "bio", "stride": 4, "label_all_pieces": False}
    assert next(iter(config["id2label"].values())) == "O"

    again = command(tmp_path / "out", tmp_path / "again", do_train=False, train_file=None)
    assert run_tagging.main(again) == 0
    found = read_json(tmp_path / "again/results.json")
    assert found["best_score"] == results["best_score"]


def test_half_a_run_and_the_rest_are_the_whole(tiny, tmp_path):
    whole, parts = (command(tiny, tmp_path / name, max_steps=8, save_steps=4) for name in ("whole", "parts"))
    assert run_tagging.main(whole) == 0
    step, seen = fine_tuning.backward, []

    def stopped(*arguments):
        if arguments[-1] == 6 and not seen:
            seen.append(6)
            raise KeyboardInterrupt
        return step(*arguments)

    fine_tuning.backward = stopped
    try:
        assert run_tagging.main(parts) == 130
        assert run_tagging.main([*parts, "--resume"]) == 0
    finally:
        fine_tuning.backward = step
    first, second = (read_weights(tmp_path / name) for name in ("whole", "parts"))
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name], err_msg=name)


def test_plain_tags_are_scored_by_accuracy(tiny, tmp_path, capsys):
    for split in ("train", "dev"):
        lines = (TAGS / f"{split}.conll").read_text("utf-8").replace("\tB-", "\t").replace("\tI-", "\t")
        (tmp_path / f"{split}.conll").write_text(lines, "utf-8")
    files = dict(train_file=tmp_path / "train.conll", validation_file=tmp_path / "dev.conll")
    assert run_tagging.main(command(tiny, tmp_path / "out", **files)) == 0
    printed = capsys.readouterr()
    assert re.search(r"^eval loss: [\d.]+, accuracy: [\d.]+, eval done", printed.out, re.M)
    assert "best accuracy: " in printed.err


def test_batches_in_pieces_are_one_batch(tiny, tmp_path):
    """The mean is over a batch's words, however it is cut."""
    model, states = tmp_path / "start", []
    saved(model, "bert", "Model", **SIZES, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    (model / "vocab.txt").write_bytes((tiny / "vocab.txt").read_bytes())
    for name, flags in (("one", dict(batch_size=16)), ("four", dict(batch_size=4, gradient_accumulation_steps=4))):
        assert run_tagging.main(command(model, tmp_path / name, logging_steps=1, **flags)) == 0
        states.append([entry["loss"] for entry in read_json(tmp_path / name / "results.json")["log"]])
    np.testing.assert_allclose(*states, rtol=0, atol=2e-5)


@needs("torch", "transformers")
def test_the_first_losses_are_hugging_faces(tmp_path):
    import torch
    import transformers

    from convert import main as convert
    from training.order import shuffled_batches

    folder, names = tmp_path / "start", tags_of(read_sentences(TAGS / "train.conll"))
    saved(folder, "bert", "ForTokenClassification", **SIZES, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
          num_labels=len(names), label_names=names)  # fmt: skip
    (folder / "vocab.txt").write_bytes((ROOT / "samples/vocab.txt").read_bytes())
    flags = dict(max_steps=20, save_steps=20, logging_steps=1, learning_rate=1e-3, max_seq_length=64)
    assert run_tagging.main(command(folder, tmp_path / "ours", **flags)) == 0
    ours = [entry["loss"] for entry in read_json(tmp_path / "ours/results.json")["log"]]

    assert convert(["--input", str(folder), "--output", str(tmp_path / "theirs"), "--to", "hf"]) == 0
    model = transformers.BertForTokenClassification.from_pretrained(tmp_path / "theirs").train()
    tokenizer = transformers.BertTokenizerFast.from_pretrained(folder)
    sentences = read_sentences(TAGS / "train.conll")
    words = [list(sentence.words) for sentence in sentences]
    encoded = tokenizer(words, is_split_into_words=True, padding=True)
    labels = []
    for row, sentence in enumerate(sentences):
        before, found = None, []
        for word in encoded.word_ids(row):
            found.append(-100 if word is None or word == before else names.index(sentence.tags[word]))
            before = word
        labels.append(found)
    rows = TaggedWindows(ConvBertTokenizer.from_pretrained(folder), sentences, Windows(64, 4), names)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, eps=1e-6, weight_decay=0.0)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, 2, 20)
    batches = [batch for epoch in range(4) for batch in shuffled_batches(rows.lengths, 16, 42, epoch)]
    theirs = []
    for batch in batches[:20]:
        inputs = {n: torch.tensor([encoded[n][row] for row in batch]) for n in ("input_ids", "attention_mask")}
        loss = model(**inputs, labels=torch.tensor([labels[row] for row in batch])).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        theirs.append(loss.item())
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)
