"""Fine-tunes ConvBERT, BERT, ELECTRA or ERNIE to tag words (named entities, chunks, parts of speech), and evaluates it.

    python run_tagging.py --train_file train.conll --validation_file dev.conll \\
        --model_name_or_path convbert-small --output_dir output/tags

A word's tag is learnt and told by its first piece. Sentences longer than the model are read in windows that overlap.
Evaluating, saving and going on are as in run_glue.py; beside the best model lies `predictions_dev.conll`: word, tag,
and the model's tag.

Paddle and what needs it are imported inside functions: `--help` and a wrong flag answer at once.
"""

import runtime  # noqa: F401  (before Paddle)

import argparse
import functools
import math
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from family.architectures import MODEL_TYPES
from files.errors import InputError
from flags.command_line import FLAG, ArgumentParser, at_least, script
from flags.computing import add_dtype, add_length
from flags.training import add_fine_tuning, add_model, add_output, add_training
from tasks.entities import entity_scores, tag_scores
from tasks.tags import SCHEMES, TaggedWindows, Windows, read_sentences, scheme_of, tags_of

KIND = "ForTokenClassification"


def make_parser():
    parser = ArgumentParser("Fine-tune a model to tag words.")
    names = "a published model's name, a checkpoint folder (ours, PaddleNLP's or Hugging Face's), or hf:OWNER/NAME"
    model = add_model(parser, MODEL_TYPES, model_name_or_path=dict(help=names))
    model.add_argument("--init_from", metavar="FOLDER", help="fine-tuned model to start from; head anew")
    model.add_argument("--from_scratch", action=FLAG, default=False, help="take the configuration, start at random")

    data = parser.add_argument_group("data: CoNLL columns, or JSON lines of tokens and tags")
    data.add_argument("--train_file", help="sentences to learn from")
    data.add_argument("--validation_file", required=True, help="sentences to evaluate on")
    data.add_argument("--test_file", help="sentences for --do_predict")
    told = "left out: told from the tags"
    data.add_argument("--scheme", choices=SCHEMES, help=f"how tags mark entities; plain: not at all; {told}")
    data.add_argument("--label_all_pieces", action=FLAG, default=False, help="learn from all pieces of a word")
    add_length(data, smallest=3, help="tokens of a window; longer sentences have several")
    data.add_argument("--stride", type=at_least(0), default=32, help="tokens that two windows have in common")

    add_fine_tuning(add_training(parser))
    output = add_output(parser)
    output.add_argument("--do_predict", action=FLAG, default=False, help="at the end, tag --test_file")
    add_dtype(output)
    return parser


def parse_args(argv):
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.do_train and not args.train_file:
        parser.error("training needs --train_file; --no-do_train only evaluates")
    if args.do_predict and not args.test_file:
        parser.error("--do_predict needs --test_file")
    if args.stride >= args.max_seq_length - 2:
        parser.error(f"--stride {args.stride} leaves nothing new in windows of --max_seq_length {args.max_seq_length}")
    if args.mask_conv_padding is not None and args.model_type != "convbert":
        parser.error(f"--mask_conv_padding is for convolutions; --model_type {args.model_type} has none")
    if args.dtype and args.do_train:
        parser.error("--dtype is for --no-do_train; --amp O1 trains with products in bfloat16")
    if args.resume and not args.do_train:
        parser.error("--resume goes on with a training; to evaluate, take another --output_dir, or --overwrite")
    return args


# ----------------------------------------------------------------------------------------------------------- training


class Run(NamedTuple):
    """What stays the same from the first step to the last."""

    args: argparse.Namespace
    model: Any
    tokenizer: Any
    windows: Windows
    scheme: str  # of tags.SCHEMES
    output: Path
    precision: Any  # precision.Precision
    processes: Any  # processes.Processes

    @property
    def names(self):
        return self.model.config.label_names

    def save_model(self, folder):
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def backward(run, rows, batch, step):
    """Gradients of a batch's mean loss over its words, averaged over all processes. Returns the loss, alike in each."""
    import paddle

    from layers.functions import cross_entropy
    from training.order import seed_step, weighted_pieces

    seed_step(run.args.seed, step, run.processes.rank)
    words, total = max(1, rows.counts[batch].sum()), 0.0
    with run.precision.training():
        for piece, weight in weighted_pieces(batch, run.args.batch_size, run.processes):
            weight = run.processes.count * rows.counts[piece].sum() / words if weight else 0.0
            logits = run.model(**rows.inputs(piece))
            loss = cross_entropy(logits.flatten(0, 1), paddle.to_tensor(rows.labels(piece)).flatten())
            loss = loss if weight == 1 else loss * float(weight)
            run.precision.backward(loss)
            total += float(loss)
    run.processes.average_gradients(run.model.parameters())
    return float(run.processes.add(total)) / run.processes.count


def train(run, rows, dev, last=None, settings=None):
    """The loop, from the start or from the folder `last` of a stopped run; settings: of settings.settings_of.

    Returns the run's state: step, what was logged, every evaluation, the best one's step and score, seconds spent.
    """
    from training.curves import draw_curves
    from training.loop import Plan, Steps
    from training.order import shuffled_batches

    args = run.args
    plan = Plan.of(args, len(rows), args.batch_size, run.processes)
    warmup_steps = args.warmup_steps or int(args.warmup_proportion * plan.total_steps)
    steps = Steps(
        args, plan, warmup_steps, run.model, run.output, last, run.precision, run.processes,
        functools.partial(draw_curves, "tags"),
        dict(best_step=0, best_score=None, best_loss=None, evaluations_since_best=0, examples=0, settings=settings),
        args.layer_lr_decay, args.early_stopping_patience,
    )  # fmt: skip

    @functools.lru_cache(1)
    def batches(epoch):
        return shuffled_batches(rows.lengths, plan.batch_size, args.seed, epoch, args.bucket)

    for step in steps:
        batch = batches(steps.epoch)[steps.batch]
        loss = backward(run, rows, batch, step)
        steps.state["examples"] += len(batch)
        steps.learn(loss)

        due = steps.due()
        if due.log:
            steps.log(f"batch: {steps.batch}, rank_id: 0, loss: {loss:f}", {"loss": loss})
        if due.evaluate:
            results, tagged, score = evaluate(run, dev)
            if steps.evaluated({"dev": results}, score) and run.processes.writes:
                write_best(run, dev, tagged)
        if steps.saves:
            steps.save(run.save_model)
    return steps.state


# --------------------------------------------------------------------------------------------------------- evaluating


def tag(run, sentences):
    """tagging.Tagged of some sentences."""
    from tasks.programs import Dynamic
    from tasks.tagging import tag_sentences

    engine = Dynamic(run.model, run.precision)
    args = run.args
    found = tag_sentences(engine, run.tokenizer, sentences, run.windows, run.names, args.batch_size, run.processes)
    run.model.train()
    return found


def evaluate(run, dev):
    """Prints the line of an evaluation. Returns its figures, what was tagged, and the number models are told by."""
    from training.log import log

    start = time.time()
    tagged = tag(run, dev)
    right = [sentence.tags for sentence in dev]
    found, _ = (tag_scores if run.scheme == "plain" else entity_scores)(right, tagged.tags)
    if run.processes.writes:
        words = ", ".join(f"{name}: {value}" for name, value in found.items())
        log(f"eval loss: {tagged.loss:f}, {words}, eval done total : {time.time() - start} s")
    number = found[main_metric(run)]
    return {"loss": tagged.loss, **found}, tagged, number if math.isfinite(tagged.loss) else math.nan


def main_metric(run):
    return "accuracy" if run.scheme == "plain" else "f1"


def write_best(run, dev, tagged):
    """The model and its tags; what tagging needs of the training is stored with the model."""
    kept = dict(scheme=run.scheme, stride=run.windows.stride, label_all_pieces=run.args.label_all_pieces)
    run.model.config.trained_with = kept
    run.save_model(run.output)
    write_reports(run, dev, tagged)


def write_reports(run, dev, tagged):
    from tasks.confusion import draw_types
    from tasks.tagging import write_conll
    from training.curves import try_to_draw

    (run.output / "confusion.png").unlink(missing_ok=True)
    write_conll(run.output / "predictions_dev.conll", dev, tagged.tags)
    right = [sentence.tags for sentence in dev]
    try_to_draw(draw_types, right, tagged.tags, run.scheme, run.output / "confusion.png")


# --------------------------------------------------------------------------------------------------------------- main


def say_rows(args, sentences, rows):
    """One line of how many windows the training has, and which words say nothing."""
    words = f"train: {len(sentences):,} sentences, {len(rows):,} windows of at most {args.max_seq_length} tokens"
    lost = f"; {rows.lost:,} words have no piece (control characters alone) and are not learnt from"
    print(words + lost * bool(rows.lost), file=sys.stderr)


def find_names(args, source, sentences):
    """The tags of all files, in the order of the model's where it knows these very ones."""
    from tasks.classifiers import stored_labels
    from tasks.heads import stored_head

    names = tags_of([sentence for found in sentences.values() for sentence in found])
    if Path(source).is_dir() and stored_head(source) == KIND and not (args.init_from or args.from_scratch):
        known = stored_labels(source)[1]
        if known and set(names) <= set(known) and (not args.do_train or set(names) == set(known)):
            return known
        if not args.do_train:
            strange = ", ".join(sorted(set(names) - set(known or ()))) or "none"
            raise InputError(f"{args.validation_file}: has tags that {source} does not know: {strange}")
    return names


def run_all(args, processes):
    from conversion.sources import fetched, resolve
    from tasks.classifiers import load_tokenizer, require_type
    from tasks.heads import load_head
    from training.precision import choose_inference, choose_precision
    from training.settings import examples_fact, require_same_settings, settings_of
    from training.start import open_output, require_positions, write_results

    if args.do_train:
        precision = choose_precision(args.amp, args.amp_dtype, args.device)
    else:
        precision = choose_inference(args.dtype, args.amp, args.amp_dtype, args.device)
    files = {"train": args.train_file, "dev": args.validation_file}
    wanted = ["train"] * args.do_train + ["dev"]
    sentences = {split: read_sentences(files[split]) for split in wanted}
    tests = read_sentences(args.test_file, labelled=False) if args.do_predict else []
    scheme = scheme_of([sentence for found in sentences.values() for sentence in found], args.scheme)
    source = fetched(args.init_from or args.model_name_or_path)
    require_type(args.model_type, source)
    source = source if args.from_scratch else resolve(source, args.model_type)
    output, last = open_output(args, processes)

    start = "nothing" if last or not args.do_train else "head" if args.init_from else "misfit"
    if args.from_scratch and not last:
        start = "everything"
    source = str(last or source)
    settings = {} if args.mask_conv_padding is None else {"mask_conv_padding": args.mask_conv_padding}
    switches = args.do_lower_case, args.strip_accents, args.tokenize_chinese_chars
    tokenizer = load_tokenizer(args.model_type, source, args.vocab_file, *switches)
    begun = None
    if args.do_train:
        facts = {f"{split} sentences": examples_fact(found) for split, found in sentences.items()}
        begun = settings_of(
            args, args.batch_size, processes, args.init_from or args.model_name_or_path, tokenizer, **facts
        )
        if last:
            require_same_settings(last, begun)
    names = find_names(args, source, sentences)
    model = load_head(args.model_type, source, KIND, tokenizer, start, names, **settings)
    require_positions(model, source, args.max_seq_length)
    tokenizer.model_max_length = args.max_seq_length
    if args.recompute:
        model.enable_recompute()
    windows = Windows(args.max_seq_length, args.stride)
    run = Run(args, model, tokenizer, windows, scheme, output, precision, processes)

    if processes.writes and not args.scheme:
        print(f"scheme: {scheme} (--scheme decides)", file=sys.stderr)
    if args.do_train:
        rows = TaggedWindows(tokenizer, sentences["train"], windows, names, args.label_all_pieces)
        if processes.writes:
            say_rows(args, sentences.pop("train"), rows)
        state = train(run, rows, sentences["dev"], last, begun)
        state["examples_per_second"] = state["examples"] / max(state["train_seconds"], 1e-9)
    else:
        results, tagged, score = evaluate(run, sentences["dev"])
        if processes.writes:
            write_reports(run, sentences["dev"], tagged)
        best = None if math.isnan(score) else score
        state = dict(step=0, evaluations=[{"step": 0, "dev": results}], best_step=0, best_score=best)
    if state["best_score"] is not None:
        processes.wait()  # for the best model to be written
        if args.do_train:
            best = load_head(args.model_type, str(output), KIND, tokenizer, "nothing", names, **settings)
            run = run._replace(model=best)
            tagged = tag(run, sentences["dev"])
        _, by_type = (tag_scores if scheme == "plain" else entity_scores)(
            [sentence.tags for sentence in sentences["dev"]], tagged.tags
        )
        state["by_type"] = by_type
        if args.do_predict:
            from tasks.tagging import write_conll

            found = tag(run, tests)
            if processes.writes:
                write_conll(output / "predictions_test.conll", tests, found.tags)
    if processes.writes:
        write_results(output, args, task="tags", scheme=scheme, **state)
    if state["best_score"] is None:
        kept = f"{output / 'last'} holds step {state['step']}" if args.do_train else "its weights are damaged"
        raise InputError(f"{source}: no evaluation gave a number (but NaN or infinity); {kept}")
    if processes.writes:
        print(
            f"best {main_metric(run)}: {state['best_score']:.4f} at step {state['best_step']}; "
            f"model and results.json in {output}",
            file=sys.stderr,
        )


@script
def main(argv=None):
    args = parse_args(argv)

    from training.signals import start

    start(run_all, args)


if __name__ == "__main__":
    sys.exit(main())
