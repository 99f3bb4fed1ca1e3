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

    return jax.tree_util.tree_map_with_path(own, changed["batch_stats"])


def recomputed(
    variables: dict[str, Any],
    batches: Iterable[tuple[jax.Array, jax.Array]],
    *,
    network: Network,
    sharding: jax.sharding.Sharding | None = None,
) -> Any:
    """Batch statistics, placed by `sharding`: the mean over `batches` of (images, dropout key)."""
    one = jax.jit(partial(statistics, network=network), out_shardings=sharding)
    total: Any = None
    count = 0
    for images, dropout in batches:
        measured = one(variables, images, dropout)
        total = measured if total is None else jax.tree.map(jnp.add, total, measured)
        count += 1
    return jax.tree.map(lambda value: value / count, total)
