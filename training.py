"""What both training scripts call: device, batches, optimizer, schedule, log lines, checkpoints. The loop is theirs.

Nothing here keeps hidden state. The order of the data depends on (seed, epoch) alone and the dropout of a step on
(seed, step) alone, so a checkpoint needs no generator state: step, weights and optimizer say everything.
"""

import math
import os
import platform
import re
import resource
import sys
import time
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import paddle
from tqdm import tqdm

import ops
import runtime
from checkpoint_files import InputError


def choose_device(asked, verbose=False):
    """Makes Paddle use `asked` ("gpu", "gpu:1", "cpu", "xpu"; None: the best there is) and says so. → its full name.

    verbose: also say why the process is set up as it is.
    """
    device = runtime.find_device(asked)
    if device is None:
        raise InputError(f"--device {asked}: this Paddle sees {', '.join(runtime.devices())}")
    launched = "PADDLE_TRAINER_ID" in os.environ and ":" not in (asked or "")
    paddle.set_device(device.partition(":")[0] if launched else device)  # a launcher says which one
    device = paddle.get_device()
    print(f"device: {device} ({runtime.summary()})", file=sys.stderr)
    if verbose:
        for setting, reason in runtime.SETTINGS:
            print(f"  {setting}: {reason}", file=sys.stderr)
    return device


# --------------------------------------------------------------------------------------------------------------- data

BUCKET_BATCHES = 50  # batches that are sorted by length among themselves: enough to fit, few enough to stay random


def shuffled_batches(lengths, batch_size, seed, epoch, bucket=True):
    """One epoch's batches of similar lengths, in random order.

    Args:
        lengths: length of each example, in tokens.
        bucket: False gives plain shuffled batches.

    Returns:
        list of int arrays of example indices; every example once, the last partial batch included.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    if not bucket:
        return np.split(order, range(batch_size, len(order), batch_size))
    batches = []
    for start in range(0, len(order), BUCKET_BATCHES * batch_size):
        pool = order[start : start + BUCKET_BATCHES * batch_size]
        pool = pool[np.argsort(np.asarray(lengths)[pool], kind="stable")]
        batches += np.split(pool, range(batch_size, len(pool), batch_size))
    return [batches[index] for index in random.permutation(len(batches))]


def batches_by_length(lengths, batch_size):
    """All examples in order of length, for evaluation: list of int arrays of example indices."""
    order = np.argsort(lengths, kind="stable")
    return np.split(order, range(batch_size, len(order), batch_size))


def seed_step(seed, step, rank=0):
    """Starts Paddle's generators (dropout, sampling) anew for one step of one process."""
    paddle.seed(int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0]))


def weighted_pieces(batch, piece_size, processes):
    """One process's part of a batch that is worked on in pieces, by several processes or one after the other.

    Args:
        batch: int array of example indices.
        processes: processes.Processes, or anything with its `share` and `count`.

    Returns:
        list of (indices, weight): the mean over the processes of the sum over their pieces of weight · mean loss is the
        mean loss of the batch. Never empty: a process that is left without examples gets one of weight 0.
    """
    pieces = processes.share(np.split(batch, range(piece_size, len(batch), piece_size)))
    return [(piece, processes.count * len(piece) / len(batch)) for piece in pieces] or [(batch[:1], 0.0)]


# ---------------------------------------------------------------------------------------------------------- optimizer


def learning_rates(kind, highest, total_steps, warmup_steps, decay_in_warmup=False):
    """The scheduler that rises in a straight line over `warmup_steps` and then goes down to 0 at `total_steps`.

    Args:
        kind: "linear" falls in a straight line (PaddleNLP's LinearDecayWithWarmup), "cosine" in half a wave, "constant"
            not at all.
        decay_in_warmup: as in T, where the fall begins with the first step and warm-up is a factor on top.
    """
    fallen = {
        "linear": lambda share: 1.0 - share,
        "cosine": lambda share: 0.5 * (1.0 + np.cos(np.pi * share)),
        "constant": lambda share: 1.0,
    }[kind]
    start = 0 if decay_in_warmup else warmup_steps

    def factor(step):
        rise = min(1.0, step / warmup_steps) if warmup_steps else 1.0
        return rise * fallen(min(1.0, max(0, step - start) / max(1, total_steps - start)))

    return paddle.optimizer.lr.LambdaDecay(highest, factor)


def layer_depth(name, num_layers):
    """Depth of a parameter of any of our models by its name: 0 embeddings, 1 … num_layers, num_layers + 1 the head."""
    if match := re.search(r"\.layers\.(\d+)\.", name):
        return int(match.group(1)) + 1
    return 0 if "embeddings" in name else num_layers + 1


class AdamW(paddle.optimizer.AdamW):
    """Paddle's AdamW, on a CPU as one compiled pass over all parameters; the same arguments and the same state.

    `lr_ratio`, a function of a parameter, works on every device; groups have `learning_rate` instead. Without
    `bias_correction` the moments are taken as they are: their powers of beta start, and so stay, at 0. Paddle's step
    calls `_append_optimize_op` for every parameter that has a gradient; here that only notes it down.
    """

    def __init__(self, *args, lr_ratio=None, bias_correction=True, **kwargs):
        super().__init__(*args, **kwargs)
        self._bias_correction = bias_correction
        self._states = {}  # weight's name → its two moments and two powers of beta
        if lr_ratio is not None:
            for weight in self._parameter_list:
                weight.optimize_attr["learning_rate"] = lr_ratio(weight)

    def step(self):
        self._due = {}  # (beta1, beta2, epsilon), which parameter groups may have of their own → what ops.adamw takes
        super().step()
        for constants, due in self._due.items():
            ops.adamw(due, *constants)

    def clear_grad(self, set_to_zero=False):
        """Paddle's default keeps a gradient of zeros, which costs a pass now and an addition in the next backward."""
        super().clear_grad(set_to_zero)

    def _add_accumulator(self, name, param, **settings):
        if not self._bias_correction and name in (self._beta1_pow_acc_str, self._beta2_pow_acc_str):
            settings["fill_value"] = 0.0
        return super()._add_accumulator(name, param, **settings)

    def _append_optimize_op(self, block, param_and_grad):
        if isinstance(param_and_grad, dict):
            param_and_grad = self._update_param_group(param_and_grad)
        weight, gradient = param_and_grad
        if self._amsgrad or self._lazy_mode or not ops.on_fast_path(weight, gradient):
            super()._append_optimize_op(block, param_and_grad)
            return
        rate = self.get_lr() * weight.optimize_attr["learning_rate"]
        decays = self._apply_decay_param_fun is None or self._apply_decay_param_fun(weight.name)
        decay = rate * self._weight_decay if decays else 0.0
        if weight.name not in self._states:
            names = self._moment1_acc_str, self._moment2_acc_str, self._beta1_pow_acc_str, self._beta2_pow_acc_str
            self._states[weight.name] = [self._get_accumulator_master(name, weight) for name in names]
        due = self._due.setdefault((self._beta1, self._beta2, self._epsilon), [])
        due.append((weight, gradient, *self._states[weight.name], rate, decay))


def adamw(
    model, learning_rate, weight_decay, epsilon, max_grad_norm=None, layer_decay=1.0, tf_compat=False, **constants
):
    """AdamW for a model's parameters, with no decay on biases and norms.

    Args:
        max_grad_norm: longer gradients, all parameters' as one vector, are cut to this length; None: never.
        layer_decay: every layer learns this much slower than the one above it.
        tf_compat: T's: no bias correction, and the whole body one layer deeper below the head than it is.
        **constants: beta1, beta2.
    """
    named = dict(model.named_parameters())
    decayed = {p.name for name, p in named.items() if not any(part in name for part in ("bias", "norm"))}
    ratios = None
    if layer_decay != 1.0:
        layers = model.config.num_hidden_layers
        below = {p.name: layers + 1 - layer_depth(name, layers) for name, p in named.items()}  # layers below the head
        ratios = {name: layer_decay ** (depth + (tf_compat and depth > 0)) for name, depth in below.items()}
    return AdamW(
        learning_rate,
        epsilon=epsilon,
        parameters=model.parameters(),
        weight_decay=weight_decay,
        apply_decay_param_fun=decayed.__contains__,
        grad_clip=paddle.nn.ClipGradByGlobalNorm(max_grad_norm) if max_grad_norm else None,
        lr_ratio=ratios and (lambda p: ratios[p.name]),
        bias_correction=not tf_compat,
        **constants,
    )


# ---------------------------------------------------------------------------------------------------------- log lines


def progress(total, start=0, shown=True):
    """A tqdm bar on stderr with speed and remaining time; none when stderr is not a terminal."""
    hidden = not (shown and sys.stderr.isatty())
    return tqdm(total=total, initial=start, unit="step", disable=hidden, file=sys.stderr)


REDRAW_SECONDS = 20  # after which an evaluation draws the curves anew: a picture takes up to a second


class Curves:
    """A run's figures while it goes on: for VisualDL, if `folder` is given, and as a picture, which `draw()` writes.

    Raises InputError: VisualDL is not installed.
    """

    def __init__(self, folder=None, draw=None):
        self._writer, self._draw, self._drawn = None, draw, time.time()
        if folder is not None:
            try:
                from visualdl import LogWriter
            except ImportError as error:
                raise InputError(f"--visualdl_dir: needs visualdl ({error})") from None
            self._writer = LogWriter(logdir=str(folder))

    def add(self, step, values):
        """values: name → number."""
        for name, value in values.items() if self._writer else ():
            self._writer.add_scalar(name, value, step)

    def redraw(self):
        """Draws, unless that was just done."""
        if self._draw and time.time() - self._drawn > REDRAW_SECONDS:
            self._draw()
            self._drawn = time.time()

    def close(self):
        if self._draw:
            self._draw()
        if self._writer:
            self._writer.close()


SKIPPED_IN_A_ROW = 10  # steps with a loss that is no number, after which a run gives up


def is_number(loss, step, state, last):
    """Whether a step's loss is a number. If not, that is said and counted in `state`; too often in a row ends the run.

    Args:
        state: the run's, with `skipped_steps`, `skipped_in_a_row` and the `step` that was saved last.
        last: the folder that holds what was saved.
    """
    if math.isfinite(loss):
        state["skipped_in_a_row"] = 0
        return True
    state["skipped_steps"] += 1
    state["skipped_in_a_row"] += 1
    print(f"warning: the loss of step {step} is {loss}: step skipped", file=sys.stderr)
    if state["skipped_in_a_row"] == SKIPPED_IN_A_ROW:
        kept = f"{last} holds step {state['step']}" if state["step"] else "nothing was saved yet"
        raise InputError(f"the loss was no number in {SKIPPED_IN_A_ROW} steps, up to step {step}; {kept}")
    return False


def log(line):
    """Prints one of the published lines to stdout, above the progress bar."""
    tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()


def run_facts():
    """Versions, hardware and peak memory of this process, to be kept beside results."""
    packages = {}
    for package in ("paddlepaddle", "paddlepaddle-gpu", "paddlenlp", "numpy", "tokenizers"):
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            continue
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB; bytes on macOS
    return {
        "versions": {"python": platform.python_version(), **packages},
        "machine": {
            "processor": runtime.processor_name(),
            "cores": runtime.cores(),
            "device": paddle.get_device(),
            "setup": runtime.summary(),
            "compiled_loops": "cpu_functions" in sys.modules,
        },
        "peak_memory_mb": round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1),
    }
