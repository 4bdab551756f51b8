"""What pre-training takes for granted: how text is read, where the store lies, rates of a folder's size, new heads."""

import json
import os
import shutil

import pytest
from conftest import ROOT

import run_pretrain
from family.architectures import config_class, model_class
from family.configurations import PRESETS, preset
from files.json_files import read_json
from layers.configuration import ConvBertConfig
from pretraining.models import build_model, find_generator
from tokenizer import ConvBertTokenizer

TINY = ROOT / "pretrained/convbert-tiny"
SIZES = dict(
    vocab_size=1176, embedding_size=16, hidden_size=32, num_hidden_layers=1, num_attention_heads=8,
    intermediate_size=48, max_position_embeddings=64,
)  # fmt: skip


@pytest.fixture(scope="module")
def sizes(tmp_path_factory):
    """A folder with a small configuration and the samples' vocabulary; no weights."""
    folder = tmp_path_factory.mktemp("sizes")
    (folder / "config.json").write_text(json.dumps(ConvBertConfig(**SIZES).to_dict()))
    shutil.copy(ROOT / "samples/vocab.txt", folder)
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with a text in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("the river rose.\n\nthe wind blew.\n" * 20)
    return tmp_path


def run(model, flags):
    arguments = f"--input_dir a.txt --model_name_or_path {model} --max_seq_length 16 --device cpu --max_steps 1"
    return run_pretrain.main([*arguments.split(), *flags.split()])


SHORT = "--no-init_from_ckpt --train_batch_size 2 --learning_rate 1e-3"


# --------------------------------------------------------------------------------------------------------------- text


@pytest.mark.parametrize(("flag", "count"), [("", 200), ("--documents line", 200), ("--documents blank", 2)])
def test_documents_of_a_file_with_stray_empty_lines(sizes, here, capsys, flag, count):
    lines = ["the river rose."] * 200
    (here / "a.txt").write_text("\n".join([*lines[:70], "", *lines[70:], "", ""]))
    assert run(sizes, f"--output_dir out --prepare_only {SHORT} {flag}") == 0
    said = capsys.readouterr().err
    assert f"out/data: a.txt: {count} documents: " in said
    assert "(1 empty between 200 lines; --documents decides)" in said
    assert read_json("out/data/store.json")["documents"] == count


def test_what_a_run_writes_into_a_folder_of_texts_is_no_text(sizes, here):
    (here / "texts").mkdir()
    shutil.move("a.txt", "texts")
    shutil.copy(sizes / "vocab.txt", "texts/words.txt")
    command = f"--input_dir texts --output_dir texts/out {SHORT} --vocab_file texts/words.txt"
    for flags in ("", "--resume"):
        assert run(sizes, f"{command} {flags}") == 0
        assert read_json("texts/out/data/store.json")["documents"] == 21


# -------------------------------------------------------------------------------------------------------------- store


@pytest.mark.parametrize("store", ["{here}/out/data", "out/../out/data/", "link/data", "{here}/link/deep/store"])
def test_a_store_in_the_output_folder_by_any_name(sizes, here, store):
    (here / "link").symlink_to("out")
    flags = f"--output_dir out --data_store {store.format(here=here)}"
    assert run(sizes, f"{flags} {SHORT} --prepare_only") == 0
    assert run(sizes, f"{flags} {SHORT} --prepare_only") == 0  # not "not empty"


def test_a_run_learns_from_parts_that_were_made_apart(sizes, here):
    texts = here / "texts"
    texts.mkdir()
    for number in range(3):
        shutil.copy(ROOT / "samples/corpus.txt", texts / f"{number}.txt")
    for number in (1, 2):
        flags = f"--input_dir texts --output_dir part{number} {SHORT} --prepare_only --shard {number}/2"
        assert run(sizes, flags) == 0
    assert run(sizes, f"--input_dir texts --output_dir whole {SHORT}") == 0
    assert run(sizes, f"--input_dir part1/data part2/data --output_dir joined {SHORT}") == 0
    first, second = (read_json(f"{name}/results.json") for name in ("whole", "joined"))
    assert first["log"] == second["log"]
    assert first["text"] == second["text"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--shard 1/2", "--shard is for --prepare_only; a run takes all parts"),
        ("--prepare_only --shard 3/2", "--shard must be a part and how many there are, such as 1/3, not 3/2"),
        ("--prepare_only --shard 0/2", "not 0/2"),
        ("--prepare_only --shard 2", "not 2"),
    ],
)
def test_what_is_no_part(sizes, here, capsys, flags, message):
    with pytest.raises(SystemExit) as end:
        run(sizes, f"--output_dir out {flags} {SHORT}")
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_a_store_is_no_output_folder(sizes, here, one_line):
    one_line(run(sizes, f"--output_dir out --data_store {here}/out/ {SHORT}"), "--data_store .*: is --output_dir, too")
    assert not (here / "out").exists()


def test_nothing_else_is_replaced_by_a_store(sizes, here, one_line):
    (here / "mine").mkdir()
    (here / "mine/work").touch()
    one_line(run(sizes, f"--output_dir out --data_store mine {SHORT}"), "mine: holds work, which is no part of a store")
    assert (here / "mine/work").exists()


def test_a_killed_store_is_no_obstacle(sizes, here):
    """As a process that was killed while it tokenised leaves its output folder."""
    (here / "out/.data.abcd1234.tmp").mkdir(parents=True)
    (here / "out/.data.abcd1234.tmp/tokens.bin").write_bytes(b"1234")
    (here / "out/.data.lock").touch()
    assert run(sizes, f"--output_dir out {SHORT}") == 0
    assert not [name for name in os.listdir("out") if name.startswith(".")]


# -------------------------------------------------------------------------------------------------- rates and batches


def of_preset(name, **changes):
    return preset(name, **changes).to_dict()


@pytest.mark.parametrize(
    ("config", "rate", "batch", "words"),
    [
        (of_preset("convbert-base"), 2e-4, 256, "convbert-base's"),
        (of_preset("convbert-medium-small", vocab_size=9), 5e-4, 128, "convbert-medium-small's"),
        (of_preset("convbert-tiny", hidden_dropout_prob=0.0), 1e-3, 32, "convbert-tiny's"),
        (of_preset("convbert-base", num_hidden_layers=24), 2e-4, 256, "convbert-base's, the nearest in width to "),
        (of_preset("convbert-small", hidden_size=320), 3e-4, 128, "convbert-small's, the nearest in width to "),
        (of_preset("electra-small", vocab_size=9), 5e-4, 128, "electra-small's"),
        (of_preset("electra-base", hidden_size=192), 5e-4, 128, "electra-small's, the nearest in width to "),
        (of_preset("bert-base-uncased", vocab_size=9), 1e-4, 256, "bert-base-uncased's"),
    ],
)
def test_a_folder_s_size_says_rate_and_batch(here, config, rate, batch, words):
    (here / "run/discriminator").mkdir(parents=True)
    (here / "run/discriminator/config.json").write_text(json.dumps(config))
    (here / "link").symlink_to("run/discriminator")
    for name in ("run/discriminator/", f"{here}/run/discriminator", "run/../run/discriminator", "link"):
        flags = ["--input_dir", "a.txt", "--output_dir", "out", "--model_name_or_path", name, "--mlm_only"]
        args = run_pretrain.parse_args([*flags, "--model_type", config["model_type"]])
        said = run_pretrain.choose_rates(args, name)
        assert (args.learning_rate, args.train_batch_size) == (rate, batch)
        assert f"--learning_rate {rate:g} --train_batch_size {batch}: {words}" in said
    args.train_batch_size = None
    assert run_pretrain.choose_rates(args, name).startswith("--train_batch_size")
    assert run_pretrain.choose_rates(args, name) is None


@pytest.mark.parametrize("name", [*run_pretrain.SETTINGS, "bert-base-chinese", "ernie-3.0-medium-zh"])
def test_a_size_s_own_rate_and_batch(name):
    flags = ["--input_dir", "a.txt", "--output_dir", "out", "--model_name_or_path", name, "--mlm_only"]
    args = run_pretrain.parse_args([*flags, "--model_type", PRESETS[name].model_type])
    run_pretrain.choose_rates(args, name)
    own = run_pretrain.SETTINGS.get(name, run_pretrain.BERT_SETTINGS)
    assert (args.learning_rate, args.train_batch_size) == own


def test_what_was_taken_is_said(here, capsys):
    (here / "tiny").symlink_to(TINY)
    assert run("tiny", "--output_dir out") == 0
    said = capsys.readouterr().err
    assert "--learning_rate 0.001 --train_batch_size 32: convbert-tiny's\n" in said
    assert "starts at random" not in said  # generator and heads are there
    results = read_json("out/results.json")
    assert results["text"] == {"documents": 21, "sentences": 40, "tokens": 180, "files_read_as": {"blank": 1}}
    arguments = results["arguments"]
    assert (arguments["learning_rate"], arguments["train_batch_size"]) == (1e-3, 32)


# -------------------------------------------------------------------------------------------------------------- heads


@pytest.mark.parametrize("model_type", ["convbert", "electra"])
def test_new_heads_are_said(sizes, here, capsys, model_type):
    config = config_class(model_type).from_dict(SIZES)
    for name, kind, configs in (
        ("classifier", "ForSequenceClassification", [config]),
        ("classifier/generator", "ForSequenceClassification", [config]),
        ("generator", "ForMaskedLM", [config]),
        ("both", "ForPretraining", [config, config]),
    ):
        model_class(model_type, kind)(*configs).save_pretrained(here / name)
        shutil.copy(sizes / "vocab.txt", here / name)
    tokenizer = ConvBertTokenizer.from_pretrained(sizes)
    for name, mlm_only, new in (
        ("classifier", False, ["classifier: no discriminator's head", "classifier/generator: no generator's head"]),
        ("classifier", True, ["classifier: no generator's head"]),
        ("generator", False, ["generator: no discriminator's head", "generator: no generator"]),
        ("generator", True, []),
        ("both", False, []),
        ("both", True, []),
    ):
        capsys.readouterr()
        build_model(name, tokenizer, True, mlm_only, model_type=model_type)
        said = [line for line in capsys.readouterr().err.splitlines() if line.endswith("a new one starts at random")]
        assert [line.partition(" there;")[0].removeprefix(f"{here}/") for line in said] == new


@pytest.mark.parametrize("model_type", ["bert", "ernie"])
def test_a_new_head_for_masked_words_is_said(sizes, here, capsys, model_type):
    config, tokenizer = config_class(model_type).from_dict(SIZES), ConvBertTokenizer.from_pretrained(sizes)
    for kind, new in (("ForMaskedLM", False), ("ForSequenceClassification", True), ("Model", True)):
        model_class(model_type, kind)(config).save_pretrained(here / kind)
        build_model(kind, tokenizer, True, True, model_type=model_type)
        said = capsys.readouterr().err
        assert (f"{kind}: no generator's head there; a new one starts at random\n" in said) == new


def test_the_generator_beside_a_discriminator_by_any_name(here):
    for name in ("run/discriminator", "run/generator", "elsewhere"):
        (here / name).mkdir(parents=True)
        (here / name / "config.json").write_text("{}")
    (here / "other").mkdir()
    (here / "other/discriminator").symlink_to("../elsewhere")
    (here / "other/generator").symlink_to("../run/generator")
    (here / "link").symlink_to("run/discriminator")
    wanted = here / "run/generator"
    for name in (
        "run/discriminator",
        "run/discriminator/",
        "link",
        "run/../link/",
        here / "link",
        "other/discriminator",
    ):
        assert find_generator(name) == wanted
    assert find_generator("elsewhere") is None
    os.chdir("run/discriminator")
    assert find_generator(".") == wanted


# ---------------------------------------------------------------------------------------------- what others have made


def test_a_linked_text_in_the_output_folder_stays(sizes, here, one_line):
    (here / "out/discriminator").mkdir(parents=True)
    shutil.copy("a.txt", "out/discriminator/a.txt")
    (here / "texts").mkdir()
    (here / "texts/a.txt").symlink_to("../out/discriminator/a.txt")
    status = run(sizes, f"--input_dir texts --output_dir out --overwrite {SHORT}")
    one_line(status, "texts/a.txt: a new run in --output_dir out would remove it")
    assert (here / "out/discriminator/a.txt").exists()


def test_another_run_s_store_stays_unless_it_is_to_be_overwritten(sizes, here, one_line, capsys):
    with open(sizes / "vocab.txt") as file:
        (here / "other.txt").write_text(file.read().rstrip("\n").rpartition("\n")[0] + "\nzebra\n")
    assert run(sizes, f"--output_dir first --prepare_only {SHORT}") == 0
    capsys.readouterr()
    second = f"--output_dir second --data_store first/data --vocab_file other.txt --prepare_only {SHORT}"
    one_line(run(sizes, second), "first/data: a store that was made of other things: vocabulary; ")
    assert run(sizes, f"{second} --overwrite") == 0
    assert "first/data: made anew: other vocabulary\n" in capsys.readouterr().err
    assert run(sizes, f"--output_dir first --prepare_only {SHORT}") == 0  # its own
    assert "first/data: made anew: other vocabulary\n" in capsys.readouterr().err
