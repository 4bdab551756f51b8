"""Pre-trains a model on raw text: ConvBERT or ELECTRA to detect replaced tokens, any to fill masked words alone.

    python run_pretrain.py --input_dir TEXTS --model_name_or_path convbert-small --output_dir output/pretraining

Text becomes a store of tokens in `data/` of `--output_dir`, once. Every `--eval_steps` steps and at the last one the
model is evaluated on held-out documents and written: `discriminator/` for fine-tuning, `generator/`. All that
`--resume` needs is saved to `last/` every `--save_steps` steps, after `--save_minutes`, at the last step, and when
SIGTERM or Ctrl-C ends the run.

Paddle and what needs it are imported inside functions: `--help` and a wrong flag answer at once.
"""

import runtime  # noqa: F401  (before Paddle)

import argparse
import re
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from family.architectures import MODEL_TYPES, config_class
from family.configurations import PRESETS
from files.errors import InputError
from flags.command_line import FLAG, ArgumentParser, at_least, from_zero, script, within
from flags.computing import add_length
from flags.training import add_model, add_output, add_training, check_training
from text.corpus import DOCUMENTS

LONGEST_WARMUP = 10_000  # steps, when --warmup_steps is left out
SETTINGS = {  # of a size: learning rate, examples of a step
    "convbert-tiny": (1e-3, 32), "convbert-small": (3e-4, 128), "convbert-medium-small": (5e-4, 128),
    "convbert-base": (2e-4, 256), "electra-small": (5e-4, 128), "electra-base": (2e-4, 256),
}  # fmt: skip
BERT_SETTINGS = 1e-4, 256  # and so of all others
WORDS_ALONE = ("bert", "ernie")  # have no discriminator
EVALUATED = 2048  # held-out examples that an evaluation looks at, at most
AT_A_TIME = 32  # of them; the same in every run, for their masks depend on it


def part_of_many(text):
    """A flag's type: a part, from 1, and how many there are."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"must be a part and how many there are, such as 1/3, not {text}")
    return text


def make_parser():
    parser = ArgumentParser("Pre-train a model on raw text.")
    names = "a size, which starts at random, or a checkpoint folder, hf:OWNER/NAME or ms:OWNER/NAME to go on from"
    padding = "convolutions do not see padding"
    model = add_model(
        parser, MODEL_TYPES, model_name_or_path=dict(help=names), mask_conv_padding=dict(help=padding)
    )  # fmt: skip
    model.add_argument(
        "--init_from_ckpt", action=FLAG, default=True, help="take a folder's weights; without, its sizes"
    )
    model.add_argument(
        "--generator_size", type=within("(0, 1]"), help="generator by discriminator; left out, the size's own"
    )
    model.add_argument("--mlm_only", action=FLAG, default=False, help="no discriminator: the model itself fills masks")
    model.add_argument("--dropout", type=within("[0, 1)"), help="of this run; saved settings keep their own")

    data = parser.add_argument_group("data")
    data.add_argument(
        "--input_dir", "--input", nargs="+", metavar="PATH",
        help="text: files, folders or patterns; .txt, JSON lines or WikiExtractor's folders, also .gz or .bz2; or the "
        "stores of all parts of a text, in order, see --shard",
    )  # fmt: skip
    data.add_argument(
        "--documents", choices=DOCUMENTS, default="auto",
        help="in plain text, a line, or up to a blank one; auto: as the blank lines of each file's first 8 MB tell",
    )  # fmt: skip
    add_length(data, smallest=8, help="tokens of an example")
    data.add_argument("--data_store", help="folder for the tokens; left out, data/ in --output_dir")
    data.add_argument(
        "--validation_share", type=within("(0, 0.5]"), default=0.005, help="documents that are held out"
    )  # fmt: skip
    data.add_argument("--prepare_only", action=FLAG, default=False, help="make the store of tokens and stop")
    data.add_argument(
        "--shard", type=part_of_many, metavar="I/N",
        help="with --prepare_only: of the I-th of N parts of the files; of all parts one store is made by --input_dir",
    )  # fmt: skip

    task = parser.add_argument_group("objective")
    task.add_argument("--mask_prob", type=within("(0, 0.9]"), default=0.15, help="share of the tokens that are masked")
    task.add_argument("--whole_word_masking", action=FLAG, default=False, help="words are masked as a whole")
    words = "words of Chinese for it: jieba, or a file with a word a line; left out, every character is one"
    task.add_argument("--word_boundaries", metavar="jieba|FILE", help=words)
    task.add_argument("--masking", choices=["electra", "bert"], default="electra", help="85/0/15 or 80/10/10")
    others = "next-sentence prediction: share of second segments that are another text's, told of [CLS]"
    task.add_argument("--nsp_prob", type=within("[0, 1)"), default=0.0, help=others)
    task.add_argument("--gen_weight", type=from_zero, default=1.0, help="weight of the generator's loss")
    task.add_argument("--disc_weight", type=from_zero, default=50.0, help="weight of the discriminator's loss")

    training = add_training(
        parser,
        learning_rate=dict(default=None, help="highest learning rate; left out, the size's own"),
        num_train_epochs=dict(default=4, help="passes over the text"),
        warmup_steps=dict(default=None, help="left out: a tenth of the steps, at most 10,000"),
        weight_decay=dict(default=1e-2),
        max_grad_norm=dict(default=1.0),
    )
    training.add_argument("--train_batch_size", "--batch_size", type=at_least(1), help="examples per step and process")

    add_output(parser, output_dir=dict(help="folder for models and figures"), save_steps=dict(default=10_000))
    return parser


def parse_args(argv):
    parser = make_parser()
    args = parser.parse_args(argv)
    if not args.input_dir:
        parser.error("--input_dir: give text files, or folders of them")
    if args.model_type in WORDS_ALONE and not args.mlm_only:
        parser.error(f"--model_type {args.model_type} has no discriminator; add --mlm_only")
    if args.nsp_prob and args.mlm_only:
        parser.error("--nsp_prob: a discriminator tells it, and --mlm_only has none")
    if args.shard and not args.prepare_only:
        parser.error("--shard is for --prepare_only; a run takes all parts: --input_dir PART1 PART2 …")
    if args.word_boundaries and not args.whole_word_masking:
        parser.error("--word_boundaries is for --whole_word_masking")
    check_training(parser, args)
    return args


def choose_tokenizer(args, source):
    from tasks.classifiers import load_tokenizer

    switches = args.do_lower_case, args.strip_accents, args.tokenize_chinese_chars
    return load_tokenizer(args.model_type, source, args.vocab_file, *switches)


# ----------------------------------------------------------------------------------------------------------- training


class Run(NamedTuple):
    """What stays the same from the first step to the last."""

    args: argparse.Namespace
    objective: Any  # objective.Objective
    tokenizer: Any
    segments: Any  # segments.Segments
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

    def save_parts(self, state):
        """The models that people use, each in a folder of its own."""
        from files.atomic import atomic_folder
        from training.model_card import card_of_pretraining

        for name, part in self.objective.parts().items():
            with atomic_folder(self.output / name) as folder:
                part.save_pretrained(str(folder))
                self.tokenizer.save_pretrained(folder)
                card_of_pretraining(self, folder, name, part, state)


def backward(run, batch, step):
    """Gradients of the loss of a step's examples, averaged over all processes. → this one's part of loss and sums."""
    from training.device import figures
    from training.order import seed_step

    objective, processes, size = run.objective, run.processes, run.args.train_batch_size
    seed_step(run.args.seed, step, processes.rank)
    count = len(batch.input_ids)
    pieces = processes.share(np.split(np.arange(count), range(size, count, size))) or [np.arange(0)]
    total, sums = 0.0, figures(objective.no_sums())
    with run.precision.training():
        for number, rows in enumerate(pieces, 1):
            loss, more = objective(batch, rows, processes.count)
            if number == len(pieces):
                processes.last_backward()
            run.precision.backward(loss)
            total, sums = total + figures(loss), sums + figures(more)
    processes.average_gradients()
    return total, sums


def evaluate_held_out(run):
    """What is logged, on the held-out examples, with the same masks every time, whatever the run."""
    import paddle

    count = min(len(run.held_out), run.args.max_eval_samples or EVALUATED)
    size, sums = AT_A_TIME, run.objective.no_sums()
    pieces = min(size, run.args.eval_batch_size or size)
    numbers = np.linspace(0, len(run.held_out) - 1, count).astype(int)
    batches = list(enumerate(np.split(numbers, range(size, count, size))))
    run.model.eval()
    with run.precision.context(), paddle.no_grad():
        for index, examples in run.processes.share(batches):
            batch = run.objective.batch(run.held_out, examples, 0, index)
            for rows in np.split(np.arange(len(examples)), range(pieces, len(examples), pieces)):
                sums += run.objective(batch, rows)[1].numpy()
    run.model.train()
    run.processes.wait()  # shares take different times
    return run.objective.metrics(run.processes.add(sums))


def train(run, last=None, settings=None):
    """The loop, from the start or from the folder `last` of a stopped run. Returns the run's state.

    settings: of settings.settings_of.
    """
    from pretraining.curves import draw_pretraining
    from pretraining.segments import shuffled
    from training.device import figures
    from training.log import log
    from training.loop import Plan, Steps
    from training.order import ahead

    args, objective = run.args, run.objective
    count = min(len(run.segments), args.max_train_samples or len(run.segments))
    plan = Plan.of(args, count, args.train_batch_size, run.processes)
    warmup_steps = min(LONGEST_WARMUP, plan.total_steps // 10) if args.warmup_steps is None else args.warmup_steps
    steps = Steps(
        args, plan, warmup_steps, run.model, run.output, last, run.precision, run.processes, draw_pretraining,
        dict(sums=objective.no_sums().tolist(), tokens=0, settings=settings),
    )  # fmt: skip

    def batch_of(step):
        """The whole in every process, masks and all."""
        epoch, place = divmod(step - 1, plan.steps_per_epoch)
        places = np.arange(place * plan.batch_size, min((place + 1) * plan.batch_size, count))
        return objective.batch(run.segments, shuffled(places, count, args.seed, epoch), args.seed, step)

    sums = figures(np.array(steps.state["sums"]))  # since the last log line
    batches = ahead(batch_of, range(steps.step + 1, plan.total_steps + 1))
    for step, batch in zip(steps, batches, strict=False):
        loss, more = backward(run, batch, step)
        steps.state["tokens"] += objective.tokens(batch)
        sums = sums + steps.learn(loss, more)

        due = steps.due()
        if due.log:
            found = objective.metrics(np.asarray(sums))
            steps.log(_words(found), found)
            sums = figures(objective.no_sums())
        if due.evaluate:
            if len(run.held_out):
                started, found = time.time(), evaluate_held_out(run)
                steps.evaluated(found)
                if run.processes.writes:
                    log(f"eval {_words(found)}, eval done total : {time.time() - started} s")
            if run.processes.writes:
                run.save_parts(steps.state | {"step": steps.step})
        if steps.saves:
            steps.state["sums"] = np.asarray(sums).tolist()
            steps.save(run.save_model)
    return steps.state


def _words(found):
    return ", ".join(f"{name}: {value:.6f}" for name, value in found.items())


# --------------------------------------------------------------------------------------------------------------- main


def choose_rates(args, source):
    """Sets the learning rate and the batch size if they were left out. Returns what a line says of them, or None."""
    from pretraining.models import size_of

    if args.learning_rate is not None and args.train_batch_size is not None:
        return None
    name, same = size_of(config_class(args.model_type).from_pretrained(source))
    rate, batch = SETTINGS.get(name, BERT_SETTINGS)
    chosen = []
    if args.learning_rate is None:
        args.learning_rate = rate
        chosen.append(f"--learning_rate {args.learning_rate:g}")
    if args.train_batch_size is None:
        args.train_batch_size = batch
        chosen.append(f"--train_batch_size {args.train_batch_size}")
    return f"{' '.join(chosen)}: {name}'s" + ("" if same else f", the nearest in width to {args.model_name_or_path}")


def read_segments(args, tokenizer, store, makes, beside=()):
    """The examples to learn from, and those that are held out.

    Args:
        store: folder of tokens and segments.
        makes: whether what it lacks is made; else it must be there.
        beside: paths that hold no text where they lie in folders of text.
    """
    from pretraining.segments import Segments
    from pretraining.token_store import TokenStore, prepare

    if makes:
        own = Path(args.output_dir).resolve() in store.resolve().parents
        shard = args.shard and tuple(map(int, args.shard.split("/")))
        tokens = prepare(args.input_dir, tokenizer, store, args.documents, beside, own or args.overwrite, shard)
    else:
        tokens = TokenStore.open(store)
    return [
        Segments(tokens, tokenizer, args.max_seq_length, args.validation_share, held, makes) for held in (False, True)
    ]


def load_model(args, source, last, tokenizer):
    """The model of a run that starts from `source`, or goes on from the folder `last`."""
    from pretraining.models import build_model
    from training.start import require_positions

    goes_on = last or (args.init_from_ckpt and Path(source).is_dir())
    choices = args.mlm_only, args.generator_size, args.mask_conv_padding, args.model_type
    model = build_model(str(last or source), tokenizer, goes_on, *choices)
    require_positions(model, source, args.max_seq_length)
    if args.recompute:
        model.enable_recompute()
    if args.dropout is not None:
        model.set_dropout(args.dropout)
    return model


def run_all(args, processes):
    import paddle

    from conversion.sources import fetched, resolve
    from pretraining.objective import Objective
    from pretraining.token_store import clear_killed, facts_of, sources
    from pretraining.word_boundaries import facts, segmenter
    from tasks.classifiers import require_type
    from training.precision import choose_precision
    from training.settings import files_fact, require_same_settings, settings_of
    from training.start import open_output, write_results

    precision = choose_precision(args.amp, args.amp_dtype, paddle.get_device())
    source = fetched(args.model_name_or_path)
    require_type(args.model_type, source)
    if args.init_from_ckpt and (source not in PRESETS or Path(source).is_dir()):
        source = resolve(source, args.model_type)
    chosen = choose_rates(args, source)
    store = Path(args.data_store or Path(args.output_dir) / "data")
    if store.resolve() == Path(args.output_dir).resolve():
        raise InputError(f"--data_store {store}: is --output_dir, too; leave it out, or name another folder")
    if processes.writes:
        clear_killed(store)
    beside = [Path(args.output_dir), store, *filter(None, [args.vocab_file])]
    files, parts = sources(args.input_dir, beside)
    files = files or [part / "tokens.bin" for part in parts]
    output, last = open_output(args, processes, besides=store, inputs=files)
    tokenizer = choose_tokenizer(args, str(last or source))
    text = files_fact(files)
    cut = segmenter(args.word_boundaries) if args.word_boundaries else None
    compared = {"text": text, "word boundaries": facts(args.word_boundaries)}
    begun = settings_of(args, args.train_batch_size, processes, args.model_name_or_path, tokenizer, **compared)
    if last:
        require_same_settings(last, begun)
    model = None if args.prepare_only else load_model(args, source, last, tokenizer)
    if args.data_store:
        processes.require_shared("--data_store", store.parent)
    if processes.writes:
        read_segments(args, tokenizer, store, True, beside)
    processes.wait()
    segments, held_out = read_segments(args, tokenizer, store, False)
    if args.prepare_only:
        return
    if not len(held_out) and processes.writes:
        print("warning: no document is held out: nothing to evaluate on; raise --validation_share", file=sys.stderr)

    objective = Objective(
        model, tokenizer, args.mask_prob, args.whole_word_masking, args.masking, args.gen_weight, args.disc_weight, cut,
        args.nsp_prob,
    )  # fmt: skip
    run = Run(args, objective, tokenizer, segments, held_out, output, precision, processes)
    if chosen and processes.writes:
        print(chosen, file=sys.stderr)
    state = train(run, last, begun)
    if processes.writes:
        write_results(output, args, text=facts_of(store), **state)
        print(f"models in {output}, results.json beside them", file=sys.stderr)


@script
def main(argv=None):
    args = parse_args(argv)

    from training.signals import start

    start(run_all, args)


if __name__ == "__main__":
    sys.exit(main())
