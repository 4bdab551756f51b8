"""What people do with any Paddle model works with these: programs, copies, summaries, processes, low-rank tuning."""

import copy
import importlib.util
import os
import subprocess
import sys

import paddle
import pytest
from conftest import ROOT
from tiny_inputs import differ, same, tokens

from family.architectures import MODEL_TYPES, config_class, model_class
from files.json_files import read_json, write_json
from layers.configuration import NOT_OF_THE_MODEL

SIZES = dict(
    vocab_size=60, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32, num_labels=3,
)  # fmt: skip
KINDS = "Model", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMaskedLM"
every_type = pytest.mark.parametrize("model_type", MODEL_TYPES)
every_kind = pytest.mark.parametrize("kind", KINDS)


def build(model_type, kind="ForSequenceClassification", **changes):
    paddle.seed(0)
    model = model_class(model_type, kind)(config_class(model_type).from_dict(SIZES, **changes))
    model.eval()
    return model


def tensors(output):
    return [output] if isinstance(output, paddle.Tensor) else list(output)


# --------------------------------------------------------------------------------------------------------- return_dict

LABELS = {
    "ForSequenceClassification": dict(labels=[0, 1, 2]),
    "ForTokenClassification": dict(labels=[[1] * 7] * 3),
    "ForMaskedLM": dict(labels=[[1] * 7] * 3),
    "ForQuestionAnswering": dict(start_positions=[1, 2, 3], end_positions=[2, 3, 4]),
    "Model": {},
}


@every_type
@every_kind
def test_return_dict(model_type, kind):
    """The same tensors in the three shapes, by Hugging Face's and PaddleNLP's names and by number."""
    model, ids = build(model_type, kind), tokens(3, 7)
    names = {"Model": ["last_hidden_state"], "ForQuestionAnswering": ["start_logits", "end_logits"]}.get(
        kind, ["logits"]
    )
    plain = tensors(model(ids))
    output = model(ids, return_dict=True)
    pooled = ["pooler_output"] if kind == "Model" and model_type in ("bert", "ernie") else []
    assert list(output) == names + pooled
    for number, (name, expected) in enumerate(zip(names, plain, strict=True)):
        for found in (output[name], getattr(output, name), output[number], output.to_tuple()[number]):
            same(found, expected)
    assert output.hidden_states is output.attentions is None
    with pytest.raises(AttributeError, match="no_such_output"):
        _ = output.no_such_output
    assert all(same(*pair) is None for pair in zip(tensors(model(ids, return_dict=False)), plain, strict=True))

    labels = {name: paddle.to_tensor(value) for name, value in LABELS[kind].items()}
    everything = dict(**labels, output_hidden_states=True, output_attentions=True)
    named = model(ids, **everything)
    output = model(ids, **everything, return_dict=True)
    assert [name for name in output if name != "pooler_output"] == [name for name in named._fields if name in output]
    unnamed = model(ids, **everything, return_dict=False)
    assert type(unnamed) is tuple
    assert len(unnamed) == len([value for value in named if value is not None])
    if labels:
        same(output.loss, named.loss)
        same(output[0], unnamed[0])
        assert float(output["loss"]) > 0


def test_a_pooler_s_output():
    model = build("bert", "Model")
    output = model(tokens(), return_dict=True)
    same(output.pooler_output, model.pooler(output.last_hidden_state[:, 0]))


def test_return_dict_of_multiple_choice_and_of_joint_training():
    ids = tokens(4, 7)
    output = build("electra", "ForMultipleChoice")(ids.reshape([2, 2, 7]), return_dict=True)
    assert output.logits.shape == [2, 2]
    config = config_class("convbert").from_dict(SIZES)
    model = model_class("convbert", "ForPretraining")(config, config)
    labels = paddle.where(paddle.arange(7) == 3, ids, paddle.full_like(ids, -100))
    output = model(ids, labels=labels, return_dict=True)
    assert output["gen_predictions"].shape == [4]
    assert model(ids, return_dict=True).logits.shape == [4, 7]


# ------------------------------------------------------------------------------------------------------ unknown keys


@every_type
def test_unknown_keys_of_a_configuration_are_kept_and_written_back(tmp_path, model_type):
    others = {"fuse": False, "gradient_checkpointing": True, "summary_type": "first", "my_own": {"a": [1, None]}}
    write = dict.fromkeys(NOT_OF_THE_MODEL - {"model_type", "id2label", "label2id", "generator_config"}, "?")
    model = build(model_type)
    model.save_pretrained(tmp_path)
    stored = read_json(tmp_path / "config.json")
    write_json(tmp_path / "config.json", {**stored, **others, **write})
    again = type(model).from_pretrained(tmp_path)
    again.set_dropout(0.0)
    copy.deepcopy(again).save_pretrained(tmp_path / "again")
    assert read_json(tmp_path / "again/config.json") == {**others, **stored}


@pytest.mark.parametrize("model_type", ["bert", "convbert"])
def test_a_pooler_s_activation(tmp_path, model_type):
    """As in PaddleNLP: tanh, and with any other word none."""
    model = model_class(model_type, "ForSequenceClassification")(
        config_class(model_type).from_dict(SIZES, pool_act="relu", **config_class(model_type).of_pooler(True))
    )
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    first = paddle.randn([2, 24])
    same(again.backbone.pooler(first), again.backbone.pooler.dense(first))


# ------------------------------------------------------------------------------------------ programs, copies, summaries


def as_static_program(model_type, full_graph):
    """Checks a classifier's loss, logits and gradients, at two lengths."""
    without = dict(num_hidden_layers=1, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model, ids = build(model_type, **without), tokens()
    model.train()
    labels = paddle.to_tensor([0, 1, 2])
    expected = model(ids, labels=labels)
    expected.loss.backward()
    gradients = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    program = paddle.jit.to_static(model, full_graph=full_graph)
    assert program(paddle.concat([ids, ids], axis=1), labels=labels)[1].shape == [3, 3]
    model.clear_gradients()
    loss, logits, *_ = program(ids, labels=labels)  # a whole program gives a plain tuple
    same(logits, expected.logits, 1e-5)
    same(loss, expected.loss, 1e-5)
    loss.backward()
    for name, weight in model.named_parameters():
        same(weight.grad, gradients[name], 1e-5)


@every_type
def test_static_programs(model_type):
    as_static_program(model_type, full_graph=True)


@pytest.mark.slow
def test_static_programs_of_parts():
    """In a process of its own: beside whole programs Paddle 3.3 frees some of its memory twice."""
    code = "import runtime, test_in_paddle as here\nfor kind in here.MODEL_TYPES: here.as_static_program(kind, False)"
    places = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/family")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    subprocess.run([sys.executable, "-c", code], check=True, env=env, timeout=300)


@every_type
def test_a_copy_is_another_model(model_type):
    model, ids = build(model_type), tokens()
    twin = copy.deepcopy(model)
    before = model(ids)
    same(twin(ids), before, 0)
    for weight in twin.parameters():
        weight.set_value(weight + 0.1)
    same(model(ids), before, 0)
    differ(twin(ids), before)


@every_type
def test_a_summary_counts_every_weight(model_type, capsys):
    model = build(model_type)
    ids = tokens()
    before = model(ids)
    found = paddle.summary(model, (2, 11), dtypes="int64")
    assert found["total_params"] == sum(weight.size for weight in model.parameters())
    assert "FAIL" not in capsys.readouterr().out
    same(model(ids), before, 1e-6)


@every_type
@pytest.mark.parametrize("return_dict", [None, True])
def test_data_parallel_of_one_process(model_type, return_dict):
    """What a script under paddle.distributed.launch wraps, on one rank; two are in test_processes."""
    model, ids = build(model_type), tokens()
    parallel = paddle.DataParallel(model, find_unused_parameters=True)
    output = parallel(ids, labels=paddle.to_tensor([0, 1, 2]), return_dict=return_dict)
    same(output.logits, model(ids))
    output.loss.backward()
    assert all(weight.grad is not None for weight in model.classifier.parameters())


# ------------------------------------------------------------------------------------------------------ low-rank tuning


@pytest.mark.skipif(importlib.util.find_spec("paddlenlp") is None, reason="needs paddlenlp")
@every_type
def test_paddlenlp_s_lora_learns_is_saved_and_merged(tmp_path, model_type):
    from paddlenlp.peft import LoRAConfig, LoRAModel

    model, ids, labels = build(model_type), tokens(), paddle.to_tensor([0, 1, 2])
    for weight in model.parameters():
        weight.set_value(weight + paddle.randn(weight.shape) * 0.2)
    model.save_pretrained(tmp_path / "base")
    before = model(ids)
    lora = LoRAModel(model, LoRAConfig(target_modules=[".*q_proj.*", ".*v_proj.*", ".*linear1.*"], r=4, lora_alpha=8))
    lora.mark_only_lora_as_trainable()
    lora.eval()
    same(lora(ids), before, 1e-5)  # its second matrix starts with zeros
    trained = [weight for weight in lora.parameters() if not weight.stop_gradient]
    optimizer = paddle.optimizer.AdamW(0.05, parameters=trained)
    losses = []
    for _ in range(40):
        loss = lora(ids, labels=labels).loss
        losses.append(float(loss))
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
    assert losses[-1] < losses[0] - 0.3
    learned = lora(ids)
    differ(learned, before)
    lora.save_pretrained(str(tmp_path / "lora"))
    again = LoRAModel.from_pretrained(type(model).from_pretrained(tmp_path / "base"), str(tmp_path / "lora"))
    again.eval()
    same(again(ids), learned, 1e-5)
    again.merge()
    same(again(ids), learned, 1e-4)
