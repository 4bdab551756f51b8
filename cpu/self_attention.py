"""The CPU's path of `family.self_attention`: forward and a hand-written backward, a program each.

Dimension letters: B batch, L length, N = B·L, H heads, D head size, E = H·D hidden size.
"""

import functools

from paddle.autograd import PyLayer

from cpu import steps
from cpu.functions import is_differentiable, needs_of, wanted
from cpu.operands import contiguous, draw_keys, empty, precision
from cpu.programs import Program
from cpu.steps import Heads


def self_attention(x, mask, weights, heads, epsilon, attention_dropout, dropout, training):
    form = precision.get()
    rates = (attention_dropout, dropout) if training else (0.0, 0.0)
    keys = [key for rate in rates for key in draw_keys(rate)]
    plan = steps.way_of(form), tuple(x.shape), tuple(mask.shape), heads, float(epsilon), *rates
    return FusedSelfAttention.apply(x, mask, *weights, form, plan, keys, is_differentiable(x, *weights))


class FusedSelfAttention(PyLayer):
    """family.self_attention.SelfAttention.forward, with the half layer's dropout, residual and LayerNorm.

    Its weights: query, key, value and out, each a matrix and a bias, and the LayerNorm's two.
    """

    @staticmethod
    def forward(ctx, x, mask, *others):
        *weights, form, plan, keys, differentiable = others
        out = empty(*x.shape)
        query, query_bias, key, key_bias, value, value_bias, weight, bias, *norm = weights
        matrices = *form.side_by_side(query, key, value), form.weight(weight)
        taken = [
            *map(contiguous, (x, mask)),
            *matrices,
            *map(contiguous, (query_bias, key_bias, value_bias, bias, *norm)),
        ]
        kept = _forward(*plan, differentiable).run(*taken, out, *keys)
        if differentiable:
            ctx.needs = needs_of(x, *weights)
            ctx.plan, ctx.keys, ctx.shapes = plan, keys, [weight.shape for weight in weights]
            ctx.save_for_backward(*taken[not plan[0].keeps_inputs :], kept)
        return out

    @staticmethod
    def backward(ctx, d_out):
        *taken, kept = ctx.saved_tensor()
        gradients = [empty(*d_out.shape), *(empty(*shape) for shape in ctx.shapes)]
        _backward(*ctx.plan).run(*taken, contiguous(d_out), *gradients, *ctx.keys, kept)
        d_x, *d_weights = wanted(ctx.needs, *gradients)
        return d_x, None, *d_weights  # the mask gets none


def _given(program, shape, mask_shape, has_x=True):
    """x [N, E] or None, mask, the matrices for query, key and value and of the result, the biases, norm and shift."""
    batch, length, hidden = shape
    x, mask = program.given((batch * length, hidden) if has_x else None, mask_shape)
    projecting = steps.given_side_by_side(program, *[(hidden, hidden)] * 3)
    weight, *biases, norm, shift = program.given((hidden, hidden), *[(hidden,)] * 6, operands=(0,))
    return x, mask, projecting, weight, biases, norm, shift


@functools.lru_cache(steps.KEPT)
def _forward(way, shape, mask_shape, heads, epsilon, attention_rate, rate, keep):
    batch, length, hidden = shape
    rows = batch * length
    program = Program(way, rows)
    x, mask, projecting, weight, (*given_biases, bias), norm, shift = _given(program, shape, mask_shape)
    (out,) = program.given((rows, hidden))
    attention_dropout, dropout = (steps.dropout_of(program, each) for each in (attention_rate, rate))

    operand = program.operand(x)
    projections, biases = program.new(rows, 3 * hidden), program.new(3 * hidden)
    steps.project(program, operand, projecting, projections)
    for i, each in enumerate(given_biases):
        program.loop("copy", each, biases.columns(i * hidden, (i + 1) * hidden))
    context = program.new_operand(rows, hidden)
    attended = Heads(batch, length, heads, hidden // heads)
    attending = steps.attend(program, attended, projections, biases, mask, attention_dropout, context)
    normal, scales = steps.add_norm(program, context, weight, bias, x, norm, shift, epsilon, dropout, out)
    kept = {**attending, "context": context, "normal": normal, "scales": scales}
    if not way.keeps_inputs:
        kept["operand"] = operand
    program.finish(**(kept if keep else {}))
    return program


@functools.lru_cache(steps.KEPT)
def _backward(way, shape, mask_shape, heads, epsilon, attention_rate, rate):
    forward = _forward(way, shape, mask_shape, heads, epsilon, attention_rate, rate, True)
    batch, length, hidden = shape
    rows = batch * length
    program = Program(way, rows)
    x, mask, projecting, weight, _, norm, _ = _given(program, shape, mask_shape, way.keeps_inputs)
    (d_out,) = program.given((rows, hidden))
    square, vector = (hidden, hidden), (hidden,)
    d_x, *d_projecting, d_weight, d_bias, d_norm, d_shift = program.given(
        (rows, hidden), *[square, vector] * 4, vector, vector
    )  # fmt: skip
    attention_dropout, dropout = (steps.dropout_of(program, each) for each in (attention_rate, rate))
    kept = program.recalled(forward)

    d_context = program.new(rows, hidden)
    steps.add_norm_backward(
        program, d_out, kept["context"], weight, norm, kept["normal"], kept["scales"], dropout, d_context, d_x,
        (d_weight, d_bias, d_norm, d_shift),
    )  # fmt: skip
    d_projections, attended = program.new_operand(rows, 3 * hidden), Heads(batch, length, heads, hidden // heads)
    sums = steps.attend_backward(program, attended, kept, mask, attention_dropout, d_context, d_projections)
    steps.project_backward(program, kept.get("operand", x), projecting, d_projections, d_x, d_projecting[::2])
    program.total(sums, *d_projecting[1::2])
    program.finish()
    return program
