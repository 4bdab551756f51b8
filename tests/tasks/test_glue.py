"""tasks.glue and glue_files: readers on real data and on awkward files, labels, scores."""

import math
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT, SHARED

from files.errors import InputError
from tasks.glue import TASKS, Example, find_task
from tasks.glue_files import read_examples
from tasks.scores import format_scores, score

REAL = SHARED / "glue"

# ----------------------------------------------------------------------------------------------------------- the table


@pytest.mark.parametrize("name", ["SST-2", "sst-2", "Sst-2", "sst2"])
def test_find_task_in_any_spelling(name):
    assert find_task(name) is TASKS["SST-2"]


def test_find_task_knows_every_task_and_lists_them():
    for name in ("cola", "MRPC", "stsb", "Qqp", "mnli", "QNLI", "rte", "WNLI"):
        assert find_task(name).name.lower().replace("-", "") == name.lower()
    with pytest.raises(InputError, match="unknown task 'boolq'; known are CoLA, SST-2, MRPC, STS-B, QQP, MNLI, QNLI"):
        find_task("boolq")


def test_labels_are_in_paddlenlp_order():
    binary, entailed = ("0", "1"), ("entailment", "not_entailment")
    assert {name: task.labels for name, task in TASKS.items()} == {
        "CoLA": binary, "SST-2": binary, "MRPC": binary, "STS-B": (), "QQP": binary,
        "MNLI": ("contradiction", "entailment", "neutral"), "QNLI": entailed, "RTE": entailed, "WNLI": binary,
    }  # fmt: skip
    assert TASKS["STS-B"].num_labels == 1
    assert TASKS["MNLI"].num_labels == 3


def test_import_is_quick_and_leaves_heavy_packages_out():
    code = (
        "import sys, time, numpy; start = time.perf_counter(); import tasks.glue;"
        "assert time.perf_counter() - start < 0.3;"
        "heavy = {'paddle', 'paddlenlp', 'scipy', 'sklearn', 'datasets', 'torch'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


# ------------------------------------------------------------------------------------------------------------ real data


@pytest.mark.parametrize(
    ("name", "split", "count", "first_labels"),
    [
        ("CoLA", "train", 8551, (1, 1, 1)), ("CoLA", "dev", 1043, (1, 1, 1)), ("CoLA", "test", 1063, (None,)),
        ("SST-2", "train", 67349, (0, 0, 1)), ("SST-2", "dev", 872, (1, 0, 1)), ("SST-2", "test", 1821, (None,)),
        ("MRPC", "train", 3668, (1, 0, 1)), ("MRPC", "dev", 408, (1, 0, 0)), ("MRPC", "test", 1725, (None,)),
        ("STS-B", "train", 5749, (5.0, 3.8, 3.8)), ("STS-B", "dev", 1500, (5.0, 4.75, 5.0)),
        ("STS-B", "test", 1379, (None,)),
        ("QQP", "train", 20000, (0, 0)), ("QQP", "dev", 3496, (1, 1)),
        ("MNLI", "train", 9999, (1, 1)), ("MNLI", "dev_matched", 9815, (2, 0)), ("MNLI", "dev_mismatched", 1000, (1,)),
        ("QNLI", "train", 9999, (1,)), ("QNLI", "dev", 5463, (0, 1)), ("QNLI", "test", 5463, (None,)),
        ("RTE", "train", 2490, (1, 0)), ("RTE", "dev", 277, (1, 0)), ("RTE", "test", 3000, (None,)),
    ],
)  # fmt: skip
def test_real_files(name, split, count, first_labels):
    if not (REAL / name / f"{split}.tsv").is_file():
        pytest.skip(f"no real GLUE data beside the project ({name} {split})")
    examples = read_examples(TASKS[name], split, REAL)
    assert len(examples) == count
    assert tuple(example.label for example in examples[: len(first_labels)]) == first_labels
    assert all((example.text_pair is None) == (not TASKS[name].is_pair) for example in examples)
    assert examples == read_examples(TASKS[name], split, REAL / name)  # the task's own folder does as well


# ------------------------------------------------------------------------------------------------------- awkward files


STS = "sentence1\tsentence2\tscore"
NLI = "sentence1\tsentence2\tlabel1\tgold_label"
QQP = "question1\tquestion2\tis_duplicate"


def write(folder, name, content):
    folder.mkdir(exist_ok=True, parents=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize(
    ("name", "split", "content", "expected"),
    [
        ("SST-2", "dev", "sentence\tlabel\na fine film . \t1", [("a fine film . ", None, 1)]),
        ("SST-2", "dev", "sentence\tlabel\r\nfine\t1\r\ndull\t0\r\n", [("fine", None, 1), ("dull", None, 0)]),
        ("SST-2", "dev", "\ufefflabel\tsentence\n1\tfine\n", [("fine", None, 1)]),
        ("SST-2", "dev", "sentence\tlabel\n\t1\n", [("", None, 1)]),
        ("SST-2", "dev", "sentence\tlabel\nfine\t1\n\n  \r\n\n", [("fine", None, 1)]),
        ("CoLA", "train", "x\t0\t*\tHim left.\n\n", [("Him left.", None, 0)]),
        ("RTE", "dev", "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tNot entailment\n", [("a", "b", 1)]),
        ("SST-2", "dev", "sentence\tlabel\nfine\t1.0\n", [("fine", None, 1)]),
        ("SST-2", "dev", "sentence\tlabel\na\u2028b\x85c\x1cd\x0be\rf\t0\n", [("a\u2028b\x85c\x1cd\x0be\rf", None, 0)]),
        ("SST-2", "test", "index\tsentence\n0\tfine\n", [("fine", None, None)]),
        ("MRPC", "train", 'Quality\t#1 String\t#2 String\n1\t"He ""no\t" x" "\n', [('"He ""no', '" x" "', 1)]),
        ("CoLA", "train", "x\t0\t*\tHim left.\nx\t1\t\tHe left.\n", [("Him left.", None, 0), ("He left.", None, 1)]),
        ("CoLA", "test", "index\tsentence\n0\tHe left.\n", [("He left.", None, None)]),
        ("STS-B", "dev", "sentence1\tsentence2\tscore\na\tb\t3.800\n", [("a", "b", 3.8)]),
        ("RTE", "dev", "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tnot_entailment\n", [("a", "b", 1)]),
        ("MNLI", "dev_matched", f"{NLI}\na\tb\tneutral\t-\na\tc\tneutral\tentailment\n", [("a", "c", 1)]),
    ],
    ids=["no last newline", "CRLF", "byte-order mark, other column order", "empty text",
         "empty last lines", "an empty last line without header", "a label in other words", "a label as a number",
         "odd line ends", "test split",
         "quotes", "CoLA without header", "CoLA test", "score", "entailment", "undecided"],
)  # fmt: skip
def test_content_comes_out_exactly(tmp_path, name, split, content, expected):
    write(tmp_path / name, f"{split}.tsv", content)
    assert read_examples(TASKS[name], split, tmp_path) == expected
    assert read_examples(TASKS[name], split, str(tmp_path / name)) == expected


@pytest.mark.parametrize(
    ("name", "split", "content", "message"),
    [
        ("SST-2", "dev", "", "dev.tsv: the file is empty"),
        ("SST-2", "dev", b"\xef\xbb\xbf", "dev.tsv: the file is empty"),
        ("SST-2", "dev", "sentence\tlabel\n", "dev.tsv: no examples in it"),
        ("SST-2", "dev", "sentence\tlabel\nfine\t1\nx\ty\t1\n", "dev.tsv, line 3: 3 tab-separated columns where 2"),
        ("SST-2", "dev", "sentence\tlabel\nfine\n", "dev.tsv, line 2: 1 tab-separated columns where 2 belong"),
        ("SST-2", "dev", "sentence\tlabel\nfine\t1\n\ndull\t0\n", "dev.tsv, line 3: 1 tab-separated columns where 2"),
        ("SST-2", "dev", "sentence\tlabel\nfine\t2\n", "dev.tsv, line 2: unknown label '2'; SST-2 has 0, 1"),
        ("SST-2", "dev", "sentence\tlabel\nfine\t-\n", "dev.tsv, line 2: unknown label '-'; SST-2 has 0, 1"),
        ("SST-2", "dev", "sentence\tlabel\nfine\t1\ndull\t\n", "dev.tsv, line 3: the label is missing (label"),
        ("SST-2", "dev", "text\tlabel\nfine\t1\n", "dev.tsv, line 1: no column 'sentence'; SST-2's dev.tsv has"),
        ("SST-2", "dev", "sentence\tgold\nfine\t1\n", "dev.tsv, line 1: no column 'label'"),
        ("SST-2", "dev", b"sentence\tlabel\nfine\t1\nca\xe9\t1\n", "dev.tsv, line 3: not UTF-8"),
        ("MRPC", "train", b"\xef\xbb\xbfQuality\t#1 String\t#2 String\n1\t\xff\tb\n", "train.tsv, line 2: not UTF-8"),
        ("CoLA", "train", "a\t1\t\tHe left.\nb\t1\tHe left.\n", "train.tsv, line 2: 3 tab-separated columns where 4"),
        ("CoLA", "train", "source\tlabel\tstar\tsentence\n", "train.tsv, line 1: unknown label 'label'"),
        ("STS-B", "dev", f"{STS}\na\tb\tfive\n", "dev.tsv, line 2: score is 'five', not a finite number"),
        ("STS-B", "dev", f"{STS}\na\tb\t1.0\na\tb\tnan\n", "dev.tsv, line 3: score is 'nan', not a finite"),
        ("STS-B", "dev", f"{STS}\na\tb\tinf\n", "dev.tsv, line 2: score is 'inf', not a finite number"),
        ("MNLI", "train", f"{NLI}\na\tb\tmaybe\tmaybe\n", "unknown label 'maybe'; MNLI has contradiction,"),
        ("QQP", "train", f"{QQP}\na\tb\t1\t1\n", "train.tsv, line 2: 4 tab-separated"),
        ("QQP", "train", f"{QQP}\na\tb\n", "train.tsv: no examples in it"),
    ],
)  # fmt: skip
def test_unusable_file_is_one_line_that_says_where(tmp_path, name, split, content, message):
    write(tmp_path / name, f"{split}.tsv", content)
    with pytest.raises(InputError) as caught:
        read_examples(TASKS[name], split, tmp_path)
    assert str(tmp_path / name) in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("split", ["train", "dev"])
def test_broken_rows_of_qqp_are_counted(tmp_path, capsys, split):
    header = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    cut_in_two = '9\t1\t2\tIs it real?\t"Was it real?\n"\tWhat is the evidence?\t0\n'
    write(tmp_path, f"{split}.tsv", f"{header}1\t1\t2\ta\tb\t1\n{cut_in_two}3\t3\t4\tc\td\t0\n")
    assert read_examples(TASKS["QQP"], split, tmp_path) == [Example("a", "b", 1), Example("c", "d", 0)]
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"warning: {tmp_path / f'{split}.tsv'}: rows skipped because they lack columns: 2\n"


def test_missing_file_names_what_belongs_there(tmp_path):
    with pytest.raises(InputError) as caught:
        read_examples(TASKS["MNLI"], "dev_matched", tmp_path)
    assert str(tmp_path / "dev_matched.tsv") in str(caught.value)
    assert "train.tsv, dev_matched.tsv, dev_mismatched.tsv" in str(caught.value)
    (tmp_path / "MNLI").mkdir()
    with pytest.raises(InputError, match=r"MNLI.dev_matched\.tsv: no such file"):
        read_examples(TASKS["MNLI"], "dev_matched", tmp_path)


def test_unknown_split_lists_the_known():
    with pytest.raises(
        InputError, match="MNLI has no split 'dev'; it has train, dev_matched, dev_mismatched, test_matched"
    ):
        read_examples(TASKS["MNLI"], "dev", REAL)


# --------------------------------------------------------------------------------------------------------------- scores


def test_accuracy_has_the_published_digits():
    predictions = np.r_[np.ones(752, int), np.zeros(120, int)]
    scores = score(TASKS["SST-2"], predictions, np.ones(872, int))
    assert format_scores(scores) == "acc: 0.8623853211009175, "  # a line of the published SST-2 log


def test_scores_against_values_by_hand():
    predictions, labels = [1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 0, 1, 0, 0, 0, 0]  # 2 true positives, 1 false, 1 missed
    expected = {"acc": 0.75, "precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "acc and f1": (0.75 + 2 / 3) / 2}
    for name in ("MRPC", "QQP"):
        scores = score(TASKS[name], predictions, labels)
        assert list(scores) == list(expected)
        assert scores == pytest.approx(expected)
    matthews = (2 * 4 - 1 * 1) / math.sqrt(3 * 3 * 5 * 5)
    assert score(TASKS["CoLA"], predictions, labels) == pytest.approx({"mcc": matthews})
    assert score(TASKS["MNLI"], [0, 1, 2, 2], [0, 1, 2, 0]) == {"acc": 0.75}
    # numbers 1..4 against 1, 2, 4, 3: covariance 4, variances 5 and 5
    assert score(TASKS["STS-B"], [1, 2, 3, 4], [1.0, 2.0, 4.0, 3.0]) == pytest.approx(
        {"pearson": 0.8, "spearman": 0.8, "pearson and spearman": 0.8}
    )
    # ties share their mean rank: ranks 1.5, 1.5, 3 against 1, 2, 3
    assert score(TASKS["STS-B"], [1.0, 1.0, 2.0], [1.0, 2.0, 3.0])["spearman"] == pytest.approx(math.sqrt(3) / 2)


@pytest.mark.parametrize("labels", [("1", "2", "3"), ("0", "1", "2"), ("3", "2", "1")])
def test_accuracy_counts_every_class(labels):
    """Stars from 1 on, say: the class called 1 counts as much as the others."""
    task = replace(TASKS["SST-2"], labels=labels)
    for one, two in ((0, 1), (1, 2), (2, 0)):
        assert score(task, [one, two, one, two], [one, one, one, two])["acc"] == 0.75


def test_main_metric_is_among_the_scores():
    for task in TASKS.values():
        scores = score(task, [1, 0, 1], [1, 0, 0])
        assert task.main_metric in scores
        assert all(type(value) is float for value in scores.values())


def test_perfect_predictions_score_one():
    for name in ("CoLA", "MRPC", "STS-B", "RTE"):
        assert score(TASKS[name], [1, 0, 1], [1, 0, 1])[TASKS[name].main_metric] == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "predictions", "labels", "expected"),
    [
        ("CoLA", [1, 1, 1], [1, 0, 1], {"mcc": 0}),
        ("CoLA", [1, 1], [1, 1], {"mcc": 0}),
        ("MRPC", [0, 0, 0], [1, 0, 1], {"precision": 0, "recall": 0, "f1": 0, "acc and f1": 1 / 6}),
        ("MRPC", [0, 0], [0, 0], {"acc": 1, "f1": 0}),
        ("STS-B", [2.5, 2.5, 2.5], [1.0, 2.0, 3.0], {"pearson": 0, "spearman": 0, "pearson and spearman": 0}),
        ("STS-B", [float("nan"), 1.0, 2.0], [1.0, 2.0, 3.0], {"pearson": 0, "spearman": 0}),
        ("STS-B", [float("inf"), 1.0, 2.0], [1.0, 2.0, 3.0], {"pearson": 0}),
        ("STS-B", [2.5], [1.0], {"pearson": 0, "spearman": 0}),
        ("STS-B", np.float32([1e8, 1e8, 1e8 + 8]), [1.0, 2.0, 3.0], {"spearman": math.sqrt(3) / 2}),
    ],
)
def test_degenerate_predictions_give_finite_scores_in_silence(name, predictions, labels, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = score(TASKS[name], predictions, labels)
    assert all(math.isfinite(value) for value in scores.values())
    assert {key: scores[key] for key in expected} == pytest.approx(expected)


def test_scores_equal_paddlenlp_metrics():
    pytest.importorskip("paddlenlp")
    import paddle
    from paddlenlp.metrics import AccuracyAndF1, Mcc, PearsonAndSpearman

    random = np.random.default_rng(5)
    logits = random.normal(size=(300, 2)).astype(np.float32)
    labels = random.integers(0, 2, 300)
    for metric, name in ((AccuracyAndF1(), "MRPC"), (Mcc(), "CoLA")):
        metric.update(metric.compute(paddle.to_tensor(logits), paddle.to_tensor(labels[:, None])))
        theirs = metric.accumulate()
        ours = score(TASKS[name], logits.argmax(1), labels)
        np.testing.assert_allclose(list(ours.values()), np.ravel(theirs), rtol=1e-9)

    targets = random.permutation(np.linspace(0, 5, 300))  # no ties: theirs ranks them by order of appearance
    predictions = targets + random.normal(size=300)
    metric = PearsonAndSpearman()
    metric.update((predictions, targets))
    np.testing.assert_allclose(
        list(score(TASKS["STS-B"], predictions, targets).values()), metric.accumulate(), rtol=1e-9
    )


def test_format_scores_is_the_published_text():
    assert format_scores(score(TASKS["MRPC"], [1, 1, 0, 0], [1, 0, 0, 0])) == (
        "acc: 0.75, precision: 0.5, recall: 1.0, f1: 0.6666666666666666, acc and f1: 0.7083333333333333, "
    )
    assert format_scores(score(TASKS["CoLA"], [1, 0], [1, 0])) == "mcc: 1.0, "
    assert format_scores({"pearson": 0.5, "spearman": 0.25, "pearson and spearman": 0.375}) == (
        "pearson: 0.5, spearman: 0.25, pearson and spearman: 0.375, "
    )
