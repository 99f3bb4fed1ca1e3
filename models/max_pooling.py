"""Max pooling, and the form of its gradient that is deterministic on GPUs.

XLA's gradient of overlapping windows is a scatter, for which --xla_gpu_deterministic_ops has no
implementation. On GPUs the gradient is written as sums of shifted arrays, in a fixed order. Imports
nothing of the project.
"""

import functools
import itertools
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

Sides = tuple[tuple[int, int], tuple[int, int]]


class Window(NamedTuple):
    """`size`×`size` pixels every `stride`; ((top, bottom), (left, right)) pixels of padding."""

    size: int
    stride: int
    pad: Sides


def views(window: Window, x: jax.Array) -> list[jax.Array]:
    """What each pixel of the windows sees, row by row: [N, H, W, C] -> size² of [N, H', W', C]."""
    x = lax.pad(x, jnp.asarray(-jnp.inf, x.dtype), ((0, 0, 0), *_borders(window), (0, 0, 0)))
    rows, columns = (_extent(window, side) for side in x.shape[1:3])
    strides = (1, window.stride, window.stride, 1)
    return [
        lax.slice(x, (0, i, j, 0), (x.shape[0], i + rows, j + columns, x.shape[3]), strides)
        for i, j in itertools.product(range(window.size), repeat=2)
    ]


def apart(window: Window, x: jax.Array) -> jax.Array:
    """The maximum of windows that do not overlap, as that of their views.

    Its gradient needs no scatter, which on CPU takes seven times as long.
    """
    return functools.reduce(jnp.maximum, views(window, x))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def overlapping(window: Window, x: jax.Array) -> jax.Array:
    """The maximum of windows that overlap: [N, H, W, C] -> [N, H', W', C].

    Of equal values in a window the first, row by row, takes the gradient.
    """
    return _reduced(window, x)


def _reduced(window: Window, x: jax.Array) -> jax.Array:
    size, stride = (1, window.size, window.size, 1), (1, window.stride, window.stride, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, size, stride, ((0, 0), *window.pad, (0, 0)))


def _forward(window: Window, x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    y = _reduced(window, x)
    return y, (x, y)


def _backward(window: Window, kept: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array]:
    sums, scatter = partial(shifted, window), partial(scattered, window)
    return (lax.platform_dependent(*kept, g, cuda=sums, rocm=sums, default=scatter),)


overlapping.defvjp(_forward, _backward)


def scattered(window: Window, x: jax.Array, y: jax.Array, g: jax.Array) -> jax.Array:
    """The gradient as XLA's scatter; y, the maxima, is not used."""
    del y
    return jax.vjp(partial(_reduced, window), x)[1](g)[0]


def shifted(window: Window, x: jax.Array, y: jax.Array, g: jax.Array) -> jax.Array:
    """The gradient as a sum over the pixels of a window; y are the maxima.

    Adds in the order of the windows, as a scatter that takes them one after the other.
    """
    zero = jnp.zeros((), g.dtype)
    taken = jnp.zeros(y.shape, bool)
    parts = []
    for seen in views(window, x):
        first = (seen == y) & ~taken
        taken |= first
        parts.append(jnp.where(first, g, zero))
    (top, _), (left, _) = window.pad
    total = jnp.zeros(x.shape, g.dtype)
    places = list(itertools.product(range(window.size), repeat=2))
    # A pixel is the last of the first window it is in.
    for (i, j), part in reversed(list(zip(places, parts, strict=True))):
        sides = [
            (begin, side - begin - (count - 1) * window.stride - 1, window.stride - 1)
            for begin, side, count in zip(
                (i - top, j - left), x.shape[1:3], part.shape[1:3], strict=True
            )
        ]
        total += lax.pad(part, zero, ((0, 0, 0), *sides, (0, 0, 0)))
    return total


def _borders(window: Window) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    (top, bottom), (left, right) = window.pad
    return (top, bottom, 0), (left, right, 0)


def _extent(window: Window, side: int) -> int:
    """From the first to the last window's beginning on a padded side, in pixels."""
    return (side - window.size) // window.stride * window.stride + 1
