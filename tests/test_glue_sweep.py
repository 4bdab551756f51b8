"""The sweep: which runs are made, and the table of them; the runs themselves are run_glue.py's tests."""

import re
import zipfile

import pytest
from conftest import ROOT

import glue_sweep
from files.json_files import read_json, write_json
from tasks.glue import TASKS
from tasks.leaderboard import LENGTHS
from tasks.sweep_table import as_markdown, make_table


def results(step=200, **scores):
    """As run_glue.py writes them; scores: split → dict of metrics."""
    machine = dict(processor="P", cores=2, device="cpu")
    other = {split: {**values, "loss": 9.0} for split, values in scores.items()}
    evaluations = [{"step": 100, **{k: dict.fromkeys(v, 0.0) for k, v in other.items()}}, {"step": 200, **other}]
    main = next(iter(scores.values()))
    return dict(
        evaluations=evaluations, best_step=step, best_score=max(main.values()), train_seconds=60.0, eval_seconds=6.0,
        machine=machine, versions={"python": "3"}, arguments={"data_dir": None},
    )  # fmt: skip


def test_the_table():
    runs = {("SST-2", seed): results(dev={"acc": acc}) for seed, acc in ((1, 0.9), (2, 0.8), (3, 0.82))}
    runs["MNLI", 1] = results(dev_matched={"acc": 0.7}, dev_mismatched={"acc": 0.6})
    runs["WNLI", 1] = results(dev={"acc": 0.1})
    table = make_table([TASKS[name] for name in ("SST-2", "MNLI", "WNLI")], runs)
    sst2 = table["tasks"]["SST-2"]["metrics"]["acc"]
    assert sst2 == pytest.approx(dict(median=0.82, mean=0.84, std=0.0529150, best=0.9), abs=1e-6)
    mnli = table["tasks"]["MNLI"]["metrics"]
    assert list(mnli) == ["acc", "dev_matched acc", "dev_mismatched acc"]
    assert mnli["acc"]["mean"] == pytest.approx(0.65)
    assert mnli["acc"]["std"] is None
    assert table["average"]["median"] == pytest.approx((0.82 + 0.65) / 2)  # without WNLI
    text = as_markdown(table, "python glue_sweep.py")
    assert "| SST-2 | acc | **82.00** | 84.00 ± 5.29 | 90.00 | 1: 90.00, 2: 80.00, 3: 82.00 | 3.3 |" in text
    assert "| MNLI | dev_mismatched acc | 60.00 | 60.00 | 60.00 | 1: 60.00 | 1.1 |" in text
    assert "| average of 2 without WNLI |  | 73.50 | 74.50 | 77.50 | | |" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {8}


class Started:
    """Stands for the sweep's run_to_its_end: notes the command, writes results; fails where it is told."""

    def __init__(self, fail_at=None):
        self.commands, self.fail_at = [], fail_at

    def __call__(self, command):
        self.commands.append(command[2:])
        flags = dict(zip(command[2::2], command[3::2], strict=False))
        if len(self.commands) == self.fail_at:
            return 2
        write_json(f"{flags['--output_dir']}/results.json", results(dev={"acc": 0.5, "mcc": 0.4}))
        return 0


def test_only_what_is_not_finished_is_run(tmp_path, monkeypatch, capsys):
    arguments = f"--task_name sst-2 CoLA --seeds 1 2 --output_dir {tmp_path} --batch_size 8".split()
    first = Started(fail_at=3)
    monkeypatch.setattr(glue_sweep, "run_to_its_end", first)
    assert glue_sweep.main(arguments) == 2
    assert "CoLA, seed 1: stopped with status 2; the same command goes on" in capsys.readouterr().err
    assert not (tmp_path / "results.json").exists()
    assert not (tmp_path / "CoLA/seed-1/command.json").exists()  # other flags may mend it
    second = Started()
    monkeypatch.setattr(glue_sweep, "run_to_its_end", second)
    assert glue_sweep.main(arguments) == 0
    for command, (task, seed) in zip(second.commands, (("CoLA", 1), ("CoLA", 2)), strict=True):
        folder = str(tmp_path / task / f"seed-{seed}")
        assert command == [
            "--task_name", task, "--seed", str(seed), "--output_dir", folder, "--batch_size", "8", "--resume"
        ]  # fmt: skip
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "results.md").read_text()
    assert set(read_json(tmp_path / "results.json")["tasks"]) == {"SST-2", "CoLA"}
    assert (tmp_path / "results.png").stat().st_size > 5000
    assert glue_sweep.main([*arguments[:-1], "16"]) == 2  # other flags, the same folder
    assert re.search(r"SST-2/seed-1: made by other flags .* take another --output_dir", capsys.readouterr().err)


def test_a_file_of_flags_goes_to_every_run(tmp_path, monkeypatch, capsys):
    started = Started()
    monkeypatch.setattr(glue_sweep, "run_to_its_end", started)
    file = tmp_path / "a.yaml"
    file.write_text("batch_size: 8\n")
    arguments = ["--task_name", "RTE", "--config", str(file), "--output_dir", str(tmp_path / "out")]
    assert glue_sweep.main(arguments) == 0
    assert started.commands[0][-3:] == ["--config", str(file), "--resume"]
    assert glue_sweep.main(arguments) == 0
    file.write_text("batch_size: 16\n")  # the same file, other flags
    assert glue_sweep.main(arguments) == 2
    assert "made by other flags" in capsys.readouterr().err
    file.write_text("batch_size: [\n")
    assert glue_sweep.main(arguments) == 2


def test_mnli_s_model_is_for_some_tasks_only(tmp_path, monkeypatch):
    started = Started()
    monkeypatch.setattr(glue_sweep, "run_to_its_end", started)
    assert glue_sweep.main(["--task_name", "RTE", "CoLA", "--init_from", "MNLI", "--output_dir", str(tmp_path)]) == 0
    assert ["--init_from" in command for command in started.commands] == [True, False]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task_name", "GLUE"], "unknown task 'GLUE'"),
        (["--task_name", "RTE", "--seeds", "-1"], "--seeds must be numbers from 0, not -1"),
        (["--task_name", "RTE", "--seed", "1"], "--seed: not for a sweep"),
        (["--task_name", "RTE", "--overwrite"], "--overwrite: not for a sweep"),
        (["--seeds", "1"], "required: --task_name"),
    ],
)
def test_bad_usage_is_one_line(tmp_path, capsys, arguments, message):
    try:
        status = glue_sweep.main([*arguments, "--output_dir", str(tmp_path)])
    except SystemExit as exit_:
        status = exit_.code
    assert status == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1


@pytest.mark.slow
def test_all_tasks_of_the_samples_from_start_to_zip(tmp_path):
    arguments = (
        "--task_name all --seeds 1 2 --model_name_or_path convbert-tiny --from_scratch --max_steps 2 --device cpu "
        f"--data_dir {ROOT / 'samples'} --do_predict --output_dir {tmp_path}"
    )
    assert glue_sweep.main(arguments.split()) == 0
    assert "not for the leaderboard" in (tmp_path / "zip_report.txt").read_text()
    assert "MISSING" not in (tmp_path / "zip_report.txt").read_text()
    with zipfile.ZipFile(tmp_path / "submission.zip") as archive:
        assert len(archive.namelist()) == 11
        assert archive.read("AX.tsv").decode().count("\n") == 41
    assert len(read_json(tmp_path / "results.json")["tasks"]) == 9


@pytest.mark.slow
def test_real_glue_makes_the_eleven_files(tmp_path, shared):
    """What the real test sets lack here is filled in, and said."""
    arguments = (
        "--task_name all --model_name_or_path convbert-tiny --from_scratch --max_steps 1 --max_seq_length 32 "
        f"--vocab_file {ROOT / 'samples/vocab.txt'} --data_dir {shared / 'glue'} --device cpu --do_predict"
    ).split()
    names = [path.name for path in (shared / "glue").iterdir()]
    arguments[1:2] = [name for name in TASKS if name in names]
    assert glue_sweep.main([*arguments, "--output_dir", str(tmp_path)]) == 0
    report = (tmp_path / "zip_report.txt").read_text().splitlines()
    with zipfile.ZipFile(tmp_path / "submission.zip") as archive:
        rows = {name: archive.read(name).decode().count("\n") - 1 for name in archive.namelist()}
    assert rows == LENGTHS
    assert len(report) == 11
    missing = {line.partition(":")[0] for line in report if "MISSING" in line}
    assert missing == {"MNLI-m.tsv", "MNLI-mm.tsv", "AX.tsv", "QQP.tsv", "WNLI.tsv"}
