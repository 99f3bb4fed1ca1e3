"""Augmentations that move pixels: pure functions of (key, image), one image [H, W, C] at a time.

The image's shape does not change. Pixels from outside the image are `fill` (0..255).
"""

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates


def pad_crop(key: jax.Array, image: jax.Array, *, pixels: int, fill: float) -> jax.Array:
    """Pads by `pixels` on every side and crops to the original size at a random offset.

    He et al. 2016a, section 4.2: 4 pixels, any of the 9 × 9 offsets. Normalisation comes later, so
    a per-pixel mean is aligned with the network's pixels, and `fill` is in 0..255.
    """
    margin = ((pixels, pixels), (pixels, pixels), (0, 0))
    padded = jnp.pad(image, margin, constant_values=fill)
    top, left = jax.random.randint(key, (2,), 0, 2 * pixels + 1)
    return jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)


def flip(key: jax.Array, image: jax.Array, *, probability: float) -> jax.Array:
    """Mirrors left and right with this probability (0.5 in all papers since 2012)."""
    return jnp.where(jax.random.uniform(key) < probability, image[:, ::-1], image)


def warp(
    image: jax.Array,
    shift: jax.Array,
    zoom: jax.Array | float,
    squeeze: jax.Array | float,
    shear: jax.Array | float,
    fill: float,
) -> jax.Array:
    """Shears about the centre, squeezes, zooms, then moves by `shift` (down, right), in pixels.

    `squeeze` stretches the width and compresses the height by the same factor. `shear` moves each
    row to the right by that many pixels per row below the centre. Bilinear; outside is `fill`.
    """
    height, width = image.shape[:2]
    middle = (height - 1) / 2, (width - 1) / 2
    # The source position of every output pixel.
    down = (jnp.arange(height) - middle[0] - shift[0])[:, None] * squeeze / zoom
    right = (jnp.arange(width) - middle[1] - shift[1])[None, :] / (squeeze * zoom)
    rows = jnp.broadcast_to(down, (height, width)) + middle[0]
    columns = right - shear * down + middle[1]

    def move(channel: jax.Array) -> jax.Array:
        return map_coordinates(channel, [rows, columns], order=1, mode="constant", cval=fill)

    return jax.vmap(move, in_axes=-1, out_axes=-1)(image)


def affine(
    key: jax.Array,
    image: jax.Array,
    *,
    translate: float,
    scale: float,
    squeeze: float,
    shear: float,
    fill: float,
) -> jax.Array:
    """LeCun et al. 1998, section III.B: translation, scaling, squeezing, horizontal shear.

    Squeezing is "simultaneous horizontal compression and vertical elongation, or the reverse".
    The paper prints no ranges. Ours: up to `translate` pixels in each direction; zoom uniform in
    1 ± `scale`; squeeze log-uniform in 1/(1+s)..(1+s); shear uniform in ± `shear` pixels per row.
    """
    draws = jax.random.uniform(key, (5,), minval=-1.0, maxval=1.0)
    shift, zoom = translate * draws[:2], 1.0 + scale * draws[2]
    return warp(image, shift, zoom, (1.0 + squeeze) ** draws[3], shear * draws[4], fill)
