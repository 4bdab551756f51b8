"""What a server has done so far, in Prometheus' text form."""

import bisect
import collections

PATHS = ("/", "/predict", "/explain", "/health", "/metrics", "/docs", "/openapi.json")  # others are counted as one
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
LEFT = 499  # the status, by custom, of a request whose client left before the answer


class Histogram:
    """Counts of values up to each of the bounds, in growing order, and above; and their sum."""

    def __init__(self, bounds):
        self._bounds, self._counts, self.sum = bounds, [0] * (len(bounds) + 1), 0

    def add(self, value):
        self._counts[bisect.bisect_left(self._bounds, value)] += 1
        self.sum += value

    @property
    def count(self):
        return sum(self._counts)

    def lines(self, name, labels=""):
        """labels: as in 'path="/predict"'."""
        total, before = 0, f"{labels}," if labels else ""
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{{before}le="{bound}"}} {total}'
        braces = f"{{{labels}}}" if labels else ""
        yield f"{name}_sum{braces} {self.sum}"
        yield f"{name}_count{braces} {total}"


class Metrics:
    """Requests by path and status with the time that they took, and a batching.Batcher's work."""

    def __init__(self, batcher):
        self._batcher, self._requests = batcher, collections.Counter()
        self._seconds = collections.defaultdict(lambda: Histogram(SECONDS))

    def add(self, path, status, seconds):
        path = path if path in PATHS else "other"
        self._requests[path, status] += 1
        self._seconds[path].add(seconds)

    def text(self):
        sizes = self._batcher.batch_sizes
        requests = (
            f'convbert_requests_total{{path="{path}",status="{status}"}} {count}'
            for (path, status), count in sorted(self._requests.items())
        )
        times = (
            line
            for path, histogram in sorted(self._seconds.items())
            for line in histogram.lines("convbert_request_seconds", f'path="{path}"')
        )
        lines = [
            *_described("requests_total", "counter", f"Requests answered; {LEFT}: the client had left.", requests),
            *_described("request_seconds", "histogram", "Time from a request to its answer.", times),
            *_single("texts_total", "counter", "Texts computed.", sizes.sum),
            *_single("batches_total", "counter", "Batches computed.", sizes.count),
            *_described("batch_size", "histogram", "Texts of a batch.", sizes.lines("convbert_batch_size")),
            *_single("queue_length", "gauge", "Texts that wait or are being computed.", self._batcher.waiting),
        ]
        return "".join(f"{line}\n" for line in lines)


def _described(name, kind, description, lines):
    return f"# HELP convbert_{name} {description}", f"# TYPE convbert_{name} {kind}", *lines


def _single(name, kind, description, value):
    return _described(name, kind, description, [f"convbert_{name} {value}"])
