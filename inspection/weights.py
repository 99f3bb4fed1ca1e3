"""What a trained network has learned: its first filters, and images that are near in its features.

As in Krizhevsky et al. 2012: the kernels of the first convolution (Fig. 3), and for test images the
training images whose features in the last hidden layer are nearest (Fig. 4, section 6.1).
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from errors import UserError
from inspection import cost
from models import Network


def first_filters(network: Network, params: Mapping[str, Any]) -> tuple[str, np.ndarray]:
    """The name and the kernels [h, w, C, F] of the first convolution.

    Raises UserError if it has none larger than one pixel on grey or RGB images.
    """
    for layer in cost.measure(network).layers:
        if not layer.params:
            continue
        held: Any = params
        for part in layer.name.split("/"):
            held = held.get(part, {}) if isinstance(held, Mapping) else {}
        kernel = held.get("kernel")
        if kernel is None or kernel.ndim != 4 or max(kernel.shape[:2]) == 1:
            break
        if kernel.shape[2] not in (1, 3):
            break
        return layer.name, np.asarray(kernel, np.float32)
    raise UserError(
        f"{type(network).__name__}: its first layer has no filters to draw; expected a convolution "
        "of more than one pixel on grey or RGB images"
    )


def last_hidden(network: Network) -> tuple[str, Callable[[Any, jax.Array], jax.Array]]:
    """The layer that gives the logits, and a function from (variables, images) to its input.

    The input is what the last hidden layer puts out, after its nonlinearity: [N, values] float32.
    """
    network = network.clone(heads=())
    name = [layer.name for layer in cost.measure(network).layers if layer.params][-1]

    def features(variables: Any, images: jax.Array) -> jax.Array:
        found: list[jax.Array] = []

        def record(
            call: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext
        ) -> Any:
            if "/".join(context.module.path) == name and context.method_name == "__call__":
                found.append(args[0])
            return call(*args, **kwargs)

        with nn.intercept_methods(record):
            network.apply(variables, images, train=False)
        return found[0].reshape(images.shape[0], -1).astype(jnp.float32)

    return name, features


def nearest(queries: np.ndarray, kept: np.ndarray, count: int) -> np.ndarray:
    """The rows of `kept` [M, D] nearest to each of `queries` [N, D], int [N, count].

    By Euclidean distance, the nearest first; of equal ones the lower row comes first.
    """
    queries, kept = queries.astype(np.float64), kept.astype(np.float64)
    squared = (
        np.square(queries).sum(1)[:, None] - 2 * queries @ kept.T + np.square(kept).sum(1)[None]
    )
    return np.argsort(squared, axis=1, kind="stable")[:, :count]
