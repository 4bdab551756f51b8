"""The frame of a training script's loop: what is due after a step, the optimizer's step, log lines, saving.

Loss and evaluation stay in the script's own loop:

    plan = Plan.of(args, examples, args.batch_size, processes)
    steps = Steps(args, plan, warmup_steps, model, …)
    for step in steps:
        loss = …  # device.figures of this process's part; and gradients, averaged over all processes
        steps.learn(loss)
        due = steps.due()
        if due.log:
            steps.log(f"loss: {steps.loss:f}", {"loss": steps.loss})
        if due.evaluate:
            steps.evaluated(…)
        if steps.saves:
            steps.save(write_model)

run_pretrain.py and run_glue.py show all of it.

Steps on a CPU end when they are computed. Other devices work behind the host, which must not wait for them: there the
loss of a step is read when the next one has been handed over, or when it is logged, and a signal is heard one later.
"""

import functools
import math
import signal
import sys
import time
from typing import NamedTuple

import numpy as np
import paddle

from files.errors import InputError
from flags.training import EPOCH
from training.curves import Curves
from training.log import log, progress
from training.optimizer import adamw
from training.precision import settle_products
from training.run_folder import clear_old_run, load_state, save_last
from training.schedule import learning_rates
from training.signals import NAMES, Ended, finished_steps
from training.trackers import Trackers

EVALUATED_EVERY = 100  # steps, where flags say nothing of evaluating and saving
HEARD = 4  # numbers that all processes add up in a step: its loss, and see Steps._asked
SKIPPED_IN_A_ROW = 10  # steps with a loss that is no number, after which a run gives up


class Plan(NamedTuple):
    """How many steps a run has, and of what size."""

    batch_size: int  # of all processes together
    steps_per_epoch: int  # the last one may have fewer examples
    total_steps: int

    @classmethod
    def of(cls, args, examples, batch_size, processes):
        """args: flags of flags.training; examples: how many there are; batch_size: examples at a time in a process."""
        size = batch_size * args.gradient_accumulation_steps * processes.count
        per_epoch = -(-examples // size)
        return cls(
            size, per_epoch, args.max_steps if args.max_steps > 0 else math.ceil(per_epoch * args.num_train_epochs)
        )


class Due(NamedTuple):
    """What is to be done after a step."""

    log: bool
    evaluate: bool
    save: bool


class Steps:
    """The steps of a run, from the first one, or from where a stopped run stood, to the last.

    Iteration gives their numbers, from 1. `epoch` and `batch` are the step's place, both from 0; `state` is what
    results.json and `last/` hold of the run. An old run in the folder that is not gone on with is removed first.

    All is saved every `--save_steps`, if any, when `--save_minutes` are over, where a signal ends the run, and at its
    end.

    Raises InputError: the run that is gone on with had more steps, or does not fit the model.

    Args:
        args: flags of flags.training.
        plan: a Plan.
        warmup_steps: how many of the steps warm up.
        model: what learns.
        output: the run's folder, a Path.
        last: the folder that a stopped run goes on from; None: from the start.
        precision, processes: a precision.Precision and a processes.Processes.
        draw: function that makes a picture of (state, path).
        state: what the script itself keeps there, at its start; "settings": of settings.settings_of.
        layer_decay: see optimizer.adamw.
        patience: evaluations without a new best after which the run stops; 0: never.
    """

    def __init__(
        self, args, plan, warmup_steps, model, output, last, precision, processes, draw, state, layer_decay=1.0,
        patience=0,
    ):  # fmt: skip
        self._args, self._model, self._output = args, model, output
        self._precision, self._processes, self._patience = precision, processes, patience
        self._plan = plan
        self._schedule = learning_rates(
            args.lr_scheduler_type, args.learning_rate, plan.total_steps, warmup_steps, args.tf_compat, args.decay_steps
        )
        self._optimizer = adamw(
            model, self._schedule, args.weight_decay, args.adam_epsilon, args.max_grad_norm, layer_decay, args.tf_compat
        )
        precision.prepare(model, self._optimizer)
        processes.start_equal(model)
        self.state = dict(
            step=0, evaluations=[], log=[], skipped_steps=0, skipped_in_a_row=0, train_seconds=0.0, eval_seconds=0.0,
            precision={}, **state,
        )  # fmt: skip
        if last:
            kept = {name: state[name] for name in ("settings",) if name in state}
            self.state |= load_state(last, model, self._optimizer) | kept
            precision.restore(self.state["precision"])
            self._schedule.step(self.state["step"])
            self._go_on(last)
        self.state["processes"] = processes.count
        self.state["products"] = settle_products(self.state.get("products"), processes)
        self.state["total_steps"] = plan.total_steps
        picture = functools.partial(draw, self.state, output / "curves.png")
        self.step = self.state["step"]
        self._signal, self._overdue, self._curves = None, False, Curves()
        self._loss, self._unread = math.nan, None  # the last step's; (step, tensor of HEARD numbers) on a device
        if processes.writes:
            trackers = Trackers(args, output, self.step, anew=not last)
            if not last:
                clear_old_run(output)
            self._curves = Curves(trackers, picture)

    def _go_on(self, last):
        """More steps than the run had are the schedule of the longer run from here on; fewer are refused."""
        count = self.state.get("processes", self._processes.count)
        if count != self._processes.count and self._processes.writes:
            print(
                f"goes on in {self._processes.count} processes instead of {count}: a step has the same examples, but "
                "each process draws its dropout, so that figures differ from those of a run that was not stopped",
                file=sys.stderr,
            )
        before, now = self.state.get("total_steps"), self._plan.total_steps
        if self.state["step"] > max(now, before or 0):
            raise InputError(f"{last}: holds step {self.state['step']} of a run of {now} steps")
        if before is None or before == now:
            return
        if now < before:
            raise InputError(f"{last}: a run of {before} steps, now {now}; --max_steps and epochs may only grow")
        if self._processes.writes:
            print(
                f"goes on after step {self.state['step']} to {now} steps instead of {before}: the learning rate is "
                f"that of a run of {now} steps from here on, {self._schedule.get_lr():.3g} first",
                file=sys.stderr,
            )

    @property
    def epoch(self):
        return (self.step - 1) // self._plan.steps_per_epoch

    @property
    def batch(self):
        return (self.step - 1) % self._plan.steps_per_epoch

    def __iter__(self):
        self._model.train()
        self._bar = progress(self._plan.total_steps, self.step, shown=self._processes.writes)
        self._mark()
        self._saved = time.monotonic()
        with finished_steps() as self._noted:
            for step in range(self.step + 1, self._plan.total_steps + 1):
                if self._patient_no_more():
                    print(f"stopped early: no better than at step {self.state['best_step']} since", file=sys.stderr)
                    break
                self.step, self._due = step, None
                yield step
                if self._due:
                    self._count_evaluation()
                    if self._due.evaluate or self._due.save:
                        self._processes.wait()  # for what the first one writes
                    if self._due.save:
                        self._agree()  # on what came while it was written
                        self._end_where_asked()
        self._agree()
        self._end_where_asked()
        self._bar.close()
        self._curves.close()

    def _patient_no_more(self):
        return self._patience and self.state["evaluations_since_best"] >= self._patience

    def _asked(self):
        """What this process wants of all: to end, by which signal; to save, as it is time."""
        noted, minutes = self._noted(), self._args.save_minutes
        overdue = self._processes.writes and 0 < 60 * minutes <= time.monotonic() - self._saved
        return noted == signal.SIGTERM, noted == signal.SIGINT, overdue

    def _hear(self, asked):
        """What one of them wants, the same in all processes. asked: the sum over them of _asked."""
        terminated, interrupted, self._overdue = (bool(wish > 0) for wish in asked)
        self._signal = signal.SIGTERM if terminated else signal.SIGINT if interrupted else None

    def _agree(self):
        self._hear(self._processes.add(np.array(self._asked(), np.float32)))

    def _end_where_asked(self):
        if self._signal is None:
            return
        self._bar.close()
        self._curves.close(draw=False)
        if self._processes.writes:
            print(
                f"ended by {NAMES[self._signal]} after step {self.step}, which {self._output / 'last'} holds; "
                "the same command with --resume goes on",
                file=sys.stderr,
            )
        raise Ended(self._signal)

    def _mark(self):
        """Speed is counted from here."""
        self._clock, self._marked = time.time(), (self.step, self.state.get("tokens", 0))

    def learn(self, loss, sums=()):
        """The optimizer's step with the gradients that there are, left out where the loss is no number.

        Args:
            loss: of this process's part of the step, device.figures.
            sums: other figures of it, alike, float64 [N].

        Returns:
            The figures added up over all processes; zeros where the step was left out.

        Raises:
            InputError: after SKIPPED_IN_A_ROW that were.
        """
        asked = self._asked()
        if isinstance(loss, paddle.Tensor):
            kept = self._learn_unread(loss, asked, sums)
        else:
            found = self._processes.add(np.array([loss, *asked, *sums], np.float64))
            kept = np.asarray(found[HEARD:], np.float64)
            if self._note(self.step, found[:HEARD]):
                self._precision.step(self._optimizer)
            else:
                kept = np.zeros_like(kept)
        self._optimizer.clear_grad()
        self._schedule.step()
        self._bar.set_postfix(loss=f"{self._loss:.4f}", lr=f"{self._schedule.get_lr():.2e}", refresh=False)
        self._bar.update()
        return kept

    def _learn_unread(self, loss, asked, sums):
        own = [loss.reshape([1]), paddle.to_tensor(np.array(asked, np.float64))]
        found = self._processes.add(paddle.concat([*own, sums] if len(sums) else own))
        made = paddle.isfinite(found[:1])
        self._optimizer.made = made
        self._precision.step(self._optimizer)
        self._read()
        self._unread = self.step, found[:HEARD]
        return paddle.where(made, found[HEARD:], paddle.zeros_like(found[HEARD:])) if len(sums) else ()

    def _read(self):
        """Waits for the last step whose loss is not known."""
        if self._unread:
            (step, found), self._unread = self._unread, None
            self._note(step, found.numpy())

    @property
    def loss(self):
        """Of the last step: the mean over the processes."""
        self._read()
        return self._loss

    def _note(self, step, found):
        """Keeps the loss of a step and what was asked in it, HEARD numbers. Returns whether the loss is one."""
        self._loss = float(found[0]) / self._processes.count
        self._hear(found[1:])
        state = self.state
        if math.isfinite(self._loss):
            state["skipped_in_a_row"] = 0
            return True
        state["skipped_steps"] += 1
        state["skipped_in_a_row"] += 1
        print(f"warning: the loss of step {step} is {self._loss}: step skipped", file=sys.stderr)
        if state["skipped_in_a_row"] == SKIPPED_IN_A_ROW:
            kept = f"{self._output / 'last'} holds step {state['step']}" if state["step"] else "nothing was saved yet"
            raise InputError(f"the loss was no number in {SKIPPED_IN_A_ROW} steps, up to step {step}; {kept}")
        return False

    def due(self):
        """What is to be done after this step; where anything is, training's clock stands still until the next one.

        To be called after every step, by all processes.
        """
        args = self._args
        evaluates = args.eval_steps or args.save_steps or EVALUATED_EVERY
        saves = args.save_steps or (evaluates if args.keep_checkpoints else None)

        def comes(every):
            steps = self._plan.steps_per_epoch if every == EPOCH else every or self._plan.total_steps
            return self.step == self._plan.total_steps or self.step % steps == 0

        self._at_its_time = comes(saves)  # and no minutes or signal
        due = Due(
            log=comes(args.logging_steps) or (args.logging_first_step and self.step == 1),
            evaluate=comes(evaluates),
            save=self._at_its_time or self._overdue or self._signal is not None,
        )
        if any(due):
            self._read()
            seconds, (step, tokens) = time.time() - self._clock, self._marked
            self.state["train_seconds"] += seconds
            self._speed = (self.step - step) / seconds, (self.state.get("tokens", 0) - tokens) / seconds
            self._mark()
            self._due = due
        return due

    @property
    def saves(self):
        """Whether this step is saved: it is due, or its evaluation was the run's last one."""
        return self._due is not None and self._due.save

    def log(self, words, values):
        """Prints the published line with `words` in its middle, and keeps `values`, name → number, with the rate."""
        rate = self._schedule.get_lr()
        self.state["log"].append({"step": self.step, **values, "lr": rate})
        self._curves.add(self.step, {f"train/{name}": value for name, value in (*values.items(), ("lr", rate))})
        if self._processes.writes:
            steps, tokens = self._speed
            log(
                f"global step {self.step}/{self._plan.total_steps}, epoch: {self.epoch}, {words}, lr: {rate:.10f}, "
                f"speed: {steps:.4f} step/s" + (f", {tokens:.0f} tokens/s" if "tokens" in self.state else "")
            )

    def evaluated(self, results, score=None):
        """Keeps the results of an evaluation.

        Args:
            results: name → number, or split → name → number.
            score: the number by which models are compared, in `state` with its step when it is the best so far; of
                equal ones the lower loss is the better.

        Returns:
            Whether it is.
        """
        state = self.state
        has_splits = any(isinstance(found, dict) for found in results.values())
        splits = results if has_splits else {"validation": results}
        for split, found in splits.items():
            self._curves.add(self.step, {f"{split}/{name}": value for name, value in found.items()})
        state["evaluations"].append({"step": self.step, **results})
        if score is None:
            return False
        loss = float(np.mean([found["loss"] for found in splits.values()]))
        before = state["best_score"], state.get("best_loss")
        best = not math.isnan(score) and (before[0] is None or _better((score, loss), before))
        if best:
            state |= dict(best_step=self.step, best_score=score, best_loss=loss, evaluations_since_best=0)
        else:
            state["evaluations_since_best"] += 1
            if self._patient_no_more():
                self._due, self._at_its_time = self._due._replace(save=True), True
        return best

    def save(self, write_model):
        """Writes all that --resume needs to `last/`, and the pictures. write_model: function of a folder."""
        self._count_evaluation()
        self.state |= dict(step=self.step, precision=self._precision.state())
        if self._processes.writes:
            keep = self._args.keep_checkpoints if self._at_its_time else 0
            save_last(self._output, write_model, self._model, self._optimizer, self.state, keep)
            if self._signal is None:
                self._curves.redraw()
        self._saved = time.monotonic()

    def _count_evaluation(self):
        """Adds the time since the last look at the clock to that of evaluating and saving, if any of that was due."""
        now = time.time()
        if self._due.evaluate or self._due.save:
            self.state["eval_seconds"] += now - self._clock
        self._mark()


def _better(new, old):
    """Of (score, loss): a higher score, or a lower loss with the same; one that is no number is worse than any."""

    def order(score, loss):
        score = -math.inf if math.isnan(score) else score
        return score, -math.inf if loss is None or math.isnan(loss) else -loss  # in last/ NaN is null

    return order(*new) > order(*old)
