"""The commands of the README, run as a reader would."""

import json
import os
import re
import shutil
import subprocess
import sys

import paddle
import pytest
from conftest import ROOT, needs

from modeling import ConvBertConfig, ConvBertModel

README = (ROOT / "README.md").read_text("utf-8")
COMMANDS = re.findall(r"```shell\n(.*?)```", README, flags=re.S)
TRIED = {  # first word that tells a block → test below
    "make demo": "test_the_demo",
    "make setup": "what make test itself begins with",
    "python compare.py\n": "test_the_comparison",
    ".venv-newest": "test_the_comparison_with_the_newest_transformers",
    "--task_name RTE": "test_the_first_fine_tune",
    "TASK_NAME=SST-2": "test_the_fine_tune",
    "glue_sweep.py": "test_the_sweep",
    "train.csv": "test_own_data",
    "run_squad.py": "test_tags_and_answers",
    "make pretrain-demo": "test_the_pretraining_demo",
    "run_pretrain.py": "test_pre_training",
    "tokenizer.py": "test_pre_training",
    "export.py": "test_in_use",
    "serve.py": "test_in_use",
    "curl": "test_in_use",
    "--explain": "test_in_use",
    "convert.py": "test_the_conversion",
    "benchmark.py": "test_the_benchmark",
}


def block(word):
    (found,) = [text for text in COMMANDS if word in text]
    return found


def run(command, **environment):
    """Runs a block with this environment's Python in the project's folder."""
    path = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": path, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def test_every_block_of_commands_is_tried():
    assert len(COMMANDS) == len(TRIED)
    assert all(sum(word in text for text in COMMANDS) == 1 for word in TRIED)


def test_no_flag_beyond_the_published_eleven_is_listed():
    listed = re.findall(r"^- `(\w+)`:", README, flags=re.M)
    assert len(listed) == 11
    assert sorted(listed) == sorted(re.findall(r"^    --(\w+)", block("TASK_NAME=SST-2"), flags=re.M))


def test_what_the_readme_links_to_is_there():
    files = re.findall(r"`([\w/.-]+\.(?:py|txt)|LICENSE|samples/)`|\]\(((?:docs|pretrained)/[\w./-]+)\)", README)
    names = {name for pair in files for name in pair if name}
    assert {name for name in names if not (ROOT / name).exists()} <= {"DIR/SST-2/train.tsv", "zip_report.txt"}


@pytest.mark.parametrize("name", ["README", "docs/speed", "docs/own_language"])
def test_both_languages_hold_the_same(name):
    """Commands, what they print, links, sections and tables; the words differ, and an example's texts and model."""
    page, other = ((ROOT / f"{name}{language}.md").read_text("utf-8") for language in ("", ".zh-CN"))
    for one, two in zip(*(re.findall(r"```(.*?)```", text, flags=re.S) for text in (page, other)), strict=True):
        if one.startswith("shell"):
            flags, others = (re.findall(r"(?<!\S)--?\w+|\w+\.py|make \S+", block) for block in (one, two))
            assert [word for word in others if word in flags] == flags, two
        elif not one.startswith("\n{"):
            assert one == two
    for pattern in (r"^- `(\w+)`", r"\]\((?!README)([^)]+)\)", r"^#+(?= )", r"^\[published\]: .*$"):
        found = [re.findall(pattern, text, flags=re.M) for text in (page, other)]
        assert found[0] == found[1], pattern
    tables = [re.findall(r"^\|.*\|$", text, flags=re.M) for text in (page, other)]
    for one, two in zip(*tables, strict=True):
        numbers = [sorted(re.findall(r"\d[\d.,e×%-]*\d", row)) for row in (one, two)]
        assert numbers[0] == numbers[1], one


@pytest.mark.slow
def test_the_demo():
    done = run("make demo")
    accuracy = float(re.search(r"best acc: ([\d.]+)", done.stderr).group(1))
    assert accuracy > 0.7
    assert "Next, without a network or a GPU:" in done.stdout
    (program,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    assert run(f"python - <<'END'\n{program}\nEND").stdout == "[1, 0]\n"


@pytest.mark.slow
def test_tags_and_answers():
    for name in ("tags", "answers"):
        shutil.rmtree(ROOT / "output" / name, ignore_errors=True)
    printed = run(block("run_squad.py")).stdout
    tagged, answered = map(json.loads, printed.splitlines()[-2:])
    assert [entity["type"] for entity in tagged["entities"]] == ["time", "person", "thing"]
    assert answered["answer"] in "The hat was repaired by the boxer."
    assert len(re.findall(r"^eval loss: .*f1: ", printed, re.M)) >= 2


@pytest.mark.slow
@needs("torch", "transformers")
def test_the_comparison():
    printed = run(block("python compare.py\n"), HF_ENDPOINT="http://127.0.0.1:9").stdout
    assert len(re.findall(r"max difference: \d\.\d{4}e-0[67]", printed)) == 3
    assert printed.count("| heads | 6 |") == 3


@pytest.mark.slow
def test_the_comparison_with_the_newest_transformers():
    command = block(".venv-newest").strip()
    printed = run(
        f"{command} --models convbert-tiny --weights random --steps 2", HF_ENDPOINT="http://127.0.0.1:9"
    ).stdout
    assert "| training | 1 | 2 losses |" in printed


@pytest.mark.slow
@needs("torch", "transformers", "paddlenlp")
def test_the_benchmark(tmp_path):
    command = block("benchmark.py").strip().replace("speed.png", str(tmp_path / "speed.png"))
    printed = run(f"{command} --model convbert-tiny --rounds 1").stdout
    for peer in ("ours", "hf", "hf-compile", "hf-bf16", "paddlenlp", "paddlenlp-tuned"):
        assert printed.count(f"\n| {peer} |") == 2
    assert (tmp_path / "speed.png").stat().st_size > 10_000


@pytest.fixture
def cached(tmp_path):
    """A folder to stand for PaddleNLP's cache, with convbert-small in it, at random, as its published file has it."""
    cache = tmp_path / "models/convbert-small"
    cache.mkdir(parents=True)
    config = ConvBertConfig.from_preset("convbert-small")
    paddle.save(dict(ConvBertModel(config).state_dict()), str(cache / "model_state.pdparams"))
    shutil.copy(ROOT / "samples/vocab.txt", cache)
    return dict(PPNLP_HOME=str(tmp_path))


@pytest.mark.slow
def test_the_first_fine_tune(tmp_path):
    """With neither a GPU nor a network, and also one of the lines that make demo ends with."""
    command = block("--task_name RTE").strip()
    assert command.removeprefix("python ") in (ROOT / "Makefile").read_text("utf-8")
    offline = dict(HTTPS_PROXY="http://127.0.0.1:9", HTTP_PROXY="http://127.0.0.1:9", CUDA_VISIBLE_DEVICES="")
    said = run(command.replace("output/RTE", f"{tmp_path}/RTE"), **offline).stderr
    assert re.search(r"best acc: 0\.\d+ at step \d+", said)


@pytest.mark.slow
def test_the_fine_tune(tmp_path, cached):
    command = (
        block("TASK_NAME=SST-2").strip().replace("--device gpu", "--device cpu").replace("./glue", f"{tmp_path}/glue")
    )
    printed = run(f"{command} --data_dir samples --max_steps 2", **cached).stdout
    assert printed.startswith("global step 2/2, epoch: 0, batch: 1, rank_id: 0, loss: ")
    assert (tmp_path / "glue/SST-2/results.json").is_file()


@pytest.mark.slow
def test_the_sweep(tmp_path, cached):
    command = block("glue_sweep.py").strip().replace("output/glue", str(tmp_path / "glue"))
    command = command.replace("--task_name all", "--task_name RTE CoLA").replace("--seeds 1 2 3", "--seeds 1")
    printed = run(f"{command} --data_dir samples --max_steps 1 --device cpu", **cached).stdout
    assert re.search(r"^\| CoLA \| mcc \| \*\*-?[\d.]+\*\* \|", printed, flags=re.M)
    assert (tmp_path / "glue/submission.zip").is_file()


@pytest.mark.slow
def test_own_data(tmp_path, cached):
    for name in ("train", "dev"):
        (tmp_path / f"{name}.csv").write_text("text,label\ngood film,yes\nbad film,no\n")
    command = block("train.csv").replace("train.csv", f"{tmp_path}/train.csv").replace("dev.csv", f"{tmp_path}/dev.csv")
    command = command.replace("output/mine", f"{tmp_path}/mine")
    first, second = run(command, **cached).stdout.splitlines()[-2:]
    assert re.fullmatch(r'\{"text": "And another\.", "label": "(yes|no)", "probabilities": .*\}', second)
    assert list(json.loads(first)) == ["text", "label", "probabilities"]


@pytest.mark.slow
@needs("torch", "transformers")
def test_the_conversion(tmp_path):
    import transformers

    settings = dict(hidden_size=32, embedding_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    transformers.ConvBertModel(transformers.ConvBertConfig(**settings)).save_pretrained(tmp_path / "hf")
    command = block("convert.py").replace("FOLDER_OR_hf:OWNER/NAME", str(tmp_path / "hf"))
    run(command.replace("HF_FOLDER", str(tmp_path / "back")).replace("FOLDER", str(tmp_path / "ours")))
    ConvBertModel.from_pretrained(tmp_path / "ours")
    transformers.ConvBertModel.from_pretrained(tmp_path / "back")


@pytest.mark.slow
def test_the_pretraining_demo():
    done = run("make pretrain-demo")
    assert "global step 150/150" in done.stdout
    assert float(re.search(r"best acc: ([\d.]+)", done.stderr).group(1)) > 0.55


@pytest.mark.slow
def test_pre_training(tmp_path):
    (tmp_path / "texts").mkdir()
    shutil.copy(ROOT / "samples/corpus.txt", tmp_path / "texts")
    swaps = {"texts/": f"{tmp_path}/texts", "vocab.txt": f"{tmp_path}/vocab.txt", "output/": f"{tmp_path}/output/"}
    swaps |= {"--size 30522": "--size 900", "--max_steps 100000": "--max_steps 1 --train_batch_size 2 --device cpu"}
    for word in ("tokenizer.py", "run_pretrain.py"):
        command = block(word)
        for old, new in swaps.items():
            command = command.replace(old, new)
        done = run(command)
    assert "global step 1/1" in done.stdout
    assert (tmp_path / "output/pretraining/discriminator/model.safetensors").is_file()


@pytest.mark.slow
@needs("paddle2onnx", "onnxruntime", "fastapi", "uvicorn")
def test_in_use(tmp_path):
    """The commands say output/demo; here a small random model stands for it."""
    from test_export import model_folder

    model_folder(tmp_path / "demo")
    swaps = {"output/demo": f"{tmp_path}/demo", "inside.png": f"{tmp_path}/inside.png"}

    def command(word):
        found = block(word)
        for old, new in swaps.items():
            found = found.replace(old, new)
        return found

    assert '"label": ' in run(command("export.py")).stdout
    assert '"label": ' in run(command("--explain")).stdout
    assert (tmp_path / "inside.png").stat().st_size > 10_000
    served = f"{command('serve.py').strip()} & server=$!; trap 'kill $server; wait $server' EXIT\n"
    asked = command("curl").strip()
    waiting = "for _ in $(seq 300); do curl -s http://127.0.0.1:8000/health > /dev/null && break; sleep 0.2; done\n"
    answer = run(f"{served}{waiting}{asked}").stdout
    assert json.loads(answer)["predictions"][0]["label"] in ("0", "1")
