"""The builder's input: encoded images with labels, in shards.

Apart from `builder.py`, which imports TFDS.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

Examples = Iterator[tuple[bytes, int]]
"""(encoded image, label) in source order."""

Shards = Sequence[Callable[[], Examples]]
"""The shards of one split. They are called in order, each at most once; those that are already on
disk are not called."""


def in_shards(examples: Iterable[tuple[bytes, int]], count: int, per_shard: int) -> Shards:
    """Cuts a stream of about `count` examples into shards of `per_shard`; the last has the rest.

    The stream may be longer or shorter than `count`; the builder checks the number.
    """
    stream = enumerate(examples)
    full = max(0, (count - 1) // per_shard)
    bounds = [(number * per_shard, (number + 1) * per_shard) for number in range(full)]
    return [
        partial(_between, stream, start, stop)
        for start, stop in (*bounds, (full * per_shard, None))
    ]


def _between(
    stream: Iterator[tuple[int, tuple[bytes, int]]], start: int, stop: int | None
) -> Examples:
    """Continues the shared stream: skips to `start`, yields up to `stop`."""
    for place, example in stream:
        if place >= start:
            yield example
        if place + 1 == stop:
            return
