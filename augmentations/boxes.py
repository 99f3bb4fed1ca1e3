"""Which part of an image becomes the network's input: one definition for both engines.

A box is (top, left, height, width) in the stored image's own pixels, fractions allowed, and is
resampled to size × size once, by a triangle filter that widens when downsampling (antialiased
bilinear). Cutting a box equals resizing the whole image and cropping at a whole pixel, without the
intermediate rounding. Training and test images use the same filter.

The functions take uniform draws as arguments. `xp` is `numpy` in the worker processes of the
streaming engine and `jax.numpy` inside the jitted step of the resident one.
"""

from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

Box = tuple[Any, Any, Any, Any]

AREA_TRIES = 10
UNIFORMS = {"random_crop": 2, "scale_jitter": 3, "area_crop": 2 * AREA_TRIES + 2}


def rescaled(xp: ModuleType, height: Any, width: Any, side: Any) -> tuple[Any, Any]:
    """(height, width) in whole pixels after the short side is rescaled to `side` pixels."""
    short = xp.minimum(height, width)
    return xp.round(height * side / short), xp.round(width * side / short)


def _cut_of_resized(
    xp: ModuleType, height: Any, width: Any, size: int, side: Any, vertical: Any, horizontal: Any
) -> Box:
    """The size × size cut of the image after its short side is rescaled to `side` pixels.

    `vertical` and `horizontal` in [0, 1) choose among all whole-pixel offsets, including the last.
    """
    tall, wide = rescaled(xp, height, width, side)
    top = xp.floor(vertical * (tall - size + 1))
    left = xp.floor(horizontal * (wide - size + 1))
    return top * height / tall, left * width / wide, size * height / tall, size * width / wide


def centre(xp: ModuleType, height: Any, width: Any, size: int, side: int) -> Box:
    """The central size × size cut of the image at short side `side`, for test images."""
    tall, wide = rescaled(xp, height, width, side)
    top, left = xp.floor((tall - size + 1) / 2), xp.floor((wide - size + 1) / 2)
    return top * height / tall, left * width / wide, size * height / tall, size * width / wide


def random_crop(
    xp: ModuleType, draws: Any, height: Any, width: Any, size: int, *, side: int
) -> Box:
    """A random cut of the image at short side `side` (Krizhevsky et al. 2012, section 4.1: 256).

    All offsets are possible, including the last: 33 × 33 of them for 224 out of 256.
    """
    return _cut_of_resized(xp, height, width, size, side, draws[0], draws[1])


def scale_jitter(
    xp: ModuleType, draws: Any, height: Any, width: Any, size: int, *, low: int, high: int
) -> Box:
    """As `random_crop`, with the short side a whole number drawn from low..high, both included.

    Simonyan and Zisserman 2015, section 3.1 (256..512); He et al. 2016a, section 3.4 (256..480).
    """
    side = low + xp.floor(draws[2] * (high - low + 1))
    return _cut_of_resized(xp, height, width, size, side, draws[0], draws[1])


def area_crop(
    xp: ModuleType,
    draws: Any,
    height: Any,
    width: Any,
    size: int,
    *,
    low: float,
    high: float,
    aspect: float,
) -> Box:
    """A box of `low`..`high` of the image's area, aspect ratio between 1/aspect and aspect.

    Szegedy et al. 2015, section 6: area uniform in 8%..100%, aspect ratio in [3/4, 4/3]. The paper
    names no distribution for the aspect; here its logarithm is uniform, so that tall and wide are
    equally likely. The paper says nothing about boxes that do not fit the image: here, after ten
    tries, the largest central square is used.
    """
    tries = xp.reshape(draws[: 2 * AREA_TRIES], (2, AREA_TRIES))
    area = height * width * (low + tries[0] * (high - low))
    ratio = aspect ** (2.0 * tries[1] - 1.0)
    tall, wide = xp.round(xp.sqrt(area / ratio)), xp.round(xp.sqrt(area * ratio))
    fits = (tall >= 1) & (wide >= 1) & (tall <= height) & (wide <= width)
    first, found = xp.argmax(fits), xp.any(fits)
    short = xp.minimum(height, width)
    tall, wide = xp.where(found, tall[first], short), xp.where(found, wide[first], short)
    top = xp.where(found, xp.floor(draws[-2] * (height - tall + 1)), xp.floor((height - short) / 2))
    left = xp.where(found, xp.floor(draws[-1] * (width - wide + 1)), xp.floor((width - short) / 2))
    return top, left, tall, wide


def resample(image: jax.Array, box: Box, size: int | tuple[int, int]) -> jax.Array:
    """The box of one image [H, W, C] as [size, size, C], antialiased bilinear, for the jitted step.

    size: one side, or (height, width) if they differ. The filter may read pixels just outside the
    box if the image has them, as Pillow's does.
    """
    top, left, tall, wide = box
    rows, columns = (size, size) if isinstance(size, int) else size
    scale = jnp.array([rows / tall, columns / wide], jnp.float32)
    shift = jnp.array([-top * rows / tall, -left * columns / wide], jnp.float32)
    shape = (rows, columns, image.shape[-1])
    return jax.image.scale_and_translate(image, shape, (0, 1), scale, shift, "linear")
