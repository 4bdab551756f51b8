import os
import subprocess
import sys

import pytest
from conftest import ROOT

from files.errors import InputError
from flags.command_line import ArgumentParser, script


def test_help_shows_defaults_and_nothing_where_there_is_none(capsys):
    parser = ArgumentParser("Does something.")
    parser.add_argument("--rate", type=float, default=0.5, help="how fast")
    parser.add_argument("--input", required=True, help="what to read")
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    printed = capsys.readouterr().out
    assert "how fast (default: 0.5)" in printed
    assert "None" not in printed


def test_a_wrong_flag_is_one_line(capsys):
    parser = ArgumentParser("Does something.")
    parser.add_argument("--rate", type=float)
    for arguments in (["--rate", "x"], ["--rat", "1"]):  # no abbreviations: a typo must not pass
        with pytest.raises(SystemExit) as error:
            parser.parse_args(arguments)
        assert error.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_exit_statuses(capsys):
    @script
    def main(argv=None):
        if isinstance(argv, BaseException):
            raise argv
        return argv

    assert main() == 0
    assert main(1) == 1
    assert main(InputError("file, line 3: wrong")) == 2
    assert capsys.readouterr().err.endswith(": file, line 3: wrong\n")
    assert main(KeyboardInterrupt()) == 130
    capsys.readouterr()
    assert main(PermissionError(13, "Permission denied", "/somewhere")) == 2
    assert main(OSError(28, "No space left on device")) == 2
    assert capsys.readouterr().err.splitlines()[0].endswith(": Permission denied: /somewhere")
    with pytest.raises(OSError, match="inside backward"):
        main(OSError("inside backward"))  # how Paddle reports an exception in a gradient
    with pytest.raises(ZeroDivisionError):  # a defect keeps its traceback
        main(ZeroDivisionError())


def test_a_reader_that_goes_away_is_no_error():
    code = (
        "import sys; from command_line import script\n"
        "@script\n"
        "def main(argv=None):\n"
        "    for _ in range(100000): print('x' * 100)\n"
        "sys.exit(main())"
    )
    reading, writing = os.pipe()
    os.close(reading)
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert run.returncode == 0
    assert run.stderr == b""
