"""What stands in the place of a model's part is called; the fast path does not read past it."""

import numpy as np
import paddle
import pytest
from paddle import nn
from tiny_inputs import differ, same, tokens

from family.architectures import config_class, model_class
from layers import dense

SIZES = dict(vocab_size=60, hidden_size=24, num_hidden_layers=1, num_attention_heads=4, intermediate_size=32)
PROJECTIONS = {
    "convbert": (
        "q_proj",
        "k_proj",
        "v_proj",
        "conv_out_layer",
        "conv_kernel_layer",
        "key_conv_attn_layer",
        "out_proj",
    ),
    "bert": ("q_proj", "k_proj", "v_proj", "out_proj"),
}
PLACES = [(kind, f"self_attn.{name}") for kind, names in PROJECTIONS.items() for name in names]
PLACES += [(kind, name) for kind in PROJECTIONS for name in ("linear1", "linear2")]
OTHERS = [("convbert", f"self_attn.key_conv_attn_layer.{name}") for name in ("depthwise", "pointwise")]
OTHERS += [(kind, name) for kind in PROJECTIONS for name in ("norm1", "norm2")]
TABLES = "word_embeddings", "position_embeddings", "token_type_embeddings", "layer_norm"


class LowRank(nn.Layer):
    """A LoRA: the layer that was there, and two thin matrices beside it."""

    def __init__(self, layer):
        super().__init__()
        self.layer, (inputs, outputs) = layer, layer.weight.shape
        self.down, self.up = nn.Linear(inputs, 2, bias_attr=False), nn.Linear(2, outputs, bias_attr=False)

    def forward(self, x):
        return self.layer(x) + self.up(self.down(x))


def build(model_type, **changes):
    paddle.seed(0)
    model = model_class(model_type, "ForSequenceClassification")(config_class(model_type).from_dict(SIZES, **changes))
    random = np.random.default_rng(0)
    for weight in model.parameters():
        weight.set_value(weight.numpy() + random.normal(0, 0.2, weight.shape).astype("f"))
    model.eval()
    dense._say_touched.cache_clear()
    return model


def place_of(model, place):
    *way, name = place.split(".")
    holder = model.backbone.encoder.layers[0]
    for part in way:
        holder = getattr(holder, part)
    return holder, name


@pytest.mark.parametrize(("model_type", "place"), PLACES + OTHERS)
def test_hooks_are_called(model_type, place, monkeypatch, caplog):
    model, ids = build(model_type), tokens()
    holder, name = place_of(model, place)
    before = model(ids)
    hook = getattr(holder, name).register_forward_post_hook(lambda layer, inputs, out: out * 2.0 + 1.0)
    changed = model(ids)
    differ(changed, before)
    assert caplog.text.count("slower: a ") == 1
    monkeypatch.setenv("CONVBERT_KERNELS", "paddle")
    same(changed, model(ids), 1e-5)
    hook.remove()
    same(model(ids), before, 1e-5)


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("name", [*TABLES, "task_type_embeddings"])
@pytest.mark.parametrize("model_type", [*PROJECTIONS, "ernie"])
def test_another_part_of_the_embeddings_is_called(model_type, name, given):
    model, ids = build(model_type, **({"use_task_id": True, "task_id": 1} if model_type == "ernie" else {})), tokens()
    embeddings = model.backbone.embeddings
    if not hasattr(embeddings, name):
        return
    more = dict(token_type_ids=ids % 2, position_ids=paddle.arange(ids.shape[1]).flip(0)) if given else {}
    before = model(ids, **more)
    hook = getattr(embeddings, name).register_forward_post_hook(lambda layer, inputs, out: out * 2.0)
    differ(model(ids, **more), before)
    hook.remove()
    setattr(embeddings, name, nn.Sequential(getattr(embeddings, name), nn.Identity()))
    same(model(ids, **more), before, 1e-5)


@pytest.mark.parametrize(("model_type", "place"), [p for p in PLACES if "key_conv" not in p[1]])
def test_a_lora_learns(model_type, place):
    model, ids = build(model_type), tokens()
    before = model(ids)
    for weight in model.parameters():
        weight.stop_gradient = True
    holder, name = place_of(model, place)
    lora = LowRank(getattr(holder, name))
    setattr(holder, name, lora)
    differ(model(ids), before)
    model.train()
    model(ids, labels=paddle.to_tensor([0, 1, 1])).loss.backward()
    for weight in (lora.down.weight, lora.up.weight):
        assert float(weight.grad.abs().max()) > 0
