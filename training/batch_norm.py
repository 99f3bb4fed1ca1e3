"""The running statistics of batch norm, recomputed for the final weights.

During training they are exponential averages over weights that move. The authors of the residual
networks computed the final ones over a large training batch instead (their release's own words);
here it is the mean over the statistics of some training batches.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from models import Network
from models.layers import BatchNorm


def held(network: Network, before: Any, after: Any) -> Any:
    """Running statistics `after`, with those of frozen batch norms as `before`, to the bit."""
    if not network.batch_norm_frozen:
        return after

    def chosen(path: tuple[Any, ...], old: jax.Array, new: jax.Array) -> jax.Array:
        frozen = network.freezes_batch_norm("/".join(entry.key for entry in path[:-1]))
        return old if frozen else new

    return jax.tree_util.tree_map_with_path(chosen, before, after)


def statistics(
    variables: dict[str, Any], images: jax.Array, dropout: jax.Array, *, network: Network
) -> Any:
    """Mean and variance at each batch norm for one batch [N, H, W, C]; a tree like batch_stats."""
    kept: dict[tuple[str, ...], float] = {}

    def record(call: Any, args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        if isinstance(context.module, BatchNorm):
            kept[context.module.path] = context.module.momentum
        return call(*args, **kwargs)

    # Starting from 0, the updated running statistics are (1 − momentum) times the batch's.
    zeros = jax.tree.map(jnp.zeros_like, variables["batch_stats"])
    zeros = held(network, variables["batch_stats"], zeros)
    with nn.intercept_methods(record):
        _, changed = network.apply(
            {"params": variables["params"], "batch_stats": zeros},
            images,
            train=True,
            rngs={"dropout": dropout},
            mutable=["batch_stats"],
        )

    def own(path: tuple[Any, ...], value: jax.Array) -> jax.Array:
        return value / (1 - kept[tuple(entry.key for entry in path[:-1])])

    measured = jax.tree_util.tree_map_with_path(own, changed["batch_stats"])
    return held(network, variables["batch_stats"], measured)


def recomputed(
    variables: dict[str, Any],
    batches: Iterable[tuple[jax.Array, jax.Array]],
    *,
    network: Network,
    sharding: jax.sharding.Sharding | None = None,
) -> Any:
    """Batch statistics, placed by `sharding`: the mean over `batches` of (images, dropout key).

    Frozen batch norms keep theirs.
    """
    one = jax.jit(partial(statistics, network=network), out_shardings=sharding)
    total: Any = None
    count = 0
    for images, dropout in batches:
        measured = one(variables, images, dropout)
        total = measured if total is None else jax.tree.map(jnp.add, total, measured)
        count += 1
    means = jax.tree.map(lambda value: value / count, total)
    return held(network, variables["batch_stats"], means)
