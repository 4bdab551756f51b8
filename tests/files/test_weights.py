import json
import pickle

import numpy as np
import pytest
from conftest import Malicious, needs

from files.errors import InputError
from files.weights import WEIGHT_FILES, read_weights, write_safetensors


def random_weights():
    random = np.random.default_rng(0)
    return {"a.weight": random.normal(size=(3, 4)).astype("f"), "b": np.arange(5), "empty": np.zeros((0, 2), "f")}


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_safetensors_come_back_as_written(tmp_path):
    weights = random_weights()
    write_safetensors(tmp_path / "model.safetensors", weights)
    found = read_weights(tmp_path)
    assert_same({name: found[name] for name in weights}, weights)


@needs("torch")
def test_half_precisions_are_upcast_exactly(tmp_path):
    import torch
    from safetensors.torch import save_file

    for dtype in (torch.float16, torch.bfloat16):
        tensor = torch.randn(4, 5).to(dtype)
        save_file({"x": tensor}, tmp_path / "model.safetensors")
        torch.save({"x": tensor}, tmp_path / "pytorch_model.bin")
        for name in ("model.safetensors", "pytorch_model.bin"):
            assert_same(read_weights(tmp_path / name), {"x": tensor.float().numpy()})


@needs("torch")
@pytest.mark.parametrize("zipped", [True, False])
def test_pytorch_files(tmp_path, zipped):
    import torch

    base = torch.randn(6, 4)
    state = {
        "plain": base,
        "transposed": base.t(),
        "slice": base[2:4, 1:],
        "scalar": torch.tensor(3),
        "empty": torch.zeros(0, 3),
        "flags": torch.tensor([True, False]),
        "parameter": torch.nn.Parameter(torch.randn(3)),
    }
    torch.save(state, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    assert_same(read_weights(tmp_path), {name: tensor.detach().numpy() for name, tensor in state.items()})


def test_paddle_files(tmp_path):
    import paddle

    layer = paddle.nn.Linear(3, 2)
    paddle.save(layer.state_dict(), str(tmp_path / "model_state.pdparams"))
    assert_same(read_weights(tmp_path), {name: value.numpy() for name, value in layer.state_dict().items()})


def test_shards(tmp_path):
    weights = random_weights()
    files = {"a.weight": "one.safetensors", "b": "two.safetensors", "empty": "two.safetensors"}
    for file in set(files.values()):
        part = {name: array for name, array in weights.items() if files[name] == file}
        write_safetensors(tmp_path / file, part)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    found = read_weights(tmp_path)
    assert_same({name: found[name] for name in weights}, weights)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "../secret.safetensors"}}))
    with pytest.raises(InputError, match="not a plain file name"):
        read_weights(tmp_path)


@pytest.mark.parametrize("file", ["model_state.pdparams", "pytorch_model.bin"])
def test_a_malicious_pickle_runs_nothing(tmp_path, file):
    (tmp_path / file).write_bytes(pickle.dumps({"x": Malicious(tmp_path / "was-here")}))
    with pytest.raises(InputError, match=r"mkdir.*nothing was run"):
        read_weights(tmp_path)
    assert not (tmp_path / "was-here").exists()


@needs("torch")
def test_a_malicious_pytorch_zip_runs_nothing(tmp_path):
    import torch

    torch.save({"x": Malicious(tmp_path / "was-here")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"mkdir.*nothing was run"):
        read_weights(tmp_path)
    assert not (tmp_path / "was-here").exists()


@needs("torch")
@pytest.mark.parametrize("geometry", [(0, (40,), (1,)), (30, (4,), (1,)), (0, (2, 2), (31, 1)), (-1, (2,), (1,))])
def test_a_tensor_cannot_reach_outside_its_storage(tmp_path, geometry):
    import torch

    class Forged:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (storage, *geometry, False, {})

    storage = torch.zeros(32).untyped_storage()
    storage = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
    torch.save({"x": Forged()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"beyond its storage|negative"):
        read_weights(tmp_path)


@pytest.mark.parametrize("file", WEIGHT_FILES)
@pytest.mark.parametrize("content", [b"", b"\x80\x04not a pickle", b"\x10\0\0\0\0\0\0\0{}"])
def test_damaged_files_are_named(tmp_path, file, content):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError, match=file) as error:
        read_weights(tmp_path)
    assert "\n" not in str(error.value)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(InputError, match="nowhere: no such"):
        read_weights(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no weights here"):
        read_weights(tmp_path)
