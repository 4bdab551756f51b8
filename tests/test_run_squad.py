"""run_squad.py: learning, its losses beside Hugging Face's, going on, 2.0, prediction, evaluation alone."""

import json
import re

import numpy as np
import pytest
from conftest import ROOT, needs
from family_models import saved
from test_run_glue import command as glue_command

import run_squad
from files.json_files import read_json
from files.weights import read_weights
from tasks.questions import Reading, TrainingWindows, Windows
from training import fine_tuning

ANSWERS = ROOT / "samples/answers"
SIZES = dict(
    vocab_size=1176, embedding_size=16, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
    intermediate_size=32, max_position_embeddings=96,
)  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    settings = {name: value for name, value in SIZES.items() if name != "embedding_size"}
    saved(folder, "bert", "Model", **settings)
    (folder / "vocab.txt").write_bytes((ROOT / "samples/vocab.txt").read_bytes())
    return folder


def command(model, output, **flags):
    settings = dict(
        task_name=None, data_dir=None, train_file=ANSWERS / "train.json", validation_file=ANSWERS / "dev.json",
        max_seq_length=64, doc_stride=16, max_query_length=16, from_scratch=None, model_type="bert", batch_size=16,
    )  # fmt: skip
    return glue_command(model, output, **{**settings, **flags})


def without_some_answers(path, output):
    """The same questions, every third of them unanswerable, as SQuAD 2.0 has them."""
    content = json.loads(path.read_text("utf-8"))
    questions = [q for article in content["data"] for part in article["paragraphs"] for q in part["qas"]]
    for number, question in enumerate(questions):
        question["is_impossible"] = number % 3 == 0
        if question["is_impossible"]:
            question["answers"] = []
    output.write_text(json.dumps(content), "utf-8")
    return output


LINE = r"eval loss: [\d.]+, exact_match: [\d.]+, f1: [\d.]+, eval done total : [\d.]+ s"


def test_a_run_learns_and_its_answers_are_slices(tiny, tmp_path, capsys):
    arguments = command(tiny, tmp_path / "out", max_steps=60, save_steps=30, learning_rate=5e-3, do_predict=True,
                        test_file=ANSWERS / "dev.json")  # fmt: skip
    assert run_squad.main(arguments) == 0
    printed = capsys.readouterr()
    assert len(re.findall(f"^{LINE}$", printed.out, re.M)) == 2
    assert "metric: squad (--metric decides)" in printed.err
    assert "96 questions" in printed.err
    questions = Reading(ANSWERS / "dev.json").questions
    results = read_json(tmp_path / "out/results.json")
    losses = [entry["loss"] for entry in results["log"]]
    assert losses[-1] < losses[0] / 2  # of ln 64 = 4.16
    answers = read_json(tmp_path / "out/predictions.json")
    best = read_json(tmp_path / "out/nbest_predictions.json")
    assert list(answers) == [question.id for question in questions]
    for question in questions:
        assert answers[question.id] in question.context
        assert best[question.id][0]["text"] == answers[question.id]
        for entry in best[question.id]:
            assert question.context[entry["start"] : entry["end"]] == entry["text"]
    assert read_json(tmp_path / "out/predictions/predictions.json") == answers
    config = read_json(tmp_path / "out/config.json")
    assert config["architectures"] == ["BertForQuestionAnswering"]
    assert config["trained_with"]["doc_stride"] == 16
    assert read_json(tmp_path / "out/tokenizer_config.json")["model_max_length"] == 64

    again = command(tmp_path / "out", tmp_path / "again", do_train=False, train_file=None)
    assert run_squad.main(again) == 0
    assert read_json(tmp_path / "again/predictions.json") == answers
    assert read_json(tmp_path / "again/results.json")["best_score"] == results["best_score"]


def test_half_a_run_and_the_rest_are_the_whole(tiny, tmp_path):
    whole = command(tiny, tmp_path / "whole", max_steps=8, save_steps=4)
    parts = command(tiny, tmp_path / "parts", max_steps=8, save_steps=4)
    assert run_squad.main(whole) == 0
    step = fine_tuning.backward
    seen = []

    def stopped(*arguments):
        if arguments[-1] == 6 and not seen:
            seen.append(6)
            raise KeyboardInterrupt
        return step(*arguments)

    fine_tuning.backward = stopped
    try:
        assert run_squad.main(parts) == 130
        assert run_squad.main([*parts, "--resume"]) == 0
    finally:
        fine_tuning.backward = step
    first, second = (read_weights(tmp_path / name) for name in ("whole", "parts"))
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name], err_msg=name)
    first, second = (read_json(tmp_path / name / "results.json") for name in ("whole", "parts"))
    assert first["evaluations"] == second["evaluations"]
    assert first["log"] == second["log"]


def test_questions_without_an_answer(tiny, tmp_path, capsys):
    names = "train", "dev"
    files = {name: without_some_answers(ANSWERS / f"{name}.json", tmp_path / f"{name}.json") for name in names}
    flags = dict(train_file=files["train"], validation_file=files["dev"], max_steps=30, save_steps=30)
    assert run_squad.main(command(tiny, tmp_path / "out", version_2_with_negative=True, **flags)) == 0
    printed = capsys.readouterr().out
    for name in ("has_ans_f1", "no_ans_f1", "best_f1", "best_f1_threshold"):
        assert f"{name}: " in printed
    odds = read_json(tmp_path / "out/null_odds.json")
    answers = read_json(tmp_path / "out/predictions.json")
    assert any(answers.values()) or any(margin > 0 for margin in odds.values())
    for name, margin in odds.items():
        assert (answers[name] == "") == (margin > 0)
    results = read_json(tmp_path / "out/results.json")
    found = results["evaluations"][-1]["dev"]
    assert found["best_f1"] >= found["f1"]
    assert results["best_score"] == found["best_f1"]
    kept = read_json(tmp_path / "out/config.json")["trained_with"]
    assert kept["null_score_diff_threshold"] == found["best_f1_threshold"]
    assert run_squad.main(command(tiny, tmp_path / "other", **flags)) == 2
    assert "has no answer; --version_2_with_negative is for such questions" in capsys.readouterr().err


@needs("torch", "transformers")
def test_the_first_twenty_losses_are_hugging_faces(tiny, tmp_path):
    """Without dropout, the same windows in the same batches: AdamW and the schedule written out in PyTorch."""
    import torch
    import transformers

    from convert import main as convert

    folder = tmp_path / "start"
    saved(folder, "bert", "ForQuestionAnswering", **{n: v for n, v in SIZES.items() if n != "embedding_size"},
          num_labels=2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)  # fmt: skip
    (folder / "vocab.txt").write_bytes((ROOT / "samples/vocab.txt").read_bytes())
    arguments = command(folder, tmp_path / "ours", max_steps=20, save_steps=20, logging_steps=1, learning_rate=1e-3)
    assert run_squad.main(arguments) == 0
    ours = [entry["loss"] for entry in read_json(tmp_path / "ours/results.json")["log"]]

    assert convert(["--input", str(folder), "--output", str(tmp_path / "theirs"), "--to", "hf"]) == 0
    model = transformers.BertForQuestionAnswering.from_pretrained(tmp_path / "theirs").train()
    from tokenizer import ConvBertTokenizer
    from training.order import shuffled_batches

    tokenizer = transformers.BertTokenizerFast.from_pretrained(folder)
    reading = Reading(ANSWERS / "train.json").questions
    encoded = tokenizer(
        [q.text for q in reading], [q.context for q in reading], truncation="only_second", max_length=64, stride=16,
        return_overflowing_tokens=True, return_offsets_mapping=True,
    )  # fmt: skip
    starts, ends = hugging_face_places(encoded, reading)
    windows = TrainingWindows(ConvBertTokenizer.from_pretrained(folder), reading, Windows(64, 16, 16))
    assert windows.starts.tolist() == starts
    assert windows.ends.tolist() == ends
    decayed = [w for n, w in model.named_parameters() if not n.endswith("bias") and "LayerNorm" not in n]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, eps=1e-6, weight_decay=0.0)
    assert decayed
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, 2, 20)
    batches = [batch for epoch in range(4) for batch in shuffled_batches(windows.lengths, 16, 42, epoch)]
    theirs = []
    for batch in batches[:20]:
        rows = {n: [encoded[n][row] for row in batch] for n in ("input_ids", "token_type_ids", "attention_mask")}
        inputs = tokenizer.pad(rows, return_tensors="pt")
        starts, ends = torch.tensor(windows.starts[batch]), torch.tensor(windows.ends[batch])
        loss = model(**inputs, start_positions=starts, end_positions=ends).loss
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        theirs.append(loss.item())
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


def hugging_face_places(encoded, questions):
    """Where Hugging Face's own way of looking up characters finds the answers."""
    starts, ends = [], []
    for row, sample in enumerate(encoded["overflow_to_sample_mapping"]):
        text, begin = questions[sample].answers[0]
        kinds = encoded.sequence_ids(row)
        inside = [place for place, kind in enumerate(kinds) if kind == 1]
        offsets = encoded["offset_mapping"][row]
        if not inside or offsets[inside[0]][0] > begin or offsets[inside[-1]][1] < begin + len(text):
            starts.append(0)
            ends.append(0)
            continue
        starts.append(max(place for place in inside if offsets[place][0] <= begin))
        ends.append(min(place for place in inside if offsets[place][1] >= begin + len(text)))
    return starts, ends
