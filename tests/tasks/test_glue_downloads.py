"""GLUE from PaddleNLP's copy and from the hub: the same examples, and downloads that fail."""

import argparse
import hashlib
import json
import re
import socket
import sys
import time

import pytest
from conftest import ROOT
from web import Hub

from files import downloads
from files.errors import InputError
from run_glue import main
from tasks import glue_data, glue_downloads
from tasks.glue import DIAGNOSTIC, TASKS
from tasks.glue_files import read_examples

SAMPLES = ROOT / "samples"

# ----------------------------------------------------------------------------------------------------------- PaddleNLP


@pytest.fixture
def glue(tmp_path, monkeypatch):
    """PaddleNLP's loader with an empty cache folder."""
    pytest.importorskip("paddlenlp")
    import paddlenlp.datasets
    import paddlenlp.utils.env

    dataset = sys.modules["paddlenlp.datasets.dataset"]
    glue = sys.modules["paddlenlp.datasets.glue"]
    for module in (paddlenlp.utils.env, dataset, glue):
        monkeypatch.setattr(module, "DATA_HOME", str(tmp_path))
    return glue


@pytest.mark.parametrize("name", TASKS)
def test_download_uses_paddlenlp_names_columns_and_labels(glue, monkeypatch, name):
    """Official rows through PaddleNLP's own reader: what its loader returns must mean what our reader says."""
    task = TASKS[name]
    config = glue.Glue.BUILDER_CONFIGS[task.paddlenlp_name]
    samples = ROOT / "samples"
    monkeypatch.setattr("tasks.glue_downloads._download_archives", lambda task, split: None)
    monkeypatch.setattr(glue.Glue, "_get_data", lambda self, split: str(samples / config["splits"][split][0]))
    for split in task.splits:
        expected = read_examples(task, split, samples)
        assert read_examples(task, split) == expected
        assert len(expected) >= 40


def test_cached_archive_needs_no_network(glue, tmp_path, monkeypatch, capsys):
    import zipfile

    def refuse(*_):
        raise AssertionError("tried to download")

    monkeypatch.setattr("tasks.glue_downloads.download", refuse)
    folder = tmp_path / "Glue"
    folder.mkdir()
    with zipfile.ZipFile(folder / "RTE.zip", "w") as archive:
        for split in ("train", "dev", "test"):
            archive.write(ROOT / "samples" / "RTE" / f"{split}.tsv", f"RTE/{split}.tsv")
    checksum = hashlib.md5((folder / "RTE.zip").read_bytes()).hexdigest()
    monkeypatch.setitem(glue.Glue.BUILDER_CONFIGS["rte"], "md5", checksum)
    assert read_examples(TASKS["RTE"], "dev") == read_examples(TASKS["RTE"], "dev", ROOT / "samples")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["SST-2", "MRPC"])
def test_refused_connection_is_one_line(glue, monkeypatch, name):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    redirect(monkeypatch, glue, TASKS[name], port)
    with pytest.raises(InputError) as caught:
        read_examples(TASKS[name], "dev")
    assert "--data_dir samples" in str(caught.value)
    assert f"http://127.0.0.1:{port}/" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_silent_server_is_given_up(glue, monkeypatch):
    monkeypatch.setattr(downloads, "HUB_TIMEOUT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts connections in its backlog and never answers
        redirect(monkeypatch, glue, TASKS["SST-2"], server.getsockname()[1])
        start = time.perf_counter()
        with pytest.raises(
            InputError, match=r"SST-2: .* can't be downloaded \(.*timed out\); nyu-mll.*; give --data_dir"
        ):
            read_examples(TASKS["SST-2"], "train")
        assert time.perf_counter() - start < 5


def test_wrong_file_from_server_is_an_error(glue, web, monkeypatch):
    web.files["/file"] = b"another file"
    redirect(monkeypatch, glue, TASKS["MRPC"], web.server.server_port)
    with pytest.raises(InputError, match=r"/file is not the file that PaddleNLP expects .*--data_dir"):
        read_examples(TASKS["MRPC"], "dev")


def test_cache_that_cannot_be_written_is_one_line(glue, tmp_path):
    (tmp_path / "Glue").write_text("a file where the loader wants a folder")
    with pytest.raises(InputError, match=r"RTE: .*Glue.*; give --data_dir"):
        read_examples(TASKS["RTE"], "dev")


def redirect(monkeypatch, glue, task, port):
    config = glue.Glue.BUILDER_CONFIGS[task.paddlenlp_name]
    url = config["url"]
    local = f"http://127.0.0.1:{port}/file"
    monkeypatch.setitem(config, "url", local if isinstance(url, str) else dict.fromkeys(url, local))


# ------------------------------------------------------------------------------------------------------------- the hub

NAMES = {  # of the labels in the hub's files, in their order; STS-B has numbers
    "CoLA": ["unacceptable", "acceptable"], "SST-2": ["negative", "positive"],
    "MRPC": ["not_equivalent", "equivalent"], "QQP": ["not_duplicate", "duplicate"],
    "MNLI": ["entailment", "neutral", "contradiction"], "QNLI": ["entailment", "not_entailment"],
    "RTE": ["entailment", "not_entailment"], "WNLI": ["not_entailment", "entailment"], "STS-B": None,
}  # fmt: skip
COLUMNS = {"MRPC": ["sentence1", "sentence2"], "MNLI": ["premise", "hypothesis"], "AX": ["premise", "hypothesis"]}
HUB_SPLITS = {
    "train": "train", "dev": "validation", "test": "test", "dev_matched": "validation_matched",
    "dev_mismatched": "validation_mismatched", "test_matched": "test_matched", "test_mismatched": "test_mismatched",
    "diagnostic": "test",
}  # fmt: skip


def parquet(task, examples, names, parts=1):
    """The contents of the hub's files for these examples, by its own columns and numbers of labels."""
    import io

    import pyarrow as pa
    from pyarrow import parquet

    columns = COLUMNS.get(task.name, list(task.texts))
    rows = {column: [example[place] for example in examples] for place, column in enumerate(columns)}
    if task.is_regression:
        rows["label"] = [-1.0 if example.label is None else example.label for example in examples]
    else:  # in the samples SST-2's word "0" is the hub's "negative", and so on
        order = [names.index(name) for name in (task.labels if names and set(names) == set(task.labels) else names)]
        rows["label"] = [-1 if example.label is None else order[example.label] for example in examples]
    rows["idx"] = list(range(len(examples)))
    table = pa.table(rows)
    features = {"label": {"names": names, "_type": "ClassLabel"}} if names else {}
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    contents, size = [], -(-len(examples) // parts)
    for part in range(parts):
        file = io.BytesIO()
        parquet.write_table(table.slice(part * size, size), file)
        contents.append(file.getvalue())
    return contents


@pytest.fixture
def glue_hub(filled_hub, monkeypatch):
    """That, and no paddlenlp."""
    monkeypatch.setitem(sys.modules, "paddlenlp", None)
    return filled_hub


@pytest.fixture
def filled_hub(hub, tmp_path):
    """The samples in the layout of nyu-mll/glue, RTE's training set in two parts."""
    pytest.importorskip("pyarrow")
    host, files = Hub(hub.web, tmp_path / "cache", "datasets", "nyu-mll/glue"), {}
    for task in (*TASKS.values(), DIAGNOSTIC):
        for split in task.splits:
            examples = read_examples(task, split, SAMPLES)
            names = NAMES["MNLI" if task is DIAGNOSTIC else task.name]
            contents = parquet(task, examples, names, 2 if (task.name, split) == ("RTE", "train") else 1)
            folder = task.name.lower().replace("-", "")
            for part, content in enumerate(contents):
                name = f"{folder}/{HUB_SPLITS[split]}-{part:05}-of-{len(contents):05}__parquet"
                files[name] = content
    host.has(**files)
    return host


def test_every_split_of_the_hub_is_what_the_official_files_say(glue_hub):
    for task in (*TASKS.values(), DIAGNOSTIC):
        for split in task.splits:
            assert read_examples(task, split) == read_examples(task, split, SAMPLES), (task.name, split)


def test_labels_are_in_a_model_s_order_there_too(glue_hub):
    task = TASKS["MNLI"].in_order(["neutral", "contradiction", "entailment"])
    assert read_examples(task, "dev_matched") == read_examples(task, "dev_matched", SAMPLES)


def test_a_run_without_paddlenlp_trains_and_predicts_all_test_sets(glue_hub, tmp_path, capsys):
    status = main(
        ["--task_name", "MNLI", "--model_name_or_path", "convbert-tiny", "--max_steps", "2", "--batch_size", "4",
         "--max_train_samples", "20", "--max_eval_samples", "20", "--do_predict", "--output_dir", str(tmp_path / "out"),
         "--device", "cpu"]
    )  # fmt: skip
    assert not status
    found = {path.name: len(path.read_text().splitlines()) - 1 for path in (tmp_path / "out/predictions").iterdir()}
    assert found == {
        name: len(read_examples(task, split, SAMPLES))
        for task in (TASKS["MNLI"], DIAGNOSTIC)
        for name, split in zip(task.leaderboard_files, task.test_splits, strict=True)
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda task, rows: parquet(task, rows, ["entailment", "contradiction", "neutral"]),
         r"its labels are entailment, contradiction, neutral, not entailment, neutral, contradiction"),
        (lambda task, rows: [b"PAR1" + bytes(30) + b"PAR1"], r"\.parquet: damaged"),
        (lambda task, rows: parquet(TASKS["QNLI"], [row._replace(label=0) for row in rows], NAMES["QNLI"]),
         r"no column 'premise'; it has question, sentence, label, idx"),
        (lambda task, rows: parquet(task, [row._replace(label=None) for row in rows], NAMES["MNLI"]),
         r"row 0: unknown label '-1'; MNLI has contradiction, entailment, neutral"),
        (lambda task, rows: parquet(task, [row._replace(text=None) for row in rows], NAMES["MNLI"]),
         r"row 0: None is no text"),
        (lambda task, rows: parquet(task, [], NAMES["MNLI"]), "no examples in mnli's dev_matched"),
    ],
)  # fmt: skip
def test_a_file_of_the_hub_that_cannot_be_used_is_one_line(glue_hub, change, message):
    task = TASKS["MNLI"]
    (content,) = change(task, read_examples(task, "dev_matched", SAMPLES))
    glue_hub.has(**{"mnli/validation_matched-00000-of-00001__parquet": content})
    with pytest.raises(InputError, match=rf"MNLI: .*{message}.*; give --data_dir") as error:
        read_examples(task, "dev_matched")
    assert "\n" not in str(error.value)


def test_without_pyarrow_one_line_names_it(monkeypatch, capsys):
    monkeypatch.setattr(glue_downloads.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r"SST-2: nyu-mll/glue .*: pip install pyarrow; give --data_dir with the files"
    ):
        read_examples(TASKS["SST-2"], "dev")


def test_where_paddlenlp_s_copy_fails_the_hub_s_is_taken_and_said(glue, filled_hub, monkeypatch, capsys):
    redirect(monkeypatch, glue, TASKS["RTE"], 9)
    assert read_examples(TASKS["RTE"], "dev") == read_examples(TASKS["RTE"], "dev", SAMPLES)
    said = r"warning: RTE: http://127.0.0.1:9/file: .*refused.*; dev is nyu-mll/glue's of the Hugging Face hub\n"
    assert re.fullmatch(said, capsys.readouterr().err)


def test_the_diagnostic_set_is_no_must(glue_hub, tmp_path, capsys):
    """It is the hub's alone; whoever has MNLI from elsewhere can do without."""
    glue_hub.web.files = {path: content for path, content in glue_hub.web.files.items() if "/ax/" not in path}
    task = TASKS["MNLI"]
    args = argparse.Namespace(task_name="MNLI", data_dir=None)
    found = glue_data.test_files(args, task, lambda split: read_examples(task, split), quiet=False)
    assert [name for name, _, _ in found] == ["MNLI-m.tsv", "MNLI-mm.tsv"]
    assert "nothing to predict for AX.tsv" in capsys.readouterr().err
