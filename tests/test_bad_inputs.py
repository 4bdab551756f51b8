"""Whatever is wrong with what a user gives: one line that says so, status 2, no traceback, nothing half-written."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

import glue_sweep
import predict
import run_glue
from layers.configuration import ConvBertConfig
from modeling import ConvBertForSequenceClassification

SIZES = dict(
    vocab_size=1176, embedding_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
    intermediate_size=16, max_position_embeddings=32, num_labels=2, label_names=["0", "1"],
)  # fmt: skip
GOOD = "sentence\tlabel\ngood film\t1\nbad film\t0\n"
OWN = "text,label\ngood film,yes\nbad film,no\n"


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A model, and data for SST-2, STS-B and of one's own: everything right."""
    folder = tmp_path_factory.mktemp("good")
    ConvBertForSequenceClassification(ConvBertConfig(**SIZES)).save_pretrained(folder / "model")
    shutil.copy(ROOT / "samples/vocab.txt", folder / "model/vocab.txt")
    for split in ("train", "dev"):
        (folder / "SST-2").mkdir(exist_ok=True)
        (folder / "SST-2" / f"{split}.tsv").write_text(GOOD)
        (folder / f"{split}.csv").write_text(OWN)
    (folder / "SST-2/test.tsv").write_text("index\tsentence\n0\tfilm\n")
    return folder


@pytest.fixture
def here(template, tmp_path, monkeypatch):
    """A copy of it as the current folder."""
    shutil.copytree(template, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


RUN = "--model_name_or_path model --device cpu --max_seq_length 32 --max_steps 2 --output_dir out"
GLUE = f"{RUN} --task_name SST-2 --data_dir ."
MINE = f"{RUN} --train_file train.csv --validation_file dev.csv"


def test_what_the_table_changes_is_right_without_it(here):
    assert run_glue.main(f"{GLUE} --do_predict".split()) == 0
    assert run_glue.main(f"{MINE} --output_dir own".split()) == 0
    assert predict.main(["--model", "out", "--device", "cpu", "film"]) == 0


def sst2(name, content):
    return {f"SST-2/{name}.tsv": content}


FILES = [  # flags, files that are other than they should be (None: absent), what the line says
    # GLUE's files
    (GLUE, sst2("train", None), r"SST-2/train\.tsv: no such file; --data_dir takes the folder"),
    (GLUE, sst2("dev", None), r"SST-2/dev\.tsv: no such file"),
    (f"{GLUE} --data_dir nowhere", {}, r"nowhere/train\.tsv: no such file"),
    (GLUE, sst2("train", ""), r"SST-2/train\.tsv: the file is empty"),
    (GLUE, sst2("train", "\n"), r"SST-2/train\.tsv"),
    (GLUE, sst2("train", "sentence\tlabel\n"), r"SST-2/train\.tsv: no examples in it"),
    (GLUE, sst2("dev", f"{GOOD}one\ttwo\t1\n"), r"SST-2/dev\.tsv, line 4: 3 tab-separated columns where 2 belong"),
    (GLUE, sst2("dev", f"{GOOD}only text\n"), r"SST-2/dev\.tsv, line 4: 1 tab-separated columns where 2 belong"),
    (GLUE, sst2("train", f"{GOOD}\ntext\t1\n"), r"SST-2/train\.tsv, line 4: 1 tab-separated columns"),
    (GLUE, sst2("train", "sentence\tlabel\n\n\n"), r"SST-2/train\.tsv: no examples in it"),
    (f"{GLUE} --skip_bad_rows", sst2("dev", "sentence\tlabel\na\t7\nb\n"),
     r"SST-2/dev\.tsv: no examples in it; rows skipped because they can't be used \(line 2: unknown label '7'.*\): 2"),
    (f"{GLUE} --skip_bad_rows --do_predict", sst2("test", "index\tsentence\n0\ta\tb\n"), r"test\.tsv, line 2: 3 tab"),
    (GLUE, sst2("train", f"{GOOD}text\t2\n"), r"SST-2/train\.tsv, line 4: unknown label '2'; SST-2 has 0, 1"),
    (GLUE, sst2("train", f"{GOOD}text\tpositive\n"), r"line 4: unknown label 'positive'"),
    (GLUE, sst2("train", f"{GOOD}text\t\n"), r"line 4: the label is missing \(label is empty\)"),
    (GLUE, sst2("dev", "text\tlabel\na\t1\n"), r"dev\.tsv, line 1: no column 'sentence'; SST-2's dev\.tsv has"),
    (GLUE, sst2("dev", "sentence\tgold\na\t1\n"), r"dev\.tsv, line 1: no column 'label'"),
    (GLUE, sst2("train", GOOD.encode() + b"caf\xe9\t1\n"), r"SST-2/train\.tsv, line 4: not UTF-8; convert the file"),
    (GLUE, sst2("train", GOOD.encode("utf-16")), r"SST-2/train\.tsv, line 1: not UTF-8"),
    (f"{GLUE} --do_predict", sst2("test", "index\tsentence\n0\ta\tb\n"), r"SST-2/test\.tsv, line 2: 3 tab-sep"),
    (f"{GLUE} --do_predict", sst2("test", "index\tsentence\n"), r"SST-2/test\.tsv: no examples in it"),
    (
        f"{GLUE} --task_name STS-B",
        {"STS-B/train.tsv": "sentence1\tsentence2\tscore\na\tb\thigh\n", "STS-B/dev.tsv": ""},
        r"STS-B/train\.tsv, line 2: score is 'high', not a finite number",
    ),
    (
        f"{GLUE} --task_name STS-B",
        {"STS-B/train.tsv": "sentence1\tsentence2\tscore\na\tb\tnan\n", "STS-B/dev.tsv": ""},
        r"STS-B/train\.tsv, line 2: score is 'nan', not a finite number",
    ),
    (
        f"{GLUE} --task_name MNLI --no-do_train",
        {"MNLI/dev_matched.tsv": "sentence1\tsentence2\tgold_label\na\tb\t-\n"},
        r"MNLI/dev_matched\.tsv: no examples in it",
    ),
    (f"{GLUE} --task_name GLUE", {}, r"unknown task 'GLUE'; known are CoLA, SST-2"),
    # one's own
    (f"{MINE} --train_file nowhere.csv", {}, r"nowhere\.csv: can't be read \(No such file or directory\)"),
    (f"{MINE} --validation_file .", {}, r"\.: unknown kind of file"),
    (f"{MINE} --validation_file dev.xlsx", {"dev.xlsx": "PK"}, r"dev\.xlsx: unknown kind of file; known are \.csv"),
    (MINE, {"train.csv": ""}, r"train\.csv: no examples in it"),
    (MINE, {"train.csv": f"{OWN}one,two,three\n"}, r"train\.csv, line 4: 3 columns where 2 belong"),
    (MINE, {"dev.csv": f"{OWN}text,perhaps\n"}, r"dev\.csv, line 4: unknown label 'perhaps'; own data has no, yes"),
    (MINE, {"dev.csv": "text,label\ntext,\n,-\n"}, r"dev\.csv: no examples in it; left out: 2 rows without a label"),
    (MINE, {"dev.csv": "text;label\ntext;yes;no\n"}, r"dev\.csv, line 2: 3 columns where 2 belong \(text, label\)"),
    (MINE, {"dev.csv": "sep=;\ntext;label\ntext\n"}, r"dev\.csv, line 3: 1 columns where 2 belong"),
    (MINE, {"dev.csv": "text,Text,label\na,b,yes\n", "train.csv": "TEXT,label\na,yes\nb,no\n"},
     r"dev\.csv, line 1: no column 'TEXT'; there are text, Text, label"),
    (MINE, {"train.csv": "text,label\na,Yes\nb,yes\nc,no\n", "dev.csv": "text,label\na,YES\n"},
     r"dev\.csv, line 2: unknown label 'YES'; own data has Yes, no, yes"),
    (MINE, {"train.csv": "text,label\na,-\nb,yes\n"}, r"train\.csv: column 'label' has only one label \(yes\)"),
    (MINE, {"train.csv": "text,label\na,\nb,\n"}, r"train\.csv: column 'label' has only one label \(empty\)"),
    (MINE, {"train.csv": "text,score\na,0.5\nb,nan\nc,1.25\n"}, r"train\.csv, line 3: score is 'nan', not a number"),
    (MINE, {"train.csv": 'text,score\na,"0,5"\nb,"1,25"\n'}, r"train\.csv, line 2: score is '0,5', not a number"),
    (MINE, {"train.csv": "text;score\na;1\nb;1,5\n"}, r"train\.csv, line 3: score is '1,5', not a number"),
    (MINE, {"train.csv": "text,score\na,1\nb,N/A\nc,2\n"}, r"train\.csv, line 3: score is 'N/A', not a number"),
    (MINE, {"train.csv": "text,score\na,0.5\nb,1\n", "dev.csv": "text,score\na,1e999\n"},
     r"dev\.csv, line 2: score is '1e999', not a finite number"),
    (f"{MINE} --skip_bad_rows", {"train.csv": "text,score\na,0.5\nb,1\n", "dev.csv": "text,score\na,?\n"},
     r"dev\.csv: no examples in it; left out: 1 that can't be used \(line 2: score is '\?'"),
    (f"{MINE} --skip_bad_rows", {"train.csv": "text,label\na\nb,c,d\n"},
     r"train\.csv: no examples in it; 2 can't be used \(line 2: 1 columns where 2 belong"),
    (f"{MINE} --train_file t.tsv", {"t.tsv": 'text\tlabel\n"one\ntwo"\tyes\n'}, r"t\.tsv, line 2: .*; quotes are data"),
    (f"{MINE} --train_file t.tsv", {"t.tsv": '"text"\t"label"\n"a"\t"yes"\n'}, r"t\.tsv, line 1: quotes are data in"),
    (f"{MINE} --train_file t.tsv", {"t.tsv": "text,label\na,yes\n"}, r"t\.tsv, line 1: no tab in it; .*call it \.csv"),
    (f"{MINE} --train_file t.tsv", {"t.tsv": "gold_label\tsentence1\tsentence2\tlabel1\nneutral\ta\tb\n"},
     r"t\.tsv, line 2: 3 columns where 4 .*: take the \.jsonl that comes with them"),
    (f"{MINE} --train_file t.txt", {"t.txt": "gold_label\tsentence1\n"}, r"t\.txt: unknown kind .*: take the \.jsonl"),
    (f"{MINE} --train_file t.json", {"t.json": '[{"text": "a", "label": 1}\n'}, r"t\.json, line 2: not JSON"),
    (f"{MINE} --train_file t.json", {"t.json": "[1]"}, r"t\.json, line 1: not an object like"),
    (f"{MINE} --train_file t.json", {"t.json": '{"data":\n [{"text": "a"},\n1]}'}, r"t\.json, line 3: not an object"),
    (f"{MINE} --train_file t.jsonl", {"t.jsonl": '{"text": "a", "label": [["x"]]}\n'}, r"label is .* in a list"),
    (f"{MINE} --train_file t.jsonl", {"t.jsonl": '{"text": "a", "label": ["x"]}\n'}, r"csv, line 2: unknown label"),
    (f"{MINE} --text_column label --label_column label", {}, r"train\.csv: column 'label' can't be both text and"),
    (f"{MINE} --label_column LABEL", {"train.csv": "Label,label,text\na,b,c\n"}, r"line 1: no column 'LABEL' \("),
    (MINE, {"dev.csv": "body,label\na,yes\n"}, r"dev\.csv, line 1: no column 'text'"),
    (MINE, {"train.csv": "a,b,label\nx,y,1\nx,y,2\n"}, r"train\.csv, line 1: which column is the text\?"),
    (MINE, {"train.csv": "text,note\nx,1\nx,2\n"}, r"train\.csv, line 1: which column is the label\?"),
    (MINE, {"train.csv": "text,label\nx,a\nx,a\n"}, r"train\.csv: column 'label' has only one label \(a\)"),
    (MINE, {"train.csv": b"text,label\nx,1\n\xff,2\n"}, r"train\.csv, line 3: not UTF-8"),
    (MINE, {"train.csv": 'text,label\n"x,1\nx,2\n'}, r"train\.csv, line 3: not CSV"),
    (f"{MINE} --text_column body", {}, r"train\.csv, line 1: no column 'body' \(--text_column\); it has text, label"),
    (f"{MINE} --label_column class", {}, r"train\.csv, line 1: no column 'class' \(--label_column\)"),
    (f"{MINE} --text_pair_column text", {}, r"--text_pair_column: needs --text_column too"),
    (f"{MINE} --train_file t.jsonl", {"t.jsonl": '{"text": "a"\n'}, r"t\.jsonl, line 1: not JSON"),
    (f"{MINE} --train_file t.jsonl", {"t.jsonl": '"text"\n'}, r"t\.jsonl, line 1: not an object"),
    (f"{MINE} --regression", {}, r"train\.csv, line 2: label is 'yes', not a finite number"),
    # models
    (f"{GLUE} --model_name_or_path nowhere", {}, r"nowhere: neither a folder nor a published model"),
    (f"{GLUE} --model_name_or_path convbert-tiny --no-do_train", {}, r"convbert-tiny: no head for this here"),
    (GLUE, {"model/config.json": None}, r"model/config\.json: no such file"),
    (GLUE, {"model/config.json": '{"vocab_size": 1500,'}, r"model/config\.json, line 1: not JSON"),
    (GLUE, {"model/config.json": '{"model_type": "gpt2"}'}, r"model/config\.json: a gpt2 model, not a ConvBERT"),
    (GLUE, {"model/model.safetensors": None}, r"model: no weights here; looked for model\.safetensors"),
    (GLUE, {"model/model.safetensors": b"\x00" * 100}, r"model/model\.safetensors: damaged or not a weight file"),
    (GLUE, {"model/vocab.txt": None}, r"model.*vocab\.txt"),
    (GLUE, {"model/vocab.txt": "a\nb\n"}, r"model/vocab\.txt"),
    (GLUE, {"model/vocab.txt": b"[PAD]\n\xff\n"}, r"model/vocab\.txt"),
    (f"{GLUE} --vocab_file nowhere.txt", {}, r"nowhere\.txt: can't be read"),
    (f"{GLUE} --max_seq_length 33", {}, r"--max_seq_length 33: model has only 32 positions"),
    (f"{GLUE} --init_from nowhere", {}, r"nowhere: neither a folder nor a published model"),
    (f"{MINE} --no-do_train", {"train.csv": OWN.replace("yes", "ja"), "dev.csv": OWN.replace("yes", "ja")},
     r"train\.csv, line 2: unknown label 'ja'; the model has 0, 1; train first, or mend it; --skip_bad_rows leaves"),
    (f"{MINE} --no-do_train", {"train.csv": "text,label\na,1.5\nb,2\n", "dev.csv": "text,label\na,1\n"},
     r"train\.csv, line 2: unknown label '1\.5'; the model has 0, 1; train first"),
    # output and devices
    (f"{GLUE} --output_dir SST-2", {}, r"--output_dir SST-2: not empty; add --resume to go on, --overwrite"),
    (f"{GLUE} --output_dir train.csv", {}, r"--output_dir train\.csv: not a folder"),
    (f"{GLUE} --output_dir /proc/no/such", {}, r"No such file or directory: .*/proc/no"),
    (f"{GLUE} --output_dir train.csv/out", {}, r"Not a directory: .*train\.csv/out"),
    (f"{GLUE} --device tpu", {}, r"--device tpu: this Paddle sees cpu"),
    (f"{GLUE} --amp O2", {}, r"--amp O2 --amp_dtype bfloat16: products on cpu come back as float32; a CPU has"),
    (f"{GLUE} --no-do_train --dtype int8 --amp O1", {}, r"--dtype int8 and --amp O1 both say in what to compute"),
    (f"{GLUE} --resume", {"out/last/config.json": "{"}, r"out/last/"),
]  # fmt: skip

USAGE = [
    (RUN, "give either --task_name or --train_file and --validation_file"),
    (f"{GLUE} --train_file train.csv", "give either --task_name or --train_file"),
    (f"{RUN} --train_file train.csv", "own data needs --validation_file, and to train --train_file"),
    (f"{MINE} --do_predict", "--do_predict needs --test_file"),
    (f"{GLUE} --batch_size 0", "--batch_size must be at least 1, not 0"),
    (f"{GLUE} --batch_size many", "argument --batch_size: invalid int value: 'many'"),
    (f"{GLUE} --gradient_accumulation_steps 0", "--gradient_accumulation_steps must be at least 1, not 0"),
    (f"{GLUE} --save_steps -1", "--save_steps must be a number of steps from 1, or epoch, not -1"),
    (f"{GLUE} --learning_rate=-1e-4", "--learning_rate must be a number from 0, not -0.0001"),
    (f"{GLUE} --learning_rate nan", "--learning_rate must be a number from 0, not nan"),
    (f"{GLUE} --warmup_proportion 1.5", "--warmup_proportion must lie in [0, 1], not 1.5"),
    (f"{GLUE} --layer_lr_decay 0", "--layer_lr_decay must lie in (0, 1], not 0.0"),
    (f"{GLUE} --seed -1", "--seed must be at least 0, not -1"),
    (f"{GLUE} --lr_scheduler_type square", "invalid choice: 'square'"),
    (f"{GLUE} --decay_steps 10", "--decay_steps is for --lr_scheduler_type warmup_stable_decay"),
    (f"{GLUE} --amp O3", "invalid choice: 'O3'"),
    (f"{GLUE} --dtype int8", "--dtype is for --no-do_train"),
    (
        f"{GLUE} --model_type bert --mask_conv_padding",
        "--mask_conv_padding is for convolutions; --model_type bert has",
    ),
    (f"{GLUE} --learning_rat 1", "unrecognized arguments: --learning_rat 1"),
]


def change(folder, files):
    for name, content in files.items():
        path = folder / name
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is not None:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize(("flags", "files", "message"), FILES)
def test_bad_files_and_flags(here, one_line, flags, files, message):
    change(here, files)
    before = sorted(here.rglob("*"))
    one_line(run_glue.main(flags.split()), message)
    left = [path for path in sorted(here.rglob("*")) if path not in before]
    assert all(path.is_dir() and path.name == "out" for path in left), left


@pytest.mark.parametrize(("flags", "message"), USAGE)
def test_bad_usage(here, capsys, flags, message):
    with pytest.raises(SystemExit) as error:
        run_glue.main(flags.split())
    assert error.value.code == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1
    assert not (here / "out").exists()


def test_there_are_enough_of_them():
    assert len(FILES) + len(USAGE) >= 105


SHELL = [
    (f"run_glue.py {GLUE} --data_dir nowhere", {}, r"^run_glue\.py: nowhere/train\.tsv: no such file"),
    (f"run_glue.py {GLUE}", sst2("train", f"{GOOD}text\t7\n"), r"^run_glue\.py: .*line 4: unknown label '7'"),
    (f"run_glue.py {GLUE} --batch_size 0", {}, r"^run_glue\.py: --batch_size must be at least 1, not 0 \(see --help\)"),
    (
        "predict.py --model nowhere --device cpu text",
        {},
        r"^predict\.py: nowhere: no such folder; run_glue\.py makes one",
    ),
    ("glue_sweep.py --task_name all RTE --output_dir out", {}, r"^glue_sweep\.py: unknown task 'all'"),
]


@pytest.mark.parametrize(("command", "files", "message"), SHELL)
def test_through_the_shell(here, command, files, message):
    change(here, files)
    script, *arguments = command.split()
    done = subprocess.run(
        [sys.executable, ROOT / script, *arguments], cwd=here, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("device: ")]
    assert re.search(message, line), line
    assert "Traceback" not in done.stdout + done.stderr


def test_a_full_disk(here, monkeypatch, capsys):
    """While a checkpoint is written: the last one stays whole."""
    assert run_glue.main(GLUE.split()) == 0
    before = {path: path.read_bytes() for path in (here / "out").rglob("*") if path.is_file()}
    capsys.readouterr()
    fsync, synced = os.fsync, []

    def full(handle):
        synced.append(handle)
        if len(synced) > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    assert run_glue.main(f"{GLUE} --max_steps 4 --resume".split()) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(": No space left on device")
    last = {path: content for path, content in before.items() if path.parent.name == "last"}
    assert last
    assert all(path.read_bytes() == content for path, content in last.items())
    assert not [path for path in (here / "out").iterdir() if path.name.startswith(".")]


HANDLED = {
    "a byte-order mark": "\ufeff" + GOOD,
    "CRLF": GOOD.replace("\n", "\r\n"),
    "quotes": GOOD + '"quoted\t1\n"so" he said"\t0\n',
    "a line of 100,000 characters": GOOD + "word " * 20_000 + "\t1\n",
    "no line end": GOOD.rstrip("\n"),
    "characters that other readers take for line ends": GOOD + "a\u2028b\x85c\x0bd\t1\n",
    "empty text": GOOD + "\t1\n",
    "control characters": GOOD + "a\x00b\x07c\t0\n",
    "emoji and Chinese": GOOD + "好 😀\t1\n",
}


@pytest.mark.parametrize("what", HANDLED)
def test_odd_files_that_are_read(here, what):
    change(here, sst2("train", HANDLED[what]) | sst2("dev", HANDLED[what]))
    assert run_glue.main(GLUE.split()) == 0


def test_a_loss_that_is_no_number_is_skipped(here, monkeypatch, capsys):
    change(here, sst2("train", "sentence\tlabel\n" + "good film\t1\nbad film\t0\n" * 20))
    mean_loss, calls = run_glue.mean_loss, []

    def sometimes_broken(run, inputs):
        calls.append(run)
        return mean_loss(run, inputs) * (np.nan if len(calls) in (3, 4, 7) else 1)

    monkeypatch.setattr(run_glue, "mean_loss", sometimes_broken)
    assert run_glue.main(f"{GLUE} --max_steps 8 --batch_size 4".split()) == 0
    results = json.loads((here / "out/results.json").read_text())
    assert results["skipped_steps"] == 3
    assert capsys.readouterr().err.count("step skipped") == 3


def test_ten_in_a_row_stop_the_run(here, monkeypatch, capsys):
    change(here, sst2("train", "sentence\tlabel\n" + "good film\t1\nbad film\t0\n" * 20))
    mean_loss, calls = run_glue.mean_loss, []

    def broken_at_last(run, inputs):
        calls.append(run)
        return mean_loss(run, inputs) * (np.inf if len(calls) > 5 else 1)

    monkeypatch.setattr(run_glue, "mean_loss", broken_at_last)
    assert run_glue.main(f"{GLUE} --max_steps 30 --save_steps 5 --batch_size 4".split()) == 2
    lines = capsys.readouterr().err.splitlines()
    assert re.search(r"the loss was no number in 10 steps, up to step 15; out/last holds step 10$", lines[-1])
    state = json.loads((here / "out/last/training_state.json").read_text())
    assert state["step"] == 10


def test_a_sweep_passes_a_run_s_failure_on(here, capfd):
    change(here, sst2("dev", None))
    sweep = (
        "--task_name SST-2 --data_dir . --model_name_or_path model --device cpu --max_seq_length 32 --output_dir out"
    )
    assert glue_sweep.main(sweep.split()) == 2
    printed = capfd.readouterr().err
    assert "SST-2/dev.tsv: no such file" in printed
    assert "SST-2, seed 42: stopped with status 2; the same command goes on" in printed
    assert "Traceback" not in printed
