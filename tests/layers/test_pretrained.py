"""The weights that come with the project: what their name means where, and what can be relied on."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import paddle
import pytest
from conftest import ROOT, needs
from safetensors.numpy import load_file

import export
import modeling
import predict
from conversion.formats import convert
from conversion.sources import locate, resolve
from files.downloads import SHIPPED, shipped
from files.weights import read_weights
from layers.configuration import ConvBertConfig
from pretraining.models import build_model
from tasks.classifiers import load_tokenizer

SENTENCES = [  # a sentence, and which of its words is replaced by what
    ("the river flows through the north of the country .", "country", "actor"),
    ("he was born in 1950 in the city of london .", "born", "species"),
    ("the band released their second album in 1998 .", "album", "river"),
    ("she studied law at the university of oxford .", "university", "goal"),
    ("the film was directed by john smith and stars his wife .", "directed", "mountains"),
    ("it is the second largest city in the state .", "city", "wrote"),
    ("the team won the first game of the season .", "won", "century"),
    ("the church was built in the 19th century .", "built", "football"),
    ("he died on 3 march 1901 at his home in new york .", "died", "islands"),
    ("the species is found in the forests of south america .", "found", "husband"),
    ("the book was published in english and french .", "published", "against"),
    ("the war ended after the battle in which many soldiers were killed .", "soldiers", "between"),
]


def assert_holds(model, folder):
    weights = read_weights(folder)
    for name, weight in model.named_weights().items():
        np.testing.assert_array_equal(weight.numpy(), weights[name])


def test_the_name_means_the_folder_where_weights_are_wanted(tmp_path, monkeypatch):
    assert_holds(modeling.ConvBertDiscriminator.from_pretrained("convbert-tiny"), SHIPPED)
    assert resolve("convbert-tiny") == locate("convbert-tiny") == str(SHIPPED)
    assert resolve(str(SHIPPED)) == str(SHIPPED)
    assert load_tokenizer("convbert", "convbert-tiny").get_vocab() == load_tokenizer("convbert", SHIPPED).get_vocab()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "convbert-tiny").mkdir()
    assert shipped("convbert-tiny") == "convbert-tiny"  # the user's own folder of that name


def test_the_preset_is_the_same_model():
    for name, folder in (("convbert-tiny", SHIPPED), ("convbert-tiny-generator", SHIPPED / "generator")):
        config, preset = ConvBertConfig.from_pretrained(folder), ConvBertConfig.from_preset(name)
        assert replace(preset, vocab_size=config.vocab_size) == config
    tokenizer = load_tokenizer("convbert", "convbert-tiny")
    assert len(tokenizer) == config.vocab_size
    assert tokenizer.pad_token_id == config.pad_token_id


def test_pre_training_starts_at_random_by_the_name_and_goes_on_from_the_folder():
    preset, folder = (
        build_model(source, load_tokenizer("convbert", source), weights)
        for source, weights in (("convbert-tiny", False), (str(SHIPPED), True))
    )
    assert preset.config == folder.config
    assert_holds(folder.discriminator, SHIPPED)
    assert_holds(folder.generator, SHIPPED / "generator")
    words = [model.discriminator.get_input_embeddings().weight.numpy() for model in (preset, folder)]
    assert abs(words[0] - words[1]).mean() > 0.01


def test_the_files_are_small_and_half_precision():
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*")) < 20e6
    for folder in (SHIPPED, SHIPPED / "generator"):
        weights = load_file(folder / "model.safetensors")
        assert {weight.dtype.name for weight in weights.values()} == {"float16"}
        assert all(np.isfinite(weight).all() for weight in weights.values())


def test_it_knows_a_replaced_word():
    """The word that doesn't fit looks more replaced than the same place of the sentence as it was, nearly always."""
    model = modeling.ConvBertDiscriminator.from_pretrained("convbert-tiny")
    model.eval()
    tokenizer = load_tokenizer("convbert", "convbert-tiny")

    def score(sentence, place):
        logits = model(paddle.to_tensor([tokenizer(sentence)["input_ids"]]))
        return float(logits[0, place + 1])

    higher = 0
    for sentence, word, wrong in SENTENCES:
        tokens = tokenizer.tokenize(sentence)
        place = tokens.index(word)
        higher += score(sentence.replace(word, wrong), place) > score(sentence, place)
    assert higher >= 10


@pytest.mark.parametrize(
    ("script", "arguments"), [(predict, ["a text", "--output_file"]), (export, ["--output"])], ids=["predict", "export"]
)
def test_without_a_head_it_predicts_nothing(script, arguments, tmp_path, one_line):
    status = script.main(["--model", "convbert-tiny", *arguments, str(tmp_path / "out")])
    one_line(status, r"convbert-tiny: no head for this here \(classifier\); train one first")
    assert not list(tmp_path.iterdir())


MEASURE = """
import runtime
import gc, os, sys
import modeling
from conversion import formats

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

loads = {
    "ours": modeling.ConvBertModel.from_pretrained,
    "converted": lambda folder: formats.read_checkpoint(folder)[0],
}
load, small, large = loads[sys.argv[1]], *sys.argv[2:]
load(small)
gc.collect()
before = resident()
model = load(large)
gc.collect()
print((resident() - before) / sum(weight.size * 4 for weight in model.parameters()))
"""


@pytest.mark.parametrize(
    ("load", "suffix"),
    [
        ("ours", ".safetensors"),
        pytest.param("ours", ".pdparams", marks=pytest.mark.slow),
        pytest.param("converted", ".safetensors", marks=pytest.mark.slow),
        pytest.param("converted", ".bin", marks=[pytest.mark.slow, needs("torch")]),
    ],
)
def test_loading_leaves_no_second_copy_in_memory(tmp_path, load, suffix):
    sizes = {}
    for name, layers in {"small": 1, "large": 12}.items():
        config = ConvBertConfig(vocab_size=2000, num_hidden_layers=layers, embedding_size=512, hidden_size=512,
                                intermediate_size=2048, num_attention_heads=8)  # fmt: skip
        folder = tmp_path / name
        model = modeling.ConvBertModel(config)
        model.save_pretrained(folder)
        if load == "converted":
            convert(folder, tmp_path / f"{name}-hf", to="hf")
            folder = tmp_path / f"{name}-hf"
        weights = read_weights(folder)
        if suffix != ".safetensors":
            (folder / "model.safetensors").unlink()
        if suffix == ".pdparams":
            paddle.save(
                {key: paddle.to_tensor(array) for key, array in weights.items()}, f"{folder}/model_state.pdparams"
            )
        if suffix == ".bin":
            import torch

            torch.save({key: torch.from_numpy(array) for key, array in weights.items()}, folder / "pytorch_model.bin")
        sizes[name] = folder
    command = [sys.executable, "-c", MEASURE, load, str(sizes["small"]), str(sizes["large"])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert 0.5 < float(done.stdout.splitlines()[-1]) < 1.3
