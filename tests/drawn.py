"""Variables for a network without compiling its initialisation: drawn by NumPy on its shapes."""

import jax
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
