import pytest

from flags.command_line import ArgumentParser
from flags.training import add_fine_tuning, add_model, add_output, add_training


def test_scripts_change_defaults_and_words_by_a_flag_s_name(capsys):
    parser = ArgumentParser("Trains.")
    add_model(parser, ["convbert"], vocab_file=dict(help="words, one a line"))
    group = add_training(parser, num_train_epochs=dict(default=4), warmup_steps=dict(default=None))
    add_fine_tuning(group, batch_size=dict(default=8))
    add_output(parser)
    args = parser.parse_args(["--output_dir", "out"])
    assert (args.num_train_epochs, args.warmup_steps, args.batch_size, args.device) == (4, None, 8, None)
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    assert "words, one a line" in capsys.readouterr().out


def test_a_flag_that_is_not_there_can_t_be_changed():
    with pytest.raises(AssertionError, match="num_epochs"):
        add_training(ArgumentParser("Trains."), num_epochs=dict(default=4))
