import numpy as np

from training.facts import run_facts


def test_facts_are_plausible():
    facts = run_facts()
    assert facts["versions"]["numpy"] == np.__version__
    assert 50 < facts["peak_memory_mb"] < 100_000
    assert facts["machine"]["cores"] >= 1
