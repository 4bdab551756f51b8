"""compare.py on BERT, ELECTRA and ERNIE."""

import re

import numpy as np
import pytest
from conftest import needs
from family_models import CHANGES, FAMILY, SETTINGS, saved, settings

import compare
import convert
from comparison import parity
from comparison.hugging_face_reference import HuggingFace
from comparison.model_pairs import LIBRARIES
from comparison.references import architecture_of
from family import configurations
from family.architectures import model_class
from files.json_files import read_json
from files.weights import read_weights, write_safetensors
from layers.functions import ACTIVATIONS

CLASSIFIER = "ForSequenceClassification"
needs_hugging_face = needs("torch", "transformers")


@pytest.fixture
def tiny(monkeypatch):
    """Small presets: name of the model type → name of the preset; ELECTRA's has a generator."""
    sizes = {f"{model_type}-tiny": settings(model_type) for model_type in FAMILY}
    sizes["electra-tiny-generator"] = settings("electra", hidden_size=96, num_attention_heads=2, intermediate_size=48)
    for name, config in sizes.items():
        monkeypatch.setitem(configurations.PRESETS, name, type(config))
        content = {key: value for key, value in config.to_dict().items() if key in {*SETTINGS, *CHANGES["ernie"]}}
        content |= {"embedding_size": 128} if config.model_type == "electra" else {}
        del content["num_labels"]
        monkeypatch.setitem(type(config).presets, name, content)
    return {model_type: f"{model_type}-tiny" for model_type in FAMILY}


@needs_hugging_face
@pytest.mark.parametrize("reference", LIBRARIES)
@pytest.mark.parametrize("model_type", FAMILY)
def test_all_checks(tiny, tmp_path, capsys, model_type, reference):
    if reference == "paddlenlp":
        pytest.importorskip("paddlenlp")
    name, report = tiny[model_type], str(tmp_path / "report")
    command = ["--models", name, "--weights", "random", "--checks", "all", "--steps", "3", "--report", report]
    assert compare.main([*command, "--reference", reference]) == 0
    printed = capsys.readouterr()
    library = LIBRARIES[reference].library
    assert printed.out.startswith(f"{library} {name} vs paddle {name}\nmean difference: ")
    findings = read_json(f"{report}.json")["models"][name]
    assert all(finding["passed"] for finding in findings)
    checks = set(compare.CHECKS) - (set() if model_type == "electra" else {"generator"})
    assert {finding["check"] for finding in findings} == checks
    heads = [name for kind, name in parity.HEADS.items() if architecture_of(settings(model_type), kind)]
    assert [finding["part"] for finding in findings if finding["check"] == "heads"] == heads
    title = settings(model_type).title
    assert (f"{name}: generator left out: {title} has none" in printed.err) == (model_type != "electra")


@needs_hugging_face
@pytest.mark.slow
@pytest.mark.parametrize("kernels", ["auto", "paddle"])
@pytest.mark.parametrize("model_type", FAMILY)
def test_a_hundred_steps(tiny, monkeypatch, capsys, model_type, kernels):
    monkeypatch.setenv("CONVBERT_KERNELS", kernels)
    assert compare.main(["--models", tiny[model_type], "--weights", "random", "--checks", "all"]) == 0
    assert "| 100 losses |" in capsys.readouterr().out


@needs_hugging_face
def test_the_published_lines(capsys, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert compare.main(["--models", "electra-small", "--checks", "hidden"]) == 0
    printed = capsys.readouterr()
    lines = (
        r"huggingface google/electra-small-discriminator vs paddle electra-small\n(mean|max) difference: \d\.\d{4}e-0"
    )
    assert re.match(lines, printed.out)
    assert "comparing random weights" in printed.err


@needs_hugging_face
@pytest.mark.parametrize("name", ["bert-base-uncased", "electra-small"])
def test_the_hub_s_own_layout(tmp_path, monkeypatch, capsys, name):
    """With old names of the norms, a second head and a vocabulary, from the hub's cache."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    hub, model_type = compare.PUBLISHED[name], configurations.PRESETS[name].model_type
    folder = tmp_path / f"models--{hub.replace('/', '--')}/snapshots/main"
    architecture = "BertForMaskedLM" if model_type == "bert" else "ElectraDiscriminator"
    HuggingFace.random(architecture, settings(model_type)).save(folder)
    weights = read_weights(folder)
    if model_type == "bert":
        weights |= {"cls.seq_relationship.weight": np.ones((2, 192), "f"), "cls.seq_relationship.bias": np.ones(2, "f")}
        old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
        weights = {re.sub(r"LayerNorm\.\w+$", lambda found: old[found[0]], key): w for key, w in weights.items()}
    write_safetensors(folder / "model.safetensors", weights, "pt")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(995))]
    (folder / "vocab.txt").write_text("\n".join(words))
    command = ["--models", name, "--weights", "hub", "--checks", "hidden", "heads", "tokenizer"]
    assert compare.main(command) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(f"huggingface {hub} vs paddle {name}\n")
    assert "| tokenizer |" in printed.out
    assert "random" not in printed.err


def test_every_published_model_but_the_generators_has_its_name_on_the_hub():
    names = {name for name in configurations.PRESETS if not name.endswith("-generator")} - {"convbert-tiny"}
    assert names <= compare.PUBLISHED.keys()
    assert all(re.fullmatch(r"[\w-]+/[\w.-]+", hub) for hub in compare.PUBLISHED.values())


@pytest.mark.slow
@needs_hugging_face
@pytest.mark.parametrize("to", ["paddle", "hf"])
@pytest.mark.parametrize("model_type", FAMILY)
def test_folders_of_every_kind_are_compared(tmp_path, capsys, model_type, to):
    for kind in ("Model", CLASSIFIER, "ForMaskedLM", *(["Discriminator"] if model_type == "electra" else [])):
        folder = saved(tmp_path / f"{kind}-ours", model_type, kind)
        if to == "hf":
            folder = str(tmp_path / kind)
            convert.convert(tmp_path / f"{kind}-ours", folder, "hf")
        assert compare.main(["--weights", folder]) == 0
        printed = capsys.readouterr()
        assert re.match(rf"huggingface {kind}(-ours)? vs paddle {kind}", printed.out)
        assert not printed.err


@pytest.mark.slow
@needs_hugging_face
@pytest.mark.parametrize("model_type", FAMILY)
@pytest.mark.parametrize("kind", ["ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice"])
def test_folders_with_the_other_heads(tmp_path, capsys, model_type, kind):
    changes = {"num_labels": 2} if kind == "ForQuestionAnswering" else {}
    folder = saved(tmp_path / "mine", model_type, kind, **changes)
    assert compare.main(["--weights", folder, "--checks", "hidden", "padding", "heads"]) == 0
    assert f"| heads | {6 if model_type == 'electra' else 5} |" in capsys.readouterr().out


@needs_hugging_face
def test_a_joint_electra_is_two(tmp_path, capsys):
    config = settings("electra")
    model_class("electra", "ForPretraining")(config, config).save_pretrained(tmp_path / "mine")
    assert compare.main(["--weights", str(tmp_path / "mine"), "--checks", "hidden", "heads"]) == 0
    printed = capsys.readouterr().out
    assert "huggingface mine, discriminator vs" in printed
    assert "huggingface mine, masked language model vs" in printed


@needs_hugging_face
@pytest.mark.parametrize("kind", ["Model", CLASSIFIER, "ForMaskedLM"])
def test_what_hugging_face_cannot_hold_is_compared_with_loops(tmp_path, capsys, kind):
    folder = saved(tmp_path / "mine", "ernie", kind, task_id=2, num_hidden_layers=1, intermediate_size=96)
    assert compare.main(["--weights", folder, "--checks", "hidden", "padding", "heads", "gradients"]) == 0
    printed = capsys.readouterr()
    assert "task_id is 2" in printed.err
    assert "compared with numpy loops" in printed.err
    assert ("| heads | 1 |" in printed.out) == (kind != "Model")
    assert re.search(r"mine: (heads, )?gradients left out: numpy loops have none of these", printed.err)


@needs("torch", "transformers", "paddlenlp")
def test_another_task_is_compared_with_paddlenlp(tmp_path, capsys):
    folder = saved(tmp_path / "mine", "ernie", "ForMaskedLM", task_id=2)
    assert compare.main(["--weights", folder, "--reference", "paddlenlp", "--checks", "layers", "heads"]) == 0
    assert "compared with" not in capsys.readouterr().err


def test_what_paddlenlp_cannot_hold():
    obstacle = LIBRARIES["paddlenlp"].obstacle
    assert "1e-12 always" in obstacle(settings("ernie", layer_norm_eps=1e-5), "ErnieModel")
    assert obstacle(settings("bert", layer_norm_eps=1e-5), "BertModel") is None
    assert "gelu_new" in obstacle(settings("bert", hidden_act="gelu_new"), "BertModel")


@pytest.mark.parametrize("model_type", FAMILY)
def test_golden_outputs(tmp_path, capsys, monkeypatch, model_type):
    folder, file = saved(tmp_path / "mine", model_type, CLASSIFIER), tmp_path / "golden.npz"
    command = ["--weights", folder, "--golden", str(file)]
    assert compare.main(command) == 0
    for kernels in ("auto", "paddle"):
        monkeypatch.setenv("CONVBERT_KERNELS", kernels)
        assert compare.main(command) == 0
        assert "| golden | 4 |" in capsys.readouterr().out  # embeddings, two layers, logits
    monkeypatch.setitem(ACTIVATIONS, "gelu", ACTIVATIONS["relu"])
    assert compare.main(command) == 1
    assert "first golden, layer 0: " in capsys.readouterr().err


@needs_hugging_face
@pytest.mark.slow
@pytest.mark.parametrize("to", ["paddle", "hf"])
def test_convert_verifies(tmp_path, capfd, to):
    folder = saved(tmp_path / "mine", "bert", CLASSIFIER)
    assert convert.main(["--input", folder, "--output", str(tmp_path / "out"), "--to", to, "--verify"]) == 0
    assert "huggingface out vs paddle out" in capfd.readouterr().out
