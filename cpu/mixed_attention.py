"""The CPU's path of `modeling.MixedAttention`: forward and a hand-written backward, a program each.

Dimension letters: B batch, L length, N = B·L, H heads of one kind, D head size, W = H·D, K convolution kernel, E hidden
size.
"""

import functools

from paddle.autograd import PyLayer

from cpu import steps
from cpu.functions import is_differentiable, needs_of, wanted
from cpu.operands import contiguous, draw_keys, empty, precision
from cpu.programs import Program
from cpu.steps import Heads

PROJECTING = 0, 2, 4, 6  # of the weights, the matrices that x is multiplied by
REST = [i for i in range(17) if i not in PROJECTING]
OPERANDS = [REST.index(i) for i in (9, 11, 13)]  # of the rest, those that products take


def mixed_attention(x, mask, real, weights, heads, epsilon, attention_dropout, dropout, training):
    form = precision.get()
    rates = (attention_dropout, dropout) if training else (0.0, 0.0)
    keys = [key for rate in rates for key in draw_keys(rate)]
    shapes = tuple(tuple(weight.shape) for weight in weights)
    plan = (
        steps.way_of(form), tuple(x.shape), tuple(mask.shape), real is not None, shapes, heads, float(epsilon), *rates
    )  # fmt: skip
    return FusedMixedAttention.apply(x, mask, real, *weights, form, plan, keys, is_differentiable(x, *weights))


class FusedMixedAttention(PyLayer):
    """modeling.MixedAttention.forward, with the half layer's dropout, residual and LayerNorm.

    Its weights: query, key, value and convolution value, each a matrix and a bias; the span-aware key's depthwise and
    pointwise weights and its bias; kernels, out: a matrix and a bias; the LayerNorm's two.
    """

    @staticmethod
    def forward(ctx, x, mask, real, *others):
        *weights, form, plan, keys, differentiable = others
        out = empty(*x.shape)
        inputs = [contiguous(tensor) for tensor in (x, mask, real) if tensor is not None]
        rest = [weights[i] for i in REST]
        rest = [form.weight(each) if i in OPERANDS else contiguous(each) for i, each in enumerate(rest)]
        taken = [*inputs, *form.side_by_side(*(weights[i] for i in PROJECTING)), *rest]
        kept = _forward(*plan, differentiable).run(*taken, out, *keys)
        if differentiable:
            ctx.needs = needs_of(x, *weights)
            ctx.plan, ctx.keys = plan, keys
            ctx.save_for_backward(*taken, kept)
        return out

    @staticmethod
    def backward(ctx, d_out):
        *taken, kept = ctx.saved_tensor()
        _, _, _, has_real, shapes, *_ = ctx.plan
        gradients = [empty(*d_out.shape), *(empty(*shape) for shape in shapes)]
        _backward(*ctx.plan).run(*taken, contiguous(d_out), *gradients, *ctx.keys, kept)
        d_x, *d_weights = wanted(ctx.needs, *gradients)
        return d_x, None, *((None,) if has_real else ()), *d_weights  # neither mask nor `real` gets one


def _given(program, shape, mask_shape, has_real, shapes):
    """x [N, E], mask, real [N] or None, the projections' matrices, and all weights in their order but for these."""
    batch, length, hidden = shape
    x, mask, real = program.given((batch * length, hidden), mask_shape, (batch * length,) if has_real else None)
    projecting = steps.given_side_by_side(program, *(shapes[i] for i in PROJECTING))
    rest = dict(zip(REST, program.given(*(shapes[i] for i in REST), operands=OPERANDS), strict=True))
    return x, mask, real, projecting, [rest.get(i) for i in range(len(shapes))]


@functools.lru_cache(steps.KEPT)
def _forward(way, shape, mask_shape, has_real, shapes, heads, epsilon, attention_rate, rate, keep):
    batch, length, hidden = shape
    rows = batch * length
    program = Program(way, rows)
    x, mask, real, projecting, weights = _given(program, shape, mask_shape, has_real, shapes)
    depthwise, pointwise, span_bias, kernel_weight, kernel_bias, out_weight, out_bias, norm, shift = weights[8:]
    (out,) = program.given((rows, hidden))
    attention_dropout, dropout = (steps.dropout_of(program, each) for each in (attention_rate, rate))
    width, taps = shapes[0][1], shapes[8][2]
    size = width // heads

    # Query, key, value and convolution value next to each other.
    operand = program.operand(x)
    projections, biases = program.new(rows, 4 * width), program.new(4 * width)
    steps.project(program, operand, projecting, projections)
    for i in range(4):
        program.loop("copy", weights[2 * i + 1], biases.columns(i * width, (i + 1) * width))

    # The span-aware key: a depthwise, then a pointwise convolution.
    local = x
    if has_real:
        local = program.new(rows, hidden)
        program.loop("times_real", x, real, local)
    else:
        real = program.new(rows)
        program.loop("fill", real, 1.0)
    tap_rows, filtered = program.new(taps + 1, hidden), program.new(rows, hidden)
    program.loop("tap_rows", depthwise, False, tap_rows)
    program.loop("depthwise_conv", local.reshape(*shape), tap_rows, False, filtered.reshape(*shape))
    filtered = program.operand(filtered)
    span = program.new(rows, width)
    program.multiply(filtered, pointwise.t, span)
    both = program.new_operand(rows, width)
    program.loop("span_product", projections, biases, span, span_bias, real, both)

    # Span-based dynamic convolution into one half of `mixed`, self-attention into the other.
    mixed = program.new_operand(rows, 2 * width)
    kernels = program.new(rows, heads * taps)
    program.multiply(both, kernel_weight, kernels)
    program.loop("bias_softmax", kernels.reshape(rows, heads, taps), kernel_bias.reshape(heads, taps))
    program.loop(
        "dynamic_conv", projections.reshape(batch, length, 4 * heads, size),
        kernels.reshape(batch, length, heads, taps), mixed.reshape(batch, length, 2 * heads, size),
    )  # fmt: skip
    attended = Heads(batch, length, heads, size)
    attending = steps.attend(program, attended, projections, biases, mask, attention_dropout, mixed)

    normal, scales = steps.add_norm(program, mixed, out_weight, out_bias, x, norm, shift, epsilon, dropout, out)
    kept = {
        **attending, "operand": operand, "projections": projections, "local": local, "filtered": filtered,
        "span": span, "both": both, "kernels": kernels, "mixed": mixed, "normal": normal, "scales": scales,
    }  # fmt: skip
    program.finish(**({name: view for name, view in kept.items() if view is not x} if keep else {}))
    return program


@functools.lru_cache(steps.KEPT)
def _backward(way, shape, mask_shape, has_real, shapes, heads, epsilon, attention_rate, rate):
    plan = way, shape, mask_shape, has_real, shapes, heads, epsilon, attention_rate, rate
    batch, length, hidden = shape
    rows = batch * length
    program = Program(way, rows)
    x, mask, real, projecting, weights = _given(program, shape, mask_shape, has_real, shapes)
    depthwise, pointwise, _, kernel_weight, _, out_weight, _, norm, _ = weights[8:]
    d_out, d_x, *d_weights = program.given((rows, hidden), (rows, hidden), *shapes)
    d_depthwise, d_pointwise, d_span_bias, d_kernel_weight, d_kernel_bias, *d_tail = d_weights[8:]
    attention_dropout, dropout = (steps.dropout_of(program, each) for each in (attention_rate, rate))
    width, taps = shapes[0][1], shapes[8][2]
    size = width // heads
    kept = {"operand": x, "local": x} | program.recalled(_forward(*plan, True))
    projections, kernels, span = kept["projections"], kept["kernels"], kept["span"]
    by_head = batch, length, 4 * heads, size
    if not has_real:
        real = program.new(rows)
        program.loop("fill", real, 1.0)

    d_mixed = program.new(rows, 2 * width)
    steps.add_norm_backward(
        program, d_out, kept["mixed"], out_weight, norm, kept["normal"], kept["scales"], dropout, d_mixed, d_x, d_tail
    )  # fmt: skip

    # Self-attention.
    d_projections, attended = program.new(rows, 4 * width), Heads(batch, length, heads, size)
    sums = steps.attend_backward(program, attended, kept, mask, attention_dropout, d_mixed, d_projections)

    # Span-based dynamic convolution.
    d_logits = program.new(rows, heads * taps)
    program.loop(
        "dynamic_conv_backward", projections.reshape(*by_head), kernels.reshape(batch, length, heads, taps),
        d_mixed.reshape(batch, length, 2 * heads, size), real, d_logits.reshape(batch, length, heads, taps),
        d_projections.reshape(*by_head),
    )  # fmt: skip
    kernel_sums = program.sums(heads * taps)
    program.loop("column_sums", d_logits, kernel_sums)
    program.total(kernel_sums, d_kernel_bias)
    d_both = program.new(rows, width)
    program.multiply_backward(kept["both"], kernel_weight, program.operand(d_logits), d_both, d_kernel_weight)
    d_span, span_sums = program.new_operand(rows, width), program.sums(3, width)
    d_operands = d_projections if way.dtype == "float32" else program.new_operand(rows, 4 * width)
    program.loop(
        "span_product_backward", projections, span, d_both, d_projections, d_span, d_operands, span_sums
    )  # fmt: skip
    unused = program.new(width)
    program.total(sums, unused, d_weights[3], d_weights[5])
    program.total(span_sums, d_weights[1], d_weights[7], d_span_bias)

    # The span-aware key and the four projections: both add to the gradient of x, which holds the residual's.
    d_filtered = program.new(rows, hidden)
    program.multiply(d_span, pointwise, d_filtered)
    program.multiply(d_span.t, kept["filtered"], d_pointwise)
    tap_rows, tap_sums, d_taps = program.new(taps + 1, hidden), program.sums(taps, hidden), program.new(taps, hidden)
    program.loop("depthwise_conv_backward", kept["local"].reshape(*shape), d_filtered.reshape(*shape), tap_sums)
    program.total(tap_sums, d_taps)
    program.loop("tap_gradients", d_taps, d_depthwise)
    program.loop("tap_rows", depthwise, True, tap_rows)
    if has_real:
        d_local = program.new(rows, hidden)
        program.loop("depthwise_conv", d_filtered.reshape(*shape), tap_rows, False, d_local.reshape(*shape))
        program.loop("add_times_real", d_local, real, d_x)
    else:
        program.loop("depthwise_conv", d_filtered.reshape(*shape), tap_rows, True, d_x.reshape(*shape))
    steps.project_backward(program, kept["operand"], projecting, d_operands, d_x, [d_weights[i] for i in PROJECTING])
    program.finish()
    return program
