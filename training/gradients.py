"""Gradients averaged over processes a bucket at a time, each as soon as backward has made all that are in it."""

import functools

import paddle
from paddle import distributed

BUCKET = 25 * 2**20  # bytes of gradients that are summed at a time: few sums, and the first one early


class Gradients:
    """The gradients of a model's parameters.

    In every process the buckets are the same, and are summed in the same order: parameters last to first, since
    backward comes to the last ones first. Each sum runs while backward goes on.
    """

    def __init__(self, parameters, processes):
        self._count, self._buckets, size = processes, [], BUCKET
        self._summed, self._missing = 0, None  # buckets whose sum has begun; gradients to come by bucket, while awaited
        self._running = []
        for weight in reversed([weight for weight in parameters if not weight.stop_gradient]):
            if size >= BUCKET:
                self._buckets.append([])
                size = 0
            self._buckets[-1].append(weight)
            size += weight.size * weight.element_size()
            weight._register_backward_hook(functools.partial(self._has_come, len(self._buckets) - 1))

    def await_last(self):
        """To be called before the last backward of a step, whose gradients are the step's."""
        self._missing = [len(bucket) for bucket in self._buckets]

    def _has_come(self, number):
        if self._missing is not None:
            self._missing[number] -= 1
            while self._summed < len(self._buckets) and not self._missing[self._summed]:
                self._sum_next()

    @paddle.no_grad()
    def _sum_next(self):
        """Of the next bucket; parameters without a gradient have none in any process."""
        gradients = [weight.grad for weight in self._buckets[self._summed] if weight.grad is not None]
        self._summed += 1
        if gradients:
            whole = paddle.concat([gradient.flatten() for gradient in gradients]) / self._count
            self._running.append((gradients, whole, distributed.all_reduce(whole, sync_op=False)))

    @paddle.no_grad()
    def average(self):
        """Ends what has begun, and replaces the gradients by their means."""
        self._missing = None
        while self._summed < len(self._buckets):
            self._sum_next()
        for gradients, whole, running in self._running:
            running.wait()
            parts = whole.split([gradient.size for gradient in gradients])
            for gradient, part in zip(gradients, parts, strict=True):
                paddle.assign(part.reshape(gradient.shape), output=gradient)
        self._running.clear()
        self._summed = 0
