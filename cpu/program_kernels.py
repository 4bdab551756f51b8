"""The compiled function that runs a program: loops and products one after the other, without Python between them."""

from cpu.calls import call_loop
from cpu.compiler import I1, kernel


@kernel(*[I1] * 7)
def run(functions, firsts, words, places, bases, offsets, addresses):
    """Calls functions [S], each with the words from its place in `firsts` on.

    First words[places] = addresses[bases] + offsets: `places` are those that depend on where a run's memory is.
    """
    for i in range(places.size):
        words[places[i]] = addresses[bases[i]] + offsets[i]
    start = words.ctypes.data
    for s in range(functions.size):
        call_loop(functions[s], start + 8 * firsts[s])


@kernel("float32[:,::1]", "int64", "float32[::1]")
def sum_parts(sums, first, out):
    """out = the sum over the rows of sums [P, …], of as many columns as it has, from `first` on."""
    for part in range(sums.shape[0]):
        row = sums[part, first : first + out.size]
        for e in range(out.size):
            out[e] = row[e] if part == 0 else out[e] + row[e]


@kernel("float32[::1]", "float32[::1]")
def copy(x, out):
    """out = x, some few numbers."""
    for e in range(x.size):
        out[e] = x[e]


@kernel("float32[::1]", "float32")
def fill(x, value):
    for e in range(x.size):
        x[e] = value
