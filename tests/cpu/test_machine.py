import runtime

import pytest

from cpu.machine import has_bfloat16, processor_name


def test_the_processor_has_a_name(monkeypatch):
    assert processor_name()
    monkeypatch.setattr(runtime, "processor", lambda: {"model name": "Some CPU"})
    assert processor_name() == "Some CPU"


@pytest.mark.parametrize(
    ("flags", "expected"), [("sse avx512_bf16", True), ("amx_bf16", True), ("sse2 avx512f", False), ("", False)]
)
def test_instructions_for_bfloat16(monkeypatch, flags, expected):
    monkeypatch.setattr(runtime, "processor", lambda: {"flags": flags} if flags else {})
    assert has_bfloat16() is expected
