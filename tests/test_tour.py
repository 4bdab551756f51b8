"""docs/tour.ipynb: it runs as it stands, and what it holds of its outputs is small and of no machine."""

import json
import re

import pytest
from conftest import ROOT, needs

PATH = ROOT / "docs/tour.ipynb"


def outputs(cells):
    """The text that code cells print, and the pictures that they show."""
    found = [output for cell in cells if cell["cell_type"] == "code" for output in cell["outputs"]]
    words = ["".join(output.get("text", ())) for output in found if output.get("name") == "stdout"]
    return "".join(words), [output for output in found if "image/png" in output.get("data", {})]


def check(cells):
    words, pictures = outputs(cells)
    assert float(re.search(r"largest difference of a logit: (\S+)\n", words)[1]) < 1e-5
    assert re.search(r"^positive 0\.\d+$", words, flags=re.M)
    assert words.splitlines()[-1] == "negative"
    assert len(pictures) == 1


def test_what_it_holds():
    content = PATH.read_text("utf-8")
    assert len(content) < 200_000
    assert not re.search(r"/(home|root|tmp|work)/", content)
    cells = json.loads(content)["cells"]
    check(cells)
    names = {output.get("name") for cell in cells for output in cell.get("outputs", ())}
    assert "stderr" not in names


@pytest.mark.slow
@needs("nbclient", "ipykernel", "torch", "transformers")
def test_it_runs():
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(PATH, 4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(PATH.parent)}}).execute()
    check(notebook.cells)
