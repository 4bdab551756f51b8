"""Flags of every script that computes: what it computes in, on which device, and how texts become batches."""

from flags.command_line import FLAG, at_least

AS_TRAINED = "longer texts are cut to this many tokens; left out: to as many as in training, else the model's positions"


def add_length(group, smallest=3, default=128, help="longer texts are cut to this many tokens"):
    group.add_argument("--max_seq_length", type=at_least(smallest), default=default, help=help)


def add_precision(group):
    group.add_argument("--amp", choices=["O1", "O2"], help="O1: matrix products in --amp_dtype; O2: weights too")
    group.add_argument("--amp_dtype", choices=["bfloat16", "float16"], default="bfloat16", help="type for --amp")


def add_dtype(group):
    group.add_argument(
        "--dtype", choices=["float32", "bfloat16", "int8"],
        help="what products are of when nothing is trained; left out: float32, or as --amp says",
    )  # fmt: skip


def add_device(parser, default="gpu or the like where there is one, else cpu"):
    parser.add_argument("--device", help=f"gpu, gpu:1, cpu, xpu, npu, … that this Paddle has; left out, {default}")


def add_inference(parser, split_special_tokens=None):
    """All that a script needs to answer texts with a fine-tuned model."""
    add_length(parser, default=None, help=AS_TRAINED)
    parser.add_argument(
        "--split_special_tokens", action=FLAG, default=split_special_tokens,
        help="[SEP], [MASK] and the like in a text are words like any, not the model's tokens"
        + ("" if split_special_tokens else "; left out: as the folder says"),
    )  # fmt: skip
    parser.add_argument("--batch_size", type=at_least(1), default=32, help="texts that are computed together")
    add_precision(parser)
    add_dtype(parser)
    add_device(parser)
