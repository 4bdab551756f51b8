"""run_glue.py, predict.py and export.py on what people feed them: labels in another order, columns, rows left out."""

import json
import shutil

import numpy as np
import pytest
from conftest import ROOT, needs

import convert
import export
import predict
import run_glue
from files.json_files import read_json, write_json
from layers.configuration import ConvBertConfig
from modeling import ConvBertForSequenceClassification
from tasks.glue import TASKS, find_task

SAMPLES = ROOT / "samples"
SIZES = dict(
    vocab_size=1176, embedding_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
    intermediate_size=16, max_position_embeddings=64,
)  # fmt: skip
RUN = "--device cpu --max_seq_length 32"
TRAIN = f"{RUN} --max_steps 2 --train_file train.csv --validation_file dev.csv --model_name_or_path model"


def made(folder, labels=2, names=None, order=None):
    """A random model; its head's outputs in another `order` if one is given."""
    import paddle

    paddle.seed(3)
    model = ConvBertForSequenceClassification(ConvBertConfig(**SIZES, num_labels=labels, label_names=names))
    random = np.random.default_rng(0)
    for weight in model.parameters():
        weight.set_value(weight.numpy() + random.normal(0, 0.3, weight.shape).astype("f"))
    if order:
        head = model.classifier.out_proj
        head.weight.set_value(head.weight.numpy()[:, order])
        head.bias.set_value(head.bias.numpy()[order])
    model.save_pretrained(folder)
    shutil.copy(SAMPLES / "vocab.txt", folder / "vocab.txt")
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a model and data, as the current one."""
    made(tmp_path / "model", names=["no", "yes"])
    for name in ("train", "dev"):
        (tmp_path / f"{name}.csv").write_text("text,label\ngood film,yes\nbad film,no\ngood,yes\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys, flags, output="out"):
    capsys.readouterr()
    assert run_glue.main([*flags.split(), "--output_dir", output]) == 0
    return capsys.readouterr()


# ------------------------------------------------------------------------------------------- the names that a model has

NAMES = [  # id2label as config.json may have it → labels in the file
    ({"0": 0, "1": 1}, "0 1"),
    ([0, 1], "0 1"),
    (["neg", "pos"], "neg pos"),
    ({"1": "pos", "0": "neg"}, "neg pos"),
    ({"0": False, "1": True}, "false true"),
    ({"0": 0.0, "1": 1.0}, "0 1"),
]


BERT = pytest.param("bert", marks=needs("transformers", "torch"))


@pytest.mark.parametrize(
    ("model_type", "named", "words"),
    [*(("convbert", *row) for row in NAMES), *(pytest.param("bert", *row, marks=BERT.marks) for row in NAMES[:2])],
)
def test_names_of_every_kind(here, capsys, model_type, named, words):
    if model_type == "bert":
        shutil.rmtree(here / "model")
        bert(here / "model")
    config = read_json(here / "model/config.json")
    config.pop("label2id")
    write_json(here / "model/config.json", {**config, "id2label": named})
    rows = [f"text {index},{word}" for index, word in enumerate(words.split())]
    (here / "dev.csv").write_text("\n".join(["text,label", *rows]))
    flags = f"{RUN} --no-do_train --validation_file dev.csv --model_name_or_path model --model_type {model_type}"
    run(capsys, flags)
    assert predict.main(["--model", "model", "--device", "cpu", "a film"]) == 0
    names = [str(name) for name in (named if isinstance(named, list) else [named["0"], named["1"]])]
    assert list(json.loads(capsys.readouterr().out)["probabilities"]) == names
    if named is NAMES[0][0]:
        program = ["--output", "program", "--format", "paddle_inference"]
        assert export.main(["--model", "model", *program, "--validation_file", "dev.csv"]) == 0
        assert convert.main(["--input", "model", "--output", "hf", "--to", "hf"]) == 0
        for folder in ("program", "hf"):
            assert read_json(here / folder / "config.json")["id2label"] == {"0": "0", "1": "1"}


def bert(folder):
    import transformers

    settings = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=48, vocab_size=1176)
    transformers.BertForSequenceClassification(transformers.BertConfig(**settings)).save_pretrained(folder)
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", {**config, "label2id": {}})
    shutil.copy(SAMPLES / "vocab.txt", folder / "vocab.txt")


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"0": "a", "1": "a"}, r"config\.json: two labels have the same name \(a, a\)"),
        ({"a": 0, "b": 1}, r"config\.json: id2label is .*, not names by number"),
        ({"0": ["a"], "1": "b"}, r"config\.json: id2label names a label \[\"a\"\]; a name is text"),
        ("a", r"config\.json: id2label is \"a\", not names by number"),
    ],
)
def test_names_that_are_none(here, one_line, named, message):
    write_json(here / "model/config.json", {**read_json(here / "model/config.json"), "id2label": named})
    flags = f"{RUN} --no-do_train --validation_file dev.csv --model_name_or_path model --output_dir out"
    one_line(run_glue.main(flags.split()), message)
    one_line(predict.main(["--model", "model", "--device", "cpu", "a"]), message)


# ------------------------------------------------------------------------------------------------ the order of labels


@pytest.mark.parametrize(
    ("task", "names", "order"),
    [
        ("MNLI", ["entailment", "neutral", "contradiction"], [1, 2, 0]),
        ("MNLI", ["NEUTRAL", "Contradiction", "ENTAILMENT"], [2, 0, 1]),
        ("MRPC", ["equivalent", "not_equivalent"], [1, 0]),
        ("SST-2", ["POSITIVE", "NEGATIVE"], [1, 0]),
        ("QNLI", ["not_entailment", "entailment"], [1, 0]),
        ("CoLA", ["1", "0"], [1, 0]),
    ],
)
def test_a_model_with_another_order_of_labels(tmp_path, capsys, task, names, order):
    """Scores, losses, predictions and pictures' rows are those of the same model in GLUE's order."""
    labels = TASKS[task].labels
    made(tmp_path / "ours", len(labels), list(labels))
    made(tmp_path / "theirs", len(labels), names, order)
    flags = f"{RUN} --no-do_train --task_name {task} --data_dir {SAMPLES} --do_predict --model_name_or_path"
    found = []
    for name in ("ours", "theirs"):
        printed = run(capsys, f"{flags} {tmp_path / name}", str(tmp_path / f"{name}-out"))
        assert "assumed" not in printed.err
        found.append(read_json(tmp_path / f"{name}-out/results.json")["evaluations"][0])
    for split in find_task(task).dev_splits:
        assert found[0][split] == pytest.approx(found[1][split], abs=1e-6)
    for path in (tmp_path / "ours-out/predictions").iterdir():
        assert path.read_text() == (tmp_path / "theirs-out/predictions" / path.name).read_text()
    assert len(list((tmp_path / "theirs-out/predictions").iterdir())) == len(find_task(task).leaderboard_files) + (
        task == "MNLI"
    )
    first, second = (
        sorted(line.split("\t")[:2] + line.split("\t")[3:5] for line in path.read_text().splitlines())
        for path in (tmp_path / name / "predictions_dev.tsv" for name in ("ours-out", "theirs-out"))
    )
    assert first == second


def test_a_head_goes_on_in_its_order(tmp_path, capsys, caplog):
    made(tmp_path / "model", 3, ["Entailment", "Neutral", "Contradiction"])
    flags = f"{RUN} --task_name MNLI --data_dir {SAMPLES} --model_name_or_path {tmp_path / 'model'}"
    run(capsys, f"{flags} --max_steps 1 --learning_rate 0", str(tmp_path / "out"))
    assert "starting anew" not in caplog.text
    assert ConvBertConfig.from_pretrained(tmp_path / "out").label_names == ["entailment", "neutral", "contradiction"]
    again = f"{RUN} --no-do_train --task_name MNLI --data_dir {SAMPLES} --model_name_or_path {tmp_path / 'out'}"
    run(capsys, again, str(tmp_path / "again"))
    first, second = (read_json(tmp_path / name / "results.json")["evaluations"][0] for name in ("out", "again"))
    assert first["dev_matched"] == second["dev_matched"]


def test_a_head_without_names_says_what_is_assumed(tmp_path, capsys):
    made(tmp_path / "model", 3)
    flags = f"{RUN} --task_name MNLI --data_dir {SAMPLES} --model_name_or_path {tmp_path / 'model'}"
    line = "does not name its labels; assumed order: contradiction, entailment, neutral"
    assert line in run(capsys, f"{flags} --no-do_train", str(tmp_path / "out")).err
    (tmp_path / "dev.csv").write_text("text,label\na,x\nb,y\nc,z\n")
    own = f"{RUN} --no-do_train --validation_file {tmp_path / 'dev.csv'} --model_name_or_path {tmp_path / 'model'}"
    assert "assumed order: x, y, z" in run(capsys, own, str(tmp_path / "own")).err
    trained = run(capsys, f"{flags} --max_steps 1", str(tmp_path / "trained")).err
    assert "assumed" not in trained  # what is learnt is right from then on


def test_export_scores_a_model_with_another_order(tmp_path, capsys):
    made(tmp_path / "model", 2, ["equivalent", "not_equivalent"])
    flags = f"{RUN} --no-do_train --task_name MRPC --data_dir {SAMPLES} --model_name_or_path {tmp_path / 'model'}"
    run(capsys, flags, str(tmp_path / "out"))
    expected = read_json(tmp_path / "out/results.json")["evaluations"][0]["dev"]
    flags = f"--model {tmp_path / 'model'} --output {tmp_path / 'program'} --task_name MRPC --data_dir {SAMPLES}"
    assert export.main([*flags.split(), "--format", "paddle_inference", "--max_seq_length", "32"]) == 0
    scores = read_json(tmp_path / "program/program.json")["dev"]["model"]
    assert scores["f1"] == pytest.approx(expected["f1"])


# -------------------------------------------------------------------------------------------------- what was understood


def test_the_line_and_the_results(here, capsys):
    long = "word " * 60
    rows = f'1;good film;yes\n2;bad film;no\n3;{long};no\n4;film;\n5;"a;b";yes\n'
    (here / "train.csv").write_text(f"id;Text;Label\n{rows}")
    (here / "dev.csv").write_text("text,label\na,YES\nb,No\nc,no\n")
    printed = run(capsys, f"{TRAIN} --from_scratch")
    (line,) = [line for line in printed.err.splitlines() if line.startswith("own data: ")]
    assert "train.csv: 4 examples (no 2, yes 2), 1 longer than 32 tokens, left out: 1 row without a label, " in line
    assert "separated by semicolons; dev.csv: 3 examples (no 2, yes 1), 0 longer than 32 tokens" in line
    assert "text from 'Text', label from 'Label' (not used: id); 2 classes; train.csv: " in line
    assert "own data" not in printed.out
    data = read_json(here / "out/results.json")["data"]
    assert data["train"]["classes"] == {"no": 2, "yes": 2}
    assert data["train"]["longer_than_max_seq_length"] == 1
    assert data["train"]["left_out"] == {"without a label": 1}


def test_rows_that_can_not_be_used(here, capsys, one_line):
    (here / "train.csv").write_text("sentence1,sentence2,score\na,b,0.5\nc,d,nan\ne,f,1.25\n")
    (here / "dev.csv").write_text("sentence1,sentence2,score\na,b,0.5\nc,d,1\ne,f,?\n")
    one_line(
        run_glue.main([*TRAIN.split(), "--output_dir", "out"]), r"train\.csv, line 3: score is 'nan', not a number"
    )
    assert not (here / "out").exists()
    assert (
        "left out: 1 that can't be used (line 3: score is 'nan', not a finite number)"
        in run(capsys, f"{TRAIN} --skip_bad_rows").err
    )
    results = read_json(here / "out/results.json")
    assert results["data"]["kind"] == "regression"
    assert {split: results["data"][split]["left_out"] for split in ("train", "dev")} == {
        "train": {"bad": 1}, "dev": {"bad": 1},
    }  # fmt: skip
    (here / "SST-2").mkdir()
    for split in ("train", "dev"):
        (here / f"SST-2/{split}.tsv").write_text("sentence\tlabel\na\t1\nb\t7\nc\n")
    flags = f"{RUN} --max_steps 1 --task_name SST-2 --data_dir . --model_name_or_path model"
    one_line(run_glue.main([*flags.split(), "--output_dir", "sst"]), r"SST-2/train\.tsv, line 3: unknown label '7'")
    printed = run(capsys, f"{flags} --skip_bad_rows", "sst").err
    assert (
        "train.tsv: rows skipped because they can't be used (line 3: unknown label '7'; SST-2 has 0, 1): 2" in printed
    )


def test_a_label_that_the_model_has_not(here, capsys, one_line):
    (here / "dev.csv").write_text("text,label\na,yes\nb,N/A\nc,maybe\nd,NO\n")
    flags = f"{RUN} --no-do_train --validation_file dev.csv --model_name_or_path model"
    message = r"dev\.csv, line 4: unknown label 'maybe'; the model has no, yes"
    one_line(run_glue.main([*flags.split(), "--output_dir", "out"]), message)
    one_line(export.main(["--model", "model", "--output", "program", "--validation_file", "dev.csv"]), message)
    (line,) = [line for line in run(capsys, f"{flags} --skip_bad_rows").err.splitlines() if "own data: " in line]
    assert "dev.csv: 2 examples (no 1, yes 1)" in line
    assert "left out: 1 row without a label, 1 that can't be used (line 4: unknown label 'maybe'" in line


def test_numbers_gone_wrong_end_a_run(here, one_line):
    (here / "train.csv").write_text('text,label\na,"1,5"\nb,"2,5"\nc,nan\n')
    one_line(run_glue.main([*TRAIN.split(), "--output_dir", "out"]), r"train\.csv, line 2: label is '1,5', not a")
    (here / "train.jsonl").write_text('{"text": "a", "label": "yes"}\n{"text": "b", "label": "no", "id": "\\ud800"}\n')
    flags = TRAIN.replace("train.csv", "train.jsonl").split()
    one_line(run_glue.main([*flags, "--output_dir", "out"]), r"train\.jsonl, line 2: \\ud800 is half a character")
    assert not (here / "out").exists()


def test_snli_s_json_lines(here, capsys):
    rows = [
        {"annotator_labels": [word], "gold_label": word, "sentence1": f"a {index}", "sentence2": "b"}
        for index, word in enumerate(["neutral", "entailment", "-", "contradiction", "-", "neutral"])
    ]
    for name in ("train", "dev"):
        (here / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    flags = TRAIN.replace(".csv", ".jsonl")
    printed = run(capsys, flags)
    assert "text from 'sentence1' and 'sentence2', label from 'gold_label' (not used: annotator_labels)" in printed.err
    assert "(contradiction 1, entailment 1, neutral 2), 0 longer than 32 tokens, left out: 2 rows" in printed.err
    assert ConvBertConfig.from_pretrained(here / "out").label_names == ["contradiction", "entailment", "neutral"]


def test_a_regression_scored_on_whole_numbers(here, capsys):
    made(here / "scores", 1)
    (here / "dev.csv").write_text("text,label\na,1\nb,2\nc,3\n")
    run(capsys, f"{RUN} --no-do_train --validation_file dev.csv --model_name_or_path scores")
    assert "pearson" in read_json(here / "out/results.json")["evaluations"][0]["dev"]


def test_convolutions_of_a_bert(capsys):
    flags = ["--task_name", "RTE", "--output_dir", "x", "--model_type", "bert", "--mask_conv_padding"]
    with pytest.raises(SystemExit) as error:
        run_glue.main(flags)
    assert error.value.code == 2
    printed = capsys.readouterr().err
    assert "--mask_conv_padding is for convolutions; --model_type bert has none" in printed
    assert printed.count("\n") == 1


# ----------------------------------------------------------------------------------------------------------- predicting


@pytest.mark.parametrize("model_type", ["convbert", BERT])
def test_the_columns_of_training_are_found_again(here, capsys, model_type):
    for name in ("train", "dev"):
        (here / f"{name}.csv").write_text("Meinung,class\ngut,a\nschlecht,b\n")
    if model_type == "bert":
        shutil.rmtree(here / "model")
        bert(here / "model")
    run(capsys, f"{TRAIN} --model_type {model_type}")
    (here / "new.csv").write_text("id,Meinung,class,text\n1,gut,,x\n2,schlecht,,y\n")
    assert predict.main(["--model", "out", "--input_file", "new.csv", "--device", "cpu"]) == 0
    printed = capsys.readouterr()
    assert [json.loads(line)["text"] for line in printed.out.splitlines()] == ["gut", "schlecht"]
    assert "new.csv: text from 'Meinung'" in printed.err
    (here / "new.jsonl").write_text('{"meinung": "gut", "n": 1}\n')
    assert predict.main(["--model", "out", "--input_file", "new.jsonl", "--device", "cpu"]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == "gut"
    assert predict.main(["--model", "out", "--input_file", "new.csv", "--text_column", "text", "--device", "cpu"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["text"] == "x"
    (here / "evaluated.csv").write_text("id,Meinung,class,text\n1,gut,a,x\n2,schlecht,b,y\n")
    again = f"{RUN} --no-do_train --validation_file evaluated.csv --model_name_or_path out --model_type {model_type}"
    assert "text from 'Meinung', label from 'class'" in run(capsys, again, "again").err
    assert convert.main(["--input", "out", "--output", "hf", "--to", "hf"]) == 0
    assert convert.main(["--input", "hf", "--output", "back"]) == 0
    assert export.main(["--model", "out", "--output", "program", "--format", "paddle_inference"]) == 0
    for folder in ("back", "program"):
        capsys.readouterr()
        assert predict.main(f"--model {folder} --input_file new.csv --device cpu".split()) == 0
        assert [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()] == ["gut", "schlecht"]


EMPTY = {
    "a.csv": "text\ngood\n\nbad\n",
    "b.csv": "text,label\ngood,a\n,b\n\nbad,a\n",
    "c.csv": 'text\ngood\n""\nbad\n',
    "a.tsv": "text\tid\ngood\t1\n\t2\n\nbad\t3\n",
    "b.tsv": "text\ngood\n\nbad\n",
    "column.csv": "text\n\na\n\nb\n\n",
    "column.tsv": "text\r\n\r\na\r\n\r\nb\r\n\r\n",
    "a.jsonl": '{"text": "good"}\n{"text": ""}\n\n{"text": "bad"}\n',
    "b.jsonl": '{"text": "good"}\n{"text": null}\n{"text": "bad"}\n',
    "a.json": '[{"text": "good"},\n{"text": ""}, {"text": "bad"}]',
}


@pytest.mark.parametrize("name", EMPTY)
def test_an_answer_a_row(here, capsys, name):
    (here / name).write_text(EMPTY[name])
    assert predict.main(f"--model model --input_file {name} --device cpu".split()) == 0
    assert [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()] == (
        ["", "a", "", "b", ""] if "column" in name else ["good", "", "bad"]
    )


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_answers_are_read_again(here, capsys, form):
    (here / "pairs.csv").write_text("id,text,text_pair,label\n1,a,b,yes\n2,c,,no\n")
    first = f"--model model --input_file pairs.csv --output_file first.{form} --device cpu"
    assert predict.main(first.split()) == 0
    assert "text from 'text' and 'text_pair'" in capsys.readouterr().err
    second = f"--model model --input_file first.{form} --output_file second.{form} --device cpu"
    assert predict.main(second.split()) == 0
    assert (here / f"first.{form}").read_text() == (here / f"second.{form}").read_text()
    flags = f"{RUN} --no-do_train --validation_file first.{form} --model_name_or_path model"
    assert "text from 'text' and 'text_pair', label from 'label'" in run(capsys, flags).err


# --------------------------------------------------------------------------------------------------- the diagnostic set


@pytest.mark.parametrize("place", ["diagnostic/diagnostic.tsv", "AX/diagnostic.tsv", "AX/AX.tsv", "Diagnostic/AX.tsv"])
@pytest.mark.parametrize("inside", [False, True])
def test_the_diagnostic_set_where_downloads_put_it(tmp_path, capsys, place, inside):
    data = tmp_path / "glue_data"
    shutil.copytree(SAMPLES / "MNLI", data / "MNLI")
    (data / place).parent.mkdir()
    shutil.copy(SAMPLES / "AX/diagnostic.tsv", data / place)
    made(tmp_path / "model", 3, list(TASKS["MNLI"].labels))
    flags = f"{RUN} --no-do_train --do_predict --task_name MNLI --data_dir {data / 'MNLI' if inside else data}"
    printed = run(capsys, f"{flags} --model_name_or_path {tmp_path / 'model'}", str(tmp_path / "out"))
    assert "nothing to predict" not in printed.err
    assert len((tmp_path / "out/predictions/AX.tsv").read_text().splitlines()) == 41


def test_folders_in_another_spelling(tmp_path, capsys):
    shutil.copytree(SAMPLES / "SST-2", tmp_path / "data/sst2")
    made(tmp_path / "model", 2, ["0", "1"])
    flags = f"{RUN} --no-do_train --task_name SST-2 --data_dir {tmp_path / 'data'}"
    run(capsys, f"{flags} --model_name_or_path {tmp_path / 'model'}", str(tmp_path / "out"))


PEOPLE_S = [("SST-2", "negative positive"), ("CoLA", "unacceptable acceptable"), ("MRPC", "not_equivalent equivalent"),
            ("QQP", "not_duplicate duplicate"), ("WNLI", "not_entailment entailment"),
            ("RTE", "entailment not_entailment")]  # fmt: skip


@pytest.mark.parametrize(("name", "words"), PEOPLE_S)
def test_a_fine_tuned_model_says_what_people_say(tmp_path, capsys, name, words):
    out, words = tmp_path / "out", words.split()
    made(tmp_path / "model")
    flags = f"--task_name {name} --data_dir {SAMPLES} --model_name_or_path {tmp_path / 'model'} --do_predict"
    run(capsys, f"{RUN} --max_steps 1 --batch_size 4 {flags}", str(out))
    assert list(read_json(out / "config.json")["label2id"]) == words
    assert list(read_json(out / "results.json")["by_class"]["dev"]) == words
    rows = [line.split("\t") for line in (out / "predictions_dev.tsv").read_text("utf-8").splitlines()[1:]]
    assert {word for row in rows for word in row[3:5]} <= set(words)
    capsys.readouterr()
    assert (
        predict.main(
            ["--model", str(out), "--device", "cpu", "a", *(["--text_pair", "b"] if find_task(name).is_pair else [])]
        )
        == 0
    )
    answer = json.loads(capsys.readouterr().out)
    assert list(answer["probabilities"]) == words
    official = set(find_task(name).labels)
    lines = (out / f"predictions/{find_task(name).leaderboard_files[0]}").read_text().splitlines()[1:]
    assert {line.split("\t")[1] for line in lines} <= official


@pytest.mark.parametrize("names", [["0", "1"], None, ["negative", "positive"], ["NEGATIVE", "POSITIVE"]])
def test_folders_of_every_age_go_on(tmp_path, capsys, caplog, names):
    """With the file's words, or none, as older versions wrote them: evaluated, trained on, and begun from."""
    made(tmp_path / "model", names=names)
    base = f"{RUN} --task_name SST-2 --data_dir {SAMPLES}"
    scores = {}
    for kind, flags in (("evaluated", "--no-do_train"), ("trained", "--max_steps 1 --learning_rate 0"),
                        ("begun", "--max_steps 1 --learning_rate 0")):  # fmt: skip
        source = "--init_from" if kind == "begun" else "--model_name_or_path"
        caplog.clear()
        run(capsys, f"{base} {flags} {source} {tmp_path / 'model'}", str(tmp_path / kind))
        scores[kind] = read_json(tmp_path / kind / "results.json")["evaluations"][-1]["dev"]
        assert ("starting anew: classifier" in caplog.text) == (kind == "begun")
    assert scores["evaluated"] == scores["trained"]
    assert list(read_json(tmp_path / "trained/config.json")["label2id"]) == ["negative", "positive"]


def test_a_run_with_the_file_s_words_goes_on_bit_for_bit(tmp_path, capsys):
    """What an older version left in last/."""
    made(tmp_path / "model")
    base = f"{RUN} --task_name SST-2 --data_dir {SAMPLES} --model_name_or_path {tmp_path / 'model'} --save_steps 2"
    run(capsys, f"{base} --max_steps 4", str(tmp_path / "whole"))
    run(capsys, f"{base} --max_steps 4 --keep_checkpoints 2", str(tmp_path / "parts"))
    last = tmp_path / "parts/last"
    shutil.rmtree(last)
    shutil.copytree(tmp_path / "parts/checkpoint-2", last)
    config = read_json(last / "config.json")
    config |= dict(id2label={"0": "0", "1": "1"}, label2id={"0": 0, "1": 1})
    write_json(last / "config.json", config)
    run(capsys, f"{base} --max_steps 4 --resume", str(tmp_path / "parts"))
    for name in ("whole", "parts"):
        assert list(read_json(tmp_path / name / "config.json")["label2id"]) == ["negative", "positive"]
    first, second = (read_json(tmp_path / name / "results.json") for name in ("whole", "parts"))
    assert first["log"] == second["log"]
    assert first["evaluations"] == second["evaluations"]


@pytest.mark.parametrize("trains", [True, False])
def test_own_files_may_say_0_and_1_to_a_model_that_says_negative_and_positive(here, capsys, caplog, trains):
    made(here / "sentiment", names=["negative", "positive"])
    for name in ("train", "dev"):
        (here / f"{name}.csv").write_text("text,label\ngood film,1\nbad film,0\ngood,1\n")
    flags = TRAIN.replace("model_name_or_path model", "model_name_or_path sentiment") if trains else (
        f"{RUN} --no-do_train --validation_file dev.csv --model_name_or_path sentiment")  # fmt: skip
    said = run(capsys, flags).err
    assert "(negative 1, positive 2)" in said
    assert "starting anew" not in caplog.text
