import pytest

from files.errors import InputError
from files.json_files import read_json


def test_json_errors_name_the_line(tmp_path):
    (tmp_path / "config.json").write_text('{"a": 1,\n "b": }')
    with pytest.raises(InputError, match=r"config\.json, line 2: not JSON"):
        read_json(tmp_path / "config.json")
    (tmp_path / "config.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(InputError, match="not UTF-8"):
        read_json(tmp_path / "config.json")
