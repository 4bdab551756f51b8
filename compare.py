"""Checks that this project's models and another library's compute the same numbers from the same weights.

    python compare.py [--checks all] [--reference hf|paddlenlp] [--weights random|hub|FOLDER]

builds the published sizes in the other library, converts them as convert.py does and asks both the same questions
(`comparison/parity.py`). Exit status 1 when an answer differs. With --golden it compares a checkpoint with its own
stored outputs.
"""

import runtime  # noqa: F401  (before Paddle)

import contextlib
import importlib
import logging
import sys
from pathlib import Path

from comparison import parity
from comparison.model_pairs import LIBRARIES, random_subject, stored_subjects
from comparison.references import NumpyLoops, Ours, PaddleNLP, architecture_of, prefix_of
from comparison.report import judge, report_files, table, write_report
from conversion.formats import read_checkpoint
from conversion.sources import locate
from family import configurations
from family.configurations import PRESETS
from files.errors import InputError
from files.hub import fetch
from files.temporary import temporary_folder
from flags.command_line import ArgumentParser, add_overwrite, is_picture, require_new, script
from flags.computing import add_device

CONVBERT = {  # our name → the hub's
    "convbert-small": "YituTech/conv-bert-small",
    "convbert-medium-small": "YituTech/conv-bert-medium-small",
    "convbert-base": "YituTech/conv-bert-base",
}
PUBLISHED = CONVBERT | {name: entry.hub for name, entry in configurations.PUBLISHED.items()}
OF_ENCODER, OF_HEADS = ("hidden", "layers", "padding"), ("heads", "gradients", "training")
CHECKS = (*OF_ENCODER, *OF_HEADS, "tokenizer", "generator")
SAMPLES = Path(__file__).parent / "samples"


# --------------------------------------------------------------------------------------------------------- the checks


def compare(subject, args, notes):
    """Runs the wanted checks on a Subject, prints the result and returns the findings.

    Args:
        args: the parsed command line.
        notes: list that gets a line for whatever could not be compared.
    """
    findings = []
    if {*OF_ENCODER, *OF_HEADS} & set(args.checks):
        findings += compare_model(subject, args, notes)
    if "tokenizer" in args.checks:
        findings += compare_tokenizer(subject, notes)
    if "generator" in args.checks:
        findings += compare_generator(subject, args.tolerance, notes)
    print(f"{table(findings)}\n", flush=True)
    return findings


def compare_model(subject, args, notes):
    checks, tolerance, base = args.checks, args.tolerance, subject.architecture
    reference, ours = of_base = subject.pair(base)
    layers = parity.layers("layers", reference, ours, parity.inputs_for(base, ours.config), tolerance)
    last = layers[-1]._replace(check="hidden", part="last hidden state")
    print(f"{reference.library} {PUBLISHED.get(subject.name, subject.name)} vs paddle {subject.name}")
    print(f"mean difference: {last.mean:.4e}")
    print(f"max difference: {last.max:.4e}", flush=True)
    findings = [last] if "hidden" in checks else []
    if "layers" in checks or not last.passed:  # so that the report can tell where a difference begins
        findings += layers
    if "padding" in checks:
        findings += parity.padding(reference, ours, tolerance)
    wanted = [check for check in OF_HEADS if check in checks]
    if isinstance(reference, NumpyLoops):
        if "heads" in wanted and reference.head:
            wanted.remove("heads")
            findings += parity.head("heads", base, reference, ours, tolerance)
        if wanted:
            notes.append(f"{subject.name}: {', '.join(wanted)} left out: numpy loops have none of these")
        return findings
    for kind, name in parity.HEADS.items() if wanted else ():
        architecture = architecture_of(subject.config, kind)
        if architecture is None:  # BERT has no discriminator
            continue
        if reason := subject.library.obstacle(subject.config, architecture):
            notes.append(f"{subject.name}: {name} left out: {reason}")
            continue
        reference, ours = of_base if architecture == base else subject.pair(architecture)
        if "heads" in checks:
            findings += parity.head("heads", architecture, reference, ours, tolerance)
        if "gradients" in checks:
            findings += parity.gradients(architecture, reference, ours)
        if "training" in checks and kind == "ForSequenceClassification":  # the last, as it changes the weights
            findings += parity.training(architecture, reference, ours, args.steps, args.learning_rate)
    return findings


def compare_generator(subject, tolerance, notes):
    """The generator that pre-trains this size. (A checkpoint's own generator is a Subject of its own.)"""
    if architecture_of(subject.config, "Discriminator") is None:
        notes.append(f"{subject.name}: generator left out: {subject.config.title} has none")
        return []
    if subject.own or f"{subject.name}-generator" not in PRESETS:
        notes.append(f"{subject.name}: generator left out: it is compared at the published sizes, without weights")
        return []
    generator = random_subject(f"{subject.name}-generator", subject.library)
    reference, ours = generator.pair(generator.architecture)
    if isinstance(reference, NumpyLoops):
        reason = subject.library.obstacle(generator.config, generator.architecture)
        notes.append(f"{generator.name}: compared with numpy loops over the paper's equations: {reason}")
    return parity.head("generator", generator.architecture, reference, ours, tolerance)


def compare_tokenizer(subject, notes):
    """With the checkpoint's vocabulary, else the samples'."""
    from tokenizer import ConvBertTokenizer

    sentences = parity.SENTENCES + (SAMPLES / "corpus.txt").read_text("utf-8").splitlines()[:100]
    with temporary_folder() as folder:
        if subject.own and (Path(subject.own) / "vocab.txt").is_file():
            ours = ConvBertTokenizer.from_pretrained(subject.own)
        else:
            ours = ConvBertTokenizer(SAMPLES / "vocab.txt")
        ours.save_pretrained(folder)
        theirs = subject.theirs or folder
        has_one = any((Path(theirs) / name).is_file() for name in ("vocab.txt", "tokenizer.json"))
        reference = subject.library.tokenizer(theirs if has_one else folder, prefix_of(subject.architecture))
        if subject.library is not PaddleNLP:
            return parity.tokenizer(reference, ours, sentences)
        notes.append(f"{subject.name}: tokenizer: PaddleNLP has no offsets, and cuts and touching symbols of its own")
        return parity.tokenizer(reference, ours, sentences[len(parity.SENTENCES) :], exact=False)


def compare_golden(args):
    """Stores the checkpoint's outputs, or compares them with the stored ones: name → findings."""
    from comparison import golden_outputs

    model, _ = read_checkpoint(locate(args.weights))
    if not Path(args.golden).exists():
        golden_outputs.store(Ours(model), args.golden)
        print(f"{args.golden}: stored the outputs of {args.weights}")
        return {}
    findings = golden_outputs.check(Ours(model), args.golden, args.tolerance)
    print(table(findings))
    return {Path(args.weights).name: findings}


# -------------------------------------------------------------------------------------------------------- command line


def parse(argv):
    parser = ArgumentParser("Compare this project's models with another library's, number by number.")
    sizes = [name for name in PRESETS if not name.endswith("-generator")]
    group = parser.add_argument_group("what")
    group.add_argument("--models", nargs="+", default=list(CONVBERT), choices=sizes, help="which sizes")
    group.add_argument(
        "--weights",
        default="auto",
        help="hub: the published ones; random: the reference's own; auto: hub, else random; or, instead of --models, "
        "a checkpoint of any format",
    )
    group.add_argument("--reference", choices=list(LIBRARIES), default="hf", help="Hugging Face or PaddleNLP")
    group.add_argument(
        "--checks", nargs="+", choices=[*CHECKS, "all"], default=["hidden", "heads"], help="what is compared"
    )
    group.add_argument(
        "--golden", metavar="FILE.npz", help="instead compare --weights with its own outputs in FILE; if FILE is not "
        "there, store them",
    )  # fmt: skip
    group = parser.add_argument_group("how")
    group.add_argument("--tolerance", type=float, default=1e-5, help="largest difference allowed; the mean: a tenth")
    group.add_argument("--steps", type=int, default=100, help="of training")
    group.add_argument("--learning_rate", type=float, default=1e-4, help="of training")
    add_device(group, "cpu")
    group = parser.add_argument_group("report")
    group.add_argument("--report", metavar="FILE", help="write all figures to FILE.json, the tables to FILE.md")
    group.add_argument("--plot", metavar="FILE", help="draw the difference after each layer (.png or .svg)")
    add_overwrite(group)
    args = parser.parse_args(argv)
    if args.plot and not is_picture(args.plot):
        parser.error("--plot takes a .png or .svg")
    for report in report_files(args.report) if args.report else ():
        require_new(args.overwrite, report=report)
    require_new(args.overwrite, plot=args.plot)
    if args.golden and args.weights in ("auto", "hub", "random"):
        raise InputError("--golden needs --weights FOLDER: the checkpoint whose outputs the file keeps")
    # Paddle first: after PyTorch its matrix library is slower, and oneDNN's products would be compared in its place.
    for package in () if args.golden else ("paddle", *LIBRARIES[args.reference].packages):
        try:
            importlib.import_module(package)
        except ImportError:
            raise InputError(f"--reference {args.reference} needs {package}: make setup") from None
    args.checks = list(CHECKS) if "all" in args.checks else args.checks + ["layers"] * bool(args.plot)
    return args


def subjects(args, work, notes):
    """Yields every Subject; folders that are needed are made in `work`."""
    library = LIBRARIES[args.reference]
    if args.weights not in ("auto", "hub", "random"):
        yield from stored_subjects(Path(args.weights).name, locate(args.weights), library, work, notes)
        return
    for name in args.models:
        if args.weights == "random" or (args.weights == "auto" and name not in PUBLISHED):
            yield random_subject(name, library)
            continue
        try:
            found = stored_subjects(name, fetch(PUBLISHED.get(name, name)), library, work, notes)
        except InputError as error:
            if args.weights == "hub":
                raise
            print(f"{error}; comparing random weights", file=sys.stderr)
            found = [random_subject(name, library)]
        yield from found


@contextlib.contextmanager
def without_warnings():
    """Of this project's loaders: here heads start anew all the time."""
    logger = logging.getLogger("convbert")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@script
def main(argv=None):
    args = parse(argv)
    from training.device import compare_on  # brings Paddle

    compare_on(args.device)
    results, notes = {}, []
    if args.golden:
        results = compare_golden(args)
    else:
        with temporary_folder() as work, without_warnings():
            for subject in subjects(args, work, notes):
                results[subject.name] = compare(subject, args, notes)
    for note in notes:
        print(note, file=sys.stderr)
    if args.report:
        write_report(args.report, results, notes, vars(args))
    if args.plot:
        from comparison.report import draw_layers

        draw_layers({name: [f for f in found if f.check == "layers"] for name, found in results.items()}, args.plot)
    passed = [judge(name, findings) for name, findings in results.items()]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
