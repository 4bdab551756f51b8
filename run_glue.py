"""Fine-tunes ConvBERT, BERT, ELECTRA or ERNIE on a GLUE task and evaluates it on the whole dev set.

    python run_glue.py --task_name SST-2 --model_name_or_path convbert-small --output_dir output/SST-2

Every `--save_steps` steps and at the last one the model is evaluated and saved: the best so far in `--output_dir`, the
newest with all that `--resume` needs in `last/` below it, the figures in `results.json`.

Paddle and what needs it are imported inside functions: `--help` and a wrong flag answer at once.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import runtime  # noqa: F401  (before Paddle)
from checkpoint_files import InputError, atomic_folder, write_json, zoo_file
from command_line import ArgumentParser, script
from glue_tasks import TASKS, find_task, format_scores, read_examples, score

SAMPLE_VOCABULARY = Path(__file__).parent / "samples" / "vocab.txt"
MODEL_TYPES = ("convbert", "bert", "electra", "ernie")


def parse_args(argv):
    parser = ArgumentParser("Fine-tune a model on a GLUE task.")
    flag = argparse.BooleanOptionalAction

    model = parser.add_argument_group("model")
    model.add_argument("--model_type", default="convbert", choices=MODEL_TYPES, type=str.lower, help="architecture")
    model.add_argument(
        "--model_name_or_path",
        default="convbert-small",
        help="a published model's name, a checkpoint folder (ours, PaddleNLP's or Hugging Face's), or hf:OWNER/NAME",
    )
    model.add_argument("--from_scratch", action=flag, default=False, help="take the configuration, start at random")
    model.add_argument("--vocab_file", help="vocabulary; left out, the model's own")
    model.add_argument("--do_lower_case", action=flag, default=True, help="lower-case texts, with --vocab_file")

    data = parser.add_argument_group("data")
    data.add_argument("--task_name", required=True, help=f"one of {', '.join(TASKS)}, in any case")
    data.add_argument("--data_dir", help="folder with TASK/train.tsv, … in the official layout; left out: downloaded")
    data.add_argument("--max_seq_length", type=int, default=128, help="longer texts are cut to this many tokens")

    training = parser.add_argument_group("training")
    training.add_argument("--do_train", action=flag, default=True, help="train; without, only evaluate")
    training.add_argument("--batch_size", type=int, default=32, help="examples per step and process")
    training.add_argument("--learning_rate", type=float, default=1e-4, help="highest learning rate of AdamW")
    training.add_argument("--num_train_epochs", type=int, default=3, help="passes over the training data")
    training.add_argument("--max_steps", type=int, default=-1, help="steps in all; overrides --num_train_epochs")
    training.add_argument("--warmup_proportion", type=float, default=0.1, help="share of the steps that warm up")
    training.add_argument("--warmup_steps", type=int, default=0, help="steps that warm up; overrides the share")
    training.add_argument("--weight_decay", type=float, default=0.0, help="decay of all but biases and norms")
    training.add_argument("--adam_epsilon", type=float, default=1e-6, help="epsilon of AdamW")
    training.add_argument("--amp", choices=["O1"], help="matrix products in --amp_dtype, everything else in float32")
    training.add_argument("--amp_dtype", choices=["bfloat16"], default="bfloat16", help="type for --amp")
    training.add_argument("--bucket", action=flag, default=True, help="batches of texts of similar length")
    training.add_argument("--seed", type=int, default=42, help="starting point of everything random")

    output = parser.add_argument_group("output")
    output.add_argument("--output_dir", required=True, help="folder for model and results")
    output.add_argument("--logging_steps", type=int, default=100, help="steps between log lines")
    output.add_argument("--save_steps", type=int, default=100, help="steps between evaluations, each of which saves")
    output.add_argument("--resume", action=flag, default=False, help="go on from output_dir/last")
    output.add_argument("--verbose", action=flag, default=False, help="say why the process is set up as it is")
    output.add_argument("--overwrite", action=flag, default=False, help="allow an output_dir that is not empty")

    parser.add_argument("--device", help="gpu, gpu:1, cpu or xpu; left out, gpu where there is one, else cpu")
    args = parser.parse_args(argv)
    for name in ("max_seq_length", "batch_size", "num_train_epochs", "logging_steps", "save_steps"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1, not {getattr(args, name)}")
    if not 0 <= args.warmup_proportion <= 1:
        parser.error(f"--warmup_proportion must lie in [0, 1], not {args.warmup_proportion}")
    return args


# ---------------------------------------------------------------------------------------------------- model and texts


def load_tokenizer(args, source):
    """--vocab_file, else the folder's vocabulary, else that of the model zoo; for convbert-tiny the samples'."""
    from tokenizer import ConvBertTokenizer

    if args.vocab_file:
        return ConvBertTokenizer(args.vocab_file, do_lower_case=args.do_lower_case)
    if Path(source).is_dir():
        return ConvBertTokenizer.from_pretrained(source)
    if args.model_type != "convbert":
        from paddlenlp_models import save_vocabulary

        with tempfile.TemporaryDirectory() as folder:
            save_vocabulary(args.model_type, source, folder)
            return ConvBertTokenizer.from_pretrained(folder)
    if source == "convbert-tiny":
        return ConvBertTokenizer(SAMPLE_VOCABULARY)
    return ConvBertTokenizer(zoo_file(source, "vocab.txt"))


def load_model(args, task, source, tokenizer, from_scratch):
    """The classifier to train; `from_scratch` takes only the configuration of `source`."""
    vocab_size = len(tokenizer)
    if args.model_type != "convbert":
        from paddlenlp_models import load_classifier

        model = load_classifier(args.model_type, source, task.num_labels, vocab_size, from_scratch)
    else:
        from modeling import ConvBertConfig, ConvBertForSequenceClassification

        settings = dict(num_labels=task.num_labels, label_names=list(task.labels) or None)
        if from_scratch:
            settings |= dict(vocab_size=vocab_size, pad_token_id=tokenizer.pad_token_id)
            model = ConvBertForSequenceClassification(ConvBertConfig.from_pretrained(source, **settings))
        elif Path(source).is_dir():
            stored = ConvBertConfig.from_pretrained(source)
            names = stored.label_names or settings["label_names"]  # a checkpoint without names may be of this task
            other_task = (stored.num_labels, names) != tuple(settings.values())
            model = ConvBertForSequenceClassification.from_pretrained(source, new_head=other_task, **settings)
        elif source == "convbert-tiny":
            raise InputError("convbert-tiny: no published weights; add --from_scratch")
        else:
            model = ConvBertForSequenceClassification.from_pretrained(source, **settings)
    if vocab_size > model.config.vocab_size:
        raise InputError(f"the vocabulary has {vocab_size} entries, but {source} only {model.config.vocab_size}")
    if args.max_seq_length > model.config.max_position_embeddings:
        positions = model.config.max_position_embeddings
        raise InputError(f"--max_seq_length {args.max_seq_length}: {source} has only {positions} positions")
    return model


class EncodedSplit:
    """A split's examples, tokenised once: rows without padding, their lengths, their labels."""

    def __init__(self, tokenizer, task, examples, max_length):
        pairs = [example.text_pair for example in examples] if task.is_pair else None
        encoded = tokenizer([example.text for example in examples], pairs, truncation=True, max_length=max_length)
        self.tokenizer = tokenizer
        self.rows = encoded
        self.lengths = np.array([len(ids) for ids in encoded["input_ids"]])
        self.labels = np.array([example.label for example in examples], "float32" if task.is_regression else "int64")

    def __len__(self):
        return len(self.labels)

    def batch(self, indices):
        """Inputs, [B, longest row] each, and labels [B], as tensors."""
        import paddle

        rows = {key: [values[index] for index in indices] for key, values in self.rows.items()}
        inputs = {key: paddle.to_tensor(array) for key, array in self.tokenizer.pad(rows).items()}
        return inputs, paddle.to_tensor(self.labels[indices])


# ----------------------------------------------------------------------------------------------- training, evaluation


def task_loss(task, logits, labels):
    """Mean squared error for a regression, else cross entropy; logits [B, num_labels], labels [B]."""
    import paddle.nn.functional as F

    return F.mse_loss(logits.squeeze(-1), labels) if task.is_regression else F.cross_entropy(logits, labels)


def evaluate(model, task, split, batch_size, precision):
    """Loss averaged over all examples of a split, and its scores; `precision` opens the context in which it runs."""
    import paddle

    from training import batches_by_length

    model.eval()
    total = 0.0
    predictions = np.empty_like(split.labels)
    with paddle.no_grad(), precision():
        for indices in batches_by_length(split.lengths, batch_size):
            inputs, labels = split.batch(indices)
            logits = model(**inputs)
            total += float(task_loss(task, logits, labels)) * len(indices)
            predictions[indices] = (logits.squeeze(-1) if task.is_regression else logits.argmax(-1)).numpy()
    model.train()
    return total / len(split), score(task, predictions, split.labels)


def evaluate_all(model, task, dev, batch_size, precision):
    """Evaluates every dev split (MNLI has two) and prints the published line. Returns split → loss and scores."""
    from training import log

    start = time.time()
    results, line = {}, ""
    for name, split in dev.items():
        loss, scores = evaluate(model, task, split, batch_size, precision)
        results[name] = {"loss": loss, **scores}
        line += f"eval loss: {loss:f}, {format_scores(scores)}"
    log(f"{line}eval done total : {time.time() - start} s")
    return results


def main_score(task, results):
    """The number by which checkpoints are compared: the task's main metric, averaged over its dev splits."""
    return float(np.mean([scores[task.main_metric] for scores in results.values()]))


def train(args, task, model, tokenizer, train_split, dev, output, precision, stopped=None):
    """The loop, from the start or from the folder of a `stopped` run; `precision` opens the context of a step.

    Returns the run's state: step, every evaluation, the best one's step and score, seconds spent.
    """
    from training import adamw, linear_schedule, load_state, log, progress, save_state, seed_step, shuffled_batches

    steps_per_epoch = -(-len(train_split) // args.batch_size)
    total_steps = args.max_steps if args.max_steps > 0 else steps_per_epoch * args.num_train_epochs
    warmup_steps = args.warmup_steps if args.warmup_steps > 0 else int(args.warmup_proportion * total_steps)
    schedule = linear_schedule(args.learning_rate, total_steps, warmup_steps)
    optimizer = adamw(model, schedule, args.weight_decay, args.adam_epsilon)
    state = dict(step=0, evaluations=[], best_step=0, best_score=-np.inf, train_seconds=0.0, eval_seconds=0.0)
    if stopped:
        state = load_state(stopped, model, optimizer)
        schedule.step(state["step"])

    model.train()
    bar = progress(total_steps, state["step"])
    logged_step, clock = state["step"], time.time()  # of the last log line; time spent on evaluation does not count
    for step in range(state["step"] + 1, total_steps + 1):
        epoch, batch = divmod(step - 1, steps_per_epoch)
        if batch == 0 or step == state["step"] + 1:
            batches = shuffled_batches(train_split.lengths, args.batch_size, args.seed, epoch, args.bucket)
        inputs, labels = train_split.batch(batches[batch])
        seed_step(args.seed, step)
        with precision():
            loss = task_loss(task, model(**inputs), labels)
            loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        schedule.step()
        bar.update()

        last = step == total_steps
        if last or step % args.logging_steps == 0 or step % args.save_steps == 0:
            seconds = time.time() - clock
            state["train_seconds"] += seconds
            if last or step % args.logging_steps == 0:
                log(
                    f"global step {step}/{total_steps}, epoch: {epoch}, batch: {batch}, rank_id: 0, "
                    f"loss: {float(loss):f}, lr: {schedule.get_lr():.10f}, "
                    f"speed: {(step - logged_step) / seconds:.4f} step/s"
                )
            logged_step, clock = step, time.time()
        if last or step % args.save_steps == 0:
            results = evaluate_all(model, task, dev, args.batch_size, precision)
            state["step"] = step
            state["eval_seconds"] += time.time() - clock
            state["evaluations"].append({"step": step, **results})
            if main_score(task, results) > state["best_score"]:
                state["best_step"], state["best_score"] = step, main_score(task, results)
                save(output, model, tokenizer)
            with atomic_folder(output / "last") as folder:
                save(folder, model, tokenizer)
                save_state(folder, model, optimizer, state)
            clock = time.time()
    bar.close()
    return state


def save(folder, model, tokenizer):
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(folder)


@script
def main(argv=None):
    args = parse_args(argv)
    task = find_task(args.task_name)

    import paddle

    from convert import fetch, resolve
    from training import choose_device, choose_precision, prepare_output, run_facts

    args.device = choose_device(args.device, args.verbose)
    precision = choose_precision(args.amp, args.amp_dtype, args.device, args.model_type)
    paddle.seed(args.seed)
    output = prepare_output(args.output_dir, args.resume, args.overwrite)
    stopped = output / "last" if args.resume and (output / "last").is_dir() else None
    source = args.model_name_or_path
    if stopped:
        source = str(stopped)
    elif args.model_type == "convbert" and not args.from_scratch:
        source = resolve(source)
    elif source.startswith("hf:"):
        source = fetch(source.removeprefix("hf:"))
    tokenizer = load_tokenizer(args, source)
    model = load_model(args, task, source, tokenizer, args.from_scratch and not stopped)

    def encoded(split):
        return EncodedSplit(tokenizer, task, read_examples(task, split, args.data_dir), args.max_seq_length)

    dev = {split: encoded(split) for split in task.dev_splits}
    if args.do_train:
        train_split = encoded("train")
        state = train(args, task, model, tokenizer, train_split, dev, output, precision, stopped)
        trained = state["step"] * args.batch_size
        state["examples_per_second"] = trained / max(state["train_seconds"], 1e-9)
    else:
        results = evaluate_all(model, task, dev, args.batch_size, precision)
        state = dict(step=0, evaluations=[{"step": 0, **results}], best_step=0, best_score=main_score(task, results))
    write_json(output / "results.json", {"task": task.name, **state, **run_facts(), "arguments": vars(args)})
    print(
        f"best {task.main_metric}: {state['best_score']:.4f} at step {state['best_step']}; "
        f"model and results.json in {output}",
        file=sys.stderr,
    )


if __name__ == "__main__":
    sys.exit(main())
