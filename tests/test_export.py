"""Exports: the same answers as the model, the labels and the vocabulary with them, nothing left of what fails."""

import json
import shutil

import numpy as np
import paddle
import pytest
from conftest import ROOT, needs

import export
import predict
from family.architectures import config_class, model_class
from files.errors import InputError
from files.json_files import read_json
from layers.configuration import ConvBertConfig
from modeling import ConvBertForSequenceClassification
from serving.predictor import Predictor
from tasks import programs
from tasks.glue import find_task
from tasks.glue_files import read_examples

SIZES = dict(
    vocab_size=1500, embedding_size=16, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
    intermediate_size=48, max_position_embeddings=64,
)  # fmt: skip
KINDS = [("onnx", False), ("paddle_inference", False), ("onnx", True)]


def model_folder(folder, model_type="convbert", spread=0.05, **changes):
    paddle.seed(1)
    settings = {**SIZES, "num_labels": 2, "label_names": ["0", "1"], **changes}
    model = model_class(model_type, "ForSequenceClassification")(config_class(model_type).from_dict(settings))
    for weight in model.parameters():  # far enough from zero for answers to differ
        weight.set_value(weight + spread * paddle.randn(weight.shape))
    model.save_pretrained(folder)
    rest = "".join(f"[unused{number}]\n" for number in range(SIZES["vocab_size"] - 1169))
    (folder / "vocab.txt").write_text((ROOT / "samples/vocab.txt").read_text() + rest)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return model_folder(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="module")
def exported(folder, tmp_path_factory):
    """(format, int8) → folder of the program."""
    pytest.importorskip("paddle2onnx")
    pytest.importorskip("onnxruntime")
    made = {}
    for form, int8 in KINDS:
        made[form, int8] = tmp_path_factory.mktemp("programs") / "program"
        command = ["--model", folder, "--output", made[form, int8], "--format", form, "--int8" if int8 else "--no-int8"]
        assert export.main([*map(str, command), "--task_name", "SST-2", "--data_dir", str(ROOT / "samples")]) == 0
    return made


def sentences():
    task = find_task("SST-2")
    return [example.text for example in read_examples(task, "train", ROOT / "samples")][:200]


@pytest.mark.parametrize(("form", "int8"), KINDS)
def test_answers_are_the_model_s(folder, exported, form, int8):
    texts = sentences()
    expected = Predictor(folder).logits(texts)
    predictor = Predictor(exported[form, int8])
    found = predictor.logits(texts)
    if int8:
        assert 1e-5 < np.abs(found - expected).max() < 0.5
        margins = [logits[:, 1] - logits[:, 0] for logits in (found, expected)]
        assert np.corrcoef(*margins)[0, 1] > 0.6  # a random model: small margins
    else:
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert predictor.task.labels == ("0", "1")
    assert predictor.max_seq_length == 64
    assert 0.05 < (expected.argmax(-1) == 0).mean() < 0.95  # not one answer for all


@pytest.mark.parametrize(("form", "int8"), KINDS)
def test_what_is_in_a_program_s_folder(exported, form, int8):
    folder = exported[form, int8]
    names = {"config.json", "program.json", "tokenizer_config.json", "vocab.txt"}
    program = {"model.onnx"} if form == "onnx" else {"inference.json", "inference.pdiparams"}
    assert {path.name for path in folder.iterdir()} == names | program
    note = read_json(folder / "program.json")
    assert note["precision"] == ("int8" if int8 else "float32")
    assert note["check"]["largest_difference"] < (0.5 if int8 else 1e-5)
    assert note["dev"]["examples"] == 200
    assert note["dev"]["agreement"] > (0.6 if int8 else 0.999)  # a random model's answers are close calls
    assert set(note["dev"]["model"]) == set(note["dev"]["program"]) == {"acc"}


def test_int8_is_smaller(exported):
    sizes = {int8: (exported["onnx", int8] / "model.onnx").stat().st_size for int8 in (False, True)}
    assert sizes[True] < 0.8 * sizes[False]  # products with weights only; embeddings stay
    import onnx

    kinds = [node.op_type for node in onnx.load(exported["onnx", True] / "model.onnx").graph.node]
    assert kinds.count("MatMulInteger") >= 2 * 8  # q, k, v, conv value, pointwise, kernel, output, feed-forward


def test_predict_takes_programs(folder, exported, capsys, one_line):
    def answers(model, *flags):
        capsys.readouterr()
        assert predict.main(["--model", str(model), "a good film", "a bad film", "--device", "cpu", *flags]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    expected = answers(folder, "--engine", "dynamic")
    for form, engine in (("onnx", "onnxruntime"), ("paddle_inference", "paddle_inference")):
        found = answers(exported[form, False], "--engine", engine)
        for one, other in zip(found, expected, strict=True):
            assert one["label"] == other["label"]
            assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)
        assert found == answers(exported[form, False])
    for model, engine, words in (
        (folder, "onnxruntime", "export.py makes such a program"),
        (exported["onnx", False], "dynamic", "it holds a program for onnxruntime"),
    ):
        capsys.readouterr()
        one_line(predict.main(["--model", str(model), "a", "--engine", engine, "--device", "cpu"]), words)
    program = str(exported["onnx", False])
    one_line(predict.main(["--model", program, "a", "--dtype", "int8", "--device", "cpu"]), "holds a program")


@needs("paddle2onnx", "onnxruntime")
@pytest.mark.parametrize("changes", [{"classifier": "pooled_mlp"}, {"num_groups": 2, "mask_conv_padding": True}])
def test_every_kind_of_model(tmp_path, changes):
    """Its own check is what is tested: padded batches to 1e-5."""
    model_folder(tmp_path / "model", **changes)
    for form in ("onnx", "paddle_inference"):
        assert (
            export.main(["--model", str(tmp_path / "model"), "--output", str(tmp_path / form), "--format", form]) == 0
        )


@needs("paddle2onnx", "onnxruntime")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "changes"), [("bert", {}), ("electra", {}), ("ernie", {"use_task_id": True, "task_id": 2})]
)
def test_programs_of_other_architectures(tmp_path, capsys, model_type, changes):
    import onnx

    folder = model_folder(tmp_path / "model", model_type, spread=0.2, **changes)
    texts = sentences()
    expected = Predictor(folder).logits(texts)
    assert np.ptp(expected, axis=0).min() > 0.1
    for form, int8 in KINDS:
        output = tmp_path / f"{form}-{int8}"
        flags = ["--format", form, "--int8" if int8 else "--no-int8", "--task_name", "SST-2"]
        command = ["--model", str(folder), "--output", str(output), *flags, "--data_dir", str(ROOT / "samples")]
        assert export.main(command) == 0
        differences = np.abs(Predictor(output).logits(texts) - expected)
        assert 1e-5 < differences.max() < 0.5 if int8 else differences.max() < 1e-5
        assert not {"model.safetensors", "model_state.pdparams"} & {path.name for path in output.iterdir()}
        capsys.readouterr()
        assert predict.main(["--model", str(output), texts[0], "--device", "cpu"]) == 0
        assert set(json.loads(capsys.readouterr().out)["probabilities"]) == {"0", "1"}
    nodes = onnx.load(tmp_path / "onnx-True/model.onnx").graph.node
    assert [node.op_type for node in nodes].count("MatMulInteger") >= 2 * 6  # q, k, v, output, feed-forward


@needs("paddle2onnx", "onnxruntime")
def test_a_regression(tmp_path, capsys):
    model_folder(tmp_path / "model", num_labels=1, label_names=None)
    command = ["--model", tmp_path / "model", "--output", tmp_path / "out", "--task_name", "STS-B", "--int8"]
    assert export.main([*map(str, command), "--data_dir", str(ROOT / "samples")]) == 0
    assert "pearson" in capsys.readouterr().out
    (prediction,) = Predictor(tmp_path / "out")(["a"], ["b"])
    assert isinstance(prediction.score, float)


@needs("paddle2onnx", "onnxruntime")
@pytest.mark.parametrize(("form", "int8"), KINDS)
def test_any_number_of_labels(tmp_path, form, int8):
    settings = dict(num_labels=3, label_names=["art", "war", "law"], problem_type="multi_label_classification")
    model_folder(tmp_path / "model", **settings)
    command = ["--model", tmp_path / "model", "--output", tmp_path / "out", "--format", form]
    assert export.main([*map(str, command), "--int8" if int8 else "--no-int8"]) == 0
    for answer, expected in zip(
        *(Predictor(tmp_path / name)(sentences()[:9]) for name in ("out", "model")), strict=True
    ):
        assert answer.label is None
        assert answer.labels == [name for name, chance in answer.probabilities.items() if chance > 0.5]
        if not int8:
            assert answer.probabilities == pytest.approx(expected.probabilities, abs=1e-5)


@needs("paddle2onnx", "onnxruntime")
def test_programs_cut_texts_as_the_model_does(tmp_path):
    model_folder(tmp_path / "model")
    (tmp_path / "model/tokenizer_config.json").write_text('{"model_max_length": 24}')
    for name, flags, expected in (("a", [], 24), ("b", ["--max_seq_length", "12"], 12)):
        command = ["--model", tmp_path / "model", "--output", tmp_path / name, "--format", "paddle_inference"]
        assert export.main([*map(str, command), *flags]) == 0
        assert read_json(tmp_path / name / "program.json")["max_seq_length"] == expected
        assert read_json(tmp_path / name / "tokenizer_config.json")["model_max_length"] == expected
        assert Predictor(tmp_path / name).max_seq_length == expected
        assert Predictor(tmp_path / name, max_seq_length=40).max_seq_length == 40
        assert Predictor(tmp_path / name, max_seq_length=400).max_seq_length == 64


@pytest.mark.parametrize("int8", [False, True])
@needs("paddle2onnx", "onnxruntime")
def test_damaged_weights_make_no_program(tmp_path, one_line, int8):
    model = ConvBertForSequenceClassification.from_pretrained(str(model_folder(tmp_path / "model")))
    model.classifier.out_proj.bias.set_value(np.full(model.classifier.out_proj.bias.shape, np.nan, np.float32))
    model.save_pretrained(tmp_path / "model")
    command = ["--model", str(tmp_path / "model"), "--output", str(tmp_path / "out")]
    one_line(export.main([*command, "--int8" if int8 else "--no-int8"]), "no number .* its weights are damaged")
    assert not (tmp_path / "out").exists()


def test_a_dev_set_for_another_kind_of_answer(tmp_path, one_line):
    data = ["--data_dir", str(ROOT / "samples"), "--output", str(tmp_path / "out")]
    for name, settings, task, words in (
        ("a", dict(problem_type="multi_label_classification"), "SST-2", "any number of them, which are not"),
        ("b", dict(num_labels=5, label_names=None), "SST-2", "LABEL_4, which are not the labels of SST-2"),
        ("c", dict(label_names=None), "STS-B", "LABEL_1, which are not the labels of STS-B"),
    ):
        folder = model_folder(tmp_path / name, **settings)
        one_line(export.main(["--model", str(folder), *data, "--task_name", task]), words)


def test_a_program_that_differs_is_not_made(folder, tmp_path, monkeypatch, one_line):
    class Wrong(programs.PaddleInference):
        def __call__(self, arrays):
            return super().__call__(arrays) + 2e-5

    monkeypatch.setitem(programs.ENGINES, "paddle_inference", Wrong)
    command = ["--model", str(folder), "--output", str(tmp_path / "out"), "--format", "paddle_inference"]
    one_line(export.main(command), "not made; its logits differ from the model's by 2")
    assert list(tmp_path.iterdir()) == []


def test_nan_is_a_difference(folder, tmp_path, monkeypatch, one_line):
    class Wrong(programs.PaddleInference):
        def __call__(self, arrays):
            return super().__call__(arrays) * np.nan

    monkeypatch.setitem(programs.ENGINES, "paddle_inference", Wrong)
    command = ["--model", str(folder), "--output", str(tmp_path / "out"), "--format", "paddle_inference"]
    one_line(export.main(command), "not made")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--model nothing --output out", "nothing: no such folder"),
        ("--model {model} --output {model}", "not empty; name a new folder"),
        ("--model {model} --output out --int8 --format paddle_inference", "--int8 needs --format onnx"),
        ("--model {model} --output out --task_name RTE --data_dir {samples}", "which are not the labels of RTE"),
        ("--model {model} --output out --task_name SST-2 --data_dir nowhere", "nowhere"),
        ("--model {model} --output out --task_name SST-2 --validation_file x.csv", "give either"),
    ],
)
def test_bad_input(folder, tmp_path, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(tmp_path)
    try:
        status = export.main(flags.format(model=folder, samples=ROOT / "samples").split())
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_note(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model/program.json").write_text('{"engine": "steam"}')
    with pytest.raises(InputError, match=r"program.json: engine 'steam' is unknown"):
        Predictor(tmp_path / "model")


@pytest.mark.slow
@needs("paddle2onnx", "onnxruntime")
def test_a_thousand_real_sentences(tmp_path, shared):
    """convbert-small's sizes at random; batches of 32, padded."""
    texts = [example.text for example in read_examples(find_task("SST-2"), "train", shared / "glue")][:1000]
    paddle.seed(0)
    model = ConvBertForSequenceClassification(ConvBertConfig.from_preset("convbert-small"))
    for weight in model.parameters():
        weight.set_value(weight + 0.02 * paddle.randn(weight.shape))
    model.save_pretrained(tmp_path / "model")
    shutil.copy(shared / "vocab/bert-base-uncased-vocab.txt", tmp_path / "model/vocab.txt")
    expected = Predictor(tmp_path / "model").logits(texts)
    for form in ("onnx", "paddle_inference"):
        assert (
            export.main(["--model", str(tmp_path / "model"), "--output", str(tmp_path / form), "--format", form]) == 0
        )
        found = Predictor(tmp_path / form).logits(texts)
        print(form, np.abs(found - expected).max())
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
