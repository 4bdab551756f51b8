"""Fine-tunes ConvBERT, BERT, ELECTRA or ERNIE to tag words (named entities, chunks, parts of speech), and evaluates it.

    python run_tagging.py --train_file train.conll --validation_file dev.conll \\
        --model_name_or_path convbert-small --output_dir output/tags

A word's tag is learnt and told by its first piece. Sentences longer than the model are read in windows that overlap.
Evaluating, saving and going on are as in run_glue.py; beside the best model lies `predictions_dev.conll`: word, tag,
and the model's tag.

Paddle and what needs it are imported inside functions: `--help` and a wrong flag answer at once.
"""

import runtime  # noqa: F401  (before Paddle)

import functools
import sys
from pathlib import Path

from family.architectures import MODEL_TYPES
from files.errors import InputError
from flags.command_line import FLAG, ArgumentParser, at_least, script
from flags.computing import add_dtype, add_length
from flags.training import add_fine_tuned_model, add_fine_tuning, add_output, add_training
from tasks.entities import main_metric, scores_of
from tasks.head_runs import begin
from tasks.tagging import write_conll
from tasks.tags import SCHEMES, TaggedWindows, Windows, read_sentences, scheme_of, tags_of
from training.fine_tuning import Loop, end_run, fine_tune, launch, only_evaluated, parsed

KIND = "ForTokenClassification"


def make_parser():
    parser = ArgumentParser("Fine-tune a model to tag words.")
    add_fine_tuned_model(parser, MODEL_TYPES)

    data = parser.add_argument_group("data: CoNLL columns, or JSON lines of tokens and tags")
    data.add_argument("--train_file", help="sentences to learn from")
    data.add_argument("--validation_file", required=True, help="sentences to evaluate on")
    data.add_argument("--test_file", help="sentences for --do_predict")
    told = "left out: told from the tags"
    data.add_argument("--scheme", choices=SCHEMES, help=f"how tags mark entities; plain: not at all; {told}")
    data.add_argument("--label_all_pieces", action=FLAG, default=False, help="learn from all pieces of a word")
    add_length(data, smallest=3, help="tokens of a window; longer sentences have several")
    data.add_argument("--stride", type=at_least(0), default=32, help="tokens that two windows have in common")

    add_fine_tuning(add_training(parser, max_grad_norm=dict(default=1.0)))  # run_ner's; worth 7 points of F1 on WNUT 17
    output = add_output(parser)
    output.add_argument("--do_predict", action=FLAG, default=False, help="at the end, tag --test_file")
    add_dtype(output)
    return parser


def parse_args(argv):
    parser = make_parser()
    args = parsed(parser, argv)
    if args.stride >= args.max_seq_length - 2:
        parser.error(f"--stride {args.stride} leaves nothing new in windows of --max_seq_length {args.max_seq_length}")
    return args


# ----------------------------------------------------------------------------------------------------------- training


def pieces(run, rows, batch):
    """See fine_tuning.Loop. The mean is over words, of which pieces have more and less."""
    from training.order import weighted_pieces

    words, found = max(1, rows.counts[batch].sum()), []
    for piece, weight in weighted_pieces(batch, run.args.batch_size, run.processes):
        weight = run.processes.count * rows.counts[piece].sum() / words if weight else 0.0
        found.append(({**rows.arrays(piece), "labels": rows.labels(piece)}, weight))
    return found


def mean_loss(run, inputs):
    from layers.functions import cross_entropy

    labels = inputs.pop("labels")
    return cross_entropy(run.model(**inputs).flatten(0, 1), labels.flatten())


# --------------------------------------------------------------------------------------------------------- evaluating


def tag(run, sentences):
    """tagging.Tagged of some sentences."""
    from tasks.tagging import tag_sentences

    names = run.model.config.label_names
    engine, size = run.engine(), run.args.eval_batch_size
    found = tag_sentences(engine, run.tokenizer, sentences, run.windows, names, size, run.processes)
    run.model.train()
    return found


def evaluate(run, dev, scheme):
    """Prints an evaluation's line. Returns its figures, what was tagged, and the number that models are told by."""
    from tasks.tagging import evaluated

    return evaluated(lambda: tag(run, dev), dev, scheme, run.processes.writes)


def write_best(run, dev, scheme, tagged):
    """The model and its tags; what tagging needs of the training is stored with the model."""
    kept = dict(scheme=scheme, stride=run.windows.stride, label_all_pieces=run.args.label_all_pieces)
    run.model.config.trained_with = kept
    run.save_model(run.output)
    write_reports(run, dev, scheme, tagged)


def write_reports(run, dev, scheme, tagged):
    from tasks.confusion import draw_types
    from training.curves import try_to_draw

    (run.output / "confusion.png").unlink(missing_ok=True)
    write_conll(run.output / "predictions_dev.conll", dev, tagged.tags)
    right = [sentence.tags for sentence in dev]
    try_to_draw(draw_types, right, tagged.tags, scheme, run.output / "confusion.png")


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
    files = {"train": args.train_file, "dev": args.validation_file}
    wanted = ["train"] * args.do_train + ["dev"]
    most = {"train": args.max_train_samples, "dev": args.max_eval_samples}
    sentences = {split: read_sentences(files[split])[: most[split]] for split in wanted}
    tests = read_sentences(args.test_file, labelled=False) if args.do_predict else []
    scheme = scheme_of([sentence for found in sentences.values() for sentence in found], args.scheme)
    windows = Windows(args.max_seq_length, args.stride)
    examples = {split: [sentence[:2] for sentence in found] for split, found in sentences.items()}  # wherever they lie
    run = begin(args, processes, KIND, windows, examples, functools.partial(find_names, args, sentences=sentences))
    if processes.writes and not args.scheme:
        print(f"scheme: {scheme} (--scheme decides)", file=sys.stderr)
    dev = sentences["dev"]
    if args.do_train:
        names = run.model.config.label_names
        rows = TaggedWindows(run.tokenizer, sentences["train"], windows, names, args.label_all_pieces)
        if processes.writes:
            say_rows(args, sentences.pop("train"), rows)
        loop = Loop(
            functools.partial(pieces, run, rows), mean_loss, functools.partial(evaluate, run, dev, scheme),
            functools.partial(write_best, run, dev, scheme), run.save_model, 'python predict.py --model {} "a text"',
        )  # fmt: skip
        state = fine_tune(run, "tags", rows.lengths, loop)
    else:
        results, tagged, score = evaluate(run, dev, scheme)
        if processes.writes:
            write_reports(run, dev, scheme, tagged)
        state = only_evaluated(results, score)
    if state["best_score"] is not None:
        best = run.best(KIND) if args.do_train else run
        tagged = tag(best, dev) if args.do_train else tagged
        _, state["by_type"] = scores_of(dev, tagged.tags, scheme)
        if args.do_predict:
            found = tag(best, tests)
            if processes.writes:
                write_conll(run.output / "predictions_test.conll", tests, found.tags)
    end_run(run, main_metric(scheme), state, task="tags", scheme=scheme)


@script
def main(argv=None):
    launch(parse_args(argv), run_all)


if __name__ == "__main__":
    sys.exit(main())
