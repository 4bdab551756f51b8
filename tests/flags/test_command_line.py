import os
import subprocess
import sys

import pytest
from conftest import ROOT

from files.errors import InputError
from flags.command_line import ArgumentParser, at_least, from_zero, script, within


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
        "import sys; from flags.command_line import script\n"
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


@pytest.mark.parametrize(
    ("kind", "good", "bad", "message"),
    [
        (at_least(1), ["1", "300"], ["0", "-3"], "must be at least 1, not 0"),
        (from_zero, ["0", "1e-4"], ["-1", "nan", "inf"], "must be a number from 0, not -1.0"),
        (within("[0, 1)"), ["0", "0.999"], ["1", "-0.1", "nan"], "must lie in [0, 1), not 1.0"),
        (within("(0, 1]"), ["1", "1e-9"], ["0", "1.1"], "must lie in (0, 1], not 0.0"),
    ],
)
def test_numbers_have_their_limits(capsys, kind, good, bad, message):
    parser = ArgumentParser("Does something.")
    parser.add_argument("--number", "--alias", type=kind)
    for text in good:
        assert parser.parse_args(["--number", text]).number == float(text)
    for text in [*bad, "many", "0x1"]:
        with pytest.raises(SystemExit):
            parser.parse_args(["--alias", text])
        printed = capsys.readouterr().err
        assert printed.count("\n") == 1
        if text == bad[0]:
            assert f"--number {message} (see --help)" in printed
