"""Files and zip as https://gluebenchmark.com takes them."""

import zipfile

import numpy as np
import pytest
from conftest import ROOT

from files.errors import InputError
from tasks import leaderboard
from tasks.glue import DIAGNOSTIC, TASKS

ELEVEN = {
    "AX.tsv", "CoLA.tsv", "MNLI-m.tsv", "MNLI-mm.tsv", "MRPC.tsv", "QNLI.tsv", "QQP.tsv", "RTE.tsv", "SST-2.tsv",
    "STS-B.tsv", "WNLI.tsv",
}  # fmt: skip


@pytest.mark.parametrize(
    ("task", "predictions", "words"),
    [
        (TASKS["SST-2"], [1, 0], ["1", "0"]),
        (TASKS["RTE"], [1, 0], ["not_entailment", "entailment"]),
        (TASKS["QNLI"], [0, 1], ["entailment", "not_entailment"]),
        (TASKS["MNLI"], [0, 1, 2], ["contradiction", "entailment", "neutral"]),
        (DIAGNOSTIC, [2, 1, 0], ["neutral", "entailment", "contradiction"]),
        (TASKS["STS-B"], [-0.3, 2.34567, 5.2], ["0.000", "2.346", "5.000"]),
    ],
)
def test_a_file(tmp_path, task, predictions, words):
    leaderboard.write_predictions(tmp_path / "x.tsv", task, np.array(predictions))
    lines = (tmp_path / "x.tsv").read_text().split("\n")
    assert lines == ["index\tprediction", *(f"{index}\t{word}" for index, word in enumerate(words)), ""]


def test_the_eleven():
    assert {entry.name for entry in leaderboard.entries()} == ELEVEN == set(leaderboard.LENGTHS)
    owners = {entry.name: entry.task for entry in leaderboard.entries()}
    assert owners["AX.tsv"] == owners["MNLI-mm.tsv"] == "MNLI"


def test_lengths_are_those_of_the_real_files():
    found = 0
    for name, task in TASKS.items():
        for file, split in zip(task.leaderboard_files, task.test_splits, strict=True):
            path = ROOT.parent / "shared/glue" / name / f"{split}.tsv"
            if path.is_file():
                found += 1
                assert path.read_bytes().rstrip(b"\n").count(b"\n") == leaderboard.LENGTHS[file]
    if not found:
        pytest.skip("no real GLUE data beside the project")


def predicted(folder, name, rows):
    path = folder / name
    leaderboard.write_predictions(path, TASKS["SST-2"], np.zeros(rows, int))
    return {name: path}


def test_missing_files_are_filled_in_and_said(tmp_path):
    report = leaderboard.write_submission(tmp_path, predicted(tmp_path, "SST-2.tsv", 1821))
    with zipfile.ZipFile(tmp_path / "submission.zip") as archive:
        assert set(archive.namelist()) == ELEVEN
        for name in ELEVEN:
            lines = archive.read(name).decode().removesuffix("\n").split("\n")
            assert lines[0] == "index\tprediction"
            assert len(lines) == 1 + leaderboard.LENGTHS[name]
            assert lines[-1].split("\t")[0] == str(len(lines) - 2)
        assert archive.read("RTE.tsv").decode().split("\n")[1] == "0\tentailment"
        assert archive.read("STS-B.tsv").decode().split("\n")[1] == "0\t0.000"
    assert "SST-2.tsv: 1821 predictions from SST-2.tsv" in report
    assert "AX.tsv: MISSING, 1104 times 'contradiction' in its place" in report
    assert (tmp_path / "zip_report.txt").read_text() == "".join(f"{line}\n" for line in report)


def test_another_length_gives_no_zip(tmp_path):
    (tmp_path / "submission.zip").write_text("of an earlier run")
    with pytest.raises(InputError, match=r"SST-2\.tsv: 1820 predictions, but .* 1821 rows; no zip written"):
        leaderboard.write_submission(tmp_path, predicted(tmp_path, "SST-2.tsv", 1820))
    assert not (tmp_path / "submission.zip").exists()


def test_samples_are_not_for_the_leaderboard(tmp_path):
    report = leaderboard.write_submission(tmp_path, predicted(tmp_path, "SST-2.tsv", 7), for_leaderboard=False)
    assert "not for the leaderboard" in report[-1]
    assert (tmp_path / "submission.zip").is_file()
