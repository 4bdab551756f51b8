"""AdamW: on a CPU in one pass, without decay of biases and norms, slower for layers further down."""

import re

import paddle

from layers.fast_path import compiled, on_fast_path


def layer_depth(name, num_layers):
    """Depth of a parameter of any of our models by its name: 0 embeddings, 1 … num_layers, num_layers + 1 the head."""
    if match := re.search(r"\.layers\.(\d+)\.", name):
        return int(match.group(1)) + 1
    return 0 if "embeddings" in name else num_layers + 1


class ClipByGlobalNorm(paddle.nn.ClipGradByGlobalNorm):
    """Paddle's clipping; on a CPU it only says by how much, and AdamW's pass over the gradients does it.

    Attributes:
        factor: what gradients are still to be multiplied by.
    """

    factor = 1.0

    def _dygraph_clip(self, params_grads):
        weights, gradients = zip(*params_grads, strict=True) if params_grads else ((), ())
        plain = all(getattr(weight, "need_clip", True) and not weight.regularizer for weight in weights)
        if not (gradients and plain and on_fast_path(*gradients)):
            self.factor = 1.0
            return super()._dygraph_clip(params_grads)
        self.factor = compiled().optimizer.clip_factor(gradients, self.clip_norm)
        return params_grads


class AdamW(paddle.optimizer.AdamW):
    """Paddle's AdamW, on a CPU as one compiled pass over all parameters; the same arguments and the same state.

    `lr_ratio`, a function of a parameter, works on every device; groups have `learning_rate` instead. Without
    `bias_correction` the moments are taken as they are: their powers of beta start, and so stay, at 0. Paddle's step
    calls `_append_optimize_op` for every parameter that has a gradient; here that only notes it down.

    Attributes:
        operands: None, or an operands.Bfloat16 of the weights, which a step keeps as they are.
        made: None, or whether steps are made, a bool tensor [1] that only the device reads. In a step that is not, the
            weights stay as they are, and the moments are those of a gradient of zeros. Not for a CPU's one pass.
    """

    def __init__(self, *args, lr_ratio=None, bias_correction=True, **kwargs):
        super().__init__(*args, **kwargs)
        self._bias_correction = bias_correction
        self._states = {}  # weight's name → its two moments and two powers of beta
        self.operands = self.made = None
        if lr_ratio is not None:
            for weight in self._parameter_list:
                weight.optimize_attr["learning_rate"] = lr_ratio(weight)

    def step(self):
        self._known = self._states if on_fast_path() else {}  # weights that need no further look
        self._due = {}  # (beta1, beta2, epsilon), which parameter groups may have of their own → what adamw_step takes
        self._others = []  # weights of which Paddle sees to all
        super().step()
        places = self.operands.places if self.operands else {}
        for constants, due in self._due.items():
            compiled().optimizer.adamw_step(due, *constants, places)
        if self.operands:
            weights = [entry[0] for due in self._due.values() for entry in due if not places.get(entry[0].data_ptr())]
            self.operands.changed({weight.data_ptr() for weight in (*weights, *self._others)})

    def clear_grad(self, set_to_zero=False):
        """Paddle's default keeps a gradient of zeros, which costs a pass now and an addition in the next backward."""
        super().clear_grad(set_to_zero)

    def _add_accumulator(self, name, param, **settings):
        if not self._bias_correction and name in (self._beta1_pow_acc_str, self._beta2_pow_acc_str):
            settings["fill_value"] = 0.0
        return super()._add_accumulator(name, param, **settings)

    def _create_param_lr(self, param_and_grad):
        rate = super()._create_param_lr(param_and_grad)
        return rate if self.made is None else rate * self.made.astype(rate.dtype)

    def _append_optimize_op(self, block, param_and_grad):
        if isinstance(param_and_grad, dict):
            param_and_grad = self._update_param_group(param_and_grad)
        weight, gradient = param_and_grad
        factor = getattr(self._grad_clip, "factor", 1.0)
        known = weight.name in self._known or on_fast_path(weight, gradient)
        if getattr(self, "_amsgrad", False) or self._lazy_mode or not known:
            gradient = gradient if factor == 1.0 else gradient * factor
            if self.made is not None:
                gradient = paddle.where(self.made, gradient, paddle.zeros_like(gradient))
            super()._append_optimize_op(block, (weight, gradient))
            self._others.append(weight)
            return
        rate = self.get_lr() * weight.optimize_attr["learning_rate"]
        decays = self._apply_decay_param_fun is None or self._apply_decay_param_fun(weight.name)
        decay = rate * self._weight_decay if decays else 0.0
        if weight.name not in self._states:
            names = self._moment1_acc_str, self._moment2_acc_str, self._beta1_pow_acc_str, self._beta2_pow_acc_str
            self._states[weight.name] = [self._get_accumulator_master(name, weight) for name in names]
        due = self._due.setdefault((self._beta1, self._beta2, self._epsilon), [])
        due.append((weight, gradient, *self._states[weight.name], rate, decay, factor))


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
        grad_clip=ClipByGlobalNorm(max_grad_norm) if max_grad_norm else None,
        lr_ratio=ratios and (lambda p: ratios[p.name]),
        bias_correction=not tf_compat,
        **constants,
    )
