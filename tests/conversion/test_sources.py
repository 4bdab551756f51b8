"""What a user may name as a source, however its names, its folder and its config.json are spelled."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import paddle
import pytest
from conftest import ROOT, needs
from web import Web

import convert as convert_script
import predict
import run_pretrain
from conversion.formats import convert, format_of, read_checkpoint
from conversion.sources import locate, resolve, zoo_folder
from family.architectures import class_named, config_class
from family.configurations import PRESETS, PUBLISHED, Published
from files.downloads import SHIPPED, shipped
from files.errors import InputError
from files.json_files import read_json, write_json
from files.weights import read_weights, write_safetensors
from layers.configuration import ConvBertConfig
from modeling import ConvBertForPretraining, ConvBertForSequenceClassification
from tokenizer import ConvBertTokenizer

SIZES = dict(
    vocab_size=1176, embedding_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
    intermediate_size=16, max_position_embeddings=32, num_labels=2, label_names=["no", "yes"],
)  # fmt: skip


@pytest.fixture
def model(tmp_path):
    """A small classifier in this project's format."""
    folder = tmp_path / "model"
    ConvBertForSequenceClassification(ConvBertConfig(**SIZES)).save_pretrained(folder)
    ConvBertTokenizer(ROOT / "samples/vocab.txt").save_pretrained(folder)
    return folder


@pytest.fixture
def theirs(model, tmp_path):
    """The same in Hugging Face's."""
    convert(model, tmp_path / "theirs", to="hf")
    return tmp_path / "theirs"


def assert_loads(source, model):
    """Whether the source holds the weights of the folder `model`, for us and converted."""
    expected = read_weights(model)
    resolved = ConvBertForSequenceClassification.from_pretrained(resolve(str(source)))
    for loaded in (resolved, read_checkpoint(locate(str(source)))[0]):
        for name, weight in loaded.named_weights().items():
            np.testing.assert_array_equal(weight.numpy(), expected[name])


def rename(folder, spelling):
    weights = {spelling(name): array for name, array in read_weights(folder).items()}
    write_safetensors(folder / "model.safetensors", weights)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "model._orig_mod.", "net.module."])
def test_weights_in_a_wrapper_are_read(model, theirs, prefix, caplog):
    for folder in (model, theirs):
        rename(folder, lambda name: prefix + name)
    assert format_of(theirs) == "hf"
    assert format_of(model) == "paddle"
    assert_loads(model, model)
    assert_loads(theirs, model)
    assert f"{theirs}: names as of a wrapper" in caplog.text


@pytest.mark.parametrize("suffix", [".pdparams", ".safetensors"])
def test_paddle_s_data_parallel_is_read(model, suffix):
    weights = read_weights(model)
    if suffix == ".pdparams":
        os.rename(model / "model.safetensors", model / "whole.safetensors")
        paddle.save(
            {f"_layers.{name}": paddle.to_tensor(a) for name, a in weights.items()}, f"{model}/model_state.pdparams"
        )
    else:
        rename(model, lambda name: f"_layers.{name}")
    loaded = ConvBertForSequenceClassification.from_pretrained(model).named_weights()
    for name, array in weights.items():
        np.testing.assert_array_equal(loaded[name].numpy(), array)


def test_old_names_of_layer_norm_are_read(model, theirs):
    rename(
        theirs,
        lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"),
    )
    assert any(name.endswith("LayerNorm.gamma") for name in open_names(theirs))
    assert_loads(theirs, model)


def open_names(folder):
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "np") as file:
        return list(file.keys())


@needs("torch")
def test_a_checkpoint_of_lightning_is_converted_by_its_file(model, theirs, tmp_path):
    import torch

    state = {f"model.{name}": torch.from_numpy(array) for name, array in read_weights(theirs).items()}
    torch.save({"epoch": 2, "global_step": 7, "loops": {}, "state_dict": state}, theirs / "last.ckpt")
    (theirs / "model.safetensors").unlink()
    command = ["--input", str(theirs / "last.ckpt"), "--output", str(tmp_path / "ours")]
    assert convert_script.main(command) == 0
    assert read_json(tmp_path / "ours/config.json")["id2label"] == {"0": "no", "1": "yes"}
    assert (tmp_path / "ours/vocab.txt").is_file()
    assert_loads(tmp_path / "ours", model)
    os.rename(theirs / "last.ckpt", theirs / "pytorch_model.bin")
    assert_loads(theirs, model)


@pytest.mark.parametrize("spelling", ["conv_bert", "conv-bert", "ConvBERT", "ConvBert", None, ""])
def test_other_spellings_of_the_model_s_type(model, theirs, tmp_path, capsys, spelling):
    for folder in (model, theirs):
        write_json(folder / "config.json", {**read_json(folder / "config.json"), "model_type": spelling})
    assert_loads(model, model)
    assert_loads(theirs, model)
    for folder in (model, theirs):
        assert predict.main(["--model", str(folder), "a film", "--device", "cpu"]) == 0


def test_another_model_is_still_refused(model, tmp_path, one_line):
    write_json(model / "config.json", {**read_json(model / "config.json"), "model_type": "convbert_vision"})
    one_line(convert_script.main(["--input", str(model), "--output", str(tmp_path / "out")]), "'convbert_vision'")
    one_line(predict.main(["--model", str(model), "a", "--device", "cpu"]), "a convbert_vision model")


def test_a_model_of_the_hub_at_a_revision(model, theirs, tmp_path, monkeypatch, capsys):
    """Through a mirror, with a token, once for two scripts; and by the name of another revision not at all."""
    web, commit = Web(), "12" * 20
    files = {path.name: path.read_bytes() for path in theirs.iterdir()}
    about = {"sha": commit, "siblings": [{"rfilename": name} for name in files]}
    web.files["/api/models/some/model/revision/v1.0"] = json.dumps(about).encode()
    web.files |= {f"/some/model/resolve/{commit}/{name}": content for name, content in files.items()}
    monkeypatch.setenv("HF_ENDPOINT", f"{web.address}/")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    assert convert_script.main(["--input", "hf:some/model@v1.0", "--output", str(tmp_path / "ours")]) == 0
    assert {token for _, token in web.asked} == {"Bearer hf_secret"}
    assert (tmp_path / "home/hub/models--some--model/snapshots" / commit / "vocab.txt").is_file()
    asked = len(web.asked)
    assert_loads("hf:some/model@v1.0", model)
    assert len(web.asked) == asked
    capsys.readouterr()
    assert convert_script.main(["--input", "hf:some/model@v2", "--output", str(tmp_path / "none")]) == 2
    assert "hf:some/model@v2: can't be had from" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    web.close()


# ------------------------------------------------------------------------------------------------------------- the zoo

BERT = dict(
    vocab_size=1176, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
    max_position_embeddings=32,
)  # fmt: skip


def as_it_is(name):
    return name


def bare(name):
    return name.removeprefix("bert.")


def of_old_paddlenlp(name):
    return name.replace("decoder.weight", "decoder_weight")


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A host with a published BERT called bert-of-test, and the model: a masked language model with a pooler."""
    web, name = Web(), "bert-of-test"
    entry = Published("bert", f"{web.address}/b.pdparams", "of/test", BERT, f"{web.address}/b.txt", False)
    monkeypatch.setitem(PUBLISHED, name, entry)
    monkeypatch.setitem(PRESETS, name, config_class("bert"))
    monkeypatch.setitem(config_class("bert").presets, name, BERT)
    monkeypatch.setenv("PPNLP_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    model = class_named("BertForMaskedLM")(config_class("bert")(**BERT))
    web.files["/b.txt"] = (ROOT / "samples/vocab.txt").read_bytes()

    def put(spelling=as_it_is):
        weights = dict(model.state_dict())
        words, bias = (weights[n] for n in ("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder_bias"))
        weights |= {"cls.predictions.decoder.weight": words, "cls.predictions.decoder.bias": bias}
        weights |= {f"cls.seq_relationship.{part}": paddle.zeros([16]) for part in ("weight", "bias")}
        paddle.save({spelling(n): weight for n, weight in weights.items()}, str(tmp_path / "b.pdparams"))
        web.files["/b.pdparams"] = (tmp_path / "b.pdparams").read_bytes()

    put()
    yield web, model, put
    web.close()


@pytest.mark.parametrize("spelling", [as_it_is, bare, of_old_paddlenlp])
def test_a_published_bert(published, tmp_path, caplog, spelling):
    web, model, put = published
    put(spelling)
    folder = resolve("bert-of-test", "bert")
    assert sorted(web.paths()) == ["/b.pdparams", "/b.txt"]
    masked = class_named("BertForMaskedLM").from_pretrained(folder, whole=True)
    assert "not used: cls.seq_relationship" in caplog.text
    for name, weight in masked.named_weights().items():
        np.testing.assert_array_equal(weight.numpy(), model.named_weights()[name].numpy())
    classifier = class_named("BertForSequenceClassification").from_pretrained(folder, num_labels=3)
    pooler = classifier.bert.pooler.dense.weight.numpy()
    np.testing.assert_array_equal(pooler, model.bert.pooler.dense.weight.numpy())
    assert ConvBertTokenizer.from_pretrained(folder).do_lower_case is False
    assert type(read_checkpoint(locate("bert-of-test"))[0]).__name__ == "BertForMaskedLM"
    assert convert_script.main(["--input", "bert-of-test", "--output", str(tmp_path / "ours")]) == 0
    assert len(web.asked) == 2
    cached = tmp_path / "cache/models/bert-of-test"
    assert {path.name for path in cached.iterdir() if path.name[0] != "."} == {"model_state.pdparams", "vocab.txt"}


def test_its_tokenizer_alone_needs_no_weights(published):
    folder = Path(zoo_folder("bert-of-test", weights=False))
    assert published[0].paths() == ["/b.txt"]
    assert len(ConvBertTokenizer.from_pretrained(folder)) == 1169
    assert config_class("bert").from_pretrained(folder) == config_class("bert")(**BERT)


def test_a_zoo_that_fails_is_one_line(published, tmp_path, one_line):
    web, *_ = published
    web.files["/b.pdparams"] = web.files["/b.pdparams"][:1000]
    status = convert_script.main(["--input", "bert-of-test", "--output", str(tmp_path / "ours")])
    one_line(status, r"/b\.pdparams: can't be downloaded .*cut off or damaged")
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize("model_type", ["convbert", "electra", "ernie"])
def test_a_published_model_of_another_type(published, model_type):
    with pytest.raises(InputError, match=f"bert-of-test: a model of type bert, not {model_type}"):
        resolve("bert-of-test", model_type)
    with pytest.raises(InputError, match="convbert-small: a model of type convbert, not bert"):
        resolve("convbert-small", "bert")


def test_a_model_that_only_the_hub_has(tmp_path, one_line):
    for source in ("electra-small-generator", "minilm-l6-h384-uncased"):
        status = convert_script.main(["--input", source, "--output", str(tmp_path / "ours")])
        one_line(status, f"{source}: not in Paddle's model zoo; the Hugging Face hub has it as hf:")


def test_electra_small_from_paddlenlp_s_cache(tmp_path, monkeypatch):
    """Of its real size."""
    monkeypatch.setenv("PPNLP_HOME", str(tmp_path))
    folder = tmp_path / "models/electra-small"
    folder.mkdir(parents=True)
    model = class_named("ElectraDiscriminator")(config_class("electra").from_preset("electra-small"))
    paddle.save(dict(model.state_dict()), str(folder / "model_state.pdparams"))
    words = (ROOT / "samples/vocab.txt").read_text() + "".join(f"[{number}]\n" for number in range(30522 - 1169))
    (folder / "vocab.txt").write_text(words)
    found = class_named("ElectraDiscriminator").from_pretrained(resolve("electra-small", "electra"), whole=True)
    for name, weight in model.named_weights().items():
        np.testing.assert_array_equal(found.named_weights()[name].numpy(), weight.numpy())


def test_folders_of_a_type(tmp_path):
    model = class_named("ErnieForSequenceClassification")(config_class("ernie")(**BERT, use_task_id=True))
    model.save_pretrained(tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "theirs", to="hf")
    assert resolve(str(tmp_path / "ours"), "ernie") == str(tmp_path / "ours")
    found = class_named("ErnieForSequenceClassification").from_pretrained(resolve(str(tmp_path / "theirs"), "ernie"))
    for name, weight in model.named_weights().items():
        np.testing.assert_array_equal(found.named_weights()[name].numpy(), weight.numpy())
    with pytest.raises(InputError, match="a model of type ernie, not bert"):
        resolve(str(tmp_path / "theirs"), "bert")
    content = read_json(tmp_path / "ours/config.json") | {"hidden_act": "swish"}
    write_json(tmp_path / "ours/config.json", {key: content[key] for key in content if key != "type_vocab_size"})
    completed = config_class("ernie").from_pretrained(resolve(str(tmp_path / "ours"), "ernie"))
    assert (completed.type_vocab_size, completed.hidden_act) == (2, "silu")
    (tmp_path / "ours/config.json").rename(tmp_path / "ours/model_config.json")
    with pytest.raises(InputError, match=r"ours: its model_config\.json is of a PaddleNLP before 2\.5"):
        resolve(str(tmp_path / "ours"), "ernie")


# ------------------------------------------------------------------------------------------------------------- folders


def test_a_folder_is_the_same_by_any_of_its_names(model, theirs, tmp_path, monkeypatch):
    """The user's own folder with the name of a size, too."""
    for number, (folder, name) in enumerate({model: "convbert-small", theirs: "convbert-tiny"}.items()):
        place = tmp_path / f"place-{number}"
        place.mkdir()
        own = Path(os.rename(folder, place / name) or place / name)
        monkeypatch.chdir(place)
        for source in (name, f"./{name}", f"{name}/", own, str(own), f"../{place.name}/{name}"):
            assert shipped(source) == source
            assert os.path.samefile(locate(str(source)), own)
            tokenizer = ConvBertTokenizer.from_pretrained(resolve(str(source)))
            assert len(tokenizer) == len((own / "vocab.txt").read_text().splitlines())
            assert read_checkpoint(locate(str(source)))[0].config.hidden_size == 16
    monkeypatch.chdir(tmp_path)
    for source in ("convbert-tiny", Path("convbert-tiny")):
        assert shipped(source) == str(SHIPPED)


def test_pre_training_goes_on_from_an_own_folder_with_the_name_of_a_size(tmp_path, monkeypatch):
    sizes = {**SIZES, "num_labels": 2, "label_names": None}
    joint = ConvBertForPretraining(ConvBertConfig(**sizes), ConvBertConfig(**sizes))
    joint.save_pretrained(tmp_path / "joint")
    ConvBertTokenizer(ROOT / "samples/vocab.txt").save_pretrained(tmp_path / "joint")
    convert(tmp_path / "joint", tmp_path / "both", to="hf")
    os.rename(tmp_path / "both/discriminator", tmp_path / "convbert-small")
    monkeypatch.chdir(tmp_path)
    command = [
        "--input_dir",
        str(ROOT / "samples/corpus.txt"),
        "--model_name_or_path",
        "convbert-small",
        "--device",
        "cpu",
    ]
    short = ["--max_steps", "1", "--train_batch_size", "2", "--max_seq_length", "32", "--learning_rate", "1e-9"]
    assert run_pretrain.main([*command, *short, "--output_dir", "out"]) == 0
    found, expected = read_weights("out/discriminator"), read_weights("joint")
    name = "convbert.encoder.layers.0.linear1.weight"
    np.testing.assert_allclose(found[name], expected[f"discriminator.{name}"], rtol=0, atol=1e-6)


def test_a_copy_does_not_outlive_a_killed_process(theirs, tmp_path):
    held = tmp_path / "temporary"
    held.mkdir()
    code = f"from conversion.sources import resolve; print(resolve({str(theirs)!r}), flush=True); input()"
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    environment = {**os.environ, "TMPDIR": str(held)}
    for end in (signal.SIGKILL, None):
        with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, **pipes) as process:
            copy = Path(process.stdout.readline().strip())
            assert (copy / "model.safetensors").is_file()
            assert copy.is_relative_to(held)
            if end:
                process.send_signal(end)
            else:
                process.stdin.close()
            process.wait()
        for _ in range(1000):
            if not any(held.glob("convbert-*")):
                break
            time.sleep(0.01)
        assert not any(held.glob("convbert-*"))
