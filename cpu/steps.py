"""Parts of programs that more than one function of `cpu` is made of, and what all of them do around a program's run.

Dimension letters: B batch, L length, N = B·L, H heads, D head size, E hidden size.
"""

from typing import NamedTuple

from cpu import products
from cpu.operands import dropout_constants
from cpu.products import sgemm
from cpu.programs import Way

KEPT = 48  # programs of every kind that are kept; the one that was used longest ago is forgotten
LONGEST_WHOLE = 256  # tokens of texts whose scores [B, H, L, L] are written to memory


def way_of(form):
    """The Way of a form of operands, which see."""
    return Way(form.dtype, products.choice() if form.dtype == "float32" else "onednn")


def given_side_by_side(program, *shapes):
    """The views of operands.Float32.side_by_side for weights of these shapes."""
    if program.way.dtype == "float32":
        return program.given(*shapes)
    return program.given((shapes[0][0], sum(columns for _, columns in shapes)), operands=(0,))


def _parts(matrices):
    """Each of them, and which columns it has where all lie next to each other."""
    first = 0
    for matrix in matrices:
        yield matrix, first, first + matrix.shape[1]
        first += matrix.shape[1]


def project(program, x, weights, out):
    """x @ each of the weights, next to each other in the columns of out [N, …]."""
    for weight, first, last in _parts(weights):
        program.multiply(x, weight, out.columns(first, last))


def project_backward(program, x, weights, d_out, d_x, d_weights):
    """Adds to d_x; d_weights are those of the single matrices, also where `weights` is one for all."""
    for weight, first, last in _parts(weights):
        program.multiply(d_out.columns(first, last), weight.t, d_x, add=True)
    if len(weights) == len(d_weights):
        for d_weight, first, last in _parts(d_weights):
            program.multiply(x.t, d_out.columns(first, last), d_weight)
        return
    together = program.new(x.shape[1], d_out.shape[1])
    program.multiply(x.t, d_out, together)
    for d_weight, first, _ in _parts(d_weights):
        program.loop("take_columns", together, first, d_weight)


def dropout_of(program, rate):
    """The four arguments of loops that drop; a run is given the two keys."""
    return *program.given_numbers(2), *dropout_constants(rate)


class Heads(NamedTuple):
    """What self-attention is recorded for."""

    batch: int
    length: int
    heads: int
    size: int

    @property
    def changing(self):
        """Of Program.multiply, for a product per text and head."""
        return self.batch * self.heads, self.length


def attend(program, heads, projections, biases, mask, dropout, out):
    """The first H·D columns of out [N, …]: dropout(softmax(query · keyᵀ / √D + mask)) · value.

    projections [N, 3·H·D or more] have the heads' queries first, then keys and values; the queries get their bias in
    place. Scores exist whole where texts are short, else some rows at a time. → what attend_backward needs.
    """
    scale = heads.size**-0.5
    if heads.length > LONGEST_WHOLE:
        sums = program.new(heads.batch * heads.heads, heads.length, 2)
        program.loop("attend", sgemm(), projections, biases, mask, scale, *heads[1:], *dropout, sums, out)
        return {"projections": projections, "sums": sums}
    by_head = heads.batch, heads.heads, heads.length, heads.size
    query, key, value = (program.new_operand(*by_head) for _ in range(3))
    program.loop("split_three", _by_token(heads, projections), biases, scale, query, key, value)
    scores = kept = program.new(*by_head[:3], heads.length)
    program.multiply(_each(query), _each(key).t, _each(scores), changing=heads.changing)
    if dropout[2] or query.type != "float32":
        kept = program.new_operand(*scores.shape)
        program.loop("softmax_dropout", scores, mask, *dropout, kept)
    else:
        program.loop("softmax", scores, mask)
    context = program.new(*by_head)
    program.multiply(_each(kept), _each(value), _each(context), changing=heads.changing)
    program.loop("merge_heads", context, _by_token(heads, out))
    return {"query": query, "key": key, "value": value, "scores": scores, "shares": kept}


def attend_backward(program, heads, kept, mask, dropout, d_out, d_projections):
    """The first 3·H·D columns of d_projections, of either type, from d_out [N, …]. → partial sums of them [P, …]."""
    scale, wide = heads.size**-0.5, d_projections.type == "float32"
    if heads.length > LONGEST_WHOLE:
        sums = program.new(heads.batch, 3 * heads.heads * heads.size)
        settings = mask, scale, *heads[1:], *dropout, kept["sums"]
        program.loop(
            "attend_backward", sgemm(), kept["projections"], *settings, d_out, d_projections, sums, wide=wide
        )  # fmt: skip
        return sums
    query, key, value, scores, shares = (kept[name] for name in ("query", "key", "value", "scores", "shares"))
    d_context, d_scores = program.new_operand(*query.shape), program.new_operand(*scores.shape)
    d_query, d_key, d_value = (program.new(*query.shape) for _ in range(3))
    program.loop("take_heads", _by_token(heads, d_out), d_context)
    program.multiply(_each(shares).t, _each(d_context), _each(d_value), changing=heads.changing)
    program.multiply(_each(d_context), _each(value).t, _each(d_scores), changing=heads.changing)
    program.loop("softmax_dropout_backward", scores, *dropout, d_scores)
    program.multiply(_each(d_scores), _each(key), _each(d_query), changing=heads.changing)
    program.multiply(_each(d_scores).t, _each(query), _each(d_key), changing=heads.changing)
    sums = program.sums(3 * heads.heads * heads.size)
    program.loop("join_three", d_query, d_key, d_value, scale, _by_token(heads, d_projections), sums, wide=wide)
    return sums


def _each(view):
    """[B, H, …, …] as a batch of matrices."""
    return view.reshape(view.shape[0] * view.shape[1], *view.shape[2:])


def _by_token(heads, view):
    """[N, …] → [B, L, heads, D]."""
    return view.reshape(heads.batch, heads.length, view.shape[1] // heads.size, heads.size)


def add_norm(program, inner, weight, bias, residual, norm, shift, epsilon, dropout, out):
    """out = LayerNorm(residual + dropout(inner @ weight + bias)), all [N, E]. → normalised values, 1 / deviations."""
    normal, scales = program.new(*out.shape), program.new(out.shape[0])
    program.multiply(inner, weight, normal)
    program.loop("dropout_add_norm", normal, bias, residual, norm, shift, epsilon, *dropout, out, scales)
    return normal, scales


def add_norm_backward(program, d_out, inner, weight, norm, normal, scales, dropout, d_inner, d_residual, d_tail):
    """d_inner and d_residual, and d_tail: the gradients of weight, bias, norm and shift."""
    d_weight, d_bias, d_norm, d_shift = d_tail
    d_y, sums = program.new_operand(*normal.shape), program.sums(3, normal.shape[1])
    program.loop("dropout_add_norm_backward", normal, scales, norm, d_out, *dropout, d_y, d_residual, sums)
    program.multiply_backward(inner, weight, d_y, d_inner, d_weight)
    program.total(sums, d_norm, d_shift, d_bias)
