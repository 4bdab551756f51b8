"""The flags that training scripts share, each defined once, with its check, in the groups that --help shows.

Every function adds flags to a parser and returns their group, for the script's own. What a script wants otherwise it
says by the flag's name: `add_training(parser, num_train_epochs=dict(default=4))`.
"""

import argparse
import math

from flags.command_line import FLAG, at_least, from_zero, within
from flags.computing import add_device, add_precision

TRACKERS = "tensorboard", "visualdl", "wandb", "swanlab"  # also the names of their packages
EPOCH = "epoch"  # in place of a number of steps
STABLE = "warmup_stable_decay"  # the schedule that knows --decay_steps
SCHEDULES = "linear", "cosine", "constant", STABLE


def _steps(text):
    """The type of --max_steps."""
    value = int(text)
    if value < 1 and value != -1:
        raise argparse.ArgumentTypeError(f"must be at least 1, or -1 for all of --num_train_epochs, not {value}")
    return value


_steps.__name__ = "int"


def _every(text):
    """The type of flags that say after how many steps something comes."""
    if text == EPOCH:
        return text
    try:
        steps = int(text)
    except ValueError:
        steps = 0
    if steps < 1:
        raise argparse.ArgumentTypeError(f"must be a number of steps from 1, or {EPOCH}, not {text}")
    return steps


_every.__name__ = "int"


def _epochs(text):
    """The type of --num_train_epochs; whole ones stay whole."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, not {text}")
    return int(value) if value.is_integer() else value


_epochs.__name__ = "float"


class _Group:
    """Adds flags to a group of a parser, with a script's own settings for some of them."""

    def __init__(self, group, own):
        self._group, self._own = group, own

    def __call__(self, *names, **settings):
        self._group.add_argument(*names, **{**settings, **self._own.pop(names[0].removeprefix("--"), {})})

    def end(self):
        assert not self._own, f"no such flags: {self._own}"
        return self._group


def add_model(parser, model_types, **own):
    flag = _Group(parser.add_argument_group("model"), own)
    flag("--model_type", default="convbert", choices=model_types, type=str.lower, help="architecture")
    flag("--model_name_or_path", "--model_name", default="convbert-small", help="a name or a checkpoint folder")
    flag("--vocab_file", help="vocabulary; left out, the model's own")
    stored = "left out: as stored with the vocabulary, else"
    flag("--do_lower_case", action=FLAG, help=f"lower-case texts; {stored} yes")
    flag("--strip_accents", action=FLAG, help=f"remove accents; {stored} as --do_lower_case")
    flag("--tokenize_chinese_chars", action=FLAG, help=f"make each Chinese character a word; {stored} yes")
    flag("--mask_conv_padding", action=FLAG, help="convolutions do not see padding; left out, as the model says")
    return flag.end()


def add_fine_tuned_model(parser, model_types):
    """To add_model, where a fine-tuning may begin."""
    names = "published model, checkpoint folder (ours, PaddleNLP's, Hugging Face's), hf:OWNER/NAME or ms:OWNER/NAME"
    group = add_model(parser, model_types, model_name_or_path=dict(help=names))
    group.add_argument("--init_from", metavar="FOLDER", help="fine-tuned model, MNLI's say, to start from; head anew")
    group.add_argument("--from_scratch", action=FLAG, default=False, help="take the configuration, start at random")
    return group


def add_training(parser, **own):
    flag = _Group(parser.add_argument_group("training"), own)
    flag("--gradient_accumulation_steps", type=at_least(1), default=1, help="batches per step")
    flag("--learning_rate", type=from_zero, default=1e-4, help="highest learning rate of AdamW")
    flag(
        "--lr_scheduler_type", choices=SCHEDULES, default=SCHEDULES[0], help="how it falls after warm-up"
    )  # fmt: skip
    flag("--decay_steps", type=at_least(1), help=f"last steps, in which {STABLE} falls; left out: a tenth of all")
    flag("--num_train_epochs", type=_epochs, default=3, help="passes over the training data; may have a fraction")
    flag("--max_steps", type=_steps, default=-1, help="steps in all; overrides --num_train_epochs; -1: does not")
    flag("--warmup_steps", type=at_least(0), default=0, help="steps that warm up; overrides the share")
    flag("--weight_decay", type=from_zero, default=0.0, help="decay of all but biases and norms")
    flag("--adam_epsilon", type=from_zero, default=1e-6, help="epsilon of AdamW")
    flag("--tf_compat", action=FLAG, default=False, help="learn as the paper's code does")
    flag("--max_grad_norm", type=from_zero, default=0.0, help="longer gradients are cut to it; 0: never")
    flag("--max_train_samples", type=at_least(1), help="take only so many examples, the first of the file")
    flag("--max_eval_samples", type=at_least(1), help="the same for every evaluation")
    flag("--eval_batch_size", type=at_least(1), help="examples at a time in evaluations; left out, as in training")
    flag("--recompute", action=FLAG, default=False, help="less memory: layers run again in backward")
    flag("--seed", type=at_least(0), default=42, help="starting point of everything random")
    group = flag.end()
    add_precision(group)
    return group


def check_training(parser, args):
    """Ends with a line where flags of add_model and add_training contradict each other."""
    if args.mask_conv_padding is not None and args.model_type != "convbert":
        parser.error(f"--mask_conv_padding is for convolutions; --model_type {args.model_type} has none")
    if args.decay_steps and args.lr_scheduler_type != STABLE:
        parser.error(f"--decay_steps is for --lr_scheduler_type {STABLE}")


def add_fine_tuning(group, **own):
    """To the group of add_training, what only fine-tuning knows."""
    flag = _Group(group, own)
    flag("--do_train", action=FLAG, default=True, help="train; without, only evaluate")
    flag("--batch_size", type=at_least(1), default=32, help="examples per step and process")
    flag("--warmup_proportion", type=within("[0, 1]"), default=0.1, help="share of the steps that warm up")
    flag("--layer_lr_decay", type=within("(0, 1]"), default=1.0, help="learning rate by the next layer's")
    flag("--early_stopping_patience", type=at_least(0), default=0, help="evaluations without a new best")
    flag("--bucket", action=FLAG, default=True, help="batches of texts of similar length")
    return flag.end()


def add_output(parser, **own):
    """And --device, which belongs to no group."""
    flag = _Group(parser.add_argument_group("output"), own)
    flag("--output_dir", required=True, help="folder for model and results")
    flag("--logging_steps", type=at_least(1), default=100, help="steps between log lines")
    flag("--logging_first_step", action=FLAG, default=False, help="the first step has a line, too")
    flag("--save_steps", type=_every, help="steps between savings of output_dir/last, or epoch; left out, by the clock")
    flag("--save_minutes", type=from_zero, default=15.0, help="minutes after which that is saved anyway; 0: never")
    flag("--eval_steps", type=_every, help="steps between evaluations, or epoch; left out, --save_steps, else 100")
    flag("--keep_checkpoints", type=at_least(0), default=0, help="how many checkpoint-STEP/ of --save_steps to keep")
    trackers = "who is told of the figures while the run goes on, below output_dir/logs; several are possible"
    trackers += f": {', '.join(TRACKERS)}"
    flag("--report_to", nargs="+", choices=[*TRACKERS, "none"], metavar="TRACKER", help=trackers)
    flag("--visualdl_dir", help="folder for VisualDL's log")
    flag("--resume", action=FLAG, default=False, help="go on from output_dir/last")
    flag("--verbose", action=FLAG, default=False, help="say why the process is set up as it is")
    flag("--overwrite", action=FLAG, default=False, help="allow an output_dir that is not empty")
    add_device(parser)
    return flag.end()
