"""The library of float32 products belongs to a run: it is kept when the run goes on."""

import pytest
from conftest import needs_onednn
from test_run_glue import command, tiny  # noqa: F401  (a fixture)

import run_glue
from cpu import products
from files.json_files import read_json
from training.precision import settle_products
from training.processes import Processes

pytestmark = needs_onednn()


@pytest.fixture
def undecided(monkeypatch):
    monkeypatch.setattr(products, "_chosen", None)
    monkeypatch.delenv("CONVBERT_PRODUCTS", raising=False)


@pytest.mark.parametrize("way", products.WAYS)
def test_a_run_keeps_what_it_was_begun_with(undecided, monkeypatch, tiny, tmp_path, way):  # noqa: F811
    def run(*more, **flags):
        monkeypatch.setattr(products, "_chosen", None)  # as in a new process
        arguments = command(tiny, tmp_path, task_name="RTE", save_steps=2, device="cpu", **flags)
        assert run_glue.main([*arguments, *more]) == 0
        facts = read_json(tmp_path / "results.json")
        assert read_json(tmp_path / "last/training_state.json")["products"] == facts["products"] == way
        assert facts["machine"]["products"] == way

    monkeypatch.setenv("CONVBERT_PRODUCTS", way)
    run(max_steps=2)
    monkeypatch.delenv("CONVBERT_PRODUCTS")
    monkeypatch.setattr(products, "_faster", lambda: products.WAYS[way == "paddle"])  # what the race would say today
    run("--resume", max_steps=4)


def test_without_compiled_loops_there_is_nothing_to_choose(undecided, monkeypatch):
    monkeypatch.setenv("CONVBERT_KERNELS", "paddle")
    assert settle_products(None, Processes()) is None
    assert settle_products("onednn", Processes()) == "onednn"  # kept for who goes on with them
    assert products._chosen is None
