import json
import re
import shutil
import sys

import numpy as np
import paddle
import pytest
from conftest import needs
from mutations import wrapped

import compare
import modeling
from comparison import golden_outputs, parity
from comparison.hugging_face_reference import HuggingFace
from comparison.model_pairs import LIBRARIES, Subject, random_subject
from comparison.references import Ours, architecture_of
from conversion import formats, weight_names
from files.json_files import read_json
from files.weights import read_weights, write_safetensors
from layers import functions
from layers.dense import Linear
from layers.functions import ACTIVATIONS
from modeling import ConvBertConfig

SETTINGS = dict(  # wide enough for a GELU by tanh to show
    vocab_size=3000, embedding_size=128, hidden_size=192, num_hidden_layers=3, num_attention_heads=4,
    intermediate_size=768, num_groups=2, num_labels=3, max_position_embeddings=80,
)  # fmt: skip
needs_hugging_face = needs("torch", "transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small Hugging Face classifier in the manner of convbert-medium-small, no parameter at a trivial value."""
    path = tmp_path_factory.mktemp("hf") / "mine"
    HuggingFace.random("ConvBertForSequenceClassification", ConvBertConfig(**SETTINGS)).save(path)
    return str(path)


def saved(folder, architecture, *configs):
    """Folder with a model of ours with random weights."""
    paddle.seed(0)
    getattr(modeling, architecture)(*configs).save_pretrained(folder)
    return str(folder)


# ------------------------------------------------------------------------------------------------------- what it sees


@pytest.fixture(scope="module")
def pair():
    subject = Subject("mine", ConvBertConfig(**SETTINGS), "ConvBertForSequenceClassification", HuggingFace)
    return subject.pair("ConvBertForSequenceClassification")


def agree(reference, ours):
    inputs = parity.batch(ours.config)
    findings = parity.layers("layers", reference, ours, inputs, 1e-5)
    return all(finding.passed for finding in (findings[-1], *parity.head("heads", CLASSIFIER, reference, ours, 1e-5)))


CLASSIFIER = "ConvBertForSequenceClassification"
ARCHITECTURES = [architecture_of(ConvBertConfig(), kind) for kind in parity.HEADS]
KINDS = [
    "embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight",
    "embeddings.token_type_embeddings.weight", "embeddings.layer_norm.weight", "embeddings.layer_norm.bias",
    "embeddings_project.weight", "embeddings_project.bias",
    *(
        f"encoder.layers.1.{part}"
        for part in (
            "self_attn.q_proj.weight", "self_attn.q_proj.bias", "self_attn.k_proj.weight", "self_attn.v_proj.weight",
            "self_attn.v_proj.bias", "self_attn.key_conv_attn_layer.depthwise.weight",
            "self_attn.key_conv_attn_layer.pointwise.weight", "self_attn.key_conv_attn_layer.bias",
            "self_attn.conv_kernel_layer.weight", "self_attn.conv_kernel_layer.bias",
            "self_attn.conv_out_layer.weight", "self_attn.conv_out_layer.bias", "self_attn.out_proj.weight",
            "self_attn.out_proj.bias", "linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias",
            "norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias",
        )
    ),
    "classifier.dense.weight", "classifier.dense.bias", "classifier.out_proj.weight", "classifier.out_proj.bias",
]  # fmt: skip


@needs_hugging_face
def test_the_same_weights_pass_and_every_kind_of_parameter_is_in_the_list(pair):
    assert agree(*pair)
    names = pair[1].weights()
    kinds = {re.sub(r"layers\.\d+", "layers.1", name.removeprefix("convbert.")) for name in names}
    assert kinds == {*KINDS, "encoder.layers.1.self_attn.k_proj.bias"}  # the softmax cannot see that one


@needs_hugging_face
@pytest.mark.parametrize("kind", KINDS)
def test_a_disturbed_parameter_fails(pair, kind):
    weight = pair[1].parameters()[kind if kind.startswith("classifier") else f"convbert.{kind}"]
    original = weight.numpy()
    try:
        weight.set_value(original + np.random.default_rng(0).normal(0, 0.01, original.shape).astype("f"))
        assert not agree(*pair)
    finally:
        weight.set_value(original)


def without_projection_bias(function, layer, x):
    embeddings = layer.weight.shape == [SETTINGS["embedding_size"], SETTINGS["hidden_size"]]
    return paddle.matmul(x, layer.weight) if embeddings else function(layer, x)


def with_output_transposed(function, layer, x):
    output = layer.weight.shape == [SETTINGS["hidden_size"]] * 2 and x.ndim == 3  # the head's square one sees no tokens
    return paddle.matmul(x, layer.weight.t()) + layer.bias if output else function(layer, x)


MUTATIONS = {
    "key and value swapped": wrapped(
        modeling, "attention", lambda f, query, key, value, *rest: f(query, value, key, *rest)
    ),
    "no scale": wrapped(modeling, "attention", lambda f, query, *rest: f(query * query.shape[-1] ** 0.5, *rest)),
    "a square weight transposed": wrapped(Linear, "forward", with_output_transposed),
    "the kernel shifted by one": wrapped(
        modeling, "dynamic_conv", lambda f, values, kernels: f(paddle.roll(values, 1, axis=1), kernels)
    ),
    "its taps reversed": wrapped(modeling, "dynamic_conv", lambda f, values, kernels: f(values, kernels.flip(-1))),
    "the mask off by one": wrapped(modeling, "additive_mask", lambda f, *inputs: paddle.roll(f(*inputs), 1, axis=-1)),
    "GELU by tanh": lambda monkeypatch: monkeypatch.setitem(ACTIVATIONS, "gelu", ACTIVATIONS["gelu_new"]),
    "LayerNorm's epsilon 1e-5": wrapped(functions, "layer_norm", lambda f, *inputs: f(*inputs[:3], 1e-5)),
    "groups swapped": wrapped(
        functions, "feed_forward", lambda f, x, w, *rest: f(x, w._replace(inner=w.inner.flip(0)), *rest)
    ),
    "no bias in the embeddings' projection": wrapped(Linear, "forward", without_projection_bias),
}  # fmt: skip


@needs_hugging_face
@pytest.mark.parametrize("mutation", [None, *MUTATIONS])
def test_a_mutated_model_fails(folder, monkeypatch, capsys, mutation):
    monkeypatch.setenv("CONVBERT_KERNELS", "paddle")  # the definitions are what is mutated
    if mutation:
        MUTATIONS[mutation](monkeypatch)
    status = compare.main(["--weights", folder, "--checks", "hidden"])
    assert status == (1 if mutation else 0)
    if mutation:
        first = "embeddings" if "epsilon" in mutation or "projection" in mutation else "layer 0"
        assert re.search(rf"mine: \d+ of \d+ differ, first layers, {first}: ", capsys.readouterr().err)


@needs_hugging_face
def test_a_wrong_port_names_the_layer(folder, monkeypatch, capsys):
    rename = weight_names.from_hugging_face

    def slipped(weights, *rest):
        renamed = rename(weights, *rest)
        name = "convbert.encoder.layers.1.linear2.bias"
        return {**renamed, name: renamed[name] * 1.01}

    monkeypatch.setattr(weight_names, "from_hugging_face", slipped)
    assert compare.main(["--weights", folder, "--checks", "hidden"]) == 1
    assert "first layers, layer 1: " in capsys.readouterr().err


def test_nan_never_passes():
    wrong = np.array([0.0, np.nan])
    assert not parity.closeness("hidden", "", np.zeros(2), wrong, 1e-5).passed
    assert not parity.closeness("hidden", "", wrong, np.zeros(2), 1e-5).passed


def test_the_mean_is_judged_too():
    assert not parity.closeness("hidden", "", np.zeros(2), np.full(2, 5e-6), 1e-5).passed
    assert parity.closeness("hidden", "", np.zeros(20), np.array([5e-6] + [0.0] * 19), 1e-5).passed


@needs_hugging_face
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_gradient_that_is_a_little_off_fails(architecture):
    """Twice the learning signal in one tensor of one layer."""
    subject = Subject("mine", ConvBertConfig(**SETTINGS), CLASSIFIER, HuggingFace)
    reference, ours = subject.pair(architecture)
    assert all(finding.passed for finding in parity.gradients(architecture, reference, ours))
    own = ours.gradients

    def scaled(*inputs):
        found = own(*inputs)
        name = "convbert.encoder.layers.1.self_attn.v_proj.weight"
        return {**found, name: found[name] * 1.001}

    ours.gradients = scaled
    failed = [finding.part for finding in parity.gradients(architecture, reference, ours) if not finding.passed]
    assert failed == [f"convbert.encoder.layers.1.self_attn.v_proj.weight, {parity.head_name(architecture)}"]
    ours.gradients = lambda *inputs: {n: g for n, g in own(*inputs).items() if "v_proj" not in n}
    assert sum("on one side only" in f.part for f in parity.gradients(architecture, reference, ours)) == 6


@needs_hugging_face
def test_training_that_is_a_little_off_fails(pair, monkeypatch):
    subject = Subject("mine", ConvBertConfig(**SETTINGS), CLASSIFIER, HuggingFace)
    reference, ours = subject.pair(CLASSIFIER)
    own = ours.train
    ours.train = lambda batches, rate: own(batches, rate * 1.01)
    losses, _ = parity.training(CLASSIFIER, reference, ours, steps=20, learning_rate=1e-3)
    assert not losses.passed


@needs_hugging_face
@pytest.mark.parametrize("count", [1, 7, 30])
def test_without_mask_conv_padding_padding_counts_as_at_hugging_face(pair, count):
    ids = np.random.default_rng(0).integers(1, SETTINGS["vocab_size"], (1, 20))
    padded = np.pad(ids, ((0, 0), (0, count)))
    reference, ours = pair
    inputs = {"input_ids": padded, "token_type_ids": padded * 0, "attention_mask": (padded != 0).astype("int64")}
    findings = parity.layers("padding", reference, ours, inputs, 1e-5)
    assert all(finding.passed for finding in findings)
    alone = {name: array[:, :20] for name, array in inputs.items()}
    assert np.abs(ours.forward(alone).hidden_states[-1] - ours.forward(inputs).hidden_states[-1][:, :20]).max() > 1e-4
    labels = {"labels": np.array([1])}
    expected, found = reference.gradients(inputs, labels), ours.gradients(inputs, labels)
    largest = max(np.abs(gradient).max() for gradient in expected.values())
    for name, gradient in expected.items():
        np.testing.assert_allclose(found[name] / largest, gradient / largest, rtol=0, atol=1e-5)


def test_batches_are_what_they_say():
    config = ConvBertConfig(**SETTINGS)
    for layout in parity.LAYOUTS:
        inputs = parity.batch(config, layout=layout)
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        assert ((ids != 0) == (mask == 1)).all()
        assert (mask[1:, 0] == 0).all() == (layout == "left-padded")
        assert mask.all() == (layout == "unpadded")
        assert set(inputs["token_type_ids"].ravel()) == {0, 1}
    small = parity.batch(ConvBertConfig(**{**SETTINGS, "max_position_embeddings": 10}))
    assert small["input_ids"].shape == (4, 10)


# ------------------------------------------------------------------------------------------------------------ command

PUBLISHED_LINES = r"""huggingface YituTech/conv-bert-small vs paddle convbert-small
mean difference: \d\.\d{4}e-0\d
max difference: \d\.\d{4}e-0\d
"""


@needs_hugging_face
def test_the_command_prints_the_published_lines(capsys, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert compare.main(["--models", "convbert-small", "--checks", "hidden"]) == 0
    printed = capsys.readouterr()
    assert re.match(PUBLISHED_LINES, printed.out)
    assert "can't be had" in printed.err
    assert "random weights" in printed.err


@needs_hugging_face
def test_all_checks_and_the_report(tmp_path, capsys):
    command = ["--models", "convbert-tiny", "--weights", "random", "--checks", "all", "--steps", "3"]
    plot, report = str(tmp_path / "layers.png"), str(tmp_path / "report.v1")
    assert compare.main([*command, "--plot", plot, "--report", report]) == 0
    table = capsys.readouterr().out
    for check in compare.CHECKS:
        assert f"\n| {check} | " in table
    content = read_json(tmp_path / "report.v1.json")
    findings = content["models"]["convbert-tiny"]
    assert {finding["check"] for finding in findings} == set(compare.CHECKS)
    assert all(finding["passed"] for finding in findings)
    assert {finding["part"] for finding in findings if finding["check"] == "heads"} == set(parity.HEADS.values())
    gradients = {finding["part"].split(",")[0] for finding in findings if finding["check"] == "gradients"}
    subject = random_subject("convbert-tiny", HuggingFace)
    for architecture in ARCHITECTURES:  # every parameter of every head
        assert set(dict(modeling_weights(architecture, subject.config))) <= gradients
    assert content["arguments"]["steps"] == 3
    assert table.split("\n", 3)[3].strip() in (tmp_path / "report.v1.md").read_text("utf-8")
    assert (tmp_path / "layers.png").stat().st_size > 10_000


def modeling_weights(architecture, config):
    return getattr(modeling, architecture)(config).named_weights()


@needs("torch", "transformers", "paddlenlp")
def test_paddlenlp_as_reference(capsys):
    command = ["--models", "convbert-tiny", "--weights", "random", "--checks", "all", "--steps", "3"]
    assert compare.main([*command, "--reference", "paddlenlp"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("paddlenlp convbert-tiny vs paddle convbert-tiny\n")
    assert "discriminator left out: PaddleNLP's discriminator crashes in forward" in printed.err


@needs_hugging_face
@pytest.mark.slow
@pytest.mark.parametrize("kernels", ["auto", "paddle"])
@pytest.mark.parametrize("model", ["convbert-tiny", "convbert-small"])
def test_a_hundred_steps(monkeypatch, capsys, model, kernels):
    monkeypatch.setenv("CONVBERT_KERNELS", kernels)
    assert compare.main(["--models", model, "--weights", "random", "--checks", "all"]) == 0
    printed = capsys.readouterr()
    assert "| 100 losses |" in printed.out
    if model == "convbert-small":
        assert "convbert-small-generator: compared with numpy loops over the paper's equations" in printed.err


@needs_hugging_face
def test_what_hugging_face_cannot_hold_is_compared_as_far_as_possible(tmp_path, capsys):
    config = ConvBertConfig(**{**SETTINGS, "num_groups": 1})
    ratio = ConvBertConfig(**{**SETTINGS, "head_ratio": 4})
    linear = ConvBertConfig(**SETTINGS, classifier="linear")
    one = ConvBertConfig(**{**SETTINGS, "hidden_size": 16, "num_attention_heads": 1})
    for folder, words in {
        saved(tmp_path / "ratio", "ConvBertModel", ratio): "head_ratio is 4.*: compared with numpy loops",
        saved(tmp_path / "linear", "ConvBertForSequenceClassification", linear): "compared with the encoder alone",
        saved(tmp_path / "joint", "ConvBertForPretraining", config, one): "masked language model: 1 heads < head_ratio",
    }.items():
        assert compare.main(["--weights", folder, "--checks", "hidden", "padding"]) == 0
        printed = capsys.readouterr()
        assert re.search(words, printed.err)
        assert printed.out.count("max difference: ") == (2 if folder.endswith("joint") else 1)


def test_bad_usage(one_line, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    one_line(compare.main(["--weights", "nowhere"]), "nowhere: neither a folder nor")
    one_line(compare.main(["--weights", "hub", "--models", "convbert-small"]), "can't be had from")
    one_line(compare.main(["--golden", "x.npz"]), "--golden needs --weights FOLDER")
    with pytest.raises(SystemExit) as stopped:
        compare.main(["--checks", "everything"])
    assert stopped.value.code == 2


@needs_hugging_face
def test_published_weights_that_cannot_be_had_are_said_and_random_ones_taken(tmp_path, monkeypatch, capsys, one_line):
    """An interrupted download is no checkpoint, nor is one that is damaged."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    folder = tmp_path / "models--YituTech--conv-bert-small/snapshots/main"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(ConvBertConfig.from_preset("convbert-small").to_dict()))
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
    lacking = r"hf:YituTech/conv-bert-small: can't be had from http://127\.0\.0\.1:9 .*; .* lacks "
    for damage in (r"weights \(model\.safetensors or ", r"model\.safetensors: cut off or damaged"):
        args = compare.parse(["--models", "convbert-small"])
        (subject,) = compare.subjects(args, tmp_path, [])
        assert subject.own is None
        assert re.fullmatch(f"{lacking}{damage}.*; comparing random weights\n", capsys.readouterr().err)
        one_line(compare.main(["--models", "convbert-small", "--weights", "hub"]), lacking + damage)
        (folder / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")
    weights = {"embeddings.word_embeddings.weight": np.zeros((3, 4), "f")}  # whole, but of no such model
    write_safetensors(folder / "model.safetensors", weights)
    (subject,) = compare.subjects(compare.parse(["--models", "convbert-small"]), tmp_path, [])
    assert subject.own is None
    assert re.search("comparing random weights$", capsys.readouterr().err)


@needs_hugging_face
def test_a_checkpoint_with_a_wrapper_s_names_is_compared(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "wrapped")
    weights = {f"module.{name}": array for name, array in read_weights(folder).items()}
    write_safetensors(tmp_path / "wrapped/model.safetensors", weights, "pt")
    assert compare.main(["--weights", str(tmp_path / "wrapped"), "--checks", "heads"]) == 0


# ------------------------------------------------------------------------------------------------------------- golden


def test_golden_outputs_pin_a_checkpoint(tmp_path, capsys, one_line, monkeypatch):
    config = ConvBertConfig(**SETTINGS)
    folder = saved(tmp_path / "mine", "ConvBertForSequenceClassification", config)
    file = tmp_path / "golden.npz"
    command = ["--weights", folder, "--golden", str(file)]
    assert compare.main(command) == 0
    assert "stored the outputs" in capsys.readouterr().out
    stored = file.read_bytes()
    for kernels in ("auto", "paddle"):
        monkeypatch.setenv("CONVBERT_KERNELS", kernels)
        assert compare.main(command) == 0
        assert "| golden | 5 |" in capsys.readouterr().out  # embeddings, three layers, logits
    monkeypatch.setitem(ACTIVATIONS, "gelu", ACTIVATIONS["relu"])
    assert compare.main(command) == 1
    assert "first golden, layer 0: " in capsys.readouterr().err
    monkeypatch.undo()
    assert file.read_bytes() == stored
    model = modeling.ConvBertForSequenceClassification.from_pretrained(folder)
    model.classifier.out_proj.bias.set_value(np.ones(3, "f"))
    model.save_pretrained(folder)
    one_line(compare.main(command), "golden.npz: made from other weights", "delete it")
    file.write_bytes(b"nothing")
    one_line(compare.main(command), "golden.npz: no golden outputs in here")


def test_golden_outputs_know_what_made_them(tmp_path):
    ours = Ours(modeling.ConvBertModel(ConvBertConfig(**SETTINGS)))
    golden_outputs.store(ours, tmp_path / "golden.npz")
    with np.load(tmp_path / "golden.npz") as file:
        about = json.loads(str(file["about"]))
    assert about["architecture"] == "ConvBertModel"
    assert about["weights"] == golden_outputs.fingerprint(ours)
    assert "paddlepaddle" in about["versions"]


def test_every_library_says_what_it_cannot_hold():
    for name in LIBRARIES:
        assert LIBRARIES[name].obstacle(ConvBertConfig(**SETTINGS, classifier="linear"), CLASSIFIER)
        assert LIBRARIES[name].obstacle(ConvBertConfig(**SETTINGS, mask_conv_padding=True), "ConvBertModel")
    assert formats.hugging_face_obstacle(ConvBertConfig(**SETTINGS), "ConvBertDiscriminator") is None


@needs_hugging_face
def test_a_folder_with_its_own_head_keeps_it(folder):
    """The stored classifier, not a new one, is what is compared."""
    from transformers import ConvBertForSequenceClassification

    reference = HuggingFace.load(CLASSIFIER, folder)
    stored = ConvBertForSequenceClassification.from_pretrained(folder)
    expected = read_weights(folder)["classifier.out_proj.weight"]
    np.testing.assert_array_equal(stored.classifier.out_proj.weight.detach().numpy(), expected)
    np.testing.assert_array_equal(reference.weights()["classifier.out_proj.weight"], expected.T)


def test_a_missing_library_is_one_line(one_line, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    one_line(compare.main(["--models", "convbert-tiny"]), "--reference hf needs torch: make setup")


@needs_hugging_face
def test_a_published_size_lies_in_paddlenlp_s_cache_without_a_configuration(tmp_path, monkeypatch, capsys):
    cache = tmp_path / "models/convbert-small"
    cache.mkdir(parents=True)
    model = modeling.ConvBertModel(ConvBertConfig(**SETTINGS))
    paddle.save(dict(model.state_dict()), str(cache / "model_state.pdparams"))
    (cache / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(2995))]))
    monkeypatch.setenv("PPNLP_HOME", str(tmp_path))
    assert compare.main(["--weights", "convbert-small", "--checks", "hidden", "tokenizer"]) == 0
    assert "| tokenizer |" in capsys.readouterr().out


@needs_hugging_face
def test_a_stored_head_whose_name_another_kind_has_too(tmp_path, capsys):
    """`classifier.weight` is [E, 3] for tokens and [E, 1] for choices."""
    folder = saved(tmp_path / "mine", "ConvBertForTokenClassification", ConvBertConfig(**SETTINGS))
    assert compare.main(["--weights", folder, "--checks", "heads"]) == 0
    assert "| heads | 6 |" in capsys.readouterr().out


@needs("paddlenlp")
def test_the_pad_row_is_compared_as_paddlenlp_reads_it(tmp_path):
    model = modeling.ConvBertModel(ConvBertConfig(**SETTINGS))
    with paddle.no_grad():
        model.embeddings.word_embeddings.weight[0] = 0.1
    model.save_pretrained(tmp_path / "mine")
    command = ["--weights", str(tmp_path / "mine"), "--reference", "paddlenlp", "--checks", "layers", "padding"]
    assert compare.main(command) == 0


@needs("paddlenlp")
def test_paddlenlp_s_encoder_alone(tmp_path, capsys):
    """Where it has no such head."""
    folder = saved(tmp_path / "mine", CLASSIFIER, ConvBertConfig(**SETTINGS))
    assert compare.main(["--weights", folder, "--reference", "paddlenlp", "--checks", "hidden", "padding"]) == 0
    printed = capsys.readouterr()
    assert "PaddleNLP has no mlp head: compared with the encoder alone" in printed.err
    assert printed.out.startswith("paddlenlp mine vs paddle mine\n")
