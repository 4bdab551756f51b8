"""A checkpoint written by TensorFlow under the names of the authors' code, and what becomes of it."""

import numpy as np
import paddle
import pytest
from conftest import needs

import compare
import modeling
from comparison.numpy_model import NumpyModel
from conversion import tensorflow_checkpoint
from conversion.formats import convert
from convert import main
from files.errors import InputError
from files.json_files import read_json
from files.weights import read_weights

HIDDEN, EMBEDDING, INNER, TAPS, WORDS, LAYERS = 16, 12, 24, 5, 50, 2


def random_variables(scope="electra", hidden=HIDDEN, heads=4, groups=1):
    """Variables of one encoder, shaped as the authors' code makes them."""
    random = np.random.default_rng(len(scope) + hidden)
    kinds = max(1, heads // 2)
    width = kinds * (hidden // heads)
    variables = {}

    def put(name, *shape):
        variables[f"{scope}/{name}"] = random.normal(0, 0.3, shape).astype(np.float32)

    def dense(name, inputs, outputs):
        put(f"{name}/kernel", inputs, outputs)
        put(f"{name}/bias", outputs)

    def norm(name, size):
        put(f"{name}/gamma", size)
        put(f"{name}/beta", size)

    def feed_forward(name, inputs, outputs):
        if groups == 1:
            dense(f"{name}/dense", inputs, outputs)
        else:
            put(f"{name}/g_dense/kernel", groups, inputs // groups, outputs // groups)
            put(f"{name}/g_dense/bias", outputs)

    if scope == "electra":
        put("embeddings/word_embeddings", WORDS, EMBEDDING)
        put("embeddings/position_embeddings", 20, EMBEDDING)
        put("embeddings/token_type_embeddings", 2, EMBEDDING)
        norm("embeddings/LayerNorm", EMBEDDING)
    dense("embeddings_project", EMBEDDING, hidden)
    for number in range(LAYERS):
        layer = f"encoder/layer_{number}"
        for part in ("query", "key", "value", "conv_attn_point"):
            dense(f"{layer}/attention/self/{part}", hidden, width)
        put(f"{layer}/attention/self/conv_attn_key/depthwise_kernel", TAPS, hidden, 1)
        put(f"{layer}/attention/self/conv_attn_key/pointwise_kernel", 1, hidden, width)
        put(f"{layer}/attention/self/conv_attn_key/bias", width)
        dense(f"{layer}/attention/self/conv_attn_kernel", width, kinds * TAPS)
        dense(f"{layer}/attention/output/dense", 2 * width, hidden)
        norm(f"{layer}/attention/output/LayerNorm", hidden)
        feed_forward(f"{layer}/intermediate", hidden, INNER)
        feed_forward(f"{layer}/output", INNER, hidden)
        norm(f"{layer}/output/LayerNorm", hidden)
    return variables


def head_variables(scope, **shapes):
    random = np.random.default_rng(7)
    return {f"{scope}/{name}": random.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


DISCRIMINATOR = head_variables(
    "discriminator_predictions",
    **{"dense/kernel": (16, 16), "dense/bias": (16,), "dense_1/kernel": (16, 1), "dense_1/bias": (1,)},
)
GENERATOR = head_variables(
    "generator_predictions",
    **{"dense/kernel": (8, 12), "dense/bias": (12,), "LayerNorm/gamma": (12,), "LayerNorm/beta": (12,)},
    output_bias=(50,),
)
MNLI = head_variables("task_specific/mnli", **{"dense/kernel": (16, 3), "dense/bias": (3,)})


def pretraining(**changes):
    return {**random_variables(**changes), **random_variables("generator", 8, 1), **DISCRIMINATOR, **GENERATOR}


@pytest.fixture
def stored(tmp_path):
    """Writes variables as a checkpoint, with what an optimizer leaves beside them."""

    def store(variables, name="model.ckpt-100"):
        extra = {"global_step": np.int64(100)}
        extra |= {f"{key}/adam_{moment}": np.ones_like(array) for key, array in variables.items() for moment in "mv"}
        write({**variables, **extra}, tmp_path / name)
        return tmp_path

    return store


def write(variables, path):
    import tensorflow

    tf = tensorflow.compat.v1
    with tf.Graph().as_default(), tf.Session() as session:
        for name, array in variables.items():
            tf.get_variable(name, initializer=array)
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, str(path), write_meta_graph=False)


tensorflow_needed = needs("tensorflow")


@tensorflow_needed
@pytest.mark.parametrize("groups", [1, 2])
def test_a_pretraining_checkpoint(tmp_path, stored, groups):
    """With a generator of one head, as convbert-small's."""
    variables = pretraining(groups=groups)
    assert convert(stored(variables), tmp_path / "ours") == "ConvBertForPretraining"
    joint = modeling.ConvBertForPretraining.from_pretrained(tmp_path / "ours")
    config = joint.discriminator.config
    assert (config.hidden_size, config.embedding_size, config.intermediate_size) == (HIDDEN, EMBEDDING, INNER)
    assert (config.num_attention_heads, config.head_ratio, config.conv_kernel_size) == (4, 2, TAPS)
    assert (config.num_groups, config.num_hidden_layers, config.vocab_size) == (groups, LAYERS, WORDS)
    assert (joint.generator.config.hidden_size, joint.generator.config.num_attention_heads) == (8, 1)
    weights = read_weights(tmp_path / "ours")
    layer = "discriminator.convbert.encoder.layers.1"
    original = "electra/encoder/layer_1"
    for ours, theirs, axes in [
        (f"{layer}.self_attn.k_proj.weight", f"{original}/attention/self/key/kernel", (0, 1)),
        (f"{layer}.self_attn.conv_out_layer.bias", f"{original}/attention/self/conv_attn_point/bias", (0,)),
        (f"{layer}.norm1.bias", f"{original}/attention/output/LayerNorm/beta", (0,)),
        (f"{layer}.norm2.weight", f"{original}/output/LayerNorm/gamma", (0,)),
        (f"{layer}.self_attn.key_conv_attn_layer.depthwise.weight",
         f"{original}/attention/self/conv_attn_key/depthwise_kernel", (1, 2, 0)),
        (f"{layer}.self_attn.key_conv_attn_layer.pointwise.weight",
         f"{original}/attention/self/conv_attn_key/pointwise_kernel", (2, 1, 0)),
        ("discriminator.discriminator_predictions.dense_prediction.weight",
         "discriminator_predictions/dense_1/kernel", (0, 1)),
        ("generator.convbert.embeddings.word_embeddings.weight", "electra/embeddings/word_embeddings", (0, 1)),
        ("generator.convbert.embeddings_project.weight", "generator/embeddings_project/kernel", (0, 1)),
        ("generator.generator_lm_head_bias", "generator_predictions/output_bias", (0,)),
    ]:  # fmt: skip
        np.testing.assert_array_equal(weights[ours], variables[theirs].transpose(axes), err_msg=ours)
    ids = np.random.default_rng(0).integers(1, WORDS, (2, 12))
    inputs = ids, np.zeros_like(ids), np.ones_like(ids)
    part = {name.removeprefix("generator."): array.astype(float) for name, array in weights.items()}
    generator = NumpyModel(part, joint.generator.config)
    joint.eval()
    found = joint.generator(*map(paddle.to_tensor, inputs[:2])).numpy()
    np.testing.assert_allclose(found, generator.word_logits(generator.forward(*inputs)[-1]), rtol=0, atol=1e-5)


@tensorflow_needed
def test_hugging_face_gets_the_discriminator(tmp_path, stored, caplog):
    convert(stored(pretraining()), tmp_path / "hf", to="hf")
    assert [path.name for path in (tmp_path / "hf").iterdir()] == ["discriminator"]
    assert "not the generator" in caplog.text


@tensorflow_needed
def test_fine_tuned_checkpoints(tmp_path, stored):
    variables = {**random_variables(), **MNLI}
    assert convert(stored(variables), tmp_path / "ours") == "ConvBertForSequenceClassification"
    config = modeling.ConvBertConfig.from_pretrained(tmp_path / "ours")
    assert (config.classifier, config.num_labels) == ("linear", 3)
    assert config.label_names == ["contradiction", "entailment", "neutral"]
    np.testing.assert_array_equal(
        read_weights(tmp_path / "ours")["classifier.out_proj.weight"], MNLI["task_specific/mnli/dense/kernel"]
    )


@tensorflow_needed
@pytest.mark.parametrize(
    ("variables", "architecture"),
    [
        (random_variables(), "ConvBertModel"),
        ({**random_variables(), **DISCRIMINATOR}, "ConvBertDiscriminator"),
        ({**random_variables(hidden=8), **GENERATOR}, "ConvBertGenerator"),
    ],
)
def test_parts(tmp_path, stored, variables, architecture):
    assert convert(stored(variables), tmp_path / "ours") == architecture
    assert convert(tmp_path, tmp_path / "encoder", backbone_only=True) == "ConvBertModel"


@tensorflow_needed
def test_dropout_and_vocabulary_beside_the_checkpoint_count(tmp_path, stored):
    folder = stored(random_variables())
    (folder / "config.json").write_text('{"hidden_dropout_prob": 0.25, "hidden_size": 999}')
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(45))]))
    convert(folder, tmp_path / "ours")
    content = read_json(tmp_path / "ours/config.json")
    assert (content["hidden_dropout_prob"], content["hidden_size"]) == (0.25, HIDDEN)
    assert (tmp_path / "ours/vocab.txt").is_file()


@tensorflow_needed
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"bert/embeddings/word_embeddings": np.zeros((2, 2), "f")},
            "not one of the original's checkpoints: it has bert",
        ),
        ({"electra/encoder/layer_0/surprise": np.zeros(2, "f")}, "unknown key encoder/layer_0/surprise"),
        ({"task_specific/squad/start/kernel": np.zeros((16, 1), "f")}, "no head here for squad; --backbone_only"),
        ({"generator/embeddings/word_embeddings": np.zeros((2, 2), "f")}, "embeddings of its own"),
    ],
)
def test_what_has_no_place_here_is_named(tmp_path, stored, change, message):
    folder = stored({**random_variables(), **change})
    with pytest.raises(InputError, match=message):
        convert(folder, tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


@tensorflow_needed
def test_a_damaged_checkpoint_is_one_line(tmp_path, one_line):
    (tmp_path / "model.ckpt-1.index").write_bytes(b"nothing")
    one_line(main(["--input", str(tmp_path), "--output", str(tmp_path / "ours")]), "damaged or not a checkpoint")


def test_which_checkpoint_of_a_folder(tmp_path):
    assert tensorflow_checkpoint.find(tmp_path) is None
    for step in (9, 100, 20):
        (tmp_path / f"model.ckpt-{step}.index").touch()
    latest = str(tmp_path / "model.ckpt-100")
    assert tensorflow_checkpoint.find(tmp_path) == latest
    assert tensorflow_checkpoint.find(latest) == latest
    assert tensorflow_checkpoint.find(f"{latest}.index") == latest
    assert tensorflow_checkpoint.find(tmp_path / "model.ckpt-101") is None
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/elsewhere/model.ckpt-20"\n')
    assert tensorflow_checkpoint.find(tmp_path) == str(tmp_path / "model.ckpt-20")


def test_without_tensorflow_the_error_names_the_package(tmp_path, one_line, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorflow", None)
    (tmp_path / "model.ckpt-1.index").touch()
    one_line(main(["--input", str(tmp_path), "--output", str(tmp_path / "ours")]), "pip install tensorflow-cpu")


@tensorflow_needed
def test_a_checkpoint_beside_a_configuration_is_compared(tmp_path, stored, capsys):
    folder = stored(random_variables())
    (folder / "config.json").write_text('{"hidden_dropout_prob": 0.25}')
    assert compare.main(["--weights", str(folder), "--checks", "hidden"]) == 0
    assert "max difference: " in capsys.readouterr().out
