import collections
import json
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
from conftest import Malicious, needs

from files.errors import InputError
from files.weights import WEIGHT_FILES, is_hugging_face, read_names, read_weights, write_safetensors
from text.vocabulary import read_vocabulary


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


# ------------------------------------------------------------------------------------------- other tools' names, bombs

WORDS, HEAD = "embeddings.word_embeddings.weight", "classifier.weight"
NAMES = [  # as stored → as read
    ([f"module.convbert.{WORDS}", f"module.{HEAD}"], [f"convbert.{WORDS}", HEAD]),
    ([f"_orig_mod.convbert.{WORDS}", f"_orig_mod.{HEAD}"], [f"convbert.{WORDS}", HEAD]),
    ([f"model._orig_mod.module.bert.{WORDS}", f"model._orig_mod.module.{HEAD}"], [f"bert.{WORDS}", HEAD]),
    ([f"convbert._orig_mod.{WORDS}", HEAD], [f"convbert.{WORDS}", HEAD]),
    ([f"net.{WORDS}", "net.encoder.x"], [WORDS, "encoder.x"]),
    ([f"0.auto_model.{WORDS}"], [WORDS]),
    (
        [f"module.discriminator.convbert.{WORDS}", f"module.generator.convbert.{WORDS}"],
        [f"discriminator.convbert.{WORDS}", f"generator.convbert.{WORDS}"],
    ),
    (["bert.encoder.layer.0.output.LayerNorm.gamma", "LayerNorm.beta"],
     ["bert.encoder.layer.0.output.LayerNorm.weight", "LayerNorm.bias"]),
    # and what stays
    ([f"net.convbert.{WORDS}", "loss.weight"], None),
    ([f"roberta.{WORDS}", "roberta.encoder.x"], None),
    ([f"generator.convbert.{WORDS}", f"generator.{HEAD}"], None),
    ([f"discriminator.convbert.{WORDS}", f"generator.convbert.{WORDS}"], None),
    (["module.weight", "module.bias"], None),
    (["norm1.gamma", "x_orig_mod.y", WORDS], None),
]  # fmt: skip


@pytest.mark.parametrize(("stored", "read"), NAMES)
def test_names_of_wrappers_and_older_libraries(tmp_path, caplog, stored, read):
    write_safetensors(tmp_path / "model.safetensors", {name: np.full(3, i) for i, name in enumerate(stored)})
    found = {name: int(array[0]) for name, array in read_weights(tmp_path).items()}
    assert found == {name: i for i, name in enumerate(read or stored)}
    assert sorted(read_names(tmp_path).values()) == sorted(found)
    assert len(caplog.records) == (read is not None)
    if read:
        assert "is read as" in caplog.text


@needs("torch")
@pytest.mark.parametrize("file", ["pytorch_model.bin", "last.ckpt", "weights.pt"])
@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_a_checkpoint_of_a_training_tool(tmp_path, caplog, file, key):
    import torch

    state = collections.OrderedDict({f"model.convbert.{WORDS}": torch.randn(3, 2), f"model.{HEAD}": torch.randn(2)})
    moments = {"state": {0: {"exp_avg": torch.randn(3)}}, "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.999)}]}
    rest = {
        "epoch": 3,
        "pytorch-lightning_version": "2.5",
        "optimizer_states": [moments],
        "hyper_parameters": {"a": None},
    }
    torch.save({**rest, key: state}, tmp_path / file)
    expected = {f"convbert.{WORDS}": state[f"model.convbert.{WORDS}"].numpy(), HEAD: state[f"model.{HEAD}"].numpy()}
    assert_same(read_weights(tmp_path / file), expected)
    assert f"model.convbert.{WORDS} is read as convbert.{WORDS}" in caplog.text


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 405123456\n"


@pytest.mark.parametrize("file", [*WEIGHT_FILES, "vocab.txt", "tokenizer.json"])
def test_a_git_lfs_pointer_is_named_as_such(tmp_path, file):
    (tmp_path / file).write_bytes(POINTER)
    with pytest.raises(
        InputError, match=rf"{file}: a Git LFS pointer, not the file of 405,123,456 bytes .*git lfs pull"
    ):
        if file in WEIGHT_FILES:
            read_weights(tmp_path)
        else:
            read_vocabulary(tmp_path / file)


def torch_zip(path, content, storages, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("a/data.pkl", content)
        for name, data in storages.items():
            archive.writestr(f"a/data/{name}", data)


@needs("torch")
def test_a_compressed_member_is_refused_before_it_is_unpacked(tmp_path):
    import torch

    path = tmp_path / "pytorch_model.bin"
    torch.save({"x": torch.zeros(50_000_000, dtype=torch.uint8)}, path)
    with zipfile.ZipFile(path) as archive:
        pickled = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    torch_zip(path, pickled, {"0": bytes(50_000_000)}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    for read in (read_weights, read_names):
        with pytest.raises(InputError, match=r"pytorch_model\.bin: .*a member of its zip is compressed"):
            read(tmp_path)


def test_members_that_share_their_bytes_are_refused(tmp_path):
    """A zip bomb without compression: many members in one place."""
    path = tmp_path / "pytorch_model.bin"
    torch_zip(path, pickle.dumps({}), {str(number): bytes(10_000) for number in range(3)})
    content = path.read_bytes()
    directory = content.index(b"PK\1\2")
    entries = content[directory : content.index(b"PK\5\6")]
    count = 50
    one = entries[entries.rindex(b"PK\1\2") :]  # the last member, which others are said to lie on
    forged = entries + b"".join(one.replace(b"a/data/2", f"a/data{i:02}".encode()) for i in range(count))
    end = bytearray(content[content.index(b"PK\5\6") :])
    end[8:16] = struct.pack("<HHI", 4 + count, 4 + count, len(forged))
    path.write_bytes(content[:directory] + forged + bytes(end))
    with pytest.raises(InputError, match="the members of its zip are larger than the file"):
        read_weights(tmp_path)


@needs("torch")
def test_a_tensor_that_repeats_its_storage_beyond_measure_is_refused(tmp_path):
    import torch

    torch.save({"x": torch.zeros(1).expand(10_000_000)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="its tensors are larger than the file"):
        read_weights(tmp_path)
    table = torch.randn(100, 100)
    torch.save({"words": table, "output": table, "also": table}, tmp_path / "pytorch_model.bin")
    assert_same(read_weights(tmp_path), dict.fromkeys(("words", "output", "also"), table.numpy()))


@needs("torch")
@pytest.mark.parametrize("numel", [-1, 2**40, 10**18])
def test_an_old_pytorch_file_cannot_ask_for_more_than_it_has(tmp_path, numel):
    import torch

    path = tmp_path / "pytorch_model.bin"
    torch.save({"x": torch.zeros(7)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    path.write_bytes(content[:-36] + struct.pack("<q", numel) + content[-28:])
    with pytest.raises(InputError, match="a storage reaches beyond the end of the file"):
        read_weights(tmp_path)


HEADERS = [  # what is wrong with a safetensors header for 16 bytes of data
    {"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 8]}},
    {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}},
    {"a": {"dtype": "F32", "shape": [8], "data_offsets": [0, 32]}},
    {name: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} for name in "ab"},
    {"a": {"dtype": "F32", "shape": [-4], "data_offsets": [0, -16]}},
    {"a": {"dtype": "F13", "shape": [4], "data_offsets": [0, 16]}},
]  # fmt: skip


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_that_does_not_fit_its_file_is_refused(tmp_path, header):
    text = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(16))
    for read in (read_weights, read_names):
        with pytest.raises(InputError, match=r"model\.safetensors: damaged"):
            read(tmp_path)


def test_arrays_can_be_changed_and_outlive_the_file(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", {"odd": np.arange(3, dtype="i1"), "a": np.arange(4.0)})
    found = read_weights(tmp_path)
    with open(tmp_path / "model.safetensors", "r+b") as file:
        file.truncate(0)
    found["a"][0] = 7
    np.testing.assert_array_equal(found["a"], [7, 1, 2, 3])
    assert all(array.flags.aligned for array in found.values())


@pytest.mark.parametrize("kind", ["model.safetensors", "pytorch_model.bin", "model.safetensors.index.json"])
def test_names_are_read_without_the_weights(tmp_path, kind):
    """The file is 10 GB, which nothing here could hold."""
    size = 10 * 2**30
    if kind == "model.safetensors":
        entry = {"encoder.layer.0.x": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}
        text = json.dumps(entry).encode()
        (tmp_path / kind).write_bytes(struct.pack("<Q", len(text)) + text)
        os.truncate(tmp_path / kind, 8 + len(text) + size)
    elif kind == "pytorch_model.bin":
        pytest.importorskip("torch")
        sparse_torch_file(tmp_path / kind, "encoder.layer.0.x", size)
    else:
        (tmp_path / kind).write_text(json.dumps({"weight_map": {"encoder.layer.0.x": "not-there.safetensors"}}))
    assert is_hugging_face(read_names(tmp_path))


def sparse_torch_file(path, name, size):
    """In PyTorch's old layout: one float32 tensor of `size` bytes, which take no room on the disk."""
    import torch

    torch.save({name: torch.zeros(7)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    path.write_bytes(content[:-36] + struct.pack("<q", size // 4))
    os.truncate(path, len(content) - 28 + size)


@pytest.mark.parametrize("file", ["model_state.pdparams", "pytorch_model.bin"])
def test_a_pickle_cannot_ask_for_room_that_it_does_not_fill(tmp_path, file):
    """A few bytes that make Python's own reader fill 2 GB."""
    (tmp_path / file).write_bytes(b"\x80\x02}r" + struct.pack("<I", 2**27) + b".")
    with pytest.raises(InputError, match=r"it numbers an object 134,217,728; nothing was run"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [("..", "plain file name"), (".", "plain file name"), ("", "plain file name"), ("a/../b", "plain file name"),
     ("model.safetensors.index.json", "names itself as a shard"), ("b.index.json", "names another index")],
)  # fmt: skip
def test_an_index_names_files_beside_it(tmp_path, name, message):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": name}}))
    for read in (read_weights, read_names):
        with pytest.raises(InputError, match=rf"model\.safetensors\.index\.json: .*{message}"):
            read(tmp_path)


def test_what_is_cut_off_or_of_an_unknown_type_is_named_so(tmp_path):
    torch_zip(tmp_path / "pytorch_model.bin", b"\x80\x02}.", {"0": bytes(1000)})
    whole = (tmp_path / "pytorch_model.bin").read_bytes()
    (tmp_path / "pytorch_model.bin").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "three.safetensors").write_bytes(b"abc")
    header = b'{"x": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}'
    (tmp_path / "eight.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"1")
    for file, message in [
        ("pytorch_model.bin", "cut off"), ("three.safetensors", "cut off"),
        ("eight.safetensors", "x: type F8_E4M3 is not read here"),
    ]:  # fmt: skip
        for read in (read_weights, read_names):
            with pytest.raises(InputError, match=f"{file}: .*{message}"):
                read(tmp_path / file)
