import contextlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from conftest import ROOT, needs

import ops
import run_glue
from checkpoint_files import read_json, read_weights
from configuration import ConvBertConfig
from glue_tasks import TASKS, find_task

SAMPLES = ROOT / "samples"
bfloat16_needed = pytest.mark.skipif(ops.bfloat16_obstacle() is not None, reason=str(ops.bfloat16_obstacle()))
TINY = dict(
    vocab_size=2000, embedding_size=16, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
    intermediate_size=48, max_position_embeddings=64,
)  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A folder with a very small configuration and the samples' vocabulary."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "config.json").write_text(json.dumps(ConvBertConfig(**TINY).to_dict()))
    (folder / "vocab.txt").write_bytes((SAMPLES / "vocab.txt").read_bytes())
    return folder


def command(model, output, **flags):
    """Arguments of a short run on the samples; a flag that is True or False is a switch, None leaves one out."""
    settings = dict(
        model_name_or_path=model, output_dir=output, from_scratch=True, task_name="SST-2", data_dir=SAMPLES,
        max_seq_length=64, max_steps=4, save_steps=2, logging_steps=2, device="cpu",
    )  # fmt: skip
    arguments = []
    for name, value in {**settings, **flags}.items():
        if isinstance(value, bool):
            arguments.append(f"--{name}" if value else f"--no-{name}")
        elif value is not None:
            arguments += [f"--{name}", str(value)]
    return arguments


STEP_LINE = (
    r"global step \d+/4, epoch: \d+, batch: \d+, rank_id: 0, loss: \d+\.\d{6}, lr: 0\.\d{10}, speed: \d+\.\d{4} step/s"
)
NUMBER = r"-?\d+(?:\.\d+)?(?:e-\d+)?"
SCORES = {
    "acc": f"acc: {NUMBER}, ",
    "mcc": f"mcc: {NUMBER}, ",
    "acc and f1": "".join(f"{name}: {NUMBER}, " for name in ("acc", "precision", "recall", "f1", "acc and f1")),
    "pearson and spearman": "".join(f"{name}: {NUMBER}, " for name in ("pearson", "spearman", "pearson and spearman")),
}


@pytest.mark.parametrize("name", TASKS)
def test_every_task_trains_evaluates_and_saves(tiny, tmp_path, capsys, name):
    assert run_glue.main(command(tiny, tmp_path / "out", task_name=name.lower())) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    task = find_task(name)
    evaluation = rf"eval loss: \d+\.\d{{6}}, {SCORES[task.metric]}" * len(task.dev_splits)
    for line, pattern in zip(lines, [STEP_LINE, rf"{evaluation}eval done total : \d+\.\d+ s"] * 2, strict=True):
        assert re.fullmatch(pattern, line), line
    assert printed.err.splitlines()[0].startswith("device: cpu (")

    results = read_json(tmp_path / "out/results.json")
    assert results["task"] == name
    assert results["best_step"] in (2, 4)
    assert results["examples_per_second"] > 0
    assert results["arguments"]["max_steps"] == 4
    assert results["arguments"]["device"] == "cpu"
    assert [entry["step"] for entry in results["evaluations"]] == [2, 4]
    assert set(results["evaluations"][0]) == {"step", *task.dev_splits}
    config = ConvBertConfig.from_pretrained(tmp_path / "out")
    assert config.num_labels == task.num_labels
    assert config.label_names == (list(task.labels) or None)

    folder = tmp_path / "out"  # the best model scores the same when it is loaded again
    again = command(folder, tmp_path / "again", task_name=name, from_scratch=False, do_train=False)
    assert run_glue.main(again) == 0
    best = next(entry for entry in results["evaluations"] if entry["step"] == results["best_step"])
    found = read_json(tmp_path / "again/results.json")["evaluations"][0]
    for split in task.dev_splits:
        assert found[split] == best[split]


class PublishedRun:
    """Stands for the model and the data of the published SST-2 log: 67,349 examples, and nothing to compute."""

    def __init__(self):
        self.lengths = np.random.default_rng(0).integers(3, 60, 67349)
        self.weight = paddle.create_parameter([2], "float32")

    def __len__(self):
        return len(self.lengths)

    def batch(self, indices):
        self.size = len(indices)
        return {}, paddle.zeros([len(indices)], "int64")

    def __call__(self):
        return self.weight.expand([self.size, 2])

    def train(self):
        pass

    def parameters(self):
        return [self.weight]

    def named_parameters(self):
        return [("weight", self.weight)]


def test_the_published_log_is_reproduced_digit_for_digit(tmp_path, capsys, monkeypatch):
    run = PublishedRun()
    monkeypatch.setattr(run_glue, "save", lambda *args: None)
    monkeypatch.setattr(run_glue, "evaluate_all", lambda *args: {"dev": {"acc": 0.5}})
    arguments = ["--task_name", "SST-2", "--batch_size", "256", "--output_dir", str(tmp_path)]
    run_glue.train(run_glue.parse_args(arguments), TASKS["SST-2"], run, None, run, {}, tmp_path, contextlib.nullcontext)
    found = re.findall(r"global step (\d+)/792, epoch: (\d), batch: (\d+), .* lr: ([\d.]+)", capsys.readouterr().out)
    assert [" ".join(line) for line in found] == [
        "100 0 99 0.0000970547",
        "200 0 199 0.0000830295",
        "300 1 35 0.0000690042",
        "400 1 135 0.0000549790",
        "500 1 235 0.0000409537",
        "600 2 71 0.0000269285",
        "700 2 171 0.0000129032",
        "792 2 263 0.0000000000",
    ]


def test_evaluation_is_over_the_whole_dev_set(tiny, tmp_path):
    """Loss averaged over examples and scores do not depend on the batch size."""
    assert run_glue.main(command(tiny, tmp_path / "out", task_name="MRPC", max_steps=2)) == 0
    found = []
    for size in (7, 64):
        output = tmp_path / f"{size}"
        arguments = command(
            tmp_path / "out", output, task_name="MRPC", from_scratch=False, do_train=False, batch_size=size
        )
        assert run_glue.main(arguments) == 0
        found.append(read_json(output / "results.json")["evaluations"][0]["dev"])
    assert found[0]["loss"] == pytest.approx(found[1]["loss"], abs=1e-4)  # padding changes outputs a little
    assert found[0]["acc"] == pytest.approx(found[1]["acc"], abs=0.02)


def test_a_precision_that_is_not_there_is_refused(tiny, tmp_path, monkeypatch, one_line):
    monkeypatch.setenv("CONVBERT_KERNELS", "paddle")
    one_line(run_glue.main(command(tiny, tmp_path / "out", amp="O1")), "--amp O1 --amp_dtype bfloat16: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("amp", [{}, pytest.param({"amp": "O1"}, marks=bfloat16_needed)])
def test_a_stopped_run_resumes_bit_for_bit(tiny, tmp_path, monkeypatch, amp):
    arguments = dict(max_steps=70, save_steps=20, task_name="STS-B", learning_rate=1e-3)  # five epochs of 13 steps
    arguments |= amp
    assert run_glue.main(command(tiny, tmp_path / "whole", **arguments)) == 0

    evaluate_all, evaluations = run_glue.evaluate_all, []

    def stop_at_the_third(*args):
        evaluations.append(1)
        if len(evaluations) == 3:
            raise KeyboardInterrupt
        return evaluate_all(*args)

    monkeypatch.setattr(run_glue, "evaluate_all", stop_at_the_third)
    assert run_glue.main(command(tiny, tmp_path / "parts", **arguments)) == 130
    monkeypatch.setattr(run_glue, "evaluate_all", evaluate_all)
    assert read_json(tmp_path / "parts/last/training_state.json")["step"] == 40
    assert run_glue.main(command(tiny, tmp_path / "parts", resume=True, **arguments)) == 0

    for folder in ("", "last"):
        whole, parts = (read_weights(tmp_path / run / folder) for run in ("whole", "parts"))
        for name, array in whole.items():
            np.testing.assert_array_equal(array, parts[name], err_msg=name)
    whole, parts = (read_json(tmp_path / run / "results.json") for run in ("whole", "parts"))
    assert whole["evaluations"] == parts["evaluations"]
    assert whole["best_step"] == parts["best_step"]
    assert parts["arguments"]["from_scratch"] is True  # as it was given, though this process loaded last/


def test_a_head_for_another_task_is_replaced(tiny, tmp_path, caplog):
    assert run_glue.main(command(tiny, tmp_path / "mnli", task_name="MNLI")) == 0
    for task in ("RTE", "STS-B"):
        output = tmp_path / task
        assert run_glue.main(command(tmp_path / "mnli", output, task_name=task, from_scratch=False)) == 0
        assert "starting anew: classifier" in caplog.text
        assert ConvBertConfig.from_pretrained(output).num_labels == TASKS[task].num_labels


def test_without_buckets_and_with_a_schedule_of_one_step(tiny, tmp_path, capsys):
    flags = dict(bucket=False, max_steps=1, save_steps=100, logging_steps=100)
    assert run_glue.main(command(tiny, tmp_path / "out", **flags)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["global step 1/1", lines[1].split(",")[0]]


def reference_folder(folder, model_type):
    import transformers

    name = {"bert": "Bert", "electra": "Electra", "ernie": "Ernie"}[model_type]
    settings = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, vocab_size=2000)
    settings |= {"embedding_size": 16} if model_type == "electra" else {}
    model = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**settings))
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_bytes((SAMPLES / "vocab.txt").read_bytes())
    return folder


@needs("transformers", "torch")
def test_a_hugging_face_convbert_is_converted_on_the_way(tmp_path):
    import transformers

    settings = {**TINY, "pad_token_id": 1, "id2label": {0: "LABEL_0", 1: "LABEL_1"}}
    model = transformers.ConvBertForSequenceClassification(transformers.ConvBertConfig(**settings))
    model.save_pretrained(tmp_path / "hf")
    (tmp_path / "hf/vocab.txt").write_bytes((SAMPLES / "vocab.txt").read_bytes())
    flags = dict(from_scratch=False, max_steps=1, learning_rate=0.0)
    assert run_glue.main(command(tmp_path / "hf", tmp_path / "out", **flags)) == 0
    assert ConvBertConfig.from_pretrained(tmp_path / "out").pad_token_id == 0
    theirs = model.classifier.out_proj.weight.detach().numpy()  # the head of an unnamed task with two classes is kept
    np.testing.assert_array_equal(read_weights(tmp_path / "out")["classifier.out_proj.weight"], theirs.T)


@needs("paddlenlp", "transformers", "torch")
@pytest.mark.parametrize("model_type", ["bert", "electra", "ernie"])
def test_other_models_train_from_hugging_face_folders(tmp_path, model_type):
    source = reference_folder(tmp_path / "hf", model_type)
    before = sorted(path.name for path in source.iterdir())
    flags = dict(model_type=model_type, from_scratch=False, task_name="RTE")
    assert run_glue.main(command(source, tmp_path / "out", **flags)) == 0
    assert sorted(path.name for path in source.iterdir()) == before
    assert run_glue.main(command(tmp_path / "out", tmp_path / "again", do_train=False, **flags)) == 0
    results, again = (read_json(tmp_path / run / "results.json") for run in ("out", "again"))
    best = next(entry for entry in results["evaluations"] if entry["step"] == results["best_step"])
    assert again["evaluations"][0]["dev"]["loss"] == pytest.approx(best["dev"]["loss"], abs=1e-6)
    assert run_glue.main(command(source, tmp_path / "new", model_type=model_type, task_name="RTE")) == 0


BAD = [  # flags that differ from a good run → what the one line says
    (dict(task_name="GLUE"), r"unknown task 'GLUE'; known are CoLA, SST-2"),
    (dict(device="gpu:7"), "--device gpu:7: this Paddle sees cpu"),
    (dict(data_dir="nowhere"), r"nowhere.train\.tsv: no such file|nowhere.dev\.tsv: no such file"),
    (dict(model_name_or_path="convbert-giant"), "convbert-giant: neither a folder nor"),
    (dict(model_name_or_path="convbert-giant", from_scratch=False), "convbert-giant: neither a folder nor"),
    (dict(model_name_or_path="convbert-tiny", from_scratch=False), "no published weights; add --from_scratch"),
    (dict(vocab_file="nowhere.txt"), "nowhere.txt: can't be read"),
    (dict(max_seq_length=65), "--max_seq_length 65: .* has only 64 positions"),
    (dict(from_scratch=False), "no weights here"),
    (dict(output_dir=ROOT / "samples"), "--output_dir .*samples: not empty; add --resume"),
    (dict(output_dir=ROOT / "LICENSE"), "not a folder"),
    (dict(output_dir="/proc/no/such"), "No such file or directory: .*/proc/no"),
]


@pytest.mark.parametrize(("flags", "message"), BAD)
def test_bad_input_is_one_line(tiny, tmp_path, one_line, flags, message):
    one_line(run_glue.main(command(tiny, tmp_path / "out", **flags)), message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: --task_name, --output_dir"),
        (["--task_name", "RTE", "--output_dir", "x", "--batch_size", "0"], "--batch_size must be at least 1, not 0"),
        (["--task_name", "RTE", "--output_dir", "x", "--batch_size", "a"], "invalid int value: 'a'"),
        (["--task_name", "RTE", "--output_dir", "x", "--warmup_proportion", "2"], r"must lie in \[0, 1\], not 2"),
        (["--task_name", "RTE", "--output_dir", "x", "--modle_type", "bert"], "unrecognized arguments: --modle_type"),
        (["--task_name", "RTE", "--output_dir", "x", "--model_type", "gpt"], "invalid choice: 'gpt'"),
    ],
)
def test_bad_usage_is_one_line(capsys, arguments, message):
    with pytest.raises(SystemExit) as error:
        run_glue.main(arguments)
    assert error.value.code == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert re.search(message, printed)


def test_a_folder_with_too_small_a_vocabulary(tiny, tmp_path, one_line):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text(json.dumps(ConvBertConfig(**{**TINY, "vocab_size": 50}).to_dict()))
    from modeling import ConvBertModel

    ConvBertModel(ConvBertConfig(**{**TINY, "vocab_size": 50})).save_pretrained(tmp_path / "model")
    flags = dict(vocab_file=SAMPLES / "vocab.txt", from_scratch=False)
    one_line(run_glue.main(command(tmp_path / "model", tmp_path / "out", **flags)), r"vocabulary has \d+ .* only 50")


@needs("paddlenlp")
def test_names_that_paddlenlp_cannot_get(tmp_path, one_line, monkeypatch):
    import paddlenlp.utils.env

    import paddlenlp_models

    monkeypatch.setattr(paddlenlp.utils.env, "MODEL_HOME", str(tmp_path))
    monkeypatch.setattr(paddlenlp_models, "ZOO_HOST", "http://127.0.0.1:9")
    flags = dict(model_type="bert", from_scratch=False)
    one_line(run_glue.main(command("bert-base-uncased", tmp_path / "out", **flags)), "bert-base-uncased: .*refused")


def test_help_needs_no_paddle():
    code = (
        "import sys, run_glue\n"
        "try: run_glue.main(['--help'])\n"
        "except SystemExit: print([m for m in ('paddle', 'torch', 'paddlenlp', 'scipy') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"
    assert "[default: 0.0001]" in run.stdout or "(default: 0.0001)" in run.stdout


def test_the_script_reports_through_its_exit_status(tmp_path):
    command = [sys.executable, str(ROOT / "run_glue.py"), "--task_name", "nope", "--output_dir", str(tmp_path)]
    run = subprocess.run(command, cwd=Path("/"), capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.startswith("run_glue.py: unknown task 'nope'")
    assert run.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TASKS if name != "WNLI"])
def test_real_glue(shared, tmp_path, name):
    """convbert-small from scratch with the published vocabulary, on the first steps of every real task."""
    vocabulary = shared / "vocab/bert-base-uncased-vocab.txt"
    flags = dict(task_name=name, data_dir=shared / "glue", vocab_file=vocabulary, max_seq_length=128, max_steps=3)
    assert run_glue.main(command("convbert-small", tmp_path / "out", save_steps=3, **flags)) == 0
