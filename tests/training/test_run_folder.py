import numpy as np
import paddle
import pytest

from files.errors import InputError
from files.json_files import read_json
from training import run_folder
from training.optimizer import adamw
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


def test_a_new_run_forgets_the_old_one_s_last_checkpoint(tmp_path):
    (tmp_path / "last").mkdir()
    run_folder.prepare_output(tmp_path, resume=True, overwrite=False)
    assert (tmp_path / "last").is_dir()
    run_folder.prepare_output(tmp_path, resume=False, overwrite=True)
    assert not (tmp_path / "last").exists()


def test_low_precision_weights_keep_their_originals(tmp_path):
    """As --amp O2 does on a GPU; the optimizer's state alone, for a CPU has no such products."""

    class Optimizer:
        def __init__(self, model):
            self.state = {"master_weights": {p.name: paddle.full(p.shape, 0.5) for p in model.parameters()}}

        def state_dict(self):
            return dict(self.state)

        def set_state_dict(self, state):
            self.state = state

    model, other = paddle.nn.Linear(2, 2), paddle.nn.Linear(2, 2)
    run_folder.save_state(tmp_path, model, Optimizer(model), {})
    restored = Optimizer(other)
    run_folder.load_state(tmp_path, other, restored)
    assert set(restored.state["master_weights"]) == {p.name for p in other.parameters()}
    assert all((value.numpy() == 0.5).all() for value in restored.state["master_weights"].values())
