"""Batch normalisation with the statistics of groups of images, and its gradient in few passes.

Ioffe and Szegedy 2015, section 3. Imports nothing of the project.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

Statistics = tuple[jax.Array, jax.Array]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def normalised(
    epsilon: float, x: jax.Array, scale: jax.Array, shift: jax.Array
) -> tuple[jax.Array, Statistics]:
    """x [groups, n, ..., C] with each group's channels at mean `shift` and deviation `scale`.

    Returns the groups' means and variances too, constants to a gradient.
    """
    axes, wide = tuple(range(1, x.ndim - 1)), (1,) * (x.ndim - 1) + (-1,)
    mean = x.mean(axes, keepdims=True)
    var = jnp.square(x - mean).mean(axes, keepdims=True)
    factor = lax.rsqrt(var + epsilon) * scale.reshape(wide)
    return x * factor + (shift.reshape(wide) - mean * factor), (mean, var)


def _normalised_forward(
    epsilon: float, x: jax.Array, scale: jax.Array, shift: jax.Array
) -> tuple[tuple[jax.Array, Statistics], tuple[jax.Array, ...]]:
    y, (mean, var) = normalised(epsilon, x, scale, shift)
    return (y, (mean, var)), (x, scale, mean, lax.rsqrt(var + epsilon))


def _normalised_backward(
    epsilon: float, kept: tuple[jax.Array, ...], cotangents: tuple[jax.Array, Statistics]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """In two passes over x and the gradient, where jax's own takes more."""
    x, scale, mean, over_deviation = kept
    g, _ = cotangents
    axes, wide = tuple(range(1, x.ndim - 1)), (1,) * (x.ndim - 1) + (-1,)
    count = x.size / (x.shape[0] * x.shape[-1])
    total = g.sum(axes, keepdims=True)
    along = (g * (x - mean)).sum(axes, keepdims=True)
    factor = over_deviation * scale.reshape(wide)
    slope = jnp.square(over_deviation) * along / count
    by_x = factor * (g - total / count - (x - mean) * slope)
    by_scale = (along * over_deviation).sum(0).reshape(scale.shape)
    return by_x, by_scale, total.sum(0).reshape(scale.shape)


normalised.defvjp(_normalised_forward, _normalised_backward)
