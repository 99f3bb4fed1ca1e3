"""What a family's file hands to the builder: encoded images with labels, cut into shards.

Apart from the builder, because the builder imports TFDS.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

Examples = Iterator[tuple[bytes, int]]
"""(encoded image, label) in source order."""

Shards = Sequence[Callable[[], Examples]]
"""The shards of one split. They are called in their order, each at most once; some may be left out,
when they are on disk already."""


def in_shards(examples: Iterable[tuple[bytes, int]], count: int, per_shard: int) -> Shards:
    """Cuts a stream of about `count` examples into shards of `per_shard`; the last takes the rest.

    The stream may turn out longer or shorter than `count`: whoever writes the shards counts.
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
    """Goes on in the shared stream: over shards that were left out, then through its own."""
    for place, example in stream:
        if place >= start:
            yield example
        if place + 1 == stop:
            return
