"""What a family's file hands to the builder: encoded images with labels, cut into shards.

Apart from the builder, because the builder imports TFDS.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

Examples = Iterator[tuple[bytes, int]]
"""(encoded image, label) in source order."""

Shards = Sequence[Callable[[], Examples]]
"""The shards of one split, called one after the other, each when the one before is written."""


def in_shards(examples: Iterable[tuple[bytes, int]], count: int, per_shard: int) -> Shards:
    """Cuts a stream of about `count` examples into shards of `per_shard`; the last takes the rest.

    The stream may turn out longer or shorter than `count`: whoever writes the shards counts.
    """
    stream = iter(examples)
    full = max(0, (count - 1) // per_shard)
    return [partial(itertools.islice, stream, size) for size in (*[per_shard] * full, None)]
