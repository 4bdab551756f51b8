"""Pre-trains ConvBERT on raw text: replaced-token detection as in ELECTRA, or masked words alone.

    python run_pretrain.py --input_dir TEXTS --model_name_or_path convbert-small --output_dir output/pretraining

Text becomes a store of tokens in `data/` of `--output_dir`, once. Every `--save_steps` steps and at the last one the
model is evaluated on held-out documents and saved: `discriminator/` for fine-tuning, `generator/`, and `last/` with all
that `--resume` needs.

Paddle and what needs it are imported inside functions: `--help` and a wrong flag answer at once.
"""

import runtime  # noqa: F401  (before Paddle)

import argparse
import functools
import math
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from files.errors import InputError
from files.json_files import write_json
from flags.command_line import ArgumentParser, script
from layers.configuration import PRESETS, ConvBertConfig

LONGEST_WARMUP = 10_000  # steps, when --warmup_steps is left out
RATES = {"convbert-tiny": 1e-3, "convbert-small": 3e-4, "convbert-medium-small": 5e-4, "convbert-base": 2e-4}
BATCHES = {"convbert-tiny": 32, "convbert-small": 128, "convbert-medium-small": 128, "convbert-base": 256}
SIZES = (
    "embedding_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "num_groups",
    "conv_kernel_size", "head_ratio",
)  # fmt: skip
EVALUATED = 2048  # held-out examples that an evaluation looks at, at most
AT_A_TIME = 32  # of them; the same in every run, for their masks depend on it


def make_parser():
    parser = ArgumentParser("Pre-train ConvBERT on raw text.")
    flag = argparse.BooleanOptionalAction

    model = parser.add_argument_group("model")
    model.add_argument("--model_type", default="convbert", choices=["convbert"], type=str.lower, help="architecture")
    model.add_argument(
        "--model_name_or_path", "--model_name", default="convbert-small",
        help="a size, which starts at random, or a checkpoint folder or hf:OWNER/NAME to go on from",
    )  # fmt: skip
    model.add_argument(
        "--init_from_ckpt", action=flag, default=True, help="take a folder's weights; without, its sizes"
    )
    model.add_argument("--vocab_file", help="vocabulary; left out, the model's own")
    model.add_argument("--do_lower_case", action=flag, default=True, help="lower-case texts, with --vocab_file")
    model.add_argument("--strip_accents", action=flag, help="with --vocab_file; left out: as --do_lower_case")
    model.add_argument("--generator_size", type=float, help="generator by discriminator; left out, the size's own")
    model.add_argument("--mlm_only", action=flag, default=False, help="no discriminator: the model itself fills masks")
    model.add_argument("--dropout", type=float, help="of this run; saved settings keep their own")
    model.add_argument("--mask_conv_padding", action=flag, help="convolutions do not see padding")

    data = parser.add_argument_group("data")
    data.add_argument(
        "--input_dir", "--input", nargs="+", metavar="PATH",
        help="text: files, folders or patterns; .txt or JSON lines, also .gz",
    )  # fmt: skip
    data.add_argument("--max_seq_length", type=int, default=128, help="tokens of an example")
    data.add_argument("--data_store", help="folder for the tokens; left out, data/ in --output_dir")
    data.add_argument("--validation_share", type=float, default=0.005, help="documents that are held out")
    data.add_argument("--prepare_only", action=flag, default=False, help="make the store of tokens and stop")

    task = parser.add_argument_group("objective")
    task.add_argument("--mask_prob", type=float, default=0.15, help="share of the tokens that are masked")
    task.add_argument("--whole_word_masking", action=flag, default=False, help="words are masked as a whole")
    task.add_argument("--masking", choices=["electra", "bert"], default="electra", help="85/0/15 or 80/10/10")
    task.add_argument("--gen_weight", type=float, default=1.0, help="weight of the generator's loss")
    task.add_argument("--disc_weight", type=float, default=50.0, help="weight of the discriminator's loss")

    training = parser.add_argument_group("training")
    training.add_argument("--train_batch_size", "--batch_size", type=int, help="examples per step and process")
    training.add_argument("--gradient_accumulation_steps", type=int, default=1, help="batches per step")
    training.add_argument("--learning_rate", type=float, help="highest learning rate; left out, the size's own")
    training.add_argument("--lr_scheduler_type", choices=["linear", "cosine", "constant"], default="linear",
                          help="how it falls after warm-up")  # fmt: skip
    training.add_argument("--num_train_epochs", type=int, default=4, help="passes over the text")
    training.add_argument("--max_steps", type=int, default=-1, help="steps in all; overrides --num_train_epochs")
    training.add_argument("--warmup_steps", type=int, help="left out: a tenth of the steps, at most 10,000")
    training.add_argument("--weight_decay", type=float, default=1e-2, help="decay of all but biases and norms")
    training.add_argument("--adam_epsilon", type=float, default=1e-6, help="epsilon of AdamW")
    training.add_argument("--tf_compat", action=flag, default=False, help="learn as the paper's code does")
    training.add_argument("--max_grad_norm", type=float, default=1.0, help="longer gradients are cut to it; 0: never")
    training.add_argument("--amp", choices=["O1", "O2"], help="O1: matrix products in --amp_dtype; O2: weights too")
    training.add_argument("--amp_dtype", choices=["bfloat16", "float16"], default="bfloat16", help="type for --amp")
    training.add_argument("--recompute", action=flag, default=False, help="less memory: layers run again in backward")
    training.add_argument("--seed", type=int, default=42, help="starting point of everything random")

    output = parser.add_argument_group("output")
    output.add_argument("--output_dir", required=True, help="folder for models and figures")
    output.add_argument("--logging_steps", type=int, default=100, help="steps between log lines")
    output.add_argument("--save_steps", type=int, default=10_000, help="steps between evaluations, each of which saves")
    output.add_argument("--keep_checkpoints", type=int, default=0, help="how many checkpoint-STEP/ to keep")
    output.add_argument("--visualdl_dir", help="folder for VisualDL's log")
    output.add_argument("--resume", action=flag, default=False, help="go on from output_dir/last")
    output.add_argument("--verbose", action=flag, default=False, help="say why the process is set up as it is")
    output.add_argument("--overwrite", action=flag, default=False, help="allow an output_dir that is not empty")

    parser.add_argument("--device", help="gpu, gpu:1, cpu or xpu; left out, gpu where there is one, else cpu")
    return parser


POSITIVE = (
    "max_seq_length", "train_batch_size", "gradient_accumulation_steps", "num_train_epochs", "logging_steps",
    "save_steps",
)  # fmt: skip
NOT_NEGATIVE = (
    "learning_rate", "warmup_steps", "weight_decay", "adam_epsilon", "max_grad_norm", "gen_weight", "disc_weight",
    "keep_checkpoints", "seed",
)  # fmt: skip


def parse_args(argv):
    parser = make_parser()
    args = parser.parse_args(argv)
    if not args.input_dir:
        parser.error("--input_dir: give text files, or folders of them")
    for name, smallest in [*((name, 1) for name in POSITIVE), *((name, 0) for name in NOT_NEGATIVE)]:
        value = getattr(args, name)
        if value is not None and not smallest <= value < math.inf:
            parser.error(f"--{name} must be a number from {smallest}, not {value}")
    if args.max_seq_length < 8:
        parser.error(f"--max_seq_length must be at least 8, not {args.max_seq_length}")
    for name, highest in (("mask_prob", 0.9), ("validation_share", 0.5)):
        if not 0 < getattr(args, name) <= highest:
            parser.error(f"--{name} must lie in (0, {highest}], not {getattr(args, name)}")
    if args.dropout is not None and not 0 <= args.dropout < 1:
        parser.error(f"--dropout must lie in [0, 1), not {args.dropout}")
    if args.generator_size is not None and not 0 < args.generator_size <= 1:
        parser.error(f"--generator_size must lie in (0, 1], not {args.generator_size}")
    return args


# -------------------------------------------------------------------------------------------------------------- model


def choose_tokenizer(args, source):
    from tasks.classifiers import load_tokenizer
    from tokenizer import ConvBertTokenizer

    if args.vocab_file:
        return ConvBertTokenizer(args.vocab_file, args.do_lower_case, args.strip_accents)
    return load_tokenizer("convbert", source)


def generator_config(config, size):
    """A generator for a discriminator: its published one, or one whose width and heads are `size` of it."""

    def sizes(config):
        return {name: getattr(config, name) for name in SIZES}

    for name in RATES:
        if size is None and sizes(config) == sizes(ConvBertConfig.from_preset(name)):
            published = sizes(ConvBertConfig.from_preset(f"{name}-generator"))
            return replace(config, **published, num_labels=2, label_names=None)
    size = size or 0.25
    heads = max(1, int(config.num_attention_heads * size))
    width = max(1, round(config.hidden_size * size / heads)) * heads
    inner = max(1, round(config.intermediate_size * size / config.num_groups)) * config.num_groups
    return replace(
        config, hidden_size=width, num_attention_heads=heads, intermediate_size=inner, num_labels=2, label_names=None
    )


def build_model(args, source, tokenizer, weights):
    """What is trained: a generator and a discriminator, or with --mlm_only a ConvBertGenerator of the full size.

    weights: whether it goes on from those of the folder `source`.
    """
    from modeling import ConvBertDiscriminator, ConvBertForPretraining, ConvBertGenerator

    changes = {} if args.mask_conv_padding is None else {"mask_conv_padding": args.mask_conv_padding}
    if not weights:
        changes |= dict(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
        config = ConvBertConfig.from_pretrained(source, **changes)
        if args.mlm_only:
            return ConvBertGenerator(config)
        return ConvBertForPretraining(config, generator_config(config, args.generator_size))

    if args.mlm_only:
        model = ConvBertGenerator.from_pretrained(source, **changes)
    else:
        discriminator = ConvBertDiscriminator.from_pretrained(source, **changes)
        config = discriminator.config
        stored = find_generator(source)
        if stored and (args.generator_size is None or stored == Path(source).resolve()):
            generator = ConvBertGenerator.from_pretrained(stored, **changes)
        else:
            print(f"{source}: no generator there; a new one starts at random", file=sys.stderr)
            generator = ConvBertGenerator(generator_config(config, args.generator_size))
        model = ConvBertForPretraining(config, generator.config, parts=(discriminator, generator))
    if len(tokenizer) > model.config.vocab_size:
        raise InputError(f"the vocabulary has {len(tokenizer)} entries, but {source} only {model.config.vocab_size}")
    return model


def find_generator(source):
    """The folder of the generator that belongs to the discriminator in a folder; None if it isn't there."""
    from files.json_files import read_json

    source = Path(source).resolve()
    if "generator_config" in read_json(source / "config.json"):
        return source  # both in one
    found = source.parent / "generator" if source.name == "discriminator" else source / "generator"
    return found if (found / "config.json").is_file() else None


# ----------------------------------------------------------------------------------------------------------- training


class Run(NamedTuple):
    """What stays the same from the first step to the last."""

    args: argparse.Namespace
    objective: Any  # objective.Objective
    tokenizer: Any
    segments: Any  # pretraining_data.Segments
    held_out: Any
    output: Path
    precision: Any  # precision.Precision
    processes: Any  # processes.Processes

    @property
    def model(self):
        return self.objective.model

    def save_model(self, folder):
        self.model.save_pretrained(str(folder))
        self.tokenizer.save_pretrained(folder)

    def save_parts(self):
        """The models that people use, each in a folder of its own."""
        from files.atomic import atomic_folder

        for name, part in self.objective.parts().items():
            with atomic_folder(self.output / name) as folder:
                part.save_pretrained(str(folder))
                self.tokenizer.save_pretrained(folder)


def backward(run, numbers, step):
    """Gradients of the loss of a step's examples, averaged over all processes. → loss and sums, the same in each."""
    from training.order import seed_step

    objective, processes, size = run.objective, run.processes, run.args.train_batch_size
    seed_step(run.args.seed, step, processes.rank)
    batch = objective.batch(run.segments, numbers, run.args.seed, step)  # the whole in every process, masks and all
    pieces = processes.share(np.split(np.arange(len(numbers)), range(size, len(numbers), size)))
    total, sums = 0.0, objective.no_sums()
    with run.precision.context():
        for rows in pieces or [np.arange(0)]:
            loss, more = objective(batch, rows, processes.count)
            run.precision.backward(loss)
            total += float(loss)
            sums += more
    processes.average_gradients(run.model.parameters())
    return float(processes.add(total)) / processes.count, np.asarray(processes.add(sums), np.float64)


def evaluate(run):
    """What is logged, on the held-out examples, with the same masks every time, whatever the run."""
    import paddle

    count = min(len(run.held_out), EVALUATED)
    size, sums = AT_A_TIME, run.objective.no_sums()
    numbers = np.linspace(0, len(run.held_out) - 1, count).astype(int)
    batches = list(enumerate(np.split(numbers, range(size, count, size))))
    run.model.eval()
    with run.precision.context(), paddle.no_grad():
        for index, examples in run.processes.share(batches):
            batch = run.objective.batch(run.held_out, examples, 0, index)
            sums += run.objective(batch, np.arange(len(examples)))[1]
    run.model.train()
    return run.objective.metrics(run.processes.add(sums))


def train(run, last=None):
    """The loop, from the start or from the folder `last` of a stopped run. Returns the run's state."""
    from pretraining.curves import draw_pretraining
    from pretraining.segments import shuffled
    from training.curves import Curves
    from training.log import log, progress
    from training.loop import is_number
    from training.optimizer import adamw, learning_rates
    from training.run_folder import load_state

    args, model, writes = run.args, run.model, run.processes.writes
    batch_size = args.train_batch_size * args.gradient_accumulation_steps * run.processes.count
    steps_per_epoch = -(-len(run.segments) // batch_size)
    total_steps = args.max_steps if args.max_steps > 0 else steps_per_epoch * args.num_train_epochs
    warmup_steps = min(LONGEST_WARMUP, total_steps // 10) if args.warmup_steps is None else args.warmup_steps
    schedule = learning_rates(
        args.lr_scheduler_type, args.learning_rate, total_steps, warmup_steps, decay_in_warmup=args.tf_compat
    )
    optimizer = adamw(
        model, schedule, args.weight_decay, args.adam_epsilon, args.max_grad_norm, tf_compat=args.tf_compat
    )
    run.precision.prepare(model, optimizer)
    run.processes.start_equal(model)
    state = dict(
        step=0, log=[], evaluations=[], sums=run.objective.no_sums().tolist(), skipped_steps=0, skipped_in_a_row=0,
        train_seconds=0.0, eval_seconds=0.0, tokens=0, precision={},
    )  # fmt: skip
    if last:
        state = load_state(last, model, optimizer)
        run.precision.restore(state["precision"])
        schedule.step(state["step"])

    model.train()
    bar = progress(total_steps, state["step"], shown=writes)
    draw = functools.partial(draw_pretraining, state, run.output / "curves.png")
    curves = Curves(args.visualdl_dir, draw) if writes else Curves()
    sums = np.array(state["sums"])  # since the last log line
    logged_step, logged_tokens, clock = state["step"], state["tokens"], time.time()
    for step in range(state["step"] + 1, total_steps + 1):
        epoch, number = divmod(step - 1, steps_per_epoch)
        places = np.arange(number * batch_size, min((number + 1) * batch_size, len(run.segments)))
        numbers = shuffled(places, len(run.segments), args.seed, epoch)
        loss, more = backward(run, numbers, step)
        state["tokens"] += run.objective.tokens(more)
        if is_number(loss, step, state, run.output / "last"):
            run.precision.step(optimizer)
            sums += more
        optimizer.clear_grad()
        schedule.step()
        bar.set_postfix(loss=f"{loss:.4f}", lr=f"{schedule.get_lr():.2e}", refresh=False)
        bar.update()

        ends = step == total_steps
        if ends or step % args.logging_steps == 0 or step % args.save_steps == 0:
            seconds = time.time() - clock
            state["train_seconds"] += seconds
            if ends or step % args.logging_steps == 0:
                found = run.objective.metrics(sums)
                state["log"].append({"step": step, "lr": schedule.get_lr(), **found})
                curves.add(
                    step, {f"train/{name}": value for name, value in (*found.items(), ("lr", schedule.get_lr()))}
                )
                if writes:
                    log(
                        f"global step {step}/{total_steps}, epoch: {epoch}, {_words(found)}, "
                        f"lr: {schedule.get_lr():.10f}, speed: {(step - logged_step) / seconds:.4f} step/s, "
                        f"{(state['tokens'] - logged_tokens) / seconds:.0f} tokens/s"
                    )
                sums = run.objective.no_sums()
            logged_step, logged_tokens, clock = step, state["tokens"], time.time()
        if ends or step % args.save_steps == 0:
            state |= dict(step=step, sums=sums.tolist(), precision=run.precision.state())
            evaluate_and_save(run, state, optimizer, curves)
            state["eval_seconds"] += time.time() - clock
            clock = time.time()
    bar.close()
    curves.close()
    return state


def _words(found):
    return ", ".join(f"{name}: {value:.6f}" for name, value in found.items())


def evaluate_and_save(run, state, optimizer, curves):
    from training.log import log
    from training.run_folder import save_last

    started = time.time()
    if len(run.held_out):
        found = evaluate(run)
        state["evaluations"].append({"step": state["step"], **found})
        curves.add(state["step"], {f"validation/{name}": value for name, value in found.items()})
        if run.processes.writes:
            log(f"eval {_words(found)}, eval done total : {time.time() - started} s")
    if run.processes.writes:
        run.save_parts()
        save_last(run.output, run.save_model, run.model, optimizer, state, run.args.keep_checkpoints)
        curves.redraw()


# --------------------------------------------------------------------------------------------------------------- main


def read_segments(args, tokenizer, store):
    """The examples to learn from, and those that are held out; what the folder `store` lacks of them is made."""
    from pretraining.segments import Segments
    from pretraining.token_store import prepare

    tokens = prepare(args.input_dir, tokenizer, store)
    return [Segments(tokens, tokenizer, args.max_seq_length, args.validation_share, held) for held in (False, True)]


def run_all(args, processes):
    from conversion.sources import resolve
    from files.downloads import fetch
    from pretraining.objective import Objective
    from training.facts import run_facts
    from training.precision import choose_precision
    from training.run_folder import prepare_output

    precision = choose_precision(args.amp, args.amp_dtype, args.device)
    source = args.model_name_or_path
    if source not in PRESETS and args.init_from_ckpt:
        source = resolve(source)
    elif source.startswith("hf:"):
        source = fetch(source.removeprefix("hf:"))
    if args.learning_rate is None:
        args.learning_rate = RATES.get(source, RATES["convbert-small"])
    if args.train_batch_size is None:
        args.train_batch_size = BATCHES.get(source, BATCHES["convbert-small"])
    tokenizer = choose_tokenizer(args, source)
    output = Path(args.output_dir)
    store = Path(args.data_store or output / "data")
    if processes.writes:
        prepare_output(output, args.resume, args.overwrite, besides=store)
        read_segments(args, tokenizer, store)
    processes.wait()
    segments, held_out = read_segments(args, tokenizer, store)
    if args.prepare_only:
        return
    if not len(held_out) and processes.writes:
        print("warning: no document is held out: nothing to evaluate on; raise --validation_share", file=sys.stderr)
    last = output / "last" if args.resume and (output / "last").is_dir() else None
    model = build_model(args, str(last or source), tokenizer, last or (args.init_from_ckpt and Path(source).is_dir()))
    if args.max_seq_length > model.config.max_position_embeddings:
        positions = model.config.max_position_embeddings
        raise InputError(f"--max_seq_length {args.max_seq_length}: {source} has only {positions} positions")
    if args.recompute:
        model.enable_recompute()
    if args.dropout is not None:
        model.set_dropout(args.dropout)
    objective = Objective(
        model, tokenizer, args.mask_prob, args.whole_word_masking, args.masking, args.gen_weight, args.disc_weight
    )
    run = Run(args, objective, tokenizer, segments, held_out, output, precision, processes)
    state = train(run, last)
    if processes.writes:
        write_json(output / "results.json", {**state, **run_facts(), "arguments": vars(args)})
        print(f"models in {output}, results.json beside them", file=sys.stderr)


@script
def main(argv=None):
    args = parse_args(argv)

    import paddle

    from training.device import choose_device
    from training.processes import Processes, launch_on_all_gpus

    launch_on_all_gpus(args.device)
    args.device = choose_device(args.device, args.verbose)
    processes = Processes()
    paddle.seed(args.seed)
    with processes.one_fails_all_fail():
        run_all(args, processes)


if __name__ == "__main__":
    sys.exit(main())
