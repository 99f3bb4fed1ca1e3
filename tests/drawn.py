"""Variables for a network at little cost: drawn by NumPy, or by JAX's quickest generator."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import models


def drawn(network: models.Network, seed: int = 0) -> dict:
    """He's spread for kernels, small biases, batch norms near the identity."""
    numbers = np.random.default_rng(seed)

    def draw(path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        name = path[-1].key
        values = numbers.standard_normal(leaf.shape).astype(np.float32)
        if name == "kernel" and len(leaf.shape) > 1:
            return values * np.sqrt(2 / np.prod(leaf.shape[:-1])).astype(np.float32)
        if name in ("scale", "var"):
            return 1 + 0.1 * np.abs(values)
        return 0.1 * values

    return jax.tree_util.tree_map_with_path(draw, models.variables_of(network))


def initialised(network: models.Network) -> tuple[jax.Array, dict]:
    """The network's own start: (logits of two random images, variables).

    The default generator takes most of a test's time to compile, this one a quarter.
    """
    images = np.random.default_rng(0).standard_normal((2, *network.input)).astype(np.float32)
    key = jax.random.key(0, impl="unsafe_rbg")
    outputs, variables = jax.jit(network.init_with_output)(key, jnp.asarray(images))
    return outputs.logits, variables


def outputs_of(network: models.Network, variables: Any, images: Any, **how: Any) -> models.Outputs:
    """What the network makes of the images; `how` is that of `apply`."""
    outputs = network.apply(variables, images, **how)
    assert isinstance(outputs, models.Outputs)
    return outputs


def applied(layer: nn.Module, variables: Any, *inputs: Any) -> jax.Array:
    """The output of a layer that returns one array."""
    output = layer.apply(variables, *inputs)
    assert isinstance(output, jax.Array)
    return output
