import re

import numpy as np
import paddle
import pytest

from layers.paddle_versions import PADDLE_2
from modeling import ConvBertConfig, ConvBertForSequenceClassification
from training.optimizer import AdamW, ClipByGlobalNorm, adamw, layer_depth
from training.schedule import learning_rates


class Layered(paddle.nn.Layer):
    """Names as in our models and PaddleNLP's, three layers deep."""

    def __init__(self):
        super().__init__()
        self.config = ConvBertConfig.from_preset("convbert-tiny", num_hidden_layers=3)
        self.convbert = paddle.nn.Layer()
        self.convbert.embeddings = paddle.nn.Embedding(2, 2)
        self.convbert.embeddings_project = paddle.nn.Linear(2, 2)
        self.convbert.encoder = paddle.nn.Layer()
        self.convbert.encoder.layers = paddle.nn.LayerList([paddle.nn.Linear(2, 2) for _ in range(3)])
        self.classifier = paddle.nn.Linear(2, 2)


@pytest.mark.parametrize("tf_compat", [False, True])
def test_layers_below_learn_slower(tf_compat):
    """The paper's code: decay ** (layers + 2 - depth), depth 0 for embeddings, n + 1 for layer n; the head's is 1."""
    model = Layered()
    optimizer = adamw(model, 1.0, 0.0, 1e-6, layer_decay=0.5, tf_compat=tf_compat)
    found = {
        name.removeprefix("convbert.").removesuffix(".weight"): p.optimize_attr["learning_rate"]
        for name, p in model.named_parameters()
        if name.endswith("weight")
    }
    assert optimizer is not None
    slip = 0.5 if tf_compat else 1.0
    assert found == {
        "classifier": 1.0,
        "encoder.layers.2": 0.5 * slip,
        "encoder.layers.1": 0.25 * slip,
        "encoder.layers.0": 0.125 * slip,
        "embeddings": 0.0625 * slip,
        "embeddings_project": 0.0625 * slip,
    }


def test_every_layer_of_a_real_model_has_its_depth():
    model = ConvBertForSequenceClassification(ConvBertConfig.from_preset("convbert-tiny"))
    depths = {name: layer_depth(name, 6) for name, _ in model.named_parameters()}
    assert sorted(set(depths.values())) == list(range(8))
    assert all(depth == 7 for name, depth in depths.items() if not name.startswith("convbert."))
    assert {depth for name, depth in depths.items() if "embeddings" in name} == {0}


@pytest.mark.parametrize("path", ["auto", "paddle"])
def test_without_bias_correction(monkeypatch, path):
    """Adam as in the paper's code: w -= rate · m / (sqrt(v) + epsilon), the moments as they are."""
    monkeypatch.setenv("CONVBERT_KERNELS", path)
    weight = paddle.create_parameter([3], "float32")
    weight.set_value(np.ones(3, "float32"))
    optimizer = AdamW(0.1, parameters=[weight], weight_decay=0.0, epsilon=1e-6, bias_correction=False)
    expected, moment, square = np.ones(3), 0.0, 0.0
    beta1, beta2 = float(np.float32(0.9)), float(np.float32(0.999))
    for gradient in (np.array([1.0, -2.0, 0.5]), np.array([0.5, 1.0, 4.0]), np.array([-1.0, 0.1, 0.2])):
        weight.grad = paddle.to_tensor(gradient.astype("float32"))
        optimizer.step()
        optimizer.clear_grad()
        moment = beta1 * moment + (1 - beta1) * gradient
        square = beta2 * square + (1 - beta2) * gradient**2
        expected = expected - 0.1 * moment / (np.sqrt(square) + 1e-6)
        np.testing.assert_allclose(weight.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_long_gradients_are_cut():
    found = {}
    for limit in (None, 1.0):
        weights = [paddle.create_parameter([2], "float32") for _ in range(2)]
        for weight in weights:
            weight.set_value(np.zeros(2, "float32"))
            weight.grad = paddle.to_tensor([3.0, 4.0])
        model = paddle.nn.Layer()
        model.first, model.second = weights
        optimizer = adamw(model, 1.0, 0.0, 1e3, max_grad_norm=limit)  # epsilon so large that steps are linear
        optimizer.step()
        found[limit] = np.concatenate([weight.numpy() for weight in weights])
    np.testing.assert_allclose(found[1.0] * 50**0.5, found[None], rtol=2e-2)


def test_biases_and_norms_do_not_decay():
    layer = paddle.nn.Sequential(paddle.nn.Linear(2, 2))
    layer.add_sublayer("norm", paddle.nn.LayerNorm(2))
    optimizer = adamw(layer, 0.1, weight_decay=0.5, epsilon=1e-6)
    before = {name: weight.numpy() for name, weight in layer.named_parameters()}
    for weight in layer.parameters():
        weight.grad = paddle.zeros_like(weight)
    optimizer.step()
    for name, weight in layer.named_parameters():
        factor = 0.95 if name == "0.weight" else 1.0
        np.testing.assert_allclose(weight.numpy(), before[name] * factor, rtol=1e-6)


def adamw_run(kind, steps=100, resume_at=None, **settings):
    """Weights and state after some steps on given gradients; the second parameter only has one every third step."""

    def optimizer(weights):
        group = {"weight_decay": 0.02, "beta1": 0.8, "beta2": 0.99, "epsilon": 1e-4}
        groups = [{"params": weights[:2]}, {"params": weights[2:], "learning_rate": 0.3, **group}]
        return kind(schedule, parameters=groups, weight_decay=0.1, epsilon=1e-6, **settings)

    random = np.random.default_rng(0)
    start = [random.normal(size=shape).astype("float32") for shape in ([300, 70], [5], [3, 4, 5], [20_000])]
    schedule = learning_rates("linear", 1e-3, 2 * steps, 10)

    def parameters(values):
        weights = [paddle.create_parameter(value.shape, "float32") for value in values]
        for weight, value in zip(weights, values, strict=True):
            weight.set_value(value)
        return weights

    weights = parameters(start)
    chosen = optimizer(weights)
    for step in range(steps):
        for index, weight in enumerate(weights):
            gradient = paddle.to_tensor(random.normal(size=weight.shape).astype("float32") * 10.0 ** (index - 2))
            if index != 1 or step % 3 == 0:
                weight.grad = gradient
        chosen.step()
        chosen.clear_grad(set_to_zero=False)
        schedule.step()
        if step == resume_at:
            state, stopped = chosen.state_dict(), weights
            weights = parameters([weight.numpy() for weight in stopped])
            chosen = optimizer(weights)
            for old, new in zip(stopped, weights, strict=True):
                state = {key.replace(f"{old.name}_", f"{new.name}_"): value for key, value in state.items()}
            chosen.set_state_dict(state)
    state = chosen.state_dict()
    kinds = "moment1", "moment2", "beta1_pow", "beta2_pow"
    ordered = [next(k for k in state if k.startswith(f"{w.name}_{kind}")) for w in weights for kind in kinds]
    state = [state[key].numpy() for key in ordered]
    return [weight.numpy() for weight in weights], state


@pytest.mark.parametrize("decay_first_only", [False, True])
@pytest.mark.parametrize("longest", [None, 1.0])
def test_adamw_is_paddle_s(monkeypatch, decay_first_only, longest):
    settings = (
        {"apply_decay_param_fun": lambda name: int(re.findall(r"\d+", name)[0]) % 2 == 0} if decay_first_only else {}
    )
    kinds = (AdamW, ClipByGlobalNorm), (paddle.optimizer.AdamW, paddle.nn.ClipGradByGlobalNorm)
    results = [adamw_run(kind, grad_clip=longest and clip(longest), **settings) for kind, clip in kinds]
    monkeypatch.setenv("CONVBERT_KERNELS", "paddle")
    results.append(adamw_run(AdamW, grad_clip=longest and ClipByGlobalNorm(longest), **settings))
    for weights, state in results[1:]:
        for ours, theirs in zip(results[0][0], weights, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
        for ours, theirs in zip(results[0][1], state, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_adamw_goes_on_bit_for_bit():
    whole, stopped = adamw_run(AdamW), adamw_run(AdamW, resume_at=36)
    for ours, theirs in zip(whole[0] + whole[1], stopped[0] + stopped[1], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_adamw_has_a_rate_for_every_layer(monkeypatch):
    """Decoupled decay shrinks a weight without gradient by rate · ratio · decay."""
    for path in ("auto", "paddle"):
        monkeypatch.setenv("CONVBERT_KERNELS", path)
        weights = [paddle.create_parameter([3], "float32") for _ in range(2)]
        for weight in weights:
            weight.set_value(np.ones(3, "float32"))
            weight.grad = paddle.zeros([3])
        ratios = {weights[0].name: 0.5, weights[1].name: 2.0}
        optimizer = AdamW(
            0.1, parameters=weights, weight_decay=0.2, lr_ratio=lambda weight, ratios=ratios: ratios[weight.name]
        )
        optimizer.step()
        np.testing.assert_allclose(weights[0].numpy(), 1 - 0.1 * 0.5 * 0.2, rtol=1e-6)
        np.testing.assert_allclose(weights[1].numpy(), 1 - 0.1 * 2.0 * 0.2, rtol=1e-6)


def test_adamw_passes_bad_numbers_on():
    weight = paddle.create_parameter([4], "float32")
    weight.grad = paddle.to_tensor([1.0, float("nan"), float("inf"), 0.0])
    AdamW(0.1, parameters=[weight]).step()
    assert np.isfinite(weight.numpy()).tolist() == [True, False, False, True]


def clipped(gradients, longest, **settings):
    """First moments after one step: a tenth of what the gradients were cut to."""
    weights = [paddle.create_parameter(gradient.shape, "float32") for gradient in gradients]
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = paddle.to_tensor(gradient)
    optimizer = AdamW(0.1, parameters=weights, grad_clip=ClipByGlobalNorm(longest), **settings)
    optimizer.step()
    return [optimizer._get_accumulator_master(optimizer._moment1_acc_str, weight).numpy() for weight in weights]


def test_short_gradients_are_left_as_they_are():
    gradients = [np.array([0.3, -0.4], "float32"), np.full([3, 2], 0.1, "float32")]
    for found, gradient in zip(clipped(gradients, 1.0), gradients, strict=True):
        np.testing.assert_array_equal(found, (np.float32(1) - np.float32(0.9)) * gradient)


def test_the_length_of_gradients_of_any_size():
    """More than a block of the loop, and parameters that the loop leaves to Paddle."""
    random = np.random.default_rng(0)
    gradients = [random.normal(size=shape).astype("float32") for shape in ([70_000], [5, 3], [1])]
    length = np.sqrt(sum((gradient.astype("float64") ** 2).sum() for gradient in gradients))
    for settings in ({}, {} if PADDLE_2 else {"amsgrad": True}):
        for found, gradient in zip(clipped(gradients, 2.0, **settings), gradients, strict=True):
            np.testing.assert_allclose(found, 0.1 * gradient * 2.0 / length, rtol=2e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_length_of_bad_numbers(bad):
    found = clipped([np.array([1.0, bad], "float32"), np.array([1.0], "float32")], 1.0)
    assert not np.isfinite(found[0][1])
    assert np.isnan(found[1][0]) if bad != bad else found[1][0] == 0.0  # as in Paddle: 1 / inf


def test_a_step_that_the_device_finds_not_to_be_one_leaves_the_weights(monkeypatch):
    """Nothing is read to find that out; the step after it is the usual one, of moments that have faded."""
    monkeypatch.setenv("CONVBERT_KERNELS", "paddle")
    weight = paddle.create_parameter([3], "float32")
    before = weight.numpy()
    optimizer = AdamW(0.1, parameters=[weight], weight_decay=0.5, grad_clip=ClipByGlobalNorm(1.0))
    for factor in (1.0, np.nan, 1.0):
        (weight * factor).sum().backward()
        optimizer.made = paddle.isfinite(paddle.to_tensor([factor]))
        optimizer.step()
        optimizer.clear_grad()
        if np.isnan(factor):
            np.testing.assert_array_equal(weight.numpy(), before)
        else:
            assert np.isfinite(weight.numpy()).all()
            assert (weight.numpy() < before).all()
        before = weight.numpy()
