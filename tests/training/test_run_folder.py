import numpy as np
import paddle
import pytest

from files.errors import InputError
from files.json_files import read_json
from layers.fast_path import compiled
from training import run_folder
from training.optimizer import AdamW, adamw
from training.order import seed_step


def network():
    paddle.seed(3)
    model = paddle.nn.Sequential(paddle.nn.Linear(4, 8), paddle.nn.LayerNorm(8), paddle.nn.Linear(8, 1))
    return model, adamw(model, 0.01, 0.1, 1e-6)


def steps(model, optimizer, first, last):
    for step in range(first, last):
        seed_step(0, step)
        x = paddle.randn([16, 4])
        (model(x) - x.sum(-1, keepdim=True)).square().mean().backward()
        optimizer.step()
        optimizer.clear_grad()


def test_a_saved_optimizer_goes_on_bit_for_bit(tmp_path):
    model, optimizer = network()
    steps(model, optimizer, 0, 10)
    whole = {name: weight.numpy() for name, weight in model.state_dict().items()}

    model, optimizer = network()
    steps(model, optimizer, 0, 4)
    run_folder.save_state(tmp_path, model, optimizer, {"step": 4, "best": 0.5})
    weights = {name: weight.numpy() for name, weight in model.state_dict().items()}
    model, optimizer = network()  # other parameter names than before, as in a new process
    model.set_state_dict(weights)
    assert run_folder.load_state(tmp_path, model, optimizer) == {"step": 4, "best": 0.5}
    steps(model, optimizer, 4, 10)
    for name, weight in model.state_dict().items():
        np.testing.assert_array_equal(weight.numpy(), whole[name])


def test_an_optimizer_of_another_model_is_refused(tmp_path):
    model, optimizer = network()
    steps(model, optimizer, 0, 1)
    run_folder.save_state(tmp_path, model, optimizer, {})
    other = paddle.nn.Linear(4, 1)
    with pytest.raises(InputError, match=r"optimizer\.safetensors: \d\.\w+ is no parameter"):
        run_folder.load_state(tmp_path, other, adamw(other, 0.01, 0.0, 1e-6))


def test_output_folders_are_not_overwritten_by_accident(tmp_path):
    folder = tmp_path / "new/run"
    run_folder.prepare_output(folder, resume=False, overwrite=False)
    assert folder.is_dir()
    (folder / "result").write_text("precious")
    with pytest.raises(InputError, match="not empty; add --resume to go on, --overwrite to start anew"):
        run_folder.prepare_output(folder, resume=False, overwrite=False)
    for flags in ((True, False), (False, True)):
        run_folder.prepare_output(folder, *flags)
    assert (folder / "result").read_text() == "precious"
    with pytest.raises(InputError, match="not a folder"):
        run_folder.prepare_output(folder / "result", False, True)


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    model, optimizer = network()
    for step in (8, 9, 10, 11):
        steps(model, optimizer, step, step + 1)
        write = lambda folder: (folder / "model").write_text("weights")  # noqa: E731
        run_folder.save_last(tmp_path, write, model, optimizer, {"step": step}, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-11", "last"]
    for name, step in (("checkpoint-10", 10), ("checkpoint-11", 11), ("last", 11)):
        assert read_json(tmp_path / name / "training_state.json")["step"] == step
        assert (tmp_path / name / "model").read_text() == "weights"


MODEL = "config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"


def old_run(folder):
    for name in (*MODEL, "last/config.json", "checkpoint-20/config.json", "checkpoint-7/config.json", "results.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
    (folder / "notes").mkdir()
    (folder / "train.csv").touch()


def test_a_new_run_forgets_the_old_one_when_it_begins(tmp_path):
    old_run(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    run_folder.prepare_output(tmp_path, resume=True, overwrite=False)
    run_folder.prepare_output(tmp_path, resume=False, overwrite=True)
    assert sorted(tmp_path.rglob("*")) == before
    run_folder.clear_old_run(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes", "train.csv"]


def test_a_vocabulary_alone_is_no_old_model(tmp_path):
    (tmp_path / "vocab.txt").touch()
    run_folder.clear_old_run(tmp_path)
    assert (tmp_path / "vocab.txt").exists()


@pytest.mark.parametrize("given", ["last", "checkpoint-20", "vocab.txt", "", "last/config.json"])
def test_what_a_run_reads_is_not_removed_by_it(tmp_path, given):
    old_run(tmp_path)
    with pytest.raises(InputError, match="would remove it; take another folder"):
        run_folder.prepare_output(tmp_path, resume=False, overwrite=True, inputs=[tmp_path / given])
    run_folder.prepare_output(tmp_path, resume=False, overwrite=True, trains=False, inputs=[tmp_path / given])
    run_folder.prepare_output(tmp_path, resume=True, overwrite=False, inputs=[tmp_path / given])
    run_folder.prepare_output(tmp_path, resume=False, overwrite=True, inputs=[tmp_path / "train.csv"])


@pytest.mark.parametrize(
    ("kept", "hint"), [("results.json", "add --overwrite"), ("checkpoint-20", "rename it to last")]
)
def test_a_run_that_lost_its_last_checkpoint_is_not_begun_anew_unasked(tmp_path, kept, hint):
    """Models alone may be what a kill left before the first one."""
    (tmp_path / "config.json").touch()
    run_folder.prepare_output(tmp_path, resume=True, overwrite=False)
    (tmp_path / kept).mkdir() if kept == "checkpoint-20" else (tmp_path / kept).touch()
    with pytest.raises(InputError, match=f"holds {kept}, but no last/; .*{hint}"):
        run_folder.prepare_output(tmp_path, resume=True, overwrite=False)
    run_folder.prepare_output(tmp_path, resume=True, overwrite=True)
    assert (tmp_path / kept).exists()


class OnMasterWeights(AdamW):
    """A step of bfloat16 weights works on their float32 originals, as a GPU's kernel does; a CPU has none."""

    def _append_optimize_op(self, block, param_and_grad):
        weight, gradient = param_and_grad
        master = self._master_weights[weight.name]
        names = self._moment1_acc_str, self._moment2_acc_str, self._beta1_pow_acc_str, self._beta2_pow_acc_str
        moments = (self._get_accumulator_master(name, weight) for name in names)
        due = [(master, gradient.astype("float32"), *moments, 0.01, 0.001, 1.0)]
        compiled().optimizer.adamw_step(due, self._beta1, self._beta2, self._epsilon, {})
        weight.set_value(master.astype(weight.dtype))


def low_precision_network():
    paddle.seed(3)
    model = paddle.nn.Sequential(paddle.nn.Linear(4, 8), paddle.nn.Linear(8, 1))
    model.to(dtype="bfloat16")
    return model, OnMasterWeights(0.01, parameters=model.parameters(), multi_precision=True)


def low_precision_steps(model, optimizer, first, last):
    for step in range(first, last):
        seed_step(0, step)
        for weight in model.parameters():
            weight.grad = paddle.randn(weight.shape).astype("bfloat16")
        optimizer.step()
        optimizer.clear_grad()
    masters = optimizer.state_dict()["master_weights"]
    return [masters[weight.name].numpy() for weight in model.parameters()]


def test_low_precision_weights_go_on_from_their_originals(tmp_path):
    """As --amp O2 needs it: the float32 originals and their moments, under another process's names."""
    whole = low_precision_steps(*low_precision_network(), 0, 10)
    model, optimizer = low_precision_network()
    low_precision_steps(model, optimizer, 0, 4)
    run_folder.save_state(tmp_path, model, optimizer, {"step": 4})
    model, optimizer = low_precision_network()
    run_folder.load_state(tmp_path, model, optimizer)
    for expected, found in zip(whole, low_precision_steps(model, optimizer, 4, 10), strict=True):
        np.testing.assert_array_equal(found, expected)
