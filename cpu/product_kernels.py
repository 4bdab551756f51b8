"""The compiled steps that multiply matrices: a library's cblas_sgemm and oneDNN's primitives, by their addresses."""

from numba import prange

from cpu.calls import call_execute, call_handles, call_sgemm, call_wait
from cpu.compiler import I1, kernel

ROW_MAJOR, PLAIN, ACROSS = 101, 111, 112  # CBLAS_LAYOUT, CBLAS_TRANSPOSE
LARGE = 2**21  # multiplications of a product from which on the library's own threads pay more than one product a thread

COUNT, ADDRESS, MULTIPLIER = "int64", "int64", "float32"


@kernel(ADDRESS, *[COUNT] * 4, *[ADDRESS, COUNT, COUNT, COUNT] * 2, MULTIPLIER, ADDRESS, COUNT, COUNT)
def library_product(
    function, batch, m, n, k, a, a_across, a_row, a_step, b, b_across, b_row, b_step, add, c, c_row, c_step
):  # fmt: skip
    """c = a @ b + add · c for `batch` products [m, k] @ [k, n] of float32.

    across: PLAIN or ACROSS, for a transposed matrix. row, step: elements from one row (as it lies in memory) to the
    next, from one matrix of the batch to the next.
    """
    if batch == 1 or m * n * k >= LARGE:
        for i in range(batch):
            call_sgemm(
                function, ROW_MAJOR, a_across, b_across, m, n, k, 1.0, a + 4 * i * a_step, a_row, b + 4 * i * b_step,
                b_row, add, c + 4 * i * c_step, c_row,
            )  # fmt: skip
    else:
        for i in prange(batch):
            call_sgemm(
                function, ROW_MAJOR, a_across, b_across, m, n, k, 1.0, a + 4 * i * a_step, a_row, b + 4 * i * b_step,
                b_row, add, c + 4 * i * c_step, c_row,
            )  # fmt: skip


@kernel(I1, *[ADDRESS] * 6, COUNT, *[ADDRESS] * 10)
def onednn_product(
    status, set_handle, execute, wait, primitive, stream, arguments, count, memory_a, a, memory_b, b, memory_c, c,
    memory_bias, bias, memory_scales, scales,
):  # fmt: skip
    """One execution of a primitive of 3 arguments, 4 with a bias, or 5 with scales; status [1] gets what is not 0."""
    failed = call_handles(set_handle, memory_a, a)
    failed |= call_handles(set_handle, memory_b, b)
    failed |= call_handles(set_handle, memory_c, c)
    if count > 3:
        failed |= call_handles(set_handle, memory_bias, bias)
    if count > 4:
        failed |= call_handles(set_handle, memory_scales, scales)
    failed |= call_execute(execute, primitive, stream, count, arguments)
    failed |= call_wait(wait, stream)
    if failed:
        status[0] = failed
