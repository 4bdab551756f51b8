"""Vectors of texts: those of the encoder, whatever the batch and the head beside it; JSON lines and .npy."""

import json

import numpy as np
import paddle
import pytest
from conftest import ROOT
from family_models import saved

import predict
from family.bert import BertModel
from serving.embeddings import Embedder

TEXTS = ["the tailor fixed the guitar .", "on monday", "a long sentence about the bridge , the mill and the river ."]
SIZES = dict(vocab_size=1176, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    saved(folder, "bert", "ForSequenceClassification", **SIZES)
    (folder / "vocab.txt").write_bytes((ROOT / "samples/vocab.txt").read_bytes())
    return folder


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_vectors_are_the_encoders(folder, pooling):
    embedder = Embedder(folder, pooling)
    found = embedder(TEXTS)
    model = BertModel.from_pretrained(str(folder))
    model.eval()
    for text, vector in zip(TEXTS, found, strict=True):
        ids = paddle.to_tensor([embedder.tokenizer(text)["input_ids"]])
        with paddle.no_grad():
            output = model(ids)
        hidden = (output[0] if isinstance(output, tuple) else output).numpy()[0]
        np.testing.assert_allclose(vector, hidden[0] if pooling == "cls" else hidden.mean(0), rtol=0, atol=2e-5)
    pairs = embedder(TEXTS, TEXTS[::-1])
    assert np.abs(pairs - found).max() > 1e-3


def test_predict_writes_json_lines_and_arrays(folder, tmp_path, capsys):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS), "utf-8")
    common = [
        "--model",
        str(folder),
        "--input_file",
        str(tmp_path / "texts.txt"),
        "--embeddings",
        "mean",
        "--device",
        "cpu",
    ]
    assert predict.main(common) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["text"] for line in lines] == TEXTS
    assert predict.main([*common, "--output_file", str(tmp_path / "v.npy")]) == 0
    array = np.load(tmp_path / "v.npy")
    assert array.shape == (3, 32)
    np.testing.assert_allclose(array, [line["embedding"] for line in lines], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--explain x.png", "--explain: not with --embeddings"),
        ("--format csv", "--embeddings writes JSON lines, or a .npy file"),
        ("--engine onnxruntime", "--embeddings writes JSON lines, or a .npy file"),
    ],
)
def test_what_does_not_fit_is_one_line(folder, one_line, flags, message):
    arguments = ["--model", str(folder), "--device", "cpu", "--embeddings", "cls", *flags.split(), "text"]
    one_line(predict.main(arguments), message)
