"""Pre-training runs: what they log and write, that they go on exactly, and what they start from."""

import logging
import re
import shutil

import numpy as np
import paddle
import pytest
from conftest import ROOT, needs

import run_glue
import run_pretrain
from conversion.formats import convert
from family.architectures import ARCHITECTURES, MODEL_TYPES, config_class, model_class
from family.configurations import PRESETS, preset
from files.json_files import read_json, write_json
from files.weights import read_weights
from layers.configuration import ConvBertConfig
from layers.fast_path import bfloat16_obstacle
from pretraining.models import generator_config
from tokenizer import ConvBertTokenizer, train_vocabulary

CORPUS = ROOT / "samples/corpus.txt"
SIZES = dict(
    vocab_size=1176, embedding_size=16, hidden_size=32, num_hidden_layers=1, num_attention_heads=8,
    intermediate_size=48, max_position_embeddings=64,
)  # fmt: skip
bfloat16_needed = pytest.mark.skipif(bfloat16_obstacle() is not None, reason=str(bfloat16_obstacle()))


def configured(folder, model_type="convbert", **changes):
    """The folder with a small configuration and the samples' vocabulary; no weights."""
    folder.mkdir(exist_ok=True)
    write_json(folder / "config.json", config_class(model_type).from_dict({**SIZES, **changes}).to_dict())
    shutil.copy(ROOT / "samples/vocab.txt", folder)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return configured(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def tinies(tmp_path_factory):
    """Model type → such a folder."""
    return {model_type: configured(tmp_path_factory.mktemp(model_type), model_type) for model_type in MODEL_TYPES}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store") / "data"


def command(model, output, store=None, **flags):
    """Arguments of a short run on the samples; a flag that is True or False is a switch, None leaves one out."""
    settings = dict(
        input_dir=CORPUS, model_name_or_path=model, output_dir=output, data_store=store, init_from_ckpt=False,
        max_seq_length=64, train_batch_size=8, max_steps=6, save_steps=3, logging_steps=2, learning_rate=1e-3,
        validation_share=0.1, device="cpu",
    )  # fmt: skip
    arguments = []
    for name, value in {**settings, **flags}.items():
        if isinstance(value, bool):
            arguments.append(f"--{name}" if value else f"--no-{name}")
        elif value is not None:
            arguments += [f"--{name}", *(map(str, value) if isinstance(value, (list, tuple)) else [str(value)])]
    return arguments


def pretrain(*arguments, **flags):
    assert run_pretrain.main(command(*arguments, **flags)) == 0


FIELDS = "loss", "gen_loss", "disc_loss", "gen_acc", "disc_acc", "disc_recall"


@pytest.mark.parametrize("model_type", ["convbert", "electra"])
def test_a_run(tinies, store, tmp_path, capsys, model_type):
    pretrain(tinies[model_type], tmp_path / "out", store, model_type=model_type)
    printed = capsys.readouterr()
    words = ", ".join(rf"{name}: \d+\.\d{{6}}" for name in FIELDS)
    step = rf"global step \d/6, epoch: 0, {words}, lr: 0\.\d{{10}}, speed: \d+\.\d{{4}} step/s, \d+ tokens/s"
    evaluation = rf"eval {words}, eval done total : \d+\.\d+ s"
    lines = printed.out.splitlines()
    for line, pattern in zip(lines, [step, evaluation, step, step, evaluation], strict=True):
        assert re.fullmatch(pattern, line), line
    results = read_json(tmp_path / "out/results.json")
    assert [entry["step"] for entry in results["log"]] == [2, 4, 6]
    assert [entry["step"] for entry in results["evaluations"]] == [3, 6]
    assert results["log"][-1]["lr"] == 0
    assert results["arguments"]["train_batch_size"] == 8
    assert 6 * 8 * 30 < results["tokens"] < 6 * 8 * 64
    for name in ("curves.png", "discriminator/vocab.txt", "generator/tokenizer_config.json", "last/config.json"):
        assert (tmp_path / "out" / name).stat().st_size > 0
    discriminator = model_class(model_type, "Discriminator").from_pretrained(tmp_path / "out/discriminator")
    generator = model_class(model_type, "Generator").from_pretrained(tmp_path / "out/generator")
    for name, weight in discriminator.backbone.embeddings.named_parameters():
        other = dict(generator.backbone.embeddings.named_parameters())[name]
        np.testing.assert_array_equal(weight.numpy(), other.numpy())
    assert generator.config.hidden_size == 8  # a quarter


def test_it_learns(tiny, store, tmp_path):
    pretrain(tiny, tmp_path / "out", store, max_steps=120, save_steps=120, train_batch_size=16, learning_rate=4e-3)
    first, *_, last = read_json(tmp_path / "out/results.json")["log"]
    held_out = read_json(tmp_path / "out/results.json")["evaluations"][-1]
    assert first["gen_loss"] > 7
    assert last["gen_loss"] < 5.5
    assert held_out["gen_loss"] < 5.5
    assert held_out["disc_loss"] < 0.4 < first["disc_loss"]
    assert held_out["disc_recall"] > 0.1


@pytest.mark.parametrize(
    "flags",
    [{}, pytest.param({"amp": "O1"}, marks=pytest.mark.slow),
     pytest.param({"model_type": "electra"}, marks=pytest.mark.slow), {"model_type": "bert", "mlm_only": True},
     pytest.param({"mlm_only": True}, marks=pytest.mark.slow),
     pytest.param({"model_type": "ernie", "mlm_only": True, "amp": "O1"}, marks=pytest.mark.slow)],
)  # fmt: skip
def test_a_stopped_run_goes_on_bit_for_bit(tinies, store, tmp_path, monkeypatch, flags):
    """Stopped between two log lines, in the second of several epochs."""
    tiny = tinies[flags.get("model_type", "convbert")]
    if flags.get("amp") and bfloat16_obstacle():
        pytest.skip(bfloat16_obstacle())
    flags = {**flags, "max_steps": 48, "save_steps": 35, "logging_steps": 10, "train_batch_size": 32}
    pretrain(tiny, tmp_path / "whole", store, **flags)

    class Stop(Exception):
        pass

    def train_until(step):
        real = run_pretrain.backward

        def backward(run, numbers, now):
            if now == step:
                raise Stop
            return real(run, numbers, now)

        return backward

    with monkeypatch.context() as patch:
        patch.setattr(run_pretrain, "backward", train_until(44))
        with pytest.raises(Stop):
            run_pretrain.main(command(tiny, tmp_path / "parts", store, **flags))
    pretrain(tiny, tmp_path / "parts", store, **flags, resume=True)
    for folder in ("last", "generator"):
        whole, parts = (read_weights(tmp_path / name / folder) for name in ("whole", "parts"))
        for name, array in whole.items():
            np.testing.assert_array_equal(array, parts[name], err_msg=name)
    whole, parts = (read_json(tmp_path / name / "results.json") for name in ("whole", "parts"))
    assert whole["log"] == parts["log"]
    assert whole["evaluations"] == parts["evaluations"]
    assert whole["tokens"] == parts["tokens"]


def test_accumulated_batches_learn_as_one(tmp_path, store):
    configured(tmp_path / "tiny", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    pretrain(tmp_path / "tiny", tmp_path / "one", store, train_batch_size=16)
    pretrain(tmp_path / "tiny", tmp_path / "two", store, train_batch_size=4, gradient_accumulation_steps=4)
    one, two = (read_json(tmp_path / name / "results.json") for name in ("one", "two"))
    for first, second in zip(one["log"], two["log"], strict=True):
        for name in ("gen_loss", "disc_loss"):
            assert second[name] == pytest.approx(first[name], abs=1e-5)


def test_dropout_of_this_run_alone(tmp_path, store):
    """The same run as that of a configuration without dropout, but what is saved has the model's own rates."""
    for name, rate in (("own", 0.1), ("none", 0.0)):
        configured(tmp_path / name, hidden_dropout_prob=rate, attention_probs_dropout_prob=rate)
    pretrain(tmp_path / "none", tmp_path / "expected", store)
    pretrain(tmp_path / "own", tmp_path / "dropped", store)
    pretrain(tmp_path / "own", tmp_path / "found", store, dropout=0)
    expected, dropped, found = (read_weights(tmp_path / name / "last") for name in ("expected", "dropped", "found"))
    for name, array in expected.items():
        np.testing.assert_array_equal(array, found[name], err_msg=name)
    assert not all(np.array_equal(array, dropped[name]) for name, array in expected.items())
    for folder in ("discriminator", "generator"):
        config = ConvBertConfig.from_pretrained(tmp_path / "found" / folder)
        assert (config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (0.1, 0.1)


@pytest.fixture(scope="module", params=["convbert", "electra"])
def model_type(request):
    return request.param


@pytest.fixture(scope="module")
def trained(tinies, model_type, store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "out"
    pretrain(tinies[model_type], folder, store, max_steps=3, model_type=model_type)
    return folder


def parts(trained, tmp_path):
    """Folders to go on from: name → whether the generator is there."""
    shutil.copytree(trained / "discriminator", tmp_path / "alone")
    shutil.copytree(trained / "discriminator", tmp_path / "shipped")
    shutil.copytree(trained / "generator", tmp_path / "shipped/generator")
    return {
        trained / "last": True,
        trained / "discriminator": True,
        tmp_path / "shipped": True,
        tmp_path / "alone": False,
    }


def test_going_on_from_folders(trained, model_type, store, tmp_path, capsys):
    before = read_weights(trained / "last")
    for number, (folder, whole) in enumerate(parts(trained, tmp_path).items()):
        capsys.readouterr()
        output = tmp_path / f"out-{number}"
        flags = dict(init_from_ckpt=None, max_steps=1, learning_rate=0.0, model_type=model_type)
        pretrain(folder, output, store, **flags)
        assert ("no generator there; a new one starts at random" in capsys.readouterr().err) == (not whole)
        for name, array in read_weights(output / "last").items():
            same = np.array_equal(array, before[name])
            if whole or name.startswith("discriminator."):
                assert same, (folder, name)
        generator = model_class(model_type, "ForPretraining").from_pretrained(output / "last").generator
        assert generator.config.hidden_size == 8


def test_a_folder_s_sizes_without_its_weights(trained, model_type, store, tmp_path):
    flags = dict(max_steps=1, learning_rate=0.0, model_type=model_type)
    pretrain(trained / "discriminator", tmp_path / "out", store, **flags)
    name = f"discriminator.{model_type}.encoder.layers.0.linear1.weight"
    assert not np.array_equal(read_weights(tmp_path / "out/last")[name], read_weights(trained / "last")[name])


def test_a_later_phase_with_longer_sequences(trained, model_type, store, tmp_path):
    """The same tokens, packed anew."""
    before = (store / "tokens.bin").stat().st_mtime_ns
    flags = dict(init_from_ckpt=None, max_seq_length=32, max_steps=1, model_type=model_type)
    pretrain(trained / "discriminator", tmp_path / "out", store, **flags)
    assert (store / "tokens.bin").stat().st_mtime_ns == before
    assert (store / "segments-32-0.1-train.bin").is_file()


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_masked_words_alone(tinies, store, tmp_path, capsys, caplog, model_type):
    """And what becomes of it: a longer training, and a fine-tune."""
    flags = dict(mlm_only=True, model_type=model_type)
    pretrain(tinies[model_type], tmp_path / "out", store, whole_word_masking=True, masking="bert", **flags)
    assert "disc_loss" not in capsys.readouterr().out
    folder = tmp_path / "out/generator"
    model = model_class(model_type, "ForMaskedLM").from_pretrained(folder)
    assert model.config.hidden_size == 32
    assert not any("pooler" in name for name in read_weights(folder))  # nothing that was not trained
    assert not (tmp_path / "out/discriminator").exists()
    pretrain(folder, tmp_path / "more", store, init_from_ckpt=None, max_steps=1, learning_rate=0.0, **flags)
    for name, array in read_weights(tmp_path / "more/generator").items():
        np.testing.assert_array_equal(array, read_weights(folder)[name], err_msg=name)

    arguments = f"--task_name RTE --data_dir {ROOT / 'samples'} --max_steps 1 --max_seq_length 32 --learning_rate 0"
    arguments += f" --model_type {model_type} --model_name_or_path {folder} --output_dir {tmp_path / 'rte'}"
    caplog.clear()
    assert run_glue.main([*arguments.split(), "--device", "cpu"]) == 0
    assert "starting anew: " in caplog.text
    name = f"{model_type}.encoder.layers.0.self_attn.q_proj.weight"
    np.testing.assert_array_equal(read_weights(tmp_path / "rte")[name], read_weights(folder)[name])


def test_from_an_own_vocabulary_to_a_fine_tune(tmp_path, capsys):
    """Cased, accents kept: the switches go all the way."""
    (tmp_path / "text.txt").write_text(CORPUS.read_text() + "\n\nUn café à Zürich, s'il vous plaît.\n" * 5)
    tokens = train_vocabulary([tmp_path / "text.txt"], 900, do_lower_case=False)
    (tmp_path / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens))
    flags = dict(
        model_name_or_path="convbert-tiny", vocab_file=tmp_path / "vocab.txt", do_lower_case=False,
        input_dir=tmp_path / "text.txt", max_steps=2, init_from_ckpt=None,
    )  # fmt: skip
    pretrain("convbert-tiny", tmp_path / "out", **flags)
    tokenizer = ConvBertTokenizer.from_pretrained(tmp_path / "out/discriminator")
    assert (tokenizer.do_lower_case, len(tokenizer)) == (False, 900)
    assert tokenizer.tokenize("Zürich")[0][0] == "Z"
    config = ConvBertConfig.from_pretrained(tmp_path / "out/discriminator")
    assert config.vocab_size == 900
    assert config.num_hidden_layers == preset("convbert-tiny").num_hidden_layers
    arguments = ["--task_name", "RTE", "--data_dir", ROOT / "samples", "--max_steps", 1, "--max_seq_length", 32]
    arguments += ["--model_name_or_path", tmp_path / "out/discriminator", "--output_dir", tmp_path / "rte"]
    assert run_glue.main([*map(str, arguments), "--device", "cpu"]) == 0
    assert ConvBertTokenizer.from_pretrained(tmp_path / "rte").do_lower_case is False


def test_the_discriminator_is_what_a_fine_tune_begins_with(trained, model_type, caplog):
    with caplog.at_level(logging.WARNING):
        model = model_class(model_type, "ForSequenceClassification").from_pretrained(trained / "discriminator")
    assert "starting anew: classifier" in caplog.text
    weights = read_weights(trained / "discriminator")
    name = f"{model_type}.encoder.layers.0.self_attn.q_proj.weight"
    np.testing.assert_array_equal(dict(model.named_parameters())[name].numpy(), weights[name])


@needs("torch", "transformers", "paddlenlp")
@pytest.mark.parametrize("model_type", ["convbert", "electra"])
def test_other_libraries_take_the_parts(tinies, store, tmp_path, model_type):
    import paddlenlp.transformers as paddlenlp
    import transformers

    pretrain(tinies[model_type], tmp_path / "out", store, max_steps=1, generator_size=0.5, model_type=model_type)
    ids = np.random.default_rng(0).integers(5, 1000, (2, 20))
    encoder = f"{ARCHITECTURES[model_type].prefix}Model"
    for part, kind in (("generator", "Generator"), ("discriminator", "Discriminator")):
        source = tmp_path / "out" / part
        convert(source, tmp_path / f"hf-{part}", to="hf")
        model = model_class(model_type, kind).from_pretrained(source).backbone
        model.eval()
        expected = model(paddle.to_tensor(ids)).numpy()
        theirs = getattr(transformers, encoder).from_pretrained(tmp_path / f"hf-{part}").eval()
        import torch

        with torch.no_grad():
            found = theirs(torch.from_numpy(ids)).last_hidden_state.numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5)
        theirs = getattr(paddlenlp, encoder).from_pretrained(str(source))
        theirs.eval()
        found = theirs(paddle.to_tensor(ids))
        found = found[0] if isinstance(found, tuple) else found
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


@needs("torch", "transformers")
@pytest.mark.parametrize("kind", ["ForMaskedLM", "ForPreTraining"])
def test_hugging_face_s_bert_goes_on(tmp_path, store, capsys, kind):
    import transformers

    settings = {name: size for name, size in SIZES.items() if name != "embedding_size"}
    theirs = getattr(transformers, f"Bert{kind}")(transformers.BertConfig(**settings))
    theirs.save_pretrained(tmp_path / "hf")
    shutil.copy(ROOT / "samples/vocab.txt", tmp_path / "hf")
    flags = dict(model_type="bert", mlm_only=True, init_from_ckpt=None, max_steps=1, learning_rate=0.0)
    pretrain(tmp_path / "hf", tmp_path / "out", store, **flags)
    assert "starts at random" not in capsys.readouterr().err
    found, expected = read_weights(tmp_path / "out/generator"), theirs.state_dict()
    for ours, name in (
        ("bert.encoder.layers.0.self_attn.q_proj.weight", "bert.encoder.layer.0.attention.self.query.weight"),
        ("cls.predictions.transform.weight", "cls.predictions.transform.dense.weight"),
    ):
        np.testing.assert_array_equal(found[ours], expected[name].numpy().T)
    assert ("bert.pooler.dense.weight" in found) == (kind == "ForPreTraining")


@pytest.mark.parametrize("name", [name for name in PRESETS if f"{name}-generator" in PRESETS])
def test_every_size_has_its_published_generator(name):
    config = preset(name, vocab_size=1000, num_labels=5)
    found = generator_config(config, None)
    assert found == preset(f"{name}-generator", vocab_size=1000)
    half = generator_config(config, 0.5)
    assert half.hidden_size == config.hidden_size // 2
    assert half.num_attention_heads == config.num_attention_heads // 2
    assert half.intermediate_size == config.intermediate_size // 2


def test_recompute_and_every_schedule(tiny, store, tmp_path):
    pretrain(tiny, tmp_path / "plain", store)
    pretrain(tiny, tmp_path / "recompute", store, recompute=True)
    plain, recomputed = (read_json(tmp_path / name / "results.json") for name in ("plain", "recompute"))
    assert plain["log"] == recomputed["log"]
    for kind, last in (("cosine", 0), ("constant", 1e-3), ("warmup_stable_decay", 0)):
        pretrain(tiny, tmp_path / kind, store, lr_scheduler_type=kind, warmup_steps=2)
        rates = [entry["lr"] for entry in read_json(tmp_path / kind / "results.json")["log"]]
        assert rates[0] == 1e-3
        assert rates[-1] == pytest.approx(last)


def test_gradients_are_cut(tiny, store, tmp_path):
    """After one step AdamW's second moments are (1 - beta2) · gradient²: they tell how long the gradient was."""
    lengths = {}
    for name, flags in (("cut", {}), ("whole", {"max_grad_norm": 0})):
        pretrain(tiny, tmp_path / name, store, max_steps=1, **flags)
        moments = read_weights(tmp_path / name / "last/optimizer.safetensors")
        squares = [array.astype("float64").sum() for key, array in moments.items() if "moment2" in key]
        lengths[name] = (sum(squares) / (1 - np.float32(0.999))) ** 0.5
    assert lengths["whole"] > 2
    assert lengths["cut"] == pytest.approx(1, rel=1e-4)  # the default


def test_warm_up_left_out_is_a_tenth(tiny, store, tmp_path):
    pretrain(tiny, tmp_path / "out", store, max_steps=20, logging_steps=1, save_steps=20)
    rates = [entry["lr"] for entry in read_json(tmp_path / "out/results.json")["log"]]
    assert rates[:3] == pytest.approx([0.5e-3, 1e-3, 1e-3 * 17 / 18])


def test_the_curves(tiny, store, tmp_path):
    from matplotlib import pyplot

    pretrain(tiny, tmp_path / "out", store, max_steps=2, save_steps=1, logging_steps=1)
    picture = pyplot.imread(tmp_path / "out/curves.png")
    green = np.abs(picture[..., :3] - np.array([0x0B, 0x6E, 0x4F]) / 255).max(-1) < 0.02
    assert green.sum() > 100  # the held-out losses


def test_prepare_only(tiny, tmp_path, capsys):
    arguments = command(tiny, tmp_path / "out", prepare_only=True)
    assert run_pretrain.main(arguments) == 0
    assert "132 documents" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["data"]
    before = (tmp_path / "out/data/tokens.bin").stat().st_mtime_ns
    pretrain(tiny, tmp_path / "out", max_steps=1)  # not "not empty"
    assert (tmp_path / "out/data/tokens.bin").stat().st_mtime_ns == before


def test_losses_that_are_no_number_are_skipped_and_end_the_run(tiny, store, tmp_path, monkeypatch, one_line):
    real = run_pretrain.backward

    def backward(run, numbers, step):
        loss, sums = real(run, numbers, step)
        return (float("nan") if step in (2, *range(5, 20)) else loss), sums

    monkeypatch.setattr(run_pretrain, "backward", backward)
    status = run_pretrain.main(command(tiny, tmp_path / "out", store, max_steps=30, save_steps=4))
    assert status == 2
    state = read_json(tmp_path / "out/last/training_state.json")
    assert state["step"] == 12
    assert state["skipped_steps"] == 9


BAD = [
    ("--input_dir nothing.txt", "nothing.txt: no such file"),
    ("--input_dir empty.txt", "empty.txt: no text"),
    ("--input_dir binary.txt", "binary.txt, line 1: byte 1 is not UTF-8"),
    ("--validation_share 0", "--validation_share must lie in"),
    ("--mask_prob 1", "--mask_prob must lie in"),
    ("--generator_size 2", "--generator_size must lie in"),
    ("--dropout 1", "--dropout must lie in"),
    ("--max_seq_length 4", "--max_seq_length must be at least 8"),
    ("--max_seq_length 128", "has only 64 positions"),
    ("--train_batch_size 0", "--train_batch_size must be at least 1, not 0"),
    ("--learning_rate -1", "--learning_rate must be a number from 0"),
    ("--model_name nothing", "nothing: "),
    ("--model_name convbert-tiny --vocab_file nothing", "nothing: can't be read as a vocabulary"),
    ("--init_from_ckpt", "no weights here"),
    ("--device gpu", "--device gpu: this Paddle sees cpu"),
    ("--model_type gpt", "invalid choice"),
    ("--model_type bert", "--model_type bert has no discriminator; add --mlm_only"),
    ("--nsp_prob 0.5 --mlm_only", "--nsp_prob: a discriminator tells it, and --mlm_only has none"),
    ("--model_type ernie", "--model_type ernie has no discriminator; add --mlm_only"),
    ("--model_type electra --mask_conv_padding", "--mask_conv_padding is for convolutions; --model_type electra"),
    ("--model_type electra", "a convbert model, not an ELECTRA; take --model_type convbert"),
    ("--model_type electra --model_name convbert-small", "convbert-small: a convbert model, not an ELECTRA; take"),
    ("--whole_words", "unrecognized arguments"),
]


@pytest.mark.parametrize(("flags", "message"), BAD)
def test_bad_input(tiny, tmp_path, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").touch()
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    try:
        status = run_pretrain.main([*command(tiny, "out"), *flags.split()])
    except SystemExit as stop:
        status = stop.code
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith(("device: ", "out/data: "))]
    assert status == 2
    assert len(lines) == 1, lines
    assert message in lines[0]
    assert not (tmp_path / "out/last").exists()


def test_a_folder_that_is_not_empty(tiny, store, tmp_path, one_line):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/precious").touch()
    one_line(run_pretrain.main(command(tiny, tmp_path / "out", store)), "not empty; add --resume")
    pretrain(tiny, tmp_path / "out", store, overwrite=True, max_steps=1)
    assert (tmp_path / "out/precious").exists()
