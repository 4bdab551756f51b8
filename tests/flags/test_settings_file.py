"""Flags from a file: the same as on the command line, which wins; and what is in a file wrongly, in one line."""

import json

import pytest
from conftest import ROOT
from test_export import model_folder

import benchmark
import compare
import convert
import export
import predict
import run_glue
import run_pretrain
import run_squad
import run_tagging
import serve
import tokenizer
from files.errors import InputError
from files.json_files import read_json
from flags.settings_file import read_settings

FILES = {
    "a.json": '{"task_name": "SST-2", "max_steps": -1, "learning_rate": 5e-4, "bucket": false, "amp": null}',
    "a.yaml": "task_name: SST-2  # a task\nmax-steps: -1\nlearning_rate: 5e-4\nbucket: false\namp:\n",
    "a.yml": "--task_name: SST-2\n--max_steps: -1\n--learning_rate: 0.0005\n--bucket: off\n",
    "a.toml": 'task_name = "SST-2"\nmax_steps = -1\nlearning_rate = 5e-4\nbucket = false\n',
    "results.json": json.dumps({
        "task": "SST-2", "best_score": 0.9,
        "arguments": {"task_name": "SST-2", "max_steps": -1, "learning_rate": 5e-4, "bucket": False,
                      "output_dir": "elsewhere", "resume": True, "overwrite": True, "config": "x"},
    }),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_the_command_line(tmp_path, name):
    path = tmp_path / name
    path.write_text(FILES[name])
    direct = ["--task_name", "SST-2", "--learning_rate", "5e-4", "--no-bucket", "--output_dir", "out"]
    assert run_glue.parse_args(["--config", str(path), "--output_dir", "out"]) == run_glue.parse_args(direct)
    found = run_glue.parse_args(f"--output_dir out --bucket --config {path} --max_steps 7".split())
    assert (found.max_steps, found.bucket, found.learning_rate) == (7, True, 5e-4)  # the command line wins
    assert "config" not in vars(found)


SQUAD = dict(train_file="t", validation_file="v", output_dir="o")
SCRIPTS = [  # what a file may say in place of a script's command line
    (run_glue, dict(task_name="RTE", output_dir="o", label_column=None, device="cpu")),
    (run_squad, SQUAD),
    (run_tagging, SQUAD),
    (run_pretrain, dict(input=["a", "b"], output_dir="o")),
    (export, dict(model="m", output="o", format="onnx")),
    (predict, dict(model="m", input_file="-")),
    (serve, dict(model="m", port=0)),
    (compare, dict(models=["convbert-small"], checks=["all"])),
    (benchmark, dict(modes=["infer"], rounds=1)),
    (convert, dict(input="a", output="b")),
    (tokenizer, dict(input=["a"], output="b")),
]


@pytest.mark.parametrize(("script", "flags"), SCRIPTS)
def test_every_script_takes_one_and_prints_one(tmp_path, capsys, script, flags):
    def printed(content):
        (tmp_path / "a.json").write_text(content)
        with pytest.raises(SystemExit) as end:
            script.main(["--config", str(tmp_path / "a.json"), "--print_config"])
        assert not end.value.code
        return capsys.readouterr().out

    once = printed(json.dumps(flags))
    assert printed(once) == once
    content = json.loads(once)
    names = {"input": "input_dir"} if script is run_pretrain else {}
    assert {name: content[names.get(name, name)] for name in flags} == flags
    assert not {"config", "print_config", "help"} & set(content)


WRONG = [
    ("a.json", '{"learning_rat": 1}', r"a\.json: unknown flag learning_rat; did you mean learning_rate\?"),
    ("a.json", '{"zzz": 1}', r"unknown flag zzz; --help names the flags"),
    ("a.json", '{"no_bucket": true}', r"unknown flag no_bucket; did you mean bucket\?"),
    ("a.json", '{"config": "b.json"}', r"unknown flag config"),
    ("a.json", '{"learning_rate": "fast"}', r'learning_rate must be a number, not "fast"'),
    ("a.json", '{"learning_rate": -1}', r"learning_rate must be a number from 0, not -1"),
    ("a.json", '{"learning_rate": true}', r"learning_rate must be a number, not true"),
    ("a.json", '{"batch_size": 2.5}', r"batch_size must be a whole number, not 2\.5"),
    ("a.json", '{"batch_size": 0}', r"batch_size must be at least 1, not 0"),
    ("a.json", '{"bucket": "yes"}', r'bucket must be true or false, not "yes"'),
    ("a.json", '{"data_dir": 3}', r"data_dir must be a text, not 3"),
    ("a.json", '{"data_dir": ["a"]}', r'data_dir must be a text, not \["a"\]'),
    ("a.json", '{"amp": "O9"}', r'amp must be one of O1, O2, not "O9"'),
    ("a.json", '{"label_column": []}', r"label_column must hold at least one value"),
    ("a.json", '{"model_name": "a", "model_name_or_path": "b"}', r"model_name_or_path is there twice, also by another"),
    ("a.json", '{"seed": 1, "seed": 2}', r"a\.json: seed is there twice"),
    ("a.json", '{"seed": 1,\n}', r"a\.json, line \d: not JSON"),
    ("a.json", "[1]", r"a\.json: must hold names of flags and their values"),
    ("a.yaml", "seed: 1\nseed: 2\n", r"a\.yaml: seed is there twice"),
    ("a.yaml", "seed: [1\n", r"a\.yaml, line \d: not YAML"),
    ("a.yaml", "training:\n  seed: 1\n", r"unknown flag training"),
    ("a.toml", "seed = \n", r"a\.toml: not TOML \(.*line 1"),
    ("a.toml", "[training]\nseed = 1\n", r"unknown flag training"),
    ("a.ini", "seed=1", r"a\.ini: unknown kind of file; known are \.json, \.yaml, \.yml, \.toml"),
    ("b.json", None, r"b\.json: can't be read"),
]


@pytest.mark.parametrize(("name", "content", "message"), WRONG)
def test_what_is_wrong_is_one_line(tmp_path, one_line, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    status = run_glue.main(["--task_name", "RTE", "--output_dir", "x", "--config", str(tmp_path / name)])
    one_line(status, message)


def test_code_in_yaml_is_not_run(tmp_path):
    (tmp_path / "a.yaml").write_text("seed: !!python/object/apply:os.system ['touch ran']\n")
    with pytest.raises(InputError, match=r"a\.yaml, line 1: not YAML"):
        read_settings(tmp_path / "a.yaml")


def test_a_recipe_gives_way_to_a_file_and_a_file_to_the_command_line(tmp_path):
    (tmp_path / "a.json").write_text('{"recipe": "paper", "task_name": "RTE", "weight_decay": 0.5, "batch_size": 8}')
    found = run_glue.parse_args(f"--config {tmp_path / 'a.json'} --output_dir o --batch_size 4".split())
    assert (found.num_train_epochs, found.weight_decay, found.batch_size) == (10, 0.5, 4)


def test_a_results_json_repeats_its_run(tmp_path):
    model = model_folder(tmp_path / "model")
    flags = f"--task_name SST-2 --data_dir {ROOT / 'samples'} --model_name_or_path {model} --max_seq_length 16"
    flags += f" --max_steps 3 --logging_steps 1 --learning_rate 1e-3 --output_dir {tmp_path / 'a'}"
    assert run_glue.main(flags.split()) == 0
    again = ["--config", str(tmp_path / "a/results.json"), "--output_dir", str(tmp_path / "b")]
    assert run_glue.main(again) == 0
    first, second = (read_json(tmp_path / name / "results.json") for name in "ab")
    assert first["log"] == second["log"]
    assert first["arguments"]["device"] is None  # as it was asked for
    assert {**first["arguments"], "output_dir": None} == {**second["arguments"], "output_dir": None}
