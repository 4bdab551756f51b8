"""Looking inside: the kernels and maps that are drawn are those that the model computes with."""

import numpy as np
import pytest
from test_export import model_folder

import modeling
import predict
from family import self_attention
from files.errors import InputError
from serving import explanation
from serving.explanation import draw_explanation, explain
from serving.predictor import Predictor


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return Predictor(model_folder(tmp_path_factory.mktemp("model") / "model", label_names=["bad", "good"]))


def test_kernels_are_those_of_the_forward_pass(predictor, monkeypatch):
    """Seen where the plain definition uses them."""
    used = []
    real = modeling.dynamic_conv

    def dynamic_conv(values, kernels):
        used.append(kernels[0].numpy())
        return real(values, kernels)

    monkeypatch.setenv("CONVBERT_KERNELS", "paddle")
    monkeypatch.setattr(modeling, "dynamic_conv", dynamic_conv)
    for layer in (1, 2):
        used.clear()
        found = explain(predictor, "a good film", "with a second text", layer)
        assert found.kernels.shape == (2, len(found.tokens), 9)
        np.testing.assert_allclose(found.kernels, used[layer - 1].transpose(1, 0, 2), atol=1e-6)
        np.testing.assert_allclose(found.kernels.sum(-1), 1, atol=1e-5)
        np.testing.assert_allclose(found.attention.sum(-1), 1, atol=1e-5)
    assert found.attention.shape == (2, len(found.tokens), len(found.tokens))
    assert found.tokens[0] == "[CLS]"
    assert found.tokens.count("[SEP]") == 2
    (expected,) = predictor(["a good film"], ["with a second text"])
    assert found.answers == pytest.approx(expected.probabilities, abs=1e-6)


@pytest.mark.parametrize("model_type", ["bert", "electra", "ernie"])
def test_other_architectures_have_attention_alone(tmp_path, monkeypatch, model_type):
    """All of it, as in the forward pass, in two rows; nothing is said of convolutions."""
    used, words = [], []
    real, write = self_attention.attention, explanation.write_picture

    def attention(*inputs):
        attended, probabilities = real(*inputs)
        if probabilities is not None:
            used.append(probabilities[0].numpy())
        return attended, probabilities

    def read_and_write(picture, path):
        words.extend(text.get_text() for panel in picture.axes for text in [panel.title, *panel.texts])
        write(picture, path)

    looked_at = Predictor(model_folder(tmp_path / "model", model_type, num_attention_heads=4, embedding_size=16))
    with monkeypatch.context() as patch:
        patch.setenv("CONVBERT_KERNELS", "paddle")
        patch.setattr(self_attention, "attention", attention)
        plain = explain(looked_at, "a good film", "with a second text", 2)
    monkeypatch.setattr(explanation, "write_picture", read_and_write)
    found = explain(looked_at, "a good film", "with a second text", 2)
    assert found.kernels is None
    assert found.attention.shape == (4, len(found.tokens), len(found.tokens))
    np.testing.assert_array_equal(plain.attention, used[1])
    np.testing.assert_allclose(found.attention, plain.attention, atol=1e-6)
    draw_explanation(found, tmp_path / "a.png")
    assert [text for text in words if "head" in text] == [f"attention head {number}" for number in (1, 2, 3, 4)]
    assert "answer" in words
    assert "layer 2 of 2" in words


def test_more_heads_than_there_is_room_for(tmp_path, monkeypatch):
    words = []
    write = explanation.write_picture

    def read_and_write(picture, path):
        words.extend(text.get_text() for panel in picture.axes for text in [panel.title, *panel.texts])
        write(picture, path)

    monkeypatch.setattr(explanation, "write_picture", read_and_write)
    for heads, rest in ((13, True), (12, False), (3, False), (1, False)):
        words.clear()
        sizes = dict(num_attention_heads=heads, hidden_size=8 * heads, label_names=["bad", "good"])
        found = explain(Predictor(model_folder(tmp_path / f"{heads}", "bert", **sizes)), "a good film")
        draw_explanation(found, tmp_path / f"{heads}.png")
        assert sum(text.startswith("attention head") for text in words) == min(heads, 12)
        assert any("12 of 13 heads" in text for text in words) == rest


def test_layers_and_models_that_can_not_be_looked_into(predictor):
    assert explain(predictor, "a").layer == 1  # the middle one of two
    for layer in (0, 3, -1):
        with pytest.raises(InputError, match=f"layer {layer}: this model has layers 1 to 2"):
            explain(predictor, "a", layer=layer)


def test_the_picture(tmp_path, capsys, one_line):
    from matplotlib import pyplot

    folder = model_folder(tmp_path / "model", num_labels=3,
                          label_names=["a", "b", "a name that is longer than there is room for"])  # fmt: skip
    command = ["--model", str(folder), "word " * 12, "--device", "cpu", "--explain"]
    assert predict.main([*command, str(tmp_path / "in.png"), "--layer", "2"]) == 0
    height, width, _ = pyplot.imread(tmp_path / "in.png").shape
    assert width > height > 500
    capsys.readouterr()
    one_line(
        predict.main([*command, str(tmp_path / "other.png"), "--layer", "3"]), "layer 3: this model has layers 1 to 2"
    )
    assert not (tmp_path / "other.png").exists()
    with pytest.raises(SystemExit):
        predict.main([*command, "in.txt"])


def test_what_holds_is_told_apart(tmp_path):
    """Any number of labels: those above 0.5 are drawn as the answer; a class and a number always are."""
    names = dict(num_labels=3, label_names=["art", "war", "law"])
    several = Predictor(model_folder(tmp_path / "a", **names, problem_type="multi_label_classification"))
    found = explain(several, "a good film")
    assert found.chosen == [name for name, chance in found.answers.items() if chance > 0.5]
    assert 0 < len(found.chosen) < 3
    found = explain(Predictor(model_folder(tmp_path / "b", **names)), "a good film", "")
    assert found.chosen == [max(found.answers, key=found.answers.get)]
    assert found.tokens.count("[SEP]") == 2
    number = Predictor(model_folder(tmp_path / "c", num_labels=1, label_names=None))
    assert explain(number, "a good film").chosen == ["score"]


def test_what_is_left_out_is_said(predictor, tmp_path):
    texts = []
    real = explanation.write_picture
    found = explain(predictor, "word " * 60)

    def write(picture, path):
        texts.extend(text.get_text() for panel in picture.axes for text in panel.texts)
        real(picture, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explanation, "write_picture", write)
        draw_explanation(found, tmp_path / "a.svg")
    assert any(f"the first 48 of {len(found.tokens)} tokens" in text for text in texts)
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")
