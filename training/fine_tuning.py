"""What the scripts that fine-tune have alike: their flags' checks, where a run begins, its loop, its end."""

import functools
import math
import sys
from typing import Any, NamedTuple

from files.errors import InputError
from flags.training import check_training


def parsed(parser, argv):
    """The flags of a script that takes --train_file, --validation_file and --test_file alone."""
    args = parser.parse_args(argv)
    if args.do_train and not args.train_file:
        parser.error("training needs --train_file; --no-do_train only evaluates")
    if args.do_predict and not args.test_file:
        parser.error("--do_predict needs --test_file")
    require_sense(parser, args)
    return args


def launch(args, run_all):
    """See signals.start, whose module needs Paddle."""
    from training.signals import start

    start(run_all, args)


def require_sense(parser, args):
    """Ends with a line where flags of a fine-tuning contradict each other; sets --eval_batch_size if left out."""
    args.eval_batch_size = args.eval_batch_size or args.batch_size
    check_training(parser, args)
    if args.dtype and args.do_train:
        parser.error("--dtype is for --no-do_train; --amp O1 trains with products in bfloat16")
    if args.resume and not args.do_train:
        parser.error("--resume goes on with a training; to evaluate, take another --output_dir, or --overwrite")


def precision_of(args):
    """The Precision of a training, or of an evaluation alone. Raises InputError: there is none such here."""
    import paddle

    from training.precision import choose_inference, choose_precision

    if args.do_train:
        return choose_precision(args.amp, args.amp_dtype, paddle.get_device())
    return choose_inference(args.dtype, args.amp, args.amp_dtype, paddle.get_device())


AT_THE_START = dict(best_step=0, best_score=None, best_loss=None, evaluations_since_best=0, examples=0)  # a run's state


class Start(NamedTuple):
    """Where a run begins."""

    source: str  # a name or a folder; of a run that goes on, its last/
    new: str  # what begins at random: see classifiers.load_classifier and heads.load_head
    changes: dict  # fields of the configuration that differ from the source's

    @classmethod
    def of(cls, args, source, last):
        """source: what the flags name, resolved; last: the folder that a stopped run goes on from, or None."""
        new = "nothing" if last or not args.do_train else "head" if args.init_from else "misfit"
        if args.from_scratch and not last:
            new = "everything"
        changes = {} if args.mask_conv_padding is None else {"mask_conv_padding": args.mask_conv_padding}
        return cls(str(last or source), new, changes)


class Loop(NamedTuple):
    """What a script's own part of the loop is.

    pieces: function of the numbers of a batch's examples: what this process does of them, [(name → array, weight)], as
    of order.weighted_pieces. loss: function of the run and of name → tensor: their mean loss. evaluate: function of
    nothing: split → loss and scores, what write and draw take, the number by which models are compared, NaN where it
    means nothing. write: function of that: the best model and its reports; returns what the run's state shall say of
    it, a dict, or None. save: function of a folder: the model. use: a command that uses it, with {} for its folder.
    draw: as write, for pictures, after all is saved.
    """

    pieces: Any
    loss: Any
    evaluate: Any
    write: Any
    save: Any
    use: str
    draw: Any = None


def fine_tune(run, title, lengths, loop):
    """The loop, from the start or from where a stopped run stands.

    Args:
        run: what has args, model, output, precision, processes, last and settings, as tasks.head_runs.Run.
        title: of the curves.
        lengths: of the examples, in tokens.
        loop: a Loop.

    Returns:
        The run's state: step, what was logged, every evaluation, the best one's step and score, seconds spent.
    """
    from training.curves import draw_curves
    from training.loop import Plan, Steps
    from training.model_card import card_of_run
    from training.order import ahead, shuffled_batches

    args = run.args
    plan = Plan.of(args, len(lengths), args.batch_size, run.processes)
    warmup_steps = args.warmup_steps or int(args.warmup_proportion * plan.total_steps)
    steps = Steps(
        args, plan, warmup_steps, run.model, run.output, run.last, run.precision, run.processes,
        functools.partial(draw_curves, title), {**AT_THE_START, "settings": run.settings},
        args.layer_lr_decay, args.early_stopping_patience,
    )  # fmt: skip

    @functools.lru_cache(1)
    def batches(epoch):
        return shuffled_batches(lengths, plan.batch_size, args.seed, epoch, args.bucket)

    places = (divmod(step, plan.steps_per_epoch) for step in range(steps.step, plan.total_steps))
    numbers = (batches(epoch)[place] for epoch, place in places)
    made = ahead(lambda batch: (len(batch), loop.pieces(batch)), numbers)
    for step, (size, pieces) in zip(steps, made, strict=False):
        loss = backward(run, loop.loss, pieces, step)
        steps.state["examples"] += size
        steps.learn(loss)

        due, best = steps.due(), False
        if due.log:
            steps.log(f"batch: {steps.batch}, rank_id: 0, loss: {steps.loss:f}", {"loss": steps.loss})
        if due.evaluate:
            results, found, score = loop.evaluate()
            best = steps.evaluated(results, score) and run.processes.writes
            if best:
                steps.state |= loop.write(found) or {}
                card_of_run(run, loop.use, steps.state)
        if steps.saves:
            steps.save(loop.save)
        if best and loop.draw:
            loop.draw(found)
    steps.state["examples_per_second"] = steps.state["examples"] / max(steps.state["train_seconds"], 1e-9)
    return steps.state


def backward(run, loss_of, pieces, step):
    """Gradients of a step's loss, averaged over all processes. Returns this process's part of the loss."""
    import paddle

    from training.device import figures
    from training.order import seed_step

    seed_step(run.args.seed, step, run.processes.rank)
    total = 0.0
    with run.precision.training():
        for number, (arrays, weight) in enumerate(pieces, 1):
            loss = loss_of(run, {name: paddle.to_tensor(array) for name, array in arrays.items()})
            loss = loss if weight == 1 else loss * float(weight)
            if number == len(pieces):
                run.processes.last_backward()
            run.precision.backward(loss)
            total = total + figures(loss)
    run.processes.average_gradients()
    return total


def only_evaluated(results, score):
    """The state of a run that trains nothing."""
    best = None if math.isnan(score) else score
    return dict(step=0, evaluations=[{"step": 0, **results}], best_step=0, best_score=best)


def end_run(run, best_by, state, **facts):
    """Writes results.json, and says what came out. Raises InputError: no evaluation gave a number."""
    from training.start import write_results

    args, output, processes = run.args, run.output, run.processes
    if processes.writes:
        write_results(output, args, **facts, **state)
    if state["best_score"] is None:
        kept = f"{output / 'last'} holds step {state['step']}" if args.do_train else "its weights are damaged"
        raise InputError(f"{run.start.source}: no evaluation gave a number (but NaN or infinity); {kept}")
    if processes.writes:
        print(
            f"best {best_by}: {state['best_score']:.4f} at step {state['best_step']}; "
            f"model and results.json in {output}",
            file=sys.stderr,
        )
