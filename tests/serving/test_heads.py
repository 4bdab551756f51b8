"""Answers and tags from folders: slices of their texts, whatever the batch, by predict.py too."""

import json

import numpy as np
import pytest
from conftest import ROOT, needs
from family_models import saved
from test_serve import all_of, ask, browser, client_of, one_of, screenshot, served, severe, wait  # noqa: F401

import export
import predict
from files.errors import InputError
from files.json_files import read_json
from serving.heads import Answering, Tagging
from tasks.questions import Reading
from tasks.tags import read_sentences, tags_of

SIZES = dict(
    vocab_size=1176, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
    max_position_embeddings=96,
)  # fmt: skip
TEXT = "On Monday the tailor fixed the cheap guitar under the bridge."


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders of random models that answer and that tag, as run_squad.py and run_tagging.py leave them."""
    base = tmp_path_factory.mktemp("heads")
    names = tags_of(read_sentences(ROOT / "samples/tags/dev.conll"))
    saved(base / "answers", "bert", "ForQuestionAnswering", **SIZES, num_labels=2,
          trained_with=dict(doc_stride=8, max_query_length=12))  # fmt: skip
    saved(base / "tags", "bert", "ForTokenClassification", **SIZES, num_labels=len(names), label_names=names,
          trained_with=dict(scheme="bio", stride=2))  # fmt: skip
    saved(base / "texts", "bert", "ForSequenceClassification", **SIZES)
    saved(base / "encoder", "bert", "Model", **SIZES)
    for folder in base.iterdir():
        (folder / "vocab.txt").write_bytes((ROOT / "samples/vocab.txt").read_bytes())
    return base


def test_answers_are_slices_and_do_not_depend_on_company(folders):
    asked = [(q.text, q.context) for q in Reading(ROOT / "samples/answers/dev.json").questions[:20]]
    model = Answering(folders / "answers", max_seq_length=32, batch_size=4)
    together = model(asked)
    for (question, context), found in zip(asked, together, strict=True):
        assert context[found["start"] : found["end"]] == found["answer"] != ""
        (alone,) = Answering(folders / "answers", max_seq_length=32)([(question, context)])
        assert alone["answer"] == found["answer"]
        assert alone["probability"] == pytest.approx(found["probability"], abs=1e-5)
        chances = [found["probability"], *(other["probability"] for other in found["others"])]
        assert chances == sorted(chances, reverse=True)


def test_a_model_that_may_refuse(folders, tmp_path):
    saved(tmp_path, "bert", "ForQuestionAnswering", **SIZES, num_labels=2,
          trained_with=dict(doc_stride=8, max_query_length=12, version_2_with_negative=True,
                            null_score_diff_threshold=-1e9))  # fmt: skip
    (tmp_path / "vocab.txt").write_bytes((ROOT / "samples/vocab.txt").read_bytes())
    (refused,) = Answering(tmp_path)([("Who?", TEXT)])
    assert refused["answer"] == ""
    assert refused["others"][0]["answer"] != ""
    model = Answering(tmp_path)
    model.threshold = 1e9
    (given,) = model([("Who?", TEXT)])
    assert given["answer"] != ""


@pytest.mark.parametrize("text", [TEXT, "长江 flows, 很长。", "", "a" * 300])
def test_tags_of_a_text_are_slices(folders, text):
    model = Tagging(folders / "tags", max_seq_length=12)
    (found,) = model([text])
    assert found["text"] == text
    assert [text[start:end] for start, end in found["places"]] == found["words"]
    assert len(found["tags"]) == len(found["words"]) == len(found["probabilities"])
    for entity in found["entities"]:
        assert text[entity["start"] : entity["end"]] == entity["text"] != ""
    assert "".join(found["words"]) == "".join(text.split())


def test_words_keep_their_number(folders):
    words = ["On", "Monday", "\u200b", "unbelievably", "."] * 20
    (found,) = Tagging(folders / "tags", max_seq_length=12)([words])
    assert found["words"] == words
    assert len(found["tags"]) == len(words)
    for entity in found["entities"]:
        assert words[entity["first"] : entity["last"] + 1] == entity["words"]


def test_predict_answers_and_tags(folders, tmp_path, capsys):
    flags = ["--device", "cpu"]
    assert predict.main(["--model", str(folders / "answers"), "--question", "Who?", "--context", TEXT, *flags]) == 0
    found = json.loads(capsys.readouterr().out)
    assert TEXT[found["start"] : found["end"]] == found["answer"]
    assert predict.main(["--model", str(folders / "tags"), TEXT, *flags]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == TEXT
    (tmp_path / "q.jsonl").write_text(json.dumps(dict(id=7, question="Who?", context=TEXT)) + "\n\n", "utf-8")
    output = ["--output_file", str(tmp_path / "answers.jsonl")]
    arguments = ["--model", str(folders / "answers"), "--input_file", str(tmp_path / "q.jsonl"), *output, *flags]
    assert predict.main(arguments) == 0
    assert read_json(tmp_path / "answers.jsonl")["answer"] == found["answer"]
    assert read_json(tmp_path / "answers.jsonl")["id"] == 7
    squad = str(ROOT / "samples/answers/dev.json")
    capsys.readouterr()
    assert predict.main(["--model", str(folders / "answers"), "--input_file", squad, *flags]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 32
    (tmp_path / "t.jsonl").write_text('{"tokens": ["On", "Monday"]}\n{"text": "On Monday"}\n', "utf-8")
    assert predict.main(["--model", str(folders / "tags"), "--input_file", str(tmp_path / "t.jsonl"), *flags]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["tags"] == second["tags"]


@pytest.mark.parametrize(
    ("folder", "flags", "message"),
    [
        ("texts", "--question Who --context x", "--question: .*texts has no head for answers; run_squad.py trains one"),
        ("answers", "text", "answers questions: give --question and --context, or --input_file"),
        ("answers", "--question Who --context x --format csv", "--format csv: answers and tags are written as JSON"),
        ("tags", "text --layer 1", "--layer: not for a model of answers or tags"),
        ("answers", "--input_file bad.jsonl", "bad.jsonl, line 1: not JSON"),
        ("answers", "--input_file no.jsonl", "no.jsonl, line 1: 'context' must be a text"),
        ("tags", "--input_file no.jsonl", "no.jsonl, line 1: 'tokens', a list of words, or 'text' is wanted"),
    ],
)
def test_what_does_not_fit_is_one_line(folders, tmp_path, monkeypatch, one_line, folder, flags, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_text("{\n")
    (tmp_path / "no.jsonl").write_text('{"question": "Who"}\n')
    one_line(predict.main(["--model", str(folders / folder), "--device", "cpu", *flags.split()]), message)


@needs("fastapi", "httpx2")
def test_the_server_answers_and_tags(folders, client_of):  # noqa: F811
    asking = client_of(Answering(folders / "answers", 32))
    assert asking.get("/health").json()["routes"] == ["/answer", "/embed"]
    (found,) = asking.post("/answer", json=dict(question="Who?", context=TEXT)).json()["answers"]
    assert TEXT[found["start"] : found["end"]] == found["answer"]
    several = asking.post("/answer", json=dict(question=["Who?", "Where?"], context=TEXT)).json()["answers"]
    assert len(several) == 2
    assert several[0]["answer"] == found["answer"]
    assert 'data-head="answers"' in asking.get("/").text
    assert asking.post("/predict", json=dict(text="x")).status_code == 404
    assert asking.post("/answer", json=dict(question="Who?")).status_code == 422
    assert asking.post("/answer", json=dict(question=["Who?"], context=["a", "b"])).status_code == 422
    refused = asking.post("/answer", json=dict(question=" ", context=TEXT))
    assert (refused.status_code, refused.json()["detail"]) == (422, "question 1 has no word")
    assert asking.post("/answer", json=dict(question=[], context=TEXT)).json() == {"answers": []}

    tagging = client_of(Tagging(folders / "tags", 32))
    assert tagging.get("/health").json()["routes"] == ["/embed", "/tag"]
    assert tagging.get("/health").json()["labels"][0] == "O"
    (found,) = tagging.post("/tag", json=dict(text=TEXT)).json()["tagged"]
    assert [TEXT[start:end] for start, end in found["places"]] == found["words"]
    (one,) = tagging.post("/tag", json=dict(words=["On", "Monday"])).json()["tagged"]
    two = tagging.post("/tag", json=dict(words=[["On", "Monday"], ["the"]])).json()["tagged"]
    assert one["tags"] == two[0]["tags"]
    assert tagging.post("/tag", json=dict(text="a", words=["a"])).status_code == 422
    assert tagging.post("/tag", json={}).status_code == 422


@needs("paddle2onnx", "onnxruntime")
@pytest.mark.parametrize("form", ["onnx", "paddle_inference"])
@pytest.mark.parametrize("kind", ["answers", "tags"])
def test_an_exported_head_says_the_same(folders, tmp_path, capsys, one_line, kind, form):
    flags = ["--output", str(tmp_path / "program"), "--format", form, "--max_seq_length", "32"]
    assert export.main(["--model", str(folders / kind), *flags]) == 0
    maker, given = (Answering, [("Who?", TEXT)]) if kind == "answers" else (Tagging, [TEXT])
    (before,), (after,) = (maker(folder, 32)(given) for folder in (folders / kind, tmp_path / "program"))
    if kind == "answers":
        assert after["answer"] == before["answer"]
        assert after["probability"] == pytest.approx(before["probability"], abs=1e-5)
    else:
        assert after["tags"] == before["tags"]
        assert [entity["text"] for entity in after["entities"]] == [entity["text"] for entity in before["entities"]]
    capsys.readouterr()
    asked = ["--input_file", str(tmp_path / "none.jsonl"), "--dtype", "bfloat16", "--device", "cpu"]
    one_line(predict.main(["--model", str(tmp_path / "program"), *asked]), "holds a program, which computes as it was")


def test_another_head_is_refused(folders):
    with pytest.raises(InputError, match="a head for texts, which can't give answers; train first"):
        Answering(folders / "texts")


@pytest.mark.slow
def test_the_page_s_parts_in_a_browser(folders, browser):  # noqa: F811
    def fields(form):
        return {field.get_attribute("id"): field for field in all_of(browser, f"{form} textarea")}

    shown = ["#form", "#ask", "#mark", "#turn"]
    with served(folders / "answers", "--max_seq_length", "48") as (address, _):
        browser.get(f"{address}/")
        assert [form for form in shown if one_of(browser, form).is_displayed()] == ["#ask"]
        text = {name: field.get_attribute("value") for name, field in fields("#ask").items()}
        one_of(browser, "#answer-button").click()
        items = wait(browser, lambda: all_of(browser, "#answer li"))
        best, *_ = ask(address, text, "/answer")[1]["answers"]
        assert len(items) == 1 + len(best["others"])
        assert items[0].text == f"{best['answer']} ({best['probability']:.4f})"
        mark = one_of(browser, "#answer mark")
        assert mark.text.startswith(best["answer"])
        assert one_of(browser, "#answer .text").text.startswith(text["context"][: best["start"]].strip())
        fields("#ask")["question"].clear()
        fields("#ask")["question"].send_keys(" ")
        one_of(browser, "#answer-button").click()
        wait(browser, lambda: one_of(browser, "#error").text == "question 1 has no word")
        screenshot(browser, "answers")
        assert all("/answer" in message for message in severe(browser))

    with served(folders / "tags") as (address, _):
        browser.get(f"{address}/")
        assert [form for form in shown if one_of(browser, form).is_displayed()] == ["#mark"]
        text = "🎸 " + fields("#mark")["untagged"].get_attribute("value")
        browser.execute_script("arguments[0].value = arguments[1]", fields("#mark")["untagged"], text)
        one_of(browser, "#tag-button").click()
        marks = wait(browser, lambda: all_of(browser, "#answer mark"))
        (found,) = ask(address, {"text": text}, "/tag")[1]["tagged"]
        expected = [entity["text"] + entity["type"] for entity in found["entities"]]
        assert [mark.get_attribute("textContent") for mark in marks] == expected
        screenshot(browser, "tags")
        assert not severe(browser)

    with served(folders / "encoder") as (address, _):
        browser.get(f"{address}/")
        assert [form for form in shown if one_of(browser, form).is_displayed()] == ["#turn"]
        one_of(browser, "#compare").click()
        items = wait(browser, lambda: all_of(browser, "#answer li"))
        texts = [fields("#turn")[name].get_attribute("value") for name in ("first", "others")]
        vectors = np.array(ask(address, {"text": [texts[0], *texts[1].split("\n")]}, "/embed")[1]["embeddings"])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        shares = sorted((vectors[1:] @ vectors[0]).tolist(), reverse=True)
        assert [float(item.text.split()[0]) for item in items] == pytest.approx(shares, abs=1e-4)
        screenshot(browser, "vectors")
        assert not severe(browser)
