"""What both training scripts call: device, batches, optimizer, schedule, log lines, checkpoints. The loop is theirs.

Nothing here keeps hidden state. The order of the data depends on (seed, epoch) alone and the dropout of a step on
(seed, step) alone, so a checkpoint needs no generator state: step, weights and optimizer say everything.
"""

import contextlib
import platform
import resource
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import paddle
from tqdm import tqdm

import ops
import runtime
from checkpoint_files import InputError, read_json, read_weights, write_json, write_safetensors


def choose_device(asked, verbose=False):
    """Makes Paddle use `asked` ("gpu", "gpu:1", "cpu", "xpu"; None: the best there is) and says so. → its full name.

    verbose: also say why the process is set up as it is.
    """
    device = runtime.find_device(asked)
    if device is None:
        raise InputError(f"--device {asked}: this Paddle sees {', '.join(runtime.devices())}")
    paddle.set_device(device)
    print(f"device: {device} ({runtime.summary()})", file=sys.stderr)
    if verbose:
        for setting, reason in runtime.SETTINGS:
            print(f"  {setting}: {reason}", file=sys.stderr)
    return device


def choose_precision(level, dtype, device, model_type="convbert"):
    """The function that opens the context for a step, forward and backward, or for an evaluation.

    Args:
        level: None for float32, or "O1": matrix products in `dtype`, weights and everything else in float32.

    Raises:
        InputError: not possible on this device, or with this model.
    """
    if level is None:
        return contextlib.nullcontext
    if device != "cpu":
        raise InputError(f"--amp {level}: so far on a CPU only, not on {device}")
    if model_type != "convbert":
        raise InputError(f"--amp {level}: on a CPU only ConvBERT has {dtype} products, not {model_type}")
    if reason := ops.bfloat16_obstacle():
        raise InputError(f"--amp {level} --amp_dtype {dtype}: {reason}")
    return ops.bfloat16


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


def seed_step(seed, step):
    """Starts Paddle's generators (dropout, sampling) anew for one step."""
    paddle.seed(int(np.random.SeedSequence([seed, step]).generate_state(1)[0]))


# ---------------------------------------------------------------------------------------------------------- optimizer


def linear_schedule(learning_rate, total_steps, warmup_steps):
    """PaddleNLP's LinearDecayWithWarmup: from 0 up to `learning_rate`, then straight down to 0 at `total_steps`."""

    def factor(step):
        if step < warmup_steps:
            return step / warmup_steps
        return max(0.0, total_steps - step) / max(1, total_steps - warmup_steps)

    return paddle.optimizer.lr.LambdaDecay(learning_rate, factor)


class AdamW(paddle.optimizer.AdamW):
    """Paddle's AdamW, on a CPU as one compiled pass over all parameters; the same arguments and the same state.

    `lr_ratio`, a function of a parameter, works on every device; groups have `learning_rate` instead. Paddle's
    step calls `_append_optimize_op` for every parameter that has a gradient; here that only notes it down.
    """

    def __init__(self, *args, lr_ratio=None, **kwargs):
        super().__init__(*args, **kwargs)
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


def adamw(model, learning_rate, weight_decay, epsilon):
    """AdamW for a model's parameters, with no decay on biases and norms."""
    decayed = {p.name for name, p in model.named_parameters() if not any(part in name for part in ("bias", "norm"))}
    return AdamW(
        learning_rate,
        epsilon=epsilon,
        parameters=model.parameters(),
        weight_decay=weight_decay,
        apply_decay_param_fun=decayed.__contains__,
    )


# ---------------------------------------------------------------------------------------------------------- log lines


def progress(total, start=0):
    """A tqdm bar on stderr; none when stderr is not a terminal."""
    return tqdm(total=total, initial=start, unit="step", disable=not sys.stderr.isatty(), file=sys.stderr)


def log(line):
    """Prints one of the published lines to stdout, above the progress bar."""
    tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()


# -------------------------------------------------------------------------------------------------------- checkpoints


def prepare_output(output_dir, resume, overwrite):
    """Creates the output folder. Raises InputError when it holds something and neither flag allows that."""
    folder = Path(output_dir)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output_dir {folder}: not a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (resume or overwrite):
        raise InputError(f"--output_dir {folder}: not empty; add --resume to go on, --overwrite to start anew")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def save_state(folder, model, optimizer, state):
    """Writes what a run needs to go on beside the model's own files: optimizer.safetensors and training_state.json.

    Args:
        state: dict that JSON can hold, e.g. the step and the best score so far.
    """
    names = {p.name: name for name, p in model.named_parameters()}
    arrays = {}
    for key, value in optimizer.state_dict().items():
        owner = max((p for p in names if key.startswith(f"{p}_")), key=len, default=None)
        if owner is not None:  # "linear_3.w_0_moment1_0" → "classifier.dense.weight:moment1_0"
            arrays[f"{names[owner]}:{key[len(owner) + 1 :]}"] = value.numpy()
    write_safetensors(folder / "optimizer.safetensors", arrays)
    write_json(folder / "training_state.json", state)


def load_state(folder, model, optimizer):
    """Restores the optimizer from what save_state wrote and returns `state`. Raises InputError."""
    names = {name: p.name for name, p in model.named_parameters()}
    state = read_json(folder / "training_state.json")
    moments = {}
    for key, array in read_weights(folder / "optimizer.safetensors").items():
        name, _, kind = key.partition(":")
        if name not in names:
            raise InputError(f"{folder / 'optimizer.safetensors'}: {name} is no parameter of this model")
        moments[f"{names[name]}_{kind}"] = paddle.to_tensor(array)
    optimizer.set_state_dict(moments)
    return state


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
