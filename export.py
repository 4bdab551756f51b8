"""Turns a fine-tuned folder into a program without Python: for Paddle Inference, or ONNX, if wanted in 8-bit integers.

    python export.py --model output/SST-2 --output output/SST-2-onnx --format onnx
    python predict.py --model output/SST-2-onnx "A film one wants to see twice."

Before the program gets its name it is compared with the model, on padded batches, and must agree to 1e-5. With 8-bit
integers it can't: there the agreement, and on a dev set both scores, are reported.
"""

import runtime  # noqa: F401  (before Paddle)

import contextlib
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from files.atomic import atomic_folder
from files.downloads import shipped
from files.errors import InputError
from files.json_files import write_json
from flags.command_line import FLAG, ArgumentParser, script
from flags.computing import AS_TRAINED, add_device, add_length
from serving.heads import HEADS
from serving.predictor import Predictor
from tasks import programs
from tasks.classifiers import stored_columns
from tasks.glue import find_task
from tasks.glue_files import read_examples
from tasks.heads import stored_head

TOLERANCE = 1e-5  # largest difference of a logit from the model's


def parse_args(argv):
    parser = ArgumentParser("Export a fine-tuned model as a program for Paddle Inference or ONNX Runtime.")
    parser.add_argument("--model", required=True, metavar="FOLDER", help="fine-tuned model")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="new folder for the program")
    parser.add_argument("--format", choices=["paddle_inference", "onnx"], default="onnx", help="kind of program")
    parser.add_argument("--int8", action=FLAG, default=False, help="weights as 8-bit integers; ONNX only")
    add_length(parser, default=None, help=AS_TRAINED)
    add_device(parser, "cpu")
    dev = parser.add_argument_group("dev set to score on")
    dev.add_argument("--task_name", help="GLUE task of the model")
    dev.add_argument("--data_dir", help="its files, as for run_glue.py; left out: downloaded")
    dev.add_argument("--validation_file", help="own examples, as for run_glue.py")
    args = parser.parse_args(argv)
    if args.int8 and args.format != "onnx":
        parser.error("--int8 needs --format onnx")
    if args.task_name and args.validation_file:
        parser.error("give either --task_name or --validation_file")
    return args


def read_dev(args, predictor):
    """The task of the dev set and its examples; (None, []) without one."""
    if args.task_name:
        task = find_task(args.task_name)
        task = task.in_order(predictor.task.labels) or task
        examples = [example for split in task.dev_splits for example in read_examples(task, split, args.data_dir)]
    elif args.validation_file:
        from tasks.labelled_files import examples as own_examples
        from tasks.labelled_files import own_task
        from tasks.tables import read_rows

        rows = read_rows(args.validation_file)
        known, stored = predictor.task.labels or None, stored_columns(shipped(args.model))
        task = own_task(
            args.validation_file, rows, regression=predictor.task.is_regression, known_labels=known, stored=stored,
            trained=bool(known), several=predictor.task.several,
        )  # fmt: skip
        examples = own_examples(args.validation_file, rows, task, labelled=True)
    else:
        return None, []
    own, unnamed = predictor.task.labels, tuple(f"LABEL_{index}" for index in range(len(task.labels)))
    if own == unnamed and own:
        order = ", ".join(task.names)
        print(f"warning: {args.model} does not name its labels; assumed order: {order}", file=sys.stderr)
    elif task.several != predictor.task.several or (own != tuple(task.labels) and task.in_order(own) is not task):
        words = ", ".join(own) or "a number"
        words += ", any number of them" * predictor.task.several
        raise InputError(f"{args.model}: answers with {words}, which are not the labels of {task.name}")
    return task, examples


def largest_difference(model, program, config, pad_id, several):
    """Of a logit, over programs.check_batches; and the share of rows with the same answer.

    several: an answer is any number of labels. Raises InputError: no numbers come out of the model.
    """
    differences, same = [], []
    with model.session():
        for arrays in programs.check_batches(config.vocab_size, config.max_position_embeddings, pad_id):
            expected, found = model(arrays), program(arrays)
            if not np.isfinite(expected).all():
                raise InputError("no number (NaN or infinity) comes out of the model; its weights are damaged")
            differences.append(np.abs(expected - found).max())
            if several:
                same += ((expected > 0) == (found > 0)).all(-1).tolist()
            else:
                same += (expected.argmax(-1) == found.argmax(-1)).ravel().tolist()
    return float(np.max(differences)), float(np.mean(same))  # NaN stays NaN


def scores_of_both(task, examples, before, after):
    """dict: the scores of two Predictors on a dev set, and how often they agree (for regression: how closely)."""
    from tasks import classifiers
    from tasks.scores import score

    texts = [example.text for example in examples]
    pairs = [example.text_pair for example in examples] if task.is_pair else None
    labels = np.array([example.label for example in examples])
    logits = [predictor.logits(texts, pairs) for predictor in (before, after)]
    first, second = (classifiers.predictions(task, values) for values in logits)
    same = (first == second).reshape(len(first), -1).all(axis=1)
    agreement = float(np.corrcoef(first, second)[0, 1]) if task.is_regression else float(same.mean())
    scores = [{k: float(v) for k, v in score(task, found, labels).items()} for found in (first, second)]
    return {"examples": len(texts), "agreement": agreement, "model": scores[0], "program": scores[1]}


def exported(args, head):
    """What answers with the folder's model."""
    if head not in HEADS:
        return Predictor(args.model, args.max_seq_length, engine="dynamic")
    if args.task_name or args.validation_file:
        raise InputError(f"{args.model}: dev sets are scored for classifiers; predict.py takes what is exported")
    if programs.program_note(shipped(args.model)):
        raise InputError(f"{args.model}: holds a program already")
    return HEADS[head](shipped(args.model), args.max_seq_length)


def versions():
    found = {}
    for package in ("paddlepaddle", "paddle2onnx", "onnx", "onnxruntime"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@script
def main(argv=None):
    args = parse_args(argv)
    output = Path(args.output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"--output {output}: not empty; name a new folder")
    from training.device import compare_on  # brings Paddle

    compare_on(args.device)
    head = stored_head(shipped(args.model))
    predictor = exported(args, head)
    model, config = predictor.engine.model, predictor.engine.model.config
    task, examples = (None, []) if head in HEADS else read_dev(args, predictor)
    engine = "onnxruntime" if args.format == "onnx" else "paddle_inference"
    note = {"engine": engine, "precision": "int8" if args.int8 else "float32"}
    note |= {"max_seq_length": predictor.max_seq_length, "max_position_embeddings": predictor.positions}
    note["versions"] = versions()
    with atomic_folder(output) as folder:
        write_json(folder / "config.json", model.config_dict())
        predictor.tokenizer.model_max_length = predictor.max_seq_length
        predictor.tokenizer.save_pretrained(folder)
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(Path(shipped(args.model)) / "README.md", folder / "README.md")
        if args.format == "onnx":
            programs.save_onnx(model, folder)
        else:
            programs.save_program(model, folder)
        if args.int8:
            programs.quantise(folder)
        write_json(folder / programs.NOTE, note)
        program = programs.ENGINES[engine](folder)
        pad_id = predictor.tokenizer.pad_token_id
        several = head not in HEADS and predictor.task.several
        worst, same = largest_difference(predictor.engine, program, config, pad_id, several)
        if not worst <= (np.finfo(np.float32).max if args.int8 else TOLERANCE):
            raise InputError(f"{output}: not made; its logits differ from the model's by {worst:.1e}")
        note["check"] = {"largest_difference": worst, "same_answer": same}
        print(f"largest difference of a logit: {worst:.1e}; same answer: {same:.1%} of the check's rows")
        if examples:
            found = note["dev"] = scores_of_both(task, examples, predictor, Predictor(folder))
            for name in ("model", "program"):
                words = ", ".join(f"{metric}: {value:.4f}" for metric, value in found[name].items())
                print(f"{task.name}, {found['examples']} examples, {name}: {words}")
            print(f"agreement: {found['agreement']:.4f}")
        write_json(folder / programs.NOTE, note)
    size = sum(path.stat().st_size for path in output.iterdir()) / 2**20
    print(f"{output}: {size:.1f} MB for {engine}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
