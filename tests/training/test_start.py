"""How training scripts begin: what the environment asks for, and that no run removes what it reads."""

import argparse

import pytest

from files.errors import InputError
from training.processes import Processes
from training.start import open_output, processes_of


@pytest.mark.parametrize(
    ("name", "value"), [("CONVBERT_KERNELS", "off"), ("CONVBERT_PRODUCTS", "mkl"), ("CONVBERT_PRODUCTS", "Paddle ")]
)
def test_the_environment_is_looked_at_first(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    args = argparse.Namespace(device="cpu", verbose=False, seed=1)
    with pytest.raises(InputError, match=f"{name}={value}: must be "), processes_of(args):
        raise AssertionError("begun")


def test_an_empty_value_is_none(monkeypatch):
    for name in ("CONVBERT_KERNELS", "CONVBERT_PRODUCTS"):
        monkeypatch.setenv(name, "")
    with processes_of(argparse.Namespace(device="cpu", verbose=False, seed=1)) as processes:
        assert processes.count == 1


def arguments(output, **flags):
    return argparse.Namespace(
        output_dir=str(output), resume=False, overwrite=True, report_to=None, visualdl_dir=None, **flags
    )


@pytest.fixture
def old(tmp_path):
    """The folder of an old run, with the task's data in its `last/`."""
    (tmp_path / "g/last/SST-2").mkdir(parents=True)
    (tmp_path / "g/last/SST-2/train.tsv").touch()
    (tmp_path / "g/SST-2").mkdir()
    (tmp_path / "g/SST-2/train.tsv").touch()
    (tmp_path / "g/predictions_dev.tsv").touch()
    (tmp_path / "g/config.json").write_text("{}")
    (tmp_path / "links/SST-2").mkdir(parents=True)
    (tmp_path / "links/SST-2/train.tsv").symlink_to("../../g/last/SST-2/train.tsv")
    (tmp_path / "folders").mkdir()
    (tmp_path / "folders/SST-2").symlink_to("../g/last/SST-2")
    return tmp_path


@pytest.mark.parametrize("data", ["g/last", "g/last/SST-2", "links", "links/SST-2", "folders"])
def test_the_data_of_a_task_stays(old, data):
    with pytest.raises(InputError, match=r"train\.tsv: a new run in --output_dir .*g would remove it"):
        open_output(arguments(old / "g", data_dir=str(old / data)), Processes())


@pytest.mark.parametrize("data", ["g", ".", "g/SST-2"])
def test_data_beside_what_a_run_writes_is_no_obstacle(old, data):
    open_output(arguments(old / "g", data_dir=str(old / data)), Processes())


def test_a_model_of_links_stays(old):
    (old / "model").mkdir()
    (old / "g/last/model.safetensors").touch()
    (old / "model/model.safetensors").symlink_to(old / "g/last/model.safetensors")
    with pytest.raises(InputError, match=r"model\.safetensors: a new run in"):
        open_output(arguments(old / "g", model_name_or_path=str(old / "model")), Processes())
