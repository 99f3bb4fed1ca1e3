"""Drawn weights, one-off programs and straight-line layers, for the tests of networks.

Weights are drawn here and programs are compiled without optimisation: an init of a small net takes
ten seconds to compile otherwise.
"""

import re
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import models


def images_for(network: Any, count: int = 2, seed: int = 1) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return draw.standard_normal((count, *network.input), dtype=np.float32)


def compiled(function: Callable[..., Any]) -> Any:
    """jit for programs that run once, where optimising would take longer than running."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def initial(module: nn.Module, *inputs: Any, seed: int = 0) -> Any:
    """A module's variables as He et al. initialise them: biases 0, scales and variances 1."""
    x, *rest = inputs or (images_for(module),)
    draw = np.random.default_rng(seed)

    def fill(path: Any, leaf: Any) -> np.ndarray:
        kind = path[-1].key
        if kind == "kernel":
            scale = np.sqrt(2 / np.prod(leaf.shape[:-1]))
            return (scale * draw.standard_normal(leaf.shape)).astype(np.float32)
        return np.full(leaf.shape, kind in ("scale", "var"), np.float32)

    tree = jax.eval_shape(lambda x: module.init(jax.random.key(0), x, *rest), x)
    return jax.tree_util.tree_map_with_path(fill, tree)


def drawn(network: models.Network, seed: int = 0) -> dict:
    """A network's variables, drawn so that each one matters: no bias is 0, no scale is 1."""
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
    """The network's outputs for the images; `how` are the options of `apply`."""
    outputs = network.apply(variables, images, **how)
    assert isinstance(outputs, models.Outputs)
    return outputs


def applied(layer: nn.Module, variables: Any, *inputs: Any) -> jax.Array:
    """The output of a layer that returns one array."""
    output = layer.apply(variables, *inputs)
    assert isinstance(output, jax.Array)
    return output


def run(module: nn.Module, variables: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    """The module's output for x; with `mutable`, also the variables it changed."""
    return compiled(lambda v, x: module.apply(v, x, *args, **kwargs))(variables, x)


def scrambled(variables: Any, seed: int = 5) -> Any:
    """The variables with norms and statistics other than 0 and 1, so that each one matters."""
    draw = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: leaf + 0.3 * draw.uniform(size=leaf.shape).astype(np.float32), variables
    )


def shapes(tree: Any) -> list[tuple[str, tuple[int, ...]]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path), leaf.shape) for path, leaf in leaves]


def zeroed(params: Any, pattern: str) -> Any:
    """The parameters with those whose path matches set to zero."""

    def clear(path: Any, leaf: Any) -> Any:
        name = "/".join(key.key for key in path)
        return np.zeros_like(leaf) if re.search(pattern, name) else leaf

    return jax.tree_util.tree_map_with_path(clear, params)


def conv(x: Any, layer: Any, stride: int = 1) -> Any:
    kernel = layer["kernel"]
    pad = kernel.shape[0] // 2
    out = lax.conv_general_dilated(
        x, kernel, (stride, stride), [(pad, pad)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return out if "bias" not in layer else out + layer["bias"].reshape(1, 1, 1, -1)


def norm(x: Any, weights: Any, statistics: Any) -> Any:
    shape = (1, 1, 1, -1)
    mean, var = statistics["mean"].reshape(shape), statistics["var"].reshape(shape)
    scale, shift = weights["scale"].reshape(shape), weights["bias"].reshape(shape)
    return (x - mean) / jnp.sqrt(var + 1e-5) * scale + shift


def relu(x: Any) -> jax.Array:
    return jnp.maximum(x, 0)
