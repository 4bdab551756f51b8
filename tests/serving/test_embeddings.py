"""Vectors of texts: those of the encoder, whatever the batch and the head beside it; JSON lines and .npy."""

import json

import numpy as np
import paddle
import pytest
from conftest import ROOT, needs
from family_models import saved
from test_export import model_folder
from test_serve import client_of  # noqa: F401  (a fixture)

import predict
import serve
from family.bert import BertModel
from serving.embeddings import Embedder
from serving.predictor import Predictor

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
    embedder = Embedder.of_folder(folder)
    found = embedder(TEXTS, None, pooling)
    model = BertModel.from_pretrained(str(folder))
    model.eval()
    for text, vector in zip(TEXTS, found, strict=True):
        ids = paddle.to_tensor([embedder.tokenizer(text)["input_ids"]])
        with paddle.no_grad():
            output = model(ids)
        hidden = (output[0] if isinstance(output, tuple) else output).numpy()[0]
        np.testing.assert_allclose(vector, hidden[0] if pooling == "cls" else hidden.mean(0), rtol=0, atol=2e-5)
    pairs = embedder(TEXTS, TEXTS[::-1], pooling)
    assert np.abs(pairs - found).max() > 1e-3


def test_predict_writes_json_lines_and_arrays(folder, tmp_path, capsys):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS), "utf-8")
    common = f"--model {folder} --input_file {tmp_path / 'texts.txt'} --embeddings mean --device cpu".split()
    assert predict.main(common) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["text"] for line in lines] == TEXTS
    assert predict.main([*common, "--output_file", str(tmp_path / "v.npy")]) == 0
    array = np.load(tmp_path / "v.npy")
    assert array.shape == (3, 32)
    np.testing.assert_allclose(array, [line["embedding"] for line in lines], rtol=0, atol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_other_texts_change_nothing(tmp_path, masked):
    """Not even for a ConvBERT whose convolutions read padding."""
    folder = model_folder(tmp_path / "model", mask_conv_padding=masked)
    embedder = Embedder.of_folder(folder)
    together = embedder(TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(embedder([text])[0], vector, rtol=0, atol=2e-6)


@needs("fastapi", "httpx2")
def test_the_server_gives_the_same(folder, tmp_path, client_of):  # noqa: F811
    encoder = tmp_path / "encoder"
    saved(encoder, "bert", "Model", **SIZES)
    (encoder / "vocab.txt").write_bytes((ROOT / "samples/vocab.txt").read_bytes())
    for source, path in ((folder, "texts"), (encoder, "vectors")):
        embedder = Embedder.of_folder(source)
        predictor = embedder if path == "vectors" else Predictor(source, independent=True)
        client = client_of(predictor)
        assert f'data-head="{path}"' in client.get("/").text
        routes = client.get("/health").json()["routes"]
        assert routes == (["/embed"] if path == "vectors" else ["/embed", "/explain", "/predict"])
        for pooling in ("cls", "mean"):
            found = client.post("/embed", json={"text": TEXTS, "text_pair": TEXTS, "pooling": pooling}).json()
            np.testing.assert_allclose(found["embeddings"], embedder(TEXTS, TEXTS, pooling), rtol=0, atol=1e-6)
        (one,) = client.post("/embed", json={"text": TEXTS[0]}).json()["embeddings"]
        np.testing.assert_allclose(one, embedder(TEXTS[:1])[0], rtol=0, atol=1e-6)
        assert client.post("/embed", json={"text": []}).json() == {"embeddings": []}
        for wrong in ({"text": "x", "pooling": "max"}, {"text": ["x"], "text_pair": "y"}, {}):
            assert client.post("/embed", json=wrong).status_code == 422


def test_serve_takes_an_encoder_alone(tmp_path):
    saved(tmp_path / "encoder", "bert", "Model", **SIZES)
    (tmp_path / "encoder/vocab.txt").write_bytes((ROOT / "samples/vocab.txt").read_bytes())
    args = serve.parse_args(["--model", str(tmp_path / "encoder"), "--device", "cpu"])
    assert isinstance(serve.made(args), Embedder)


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
