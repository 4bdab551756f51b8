import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import paddle
import pytest
from conftest import ROOT, Malicious, needs

import modeling
from comparison import parity
from conversion import sources
from conversion.formats import convert
from conversion.sources import resolve
from convert import main
from family.architectures import config_class, model_class
from files.errors import InputError
from files.json_files import read_json, write_json
from files.weights import read_weights, write_safetensors
from tokenizer import ConvBertTokenizer

torch_needed = needs("torch", "transformers")

SETTINGS = dict(
    vocab_size=80, embedding_size=16, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
    max_position_embeddings=40, pad_token_id=0, num_labels=3,
)  # fmt: skip


def reference(head="Model", **changes):
    """A small Hugging Face model with no parameter at a trivial value."""
    import torch
    import transformers

    torch.manual_seed(0)
    model = getattr(transformers, f"ConvBert{head}")(transformers.ConvBertConfig(**{**SETTINGS, **changes})).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return model


def disturbed(model_class, *configs):
    """A model of ours with no parameter at a trivial value."""
    paddle.seed(0)
    model = getattr(modeling, model_class)(*configs)
    random = np.random.default_rng(0)
    for weight in model.parameters():
        weight.set_value(weight.numpy() + random.normal(0, 0.1, weight.shape).astype("f"))
    return model


def config(**changes):
    return modeling.ConvBertConfig(**{**SETTINGS, **changes})


def outputs(theirs, ours):
    """Both models' first outputs on the same padded batch with two segments."""
    import torch

    name = type(ours).__name__
    inputs = parity.inputs_for(name, ours.config, length=30)
    with torch.no_grad():
        expected = theirs(**{name: torch.from_numpy(array) for name, array in inputs.items()})
    ours.eval()
    with paddle.no_grad():
        found = ours(**{name: paddle.to_tensor(array) for name, array in inputs.items()})
    if isinstance(found, tuple):  # question answering
        return [array.numpy() for array in expected[:2]], [array.numpy() for array in found]
    return [expected[0].numpy()], [found.numpy()]


def same_weights(first, second):
    """Checks that two folders hold the same names and, bit for bit, the same arrays."""
    first, second = read_weights(first), read_weights(second)
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name], err_msg=name)


# ------------------------------------------------------------------------------------------------------ Hugging Face


@torch_needed
@pytest.mark.parametrize("head", ["Model", "ForSequenceClassification"])
def test_groups_give_the_same_numbers_and_come_back_bit_for_bit(tmp_path, head):
    """All heads without: conversion/test_every_head.py."""
    theirs = reference(head, num_groups=2)
    theirs.save_pretrained(tmp_path / "hf")
    architecture = convert(tmp_path / "hf", tmp_path / "ours")
    assert architecture == f"ConvBert{head}"
    ours = getattr(modeling, architecture).from_pretrained(tmp_path / "ours")
    assert read_json(tmp_path / "ours/config.json")["architectures"] == [architecture]
    for expected, found in zip(*outputs(theirs, ours), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert convert(tmp_path / "ours", tmp_path / "back", to="hf") == architecture
    same_weights(tmp_path / "hf", tmp_path / "back")
    for expected, found in zip(*outputs(type(theirs).from_pretrained(tmp_path / "back"), ours), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@torch_needed
@pytest.mark.parametrize("head", ["ConvBertGenerator", "ConvBertDiscriminator"])
def test_embeddings_without_a_projection_come_back_bit_for_bit(tmp_path, head):
    kept = config(embedding_size=32, label_names=["no", "yes", "perhaps"])
    disturbed(head, kept).save_pretrained(tmp_path / "ours")
    assert convert(tmp_path / "ours", tmp_path / "hf", to="hf") == head
    assert convert(tmp_path / "hf", tmp_path / "back") == head
    same_weights(tmp_path / "ours", tmp_path / "back")
    assert read_json(tmp_path / "ours/config.json") == read_json(tmp_path / "back/config.json")


@torch_needed
def test_a_discriminator_is_a_hugging_face_encoder_with_electra_s_names(tmp_path):
    import transformers

    ours = disturbed("ConvBertDiscriminator", config())
    ours.save_pretrained(tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "hf", to="hf")
    extra = {name for name in read_weights(tmp_path / "hf") if not name.startswith(("embeddings", "encoder."))}
    assert extra == {
        f"discriminator_predictions.{part}" for part in
        ("dense.weight", "dense.bias", "dense_prediction.weight", "dense_prediction.bias")
    }  # fmt: skip
    theirs = transformers.ConvBertModel.from_pretrained(tmp_path / "hf").eval()
    for expected, found in zip(*outputs(theirs, ours.convbert), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    transformers.ConvBertForSequenceClassification.from_pretrained(tmp_path / "hf")


@torch_needed
def test_what_hugging_face_is_told_makes_it_compute_the_same(tmp_path):
    """Multiple choice reads the first token, labels and dropout are ours."""
    import transformers

    ours = disturbed("ConvBertForMultipleChoice", config(hidden_dropout_prob=0.3, layer_norm_eps=1e-3))
    ours.save_pretrained(tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "hf", to="hf")
    theirs = transformers.ConvBertForMultipleChoice.from_pretrained(tmp_path / "hf").eval()
    assert theirs.config.hidden_dropout_prob == 0.3
    assert theirs.config.architectures == ["ConvBertForMultipleChoice"]
    for expected, found in zip(*outputs(theirs, ours), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@torch_needed
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_sources(tmp_path, dtype):
    import torch

    theirs = reference().to(getattr(torch, dtype))
    theirs.save_pretrained(tmp_path / "hf")
    convert(tmp_path / "hf", tmp_path / "ours")
    ours = modeling.ConvBertModel.from_pretrained(tmp_path / "ours")
    for expected, found in zip(*outputs(theirs.float(), ours), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@torch_needed
def test_pytorch_bin_sources(tmp_path):
    import torch

    theirs = reference("ForMaskedLM")
    theirs.save_pretrained(tmp_path / "hf")
    (tmp_path / "hf/model.safetensors").unlink()
    torch.save(theirs.state_dict(), tmp_path / "hf/pytorch_model.bin")  # with the tied output embeddings
    convert(tmp_path / "hf", tmp_path / "ours")
    ours = modeling.ConvBertGenerator.from_pretrained(tmp_path / "ours")
    for expected, found in zip(*outputs(theirs, ours), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@torch_needed
def test_configuration_labels_and_vocabulary_come_along_both_ways(tmp_path):
    import transformers

    theirs = reference(
        "ForSequenceClassification", id2label={0: "no", 1: "yes", 2: "perhaps"}, layer_norm_eps=1e-7,
        hidden_dropout_prob=0.3, hidden_act="relu", pad_token_id=1, vocab_size=2000, classifier_dropout=0.2,
        problem_type="multi_label_classification",
    )  # fmt: skip
    theirs.save_pretrained(tmp_path / "hf")
    tokenizer = ConvBertTokenizer(ROOT / "samples/vocab.txt", do_lower_case=False)
    tokenizer.add_tokens(["konvolution"])
    tokenizer.save_pretrained(tmp_path / "hf")
    convert(tmp_path / "hf", tmp_path / "ours")
    kept = modeling.ConvBertConfig.from_pretrained(tmp_path / "ours")
    assert kept.label_names == ["no", "yes", "perhaps"]
    assert (kept.layer_norm_eps, kept.hidden_dropout_prob, kept.hidden_act) == (1e-7, 0.3, "relu")
    assert (kept.classifier_dropout, kept.problem_type) == (0.2, "multi_label_classification")
    assert kept.pad_token_id == 0  # the vocabulary's, not Hugging Face's default
    convert(tmp_path / "ours", tmp_path / "back", to="hf")
    back = transformers.ConvBertConfig.from_pretrained(tmp_path / "back")
    assert back.id2label == {0: "no", 1: "yes", 2: "perhaps"}
    assert (back.layer_norm_eps, back.hidden_act, back.problem_type) == (1e-7, "relu", "multi_label_classification")
    for folder in ("ours", "back"):
        found = ConvBertTokenizer.from_pretrained(tmp_path / folder)
        assert found.get_vocab() == tokenizer.get_vocab()
        assert found.do_lower_case is False


# ------------------------------------------------------------------------------------------------ joint, Paddle, parts


@torch_needed
def test_a_joint_checkpoint_becomes_two_folders(tmp_path):
    import transformers

    joint = disturbed("ConvBertForPretraining", config(), config(hidden_size=16, intermediate_size=24))
    joint.save_pretrained(tmp_path / "ours")
    ConvBertTokenizer(ROOT / "samples/vocab.txt").save_pretrained(tmp_path / "ours")
    assert convert(tmp_path / "ours", tmp_path / "hf", to="hf") == "ConvBertForPretraining"
    assert sorted(path.name for path in (tmp_path / "hf").iterdir()) == ["discriminator", "generator"]
    theirs = transformers.ConvBertForMaskedLM.from_pretrained(tmp_path / "hf/generator").eval()
    for expected, found in zip(*outputs(theirs, joint.generator), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    theirs = transformers.ConvBertModel.from_pretrained(tmp_path / "hf/discriminator").eval()
    for expected, found in zip(*outputs(theirs, joint.discriminator.convbert), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    for part in ("discriminator", "generator"):
        convert(tmp_path / "hf" / part, tmp_path / part)
        assert (tmp_path / part / "vocab.txt").is_file()
        back = read_weights(tmp_path / part)
        for name, array in read_weights(tmp_path / "ours").items():
            if name.startswith(part):
                np.testing.assert_array_equal(array, back[name.removeprefix(f"{part}.")])


def test_a_generator_that_hugging_face_cannot_hold_is_left_out_with_a_word(tmp_path, caplog):
    small = config(hidden_size=8, num_attention_heads=1, intermediate_size=8)
    disturbed("ConvBertForPretraining", config(), small).save_pretrained(tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "hf", to="hf")
    assert [path.name for path in (tmp_path / "hf").iterdir()] == ["discriminator"]
    assert "not the generator: 1 heads < head_ratio 2" in caplog.text


def test_a_joint_checkpoint_stays_whole_in_our_format(tmp_path):
    disturbed("ConvBertForPretraining", config(), config(hidden_size=16)).save_pretrained(tmp_path / "a")
    assert convert(tmp_path / "a", tmp_path / "b") == "ConvBertForPretraining"
    same_weights(tmp_path / "a", tmp_path / "b")
    assert read_json(tmp_path / "a/config.json") == read_json(tmp_path / "b/config.json")


@torch_needed
def test_a_pooler_that_hugging_face_has_not_is_left_out_with_a_word(tmp_path, caplog):
    disturbed("ConvBertForTokenClassification", config(classifier="pooled_mlp")).save_pretrained(tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "hf", to="hf")
    assert "left out, as nothing in this model reads it: convbert.pooler.dense.weight" in caplog.text


@needs("paddlenlp")
def test_paddlenlp_s_joint_model_does_not_share_all_embeddings(tmp_path):
    from paddlenlp import transformers

    theirs = transformers.ConvBertForTotalPretraining(transformers.ConvBertConfig(**SETTINGS))
    theirs.save_pretrained(str(tmp_path / "theirs"))
    with pytest.raises(InputError, match=r"differs from .*, with which it is one here"):
        convert(tmp_path / "theirs", tmp_path / "ours")
    parts = theirs.generator.convbert.embeddings, theirs.discriminator.convbert.embeddings
    parts[0].set_state_dict(parts[1].state_dict())
    theirs.save_pretrained(str(tmp_path / "tied"))
    assert convert(tmp_path / "tied", tmp_path / "ours") == "ConvBertForPretraining"
    source, kept = read_weights(tmp_path / "tied"), read_weights(tmp_path / "ours")
    for name, array in source.items():
        np.testing.assert_array_equal(array, kept[name])


def test_weights_without_a_configuration_tell_their_own_size(tmp_path):
    """As PaddleNLP's published ones lie in its cache."""
    for number, changes in enumerate(
        [
            {},
            {"num_groups": 2},
            {"head_ratio": 4},
            {"head_ratio": 1},
            {"num_attention_heads": 1},
            {"embedding_size": 32},
        ]
    ):
        kept = config(num_labels=2, **changes)
        folder = tmp_path / f"{number}"
        folder.mkdir()
        model = disturbed("ConvBertForSequenceClassification", kept)
        paddle.save(dict(model.convbert.state_dict()), str(folder / "model_state.pdparams"))
        assert convert(folder, folder / "ours") == "ConvBertModel"
        assert modeling.ConvBertConfig.from_pretrained(folder / "ours") == kept


def test_backbone_only(tmp_path):
    linear = disturbed("ConvBertForSequenceClassification", config(classifier="linear"))
    linear.save_pretrained(tmp_path / "ours")
    with pytest.raises(InputError, match="--backbone_only converts the rest"):
        convert(tmp_path / "ours", tmp_path / "hf", to="hf")
    assert convert(tmp_path / "ours", tmp_path / "hf", to="hf", backbone_only=True) == "ConvBertModel"
    assert all(name.startswith(("embeddings", "encoder.")) for name in read_weights(tmp_path / "hf"))
    disturbed("ConvBertForPretraining", config(), config()).save_pretrained(tmp_path / "joint")
    assert convert(tmp_path / "joint", tmp_path / "encoder", backbone_only=True) == "ConvBertModel"
    expected, found = read_weights(tmp_path / "joint"), read_weights(tmp_path / "encoder")
    assert found.keys() == {n[14:] for n in expected if n.startswith("discriminator.convbert.")}
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[f"discriminator.{name}"])


@pytest.mark.parametrize(
    ("head", "changes", "message"),
    [
        ("ConvBertModel", {"head_ratio": 4}, "head_ratio is 4; Hugging Face changes the head size"),
        ("ConvBertModel", {"head_ratio": 1}, "head_ratio is 1"),
        ("ConvBertGenerator", {"num_attention_heads": 1}, "1 heads < head_ratio 2"),
        ("ConvBertForSequenceClassification", {"classifier": "pooled_mlp"}, "its head is a pooled_mlp"),
        ("ConvBertForMultipleChoice", {"classifier": "pooled_mlp"}, "its head has a pooler"),
        ("ConvBertGenerator", {"hidden_act": "relu"}, "hidden_act is relu"),
        ("ConvBertModel", {"mask_conv_padding": True}, "mask_conv_padding is set"),
    ],
)
def test_what_hugging_face_cannot_hold_is_said_and_leaves_nothing(tmp_path, head, changes, message):
    disturbed(head, config(**changes)).save_pretrained(tmp_path / "ours")
    with pytest.raises(InputError, match=message) as error:
        convert(tmp_path / "ours", tmp_path / "hf", to="hf")
    assert str(tmp_path / "ours") in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]


# -------------------------------------------------------------------------------------------- what can't be converted


def edit(folder, change):
    weights = read_weights(folder)
    change(weights)
    write_safetensors(folder / "model.safetensors", weights)


@pytest.mark.parametrize(
    ("weights", "config", "message"),
    [
        (lambda w: w.update(surprise=np.zeros(3)), {}, "unknown key surprise"),
        (lambda w: w.pop("convbert.encoder.layer.1.output.dense.bias"), {}, r"layers\.1\.linear2\.bias is missing"),
        (lambda w: w.pop("generator_predictions.dense.bias"), {}, r"generator_predictions\.dense\.bias is missing"),
        (
            lambda w: w.update({"generator_lm_head.weight": np.zeros((80, 16), "f")}),
            {},
            r"lm_head\.weight differs from",
        ),
        (lambda w: w.clear(), {}, "no ConvBERT in here"),
        (None, {"head_ratio": 4}, "changes the head size when it is not 2"),
        (None, {"num_attention_heads": 1}, "1 heads < head_ratio 2"),
        (None, {"hidden_act": "relu"}, "hidden_act is relu"),
        (None, {"model_type": "roberta"}, "model_type is 'roberta'"),
        (None, {"model_type": "bert"}, "unknown key "),
        (None, {"hidden_size": 64}, r"has shape \[.*32.*\], not"),
    ],
)
@torch_needed
def test_what_cannot_be_converted_is_named_and_leaves_nothing(tmp_path, weights, config, message):
    reference("ForMaskedLM").save_pretrained(tmp_path / "hf")
    if weights:
        edit(tmp_path / "hf", weights)
    write_json(tmp_path / "hf/config.json", {**read_json(tmp_path / "hf/config.json"), **config})
    with pytest.raises(InputError, match=message) as error:
        convert(tmp_path / "hf", tmp_path / "ours")
    assert str(tmp_path / "hf") in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]


@torch_needed
def test_multiple_choice_that_reads_the_last_token_is_refused(tmp_path):
    reference("ForMultipleChoice").save_pretrained(tmp_path / "hf")
    with pytest.raises(InputError, match="reads each text's last token"):
        convert(tmp_path / "hf", tmp_path / "ours")
    assert convert(tmp_path / "hf", tmp_path / "ours", backbone_only=True) == "ConvBertModel"


@pytest.mark.parametrize("file", ["model_state.pdparams", "pytorch_model.bin"])
def test_a_malicious_pickle_runs_nothing_and_leaves_nothing(tmp_path, one_line, file):
    (tmp_path / "evil").mkdir()
    content = {"convbert.encoder.layer.0.output.dense.bias": Malicious(tmp_path / "was-here")}
    (tmp_path / "evil" / file).write_bytes(pickle.dumps(content))
    command = ["--input", str(tmp_path / "evil"), "--output", str(tmp_path / "ours")]
    one_line(main(command), "mkdir.*nothing was run")
    assert [path.name for path in tmp_path.iterdir()] == ["evil"]


@pytest.mark.parametrize("to", ["paddle", "hf"])
@pytest.mark.parametrize("problem", [KeyboardInterrupt, OSError(28, "No space left on device"), MemoryError])
def test_an_interrupted_conversion_leaves_nothing(tmp_path, monkeypatch, problem, to):
    disturbed("ConvBertModel", config()).save_pretrained(tmp_path / "ours")
    ConvBertTokenizer(ROOT / "samples/vocab.txt").save_pretrained(tmp_path / "ours")

    def fail(*_):
        raise problem

    monkeypatch.setattr(ConvBertTokenizer, "save_pretrained", fail)  # the last thing to be written
    with pytest.raises(BaseException):  # noqa: B017, PT011
        convert(tmp_path / "ours", tmp_path / "result", to=to)
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]


@pytest.mark.slow
def test_a_killed_conversion_leaves_no_folder_or_a_whole_one(tmp_path):
    kept = modeling.ConvBertConfig.from_preset("convbert-small")
    modeling.ConvBertModel(kept).save_pretrained(tmp_path / "ours")
    command = [sys.executable, str(ROOT / "convert.py"), "--to", "hf", "--input", str(tmp_path / "ours")]
    started = time.monotonic()
    subprocess.run([*command, "--output", str(tmp_path / "whole")], check=True, capture_output=True)
    seconds = time.monotonic() - started
    random, left = np.random.default_rng(0), 0
    for attempt in range(10):
        result = tmp_path / f"result-{attempt}"
        process = subprocess.Popen([*command, "--output", str(result)], stdout=subprocess.DEVNULL)
        time.sleep(random.uniform(0.6, 1.0) * seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if result.exists():
            left += 1
            same_weights(result, tmp_path / "whole")
            assert read_json(result / "config.json") == read_json(tmp_path / "whole/config.json")
    assert left < 10


def test_verify_starts_compare_and_removes_what_fails(tmp_path, monkeypatch, capfd):
    disturbed("ConvBertModel", config()).save_pretrained(tmp_path / "ours")
    asked, status = [], 0

    def run(command, check):
        asked.append([str(part) for part in command])
        return subprocess.CompletedProcess(command, status)

    monkeypatch.setattr(subprocess, "run", run)
    command = ["--input", str(tmp_path / "ours"), "--to", "hf", "--verify", "--output", str(tmp_path / "hf")]
    assert main(command) == 0
    assert asked == [[sys.executable, str(ROOT / "compare.py"), "--weights", str(tmp_path / "hf")]]
    status = 1
    assert main([*command[:-1], str(tmp_path / "bad")]) == 1
    assert not (tmp_path / "bad").exists()
    assert "removed, as it fails the comparison" in capfd.readouterr().err


@torch_needed
@pytest.mark.slow
def test_verify(tmp_path):
    disturbed("ConvBertForPretraining", config(), config()).save_pretrained(tmp_path / "ours")
    command = [sys.executable, str(ROOT / "convert.py"), "--input", str(tmp_path / "ours"), "--verify"]
    done = subprocess.run(
        [*command, "--to", "hf", "--output", str(tmp_path / "hf")], check=True, capture_output=True, text=True
    )
    assert done.stdout.count("max difference: ") == 2


@torch_needed
@pytest.mark.slow
@pytest.mark.parametrize("model_type", ["bert", "electra", "ernie"])
def test_verify_of_the_other_architectures(tmp_path, model_type):
    sizes = dict(vocab_size=1176, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
    model = model_class(model_type, "ForSequenceClassification")(config_class(model_type)(**sizes))
    model.save_pretrained(tmp_path / "ours")
    ConvBertTokenizer(ROOT / "samples/vocab.txt").save_pretrained(tmp_path / "ours")
    command = [sys.executable, str(ROOT / "convert.py"), "--input", str(tmp_path / "ours"), "--verify", "--to", "hf"]
    done = subprocess.run([*command, "--output", str(tmp_path / "hf")], check=True, capture_output=True, text=True)
    assert "max difference: " in done.stdout


@torch_needed
def test_the_command(tmp_path, capsys, one_line):
    reference().save_pretrained(tmp_path / "hf")
    command = ["--input", str(tmp_path / "hf"), "--output", str(tmp_path / "ours")]
    assert main(command) == 0
    assert "ConvBertModel" in capsys.readouterr().out
    one_line(main(command), "not empty; name a new folder")
    one_line(main(["--input", str(tmp_path / "gone"), "--output", str(tmp_path / "new")]), "gone: no such file")


def test_an_unreachable_hub_is_one_line(tmp_path, monkeypatch, one_line):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    status = main(["--input", "hf:YituTech/conv-bert-small", "--output", str(tmp_path / "new")])
    one_line(status, r"hf:YituTech/conv-bert-small: can't be had from http://127\.0\.0\.1:9")


@torch_needed
def test_sources_resolve_to_folders_that_load(tmp_path, monkeypatch):
    reference("ForSequenceClassification").save_pretrained(tmp_path / "hf")
    monkeypatch.setitem(sources.HUBS, "hf", lambda name: str(tmp_path / "hf") if name == "some/model" else None)
    for name in ("hf:some/model", str(tmp_path / "hf")):
        folder = resolve(name)
        assert folder != name
        modeling.ConvBertForSequenceClassification.from_pretrained(folder)
        assert resolve(folder) == folder  # ours already
    assert resolve("convbert-small") == "convbert-small"


def test_half_precision_takes_half_the_room_and_comes_back(tmp_path, capsys, one_line):
    ours = disturbed("ConvBertGenerator", config())
    ours.save_pretrained(tmp_path / "ours")
    command = ["--input", str(tmp_path / "ours"), "--output", str(tmp_path / "half"), "--dtype", "float16"]
    assert main(command) == 0
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("ours", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    loaded = modeling.ConvBertGenerator.from_pretrained(tmp_path / "half").named_weights()
    for name, weight in ours.named_weights().items():
        assert loaded[name].dtype == weight.dtype
        np.testing.assert_array_equal(loaded[name].numpy(), weight.numpy().astype("float16"))
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main([*command[:3], str(tmp_path / "new"), *command[4:], "--to", "hf"])
    one_line(stopped.value.code, "--dtype float16 is for --to paddle")
