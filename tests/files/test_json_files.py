import json

import numpy as np
import pytest

from files.errors import InputError
from files.json_files import read_json, write_json


def test_json_errors_name_the_line(tmp_path):
    (tmp_path / "config.json").write_text('{"a": 1,\n "b": }')
    with pytest.raises(InputError, match=r"config\.json, line 2: not JSON"):
        read_json(tmp_path / "config.json")
    (tmp_path / "config.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(InputError, match="not UTF-8"):
        read_json(tmp_path / "config.json")


def test_what_is_written_is_json(tmp_path):
    content = {"a": float("nan"), "b": [1.5, float("-inf")], "c": ({"d": np.float64("inf")},), "e": "NaN"}
    write_json(tmp_path / "a.json", content)
    text = (tmp_path / "a.json").read_text("utf-8")
    found = json.loads(text, parse_constant=pytest.fail)
    assert found == {"a": None, "b": [1.5, None], "c": [{"d": None}], "e": "NaN"}
