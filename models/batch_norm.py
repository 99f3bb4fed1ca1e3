"""Batch normalisation with the statistics of groups of images, and its gradient in few passes.

Ioffe and Szegedy 2015, section 3. On CPU, where convolutions are native (models/convolution.py),
the sums over a group's positions are those of kernels/batch_norm.cc: one pass for the two sums that
each direction needs. Imports models.convolution and models.native.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from models import convolution, native

Statistics = tuple[jax.Array, jax.Array]
Sums = Callable[[jax.Array], jax.Array]
# Fewer channels than a vector of 16 floats would leave most of it empty.
FEWEST_CHANNELS = 16


def _sums(x: jax.Array) -> jax.Array:
    """[groups, n, ..., C] -> [groups, 1, ..., 1, C]."""
    return x.sum(range(1, x.ndim - 1), keepdims=True)


def _sums_by_rows(x: jax.Array) -> jax.Array:
    """The same: the rows of all maps first, then their columns.

    XLA's CPU backend adds whole rows ten times as fast as it adds 16 channels.
    """
    if x.ndim < 4:
        return _sums(x)
    groups, (columns, channels) = x.shape[0], x.shape[-2:]
    row = x.reshape(groups, -1, columns * channels).sum(1).reshape(groups, columns, channels)
    return row.sum(1).reshape(groups, *(1,) * (x.ndim - 2), channels)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def normalised(
    epsilon: float, x: jax.Array, scale: jax.Array, shift: jax.Array
) -> tuple[jax.Array, Statistics]:
    """x [groups, n, ..., C] with each group's channels at mean `shift` and deviation `scale`.

    Returns the groups' means and variances too, constants to a gradient.
    """

    def forward(
        moments: Callable[[jax.Array], Statistics],
        x: jax.Array,
        scale: jax.Array,
        shift: jax.Array,
    ) -> tuple[jax.Array, Statistics]:
        wide = (1,) * (x.ndim - 1) + (-1,)
        mean, var = moments(x)
        factor = lax.rsqrt(var + epsilon) * scale.reshape(wide)
        return x * factor + (shift.reshape(wide) - mean * factor), (mean, var)

    native_form = partial(_call, "BatchNormMoments")
    on_cpu = native_form if _is_native(x) else partial(_moments, _sums_by_rows)
    return lax.platform_dependent(
        *(x, scale, shift),
        cpu=partial(forward, on_cpu),
        default=partial(forward, partial(_moments, _sums)),
    )


def _normalised_forward(
    epsilon: float, x: jax.Array, scale: jax.Array, shift: jax.Array
) -> tuple[tuple[jax.Array, Statistics], tuple[jax.Array, ...]]:
    y, (mean, var) = normalised(epsilon, x, scale, shift)
    return (y, (mean, var)), (x, scale, mean, lax.rsqrt(var + epsilon))


def _normalised_backward(
    epsilon: float, kept: tuple[jax.Array, ...], cotangents: tuple[jax.Array, Statistics]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """In two passes over x and the gradient, where jax's own takes more."""

    def backward(
        sums: Callable[..., Statistics],
        x: jax.Array,
        scale: jax.Array,
        mean: jax.Array,
        over_deviation: jax.Array,
        g: jax.Array,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        count = x.size // (x.shape[0] * x.shape[-1])
        total, along = sums(g, x, mean)
        factor = over_deviation * scale.reshape((1,) * (x.ndim - 1) + (-1,))
        slope = jnp.square(over_deviation) * along / count
        by_x = factor * (g - total / count - (x - mean) * slope)
        by_scale = (along * over_deviation).sum(0).reshape(scale.shape)
        return by_x, by_scale, total.sum(0).reshape(scale.shape)

    native_form = partial(_call, "BatchNormGradientSums")
    on_cpu = native_form if _is_native(kept[0]) else partial(_gradient_sums, _sums_by_rows)
    return lax.platform_dependent(
        *(*kept, cotangents[0]),
        cpu=partial(backward, on_cpu),
        default=partial(backward, partial(_gradient_sums, _sums)),
    )


def _moments(sums: Sums, x: jax.Array) -> Statistics:
    """Mean and variance of each group's channels, [groups, 1, ..., C]."""
    count = x.size // (x.shape[0] * x.shape[-1])
    mean = sums(x) / count
    return mean, sums(jnp.square(x - mean)) / count


def _gradient_sums(sums: Sums, g: jax.Array, x: jax.Array, mean: jax.Array) -> Statistics:
    """Each group's sums of g and of g (x - mean), [groups, 1, ..., C]."""
    return sums(g), sums(g * (x - mean))


def _is_native(x: jax.Array) -> bool:
    wide = x.dtype == jnp.float32 and x.shape[-1] >= FEWEST_CHANNELS
    return wide and convolution.form() == "native"


def _call(symbol: str, x: jax.Array, *operands: jax.Array) -> Statistics:
    """The handler `symbol` of kernels/batch_norm.cc, its two results shaped [groups, 1, ..., C]."""
    groups, channels = x.shape[0], x.shape[-1]
    result = jax.ShapeDtypeStruct((groups, channels), x.dtype)
    flat = [one.reshape(groups, -1, channels) for one in (x, *operands)]
    found = native.handler(symbol, (result, result))(*flat)
    one, other = (each.reshape(groups, *(1,) * (x.ndim - 2), channels) for each in found)
    return one, other


normalised.defvjp(_normalised_forward, _normalised_backward)
