"""Our folders in PaddleNLP's ConvBERT and the reverse; Hugging Face's encoders in PaddleNLP's classes."""

import http.server
import sys
import threading

import numpy as np
import paddle
import pytest
from conftest import ROOT, needs

import modeling
import run_glue
from comparison import parity
from conversion import paddlenlp_models
from files.errors import InputError
from files.json_files import read_json, write_json
from files.weights import read_weights, write_safetensors
from modeling import ConvBertConfig, ConvBertForSequenceClassification, ConvBertModel

pytestmark = needs("paddlenlp")

SETTINGS = dict(
    vocab_size=120, embedding_size=16, hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64,
    max_position_embeddings=80, num_labels=3, label_names=["no", "yes", "perhaps"],
)  # fmt: skip


def disturbed(model):
    """Evaluating, with no parameter at a trivial value; the pad row stays zero, as PaddleNLP reads it."""
    random = np.random.default_rng(0)
    for weight in model.parameters():
        weight.set_value(weight.numpy() + random.normal(0, 0.05, weight.shape).astype("f"))
    words = model.state_dict()[next(name for name in model.state_dict() if "word_embeddings" in name)]
    with paddle.no_grad():
        words[0] = 0.0
    model.eval()
    return model


def batch(settings):
    """input_ids, token_type_ids, attention_mask."""
    return parity.batch(ConvBertConfig(**settings)).values()


def hidden_states(ours, theirs):
    """Last hidden states of both on one padded batch with two segments."""
    ids, types, mask = map(paddle.to_tensor, batch(SETTINGS))
    theirs.eval()
    with paddle.no_grad():
        return ours(ids, types, attention_mask=mask).numpy(), theirs(ids, types, attention_mask=mask)[0].numpy()


def zoo():
    import paddlenlp.transformers

    return paddlenlp.transformers


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("classifier", ["mlp", "linear", "pooled_mlp"])
def test_paddlenlp_loads_our_folders(tmp_path, classifier, groups):
    config = ConvBertConfig(**SETTINGS, classifier=classifier, num_groups=groups)
    ours = disturbed(ConvBertForSequenceClassification(config))
    ours.save_pretrained(tmp_path)
    theirs = zoo().ConvBertModel.from_pretrained(tmp_path)
    np.testing.assert_allclose(*hidden_states(ours.convbert, theirs), rtol=0, atol=1e-5)


def test_paddlenlp_loads_our_bare_encoder(tmp_path):
    ours = disturbed(ConvBertModel(ConvBertConfig(**SETTINGS)))
    ours.save_pretrained(tmp_path)
    np.testing.assert_allclose(*hidden_states(ours, zoo().ConvBertModel.from_pretrained(tmp_path)), rtol=0, atol=1e-5)


def test_classification_logits_and_labels_agree(tmp_path):
    """pooled_mlp is PaddleNLP's head; the folder goes there and back."""
    ours = disturbed(ConvBertForSequenceClassification(ConvBertConfig(**SETTINGS, classifier="pooled_mlp")))
    ours.save_pretrained(tmp_path / "ours")
    theirs = zoo().ConvBertForSequenceClassification.from_pretrained(tmp_path / "ours")
    theirs.eval()
    assert theirs.config.id2label == {0: "no", 1: "yes", 2: "perhaps"}
    ids, types, mask = map(paddle.to_tensor, batch(SETTINGS))
    with paddle.no_grad():
        expected = theirs(ids, types, attention_mask=mask).numpy()
        np.testing.assert_allclose(ours(ids, types, attention_mask=mask).numpy(), expected, rtol=0, atol=1e-5)
        theirs.save_pretrained(str(tmp_path / "theirs"))
        back = ConvBertForSequenceClassification.from_pretrained(tmp_path / "theirs")
        back.eval()
        np.testing.assert_array_equal(
            back(ids, types, attention_mask=mask).numpy(), ours(ids, types, attention_mask=mask).numpy()
        )
    assert back.config.label_names == ["no", "yes", "perhaps"]


@pytest.mark.parametrize("head", ["ConvBertModel", "ConvBertForSequenceClassification"])
@pytest.mark.parametrize("safe", [False, True])
def test_we_load_paddlenlp_s_folders(tmp_path, head, safe):
    settings = {key: value for key, value in SETTINGS.items() if key != "label_names"}
    theirs = disturbed(getattr(zoo(), head)(zoo().ConvBertConfig(**settings)))
    theirs.save_pretrained(str(tmp_path), safe_serialization=safe)
    ours = getattr(modeling, head).from_pretrained(tmp_path)
    ours.eval()
    assert ours.config.classifier == "pooled_mlp"
    ids, types, mask = map(paddle.to_tensor, batch(SETTINGS))
    with paddle.no_grad():
        expected = theirs(ids, types, attention_mask=mask)
        expected = expected[0] if isinstance(expected, tuple) else expected
        found = ours(ids, types, attention_mask=mask)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=0, atol=1e-5)


def test_an_unpadded_batch_agrees_whatever_the_pad_row_holds(tmp_path):
    ours = disturbed(ConvBertModel(ConvBertConfig(**SETTINGS)))
    with paddle.no_grad():
        ours.get_input_embeddings().weight[0] = 1.5
    ours.save_pretrained(tmp_path)
    theirs = zoo().ConvBertModel.from_pretrained(tmp_path)
    theirs.eval()
    ids = paddle.to_tensor(next(iter(batch(SETTINGS)))[:1])
    with paddle.no_grad():
        np.testing.assert_allclose(ours(ids).numpy(), theirs(ids)[0].numpy(), rtol=0, atol=1e-5)


def as_it_is(name):
    return name


def old(name):
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


def wrapped(name):
    return f"module._orig_mod.{name}"


def renamed(folder, spelling):
    """The folder with its weights under other names, as PyTorch's DataParallel and old files have them."""
    weights = {spelling(name): array for name, array in read_weights(folder).items()}
    write_safetensors(folder / "model.safetensors", weights, "pt")


@needs("torch", "transformers")
@pytest.mark.parametrize("spelling", [as_it_is, old, wrapped])
@pytest.mark.parametrize("model_type", ["bert", "electra", "ernie"])
def test_hugging_face_encoders_give_the_same_numbers(tmp_path, model_type, spelling):
    import torch
    import transformers

    family = paddlenlp_models.FAMILIES[model_type]
    settings = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, vocab_size=120)
    settings |= {"embedding_size": 16} if model_type == "electra" else {}
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**settings)
    theirs = getattr(transformers, f"{family}Model")(config).eval()
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
        theirs.embeddings.word_embeddings.weight[0] = 0
    theirs.save_pretrained(tmp_path)
    renamed(tmp_path, spelling)
    before = sorted(tmp_path.iterdir())
    ours = paddlenlp_models.load_paddlenlp_classifier(
        model_type, str(tmp_path), ["a", "b", "c"], vocab_size=0, start="misfit"
    )
    assert sorted(tmp_path.iterdir()) == before
    ours.eval()
    ids, types, mask = batch({"vocab_size": 120})
    with torch.no_grad():
        expected = theirs(
            torch.from_numpy(ids), token_type_ids=torch.from_numpy(types), attention_mask=torch.from_numpy(mask)
        )[0].numpy()
    ids, types, mask = map(paddle.to_tensor, (ids, types, mask))
    with paddle.no_grad():
        found = getattr(ours, ours.base_model_prefix)(ids, token_type_ids=types, attention_mask=mask)
    found = (found[0] if isinstance(found, tuple) else found).numpy()
    real = mask.numpy().astype(bool)
    np.testing.assert_allclose(found[real], expected[real], rtol=0, atol=1e-5)


def test_a_wrapper_around_paddlenlp_s_own_names_is_no_other_model(tmp_path):
    settings = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, vocab_size=120)
    theirs = disturbed(zoo().BertForSequenceClassification(zoo().BertConfig(**settings, num_labels=3)))
    theirs.save_pretrained(str(tmp_path), safe_serialization=True)
    renamed(tmp_path, wrapped)
    ours = paddlenlp_models.load_paddlenlp_classifier("bert", str(tmp_path), ["a", "b", "c"], vocab_size=0)
    for name, weight in theirs.state_dict().items():
        np.testing.assert_array_equal(ours.state_dict()[name].numpy(), weight.numpy())


@pytest.mark.parametrize("status", [200, 403, 404, 500])
def test_a_zoo_that_answers_is_there_whatever_it_answers(tmp_path, monkeypatch, status):
    """An object store's root answers 403."""
    import paddlenlp.utils.env

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(status)

        def log_message(self, *args):
            pass

    monkeypatch.setattr(paddlenlp.utils.env, "MODEL_HOME", str(tmp_path))
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        monkeypatch.setattr(paddlenlp_models, "ZOO_HOST", f"http://127.0.0.1:{server.server_port}")
        with paddlenlp_models._one_line_errors("bert-base-uncased"):
            reached = True
    assert reached


@needs("torch", "transformers")
def test_an_unknown_part_of_an_ernie_is_named(tmp_path):
    import transformers

    config = transformers.ErnieConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=50
    )
    transformers.ErnieModel(config).save_pretrained(tmp_path)
    weights = read_weights(tmp_path)
    weights["encoder.layer.0.adapter.weight"] = np.zeros((2, 2), "f")
    write_safetensors(tmp_path / "model.safetensors", weights)
    with pytest.raises(InputError, match=r"unknown key encoder\.layer\.0\.adapter\.weight"):
        paddlenlp_models.load_paddlenlp_classifier("ernie", str(tmp_path), ["a", "b"], vocab_size=0, start="misfit")


def test_a_pooler_with_another_activation_is_refused(tmp_path):
    ConvBertModel(ConvBertConfig(**SETTINGS, classifier="pooled_mlp")).save_pretrained(tmp_path)
    write_json(tmp_path / "config.json", {**read_json(tmp_path / "config.json"), "pool_act": "relu"})
    with pytest.raises(InputError, match="pool_act 'relu'"):
        ConvBertModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("slip", ["import aistudio_sdk_of_another_time", "import numpy; numpy.no_such_name", "1 / 0"])
def test_a_paddlenlp_that_fails_to_import_is_one_line(tmp_path, monkeypatch, one_line, slip):
    (tmp_path / "paddlenlp").mkdir()
    (tmp_path / "paddlenlp/__init__.py").write_text(slip)
    for name in [name for name in sys.modules if name.partition(".")[0] == "paddlenlp"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    for source in (["--data_dir", str(ROOT / "samples")], []):
        flags = ["--task_name", "RTE", "--output_dir", str(tmp_path / "out"), "--device", "cpu", *source]
        status = run_glue.main(["--model_type", "bert", "--model_name_or_path", "bert-base-uncased", *flags])
        one_line(status, r"paddlenlp can't be imported \(\w+Error: .*\); make setup installs versions that go together")
