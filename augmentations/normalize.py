"""Normalisations: pixels in 0..255 to the scale that a paper's network was trained on.

Each is a pure function of a batch [B, H, W, C] and, for some, of statistics. The `fit_...`
functions compute them from the training part only, in float64, chunk by chunk in a fixed order, so
that the same data always give the same statistics.
"""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

Statistics = tuple[np.ndarray, ...]
Array = jax.Array | np.ndarray


def scale(images: jax.Array) -> jax.Array:
    """0..255 to 0..1."""
    return images / 255.0


def lenet(images: jax.Array) -> jax.Array:
    """0..255 to −0.1 (background) .. 1.175 (ink), LeCun et al. 1998, section III.A."""
    return -0.1 + 1.275 * images / 255.0


def fit_per_pixel_mean(chunks: Iterable[np.ndarray]) -> Statistics:
    """The mean image (H, W, C)."""
    count, total = 0, np.zeros(())
    for chunk in chunks:
        count += len(chunk)
        total = total + chunk.sum(axis=0, dtype=np.float64)
    return ((total / count).astype(np.float32),)


def per_pixel_mean(images: jax.Array, mean: Array) -> jax.Array:
    """Subtracts the training set's mean image (Krizhevsky et al. 2012; He et al. 2016a).

    Images of another size, in fully convolutional tests, have no per-pixel mean: the mean colour of
    the mean image is subtracted.
    """
    if images.shape[1:] != mean.shape:
        return channel_mean(images, jnp.mean(mean, axis=(0, 1)))
    return images - mean[None]


def _channel_moments(chunks: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    count, total, squares = 0, np.zeros(()), np.zeros(())
    for chunk in chunks:
        pixels = chunk.reshape(-1, chunk.shape[-1]).astype(np.float64)
        count += len(pixels)
        total = total + pixels.sum(axis=0)
        squares = squares + np.square(pixels).sum(axis=0)
    mean = total / count
    return mean, np.sqrt(np.maximum(squares / count - np.square(mean), 0.0))


def fit_channel_mean(chunks: Iterable[np.ndarray]) -> Statistics:
    """The mean of each channel (C,)."""
    return (_channel_moments(chunks)[0].astype(np.float32),)


def channel_mean(images: jax.Array, mean: Array) -> jax.Array:
    """Subtracts the training set's mean colour (Simonyan and Zisserman 2015, section 2.1)."""
    return images - mean[None, None, None]


def fit_mean_sd(chunks: Iterable[np.ndarray]) -> Statistics:
    """Mean and standard deviation of each channel, (C,) each; sd is 1 for a constant channel."""
    mean, sd = _channel_moments(chunks)
    return mean.astype(np.float32), np.where(sd > 0.0, sd, 1.0).astype(np.float32)


def mean_sd(images: jax.Array, mean: Array, sd: Array) -> jax.Array:
    """Scales each channel to mean 0 and standard deviation 1 over the training set."""
    return (images - mean[None, None, None]) / sd[None, None, None]


def gcn(images: jax.Array, *, norm: float) -> jax.Array:
    """Global contrast normalisation: scales each image to mean 0 and L2 norm `norm`.

    The maxout networks (pylearn2), whose data Lin et al. 2014 trained on, used 55. A constant image
    becomes 0.
    """
    centred = images - jnp.mean(images, axis=(1, 2, 3), keepdims=True)
    length = jnp.sqrt(jnp.sum(jnp.square(centred), axis=(1, 2, 3), keepdims=True))
    return norm * centred / jnp.where(length < 1e-8, 1.0, length)


def fit_zca(chunks: Iterable[np.ndarray], *, eps: float) -> Statistics:
    """Mean (D,) and the symmetric whitening matrix (D, D) V (Λ + eps)^(−1/2) Vᵀ, D = H·W·C."""
    count, total, products = 0, np.zeros(()), np.zeros(())
    for chunk in chunks:
        rows = chunk.reshape(len(chunk), -1).astype(np.float64)
        count += len(rows)
        total = total + rows.sum(axis=0)
        products = products + rows.T @ rows
    mean = total / count
    values, vectors = np.linalg.eigh(products / count - np.outer(mean, mean))
    whiten = (vectors / np.sqrt(np.maximum(values, 0.0) + eps)) @ vectors.T
    return mean.astype(np.float32), whiten.astype(np.float32)


def zca(images: jax.Array, mean: Array, whiten: Array) -> jax.Array:
    """Whitens over all pixels and channels with the symmetric (ZCA) matrix, as in pylearn2."""
    rows = images.reshape(images.shape[0], -1) - mean[None]
    rows = jnp.matmul(rows, whiten, precision=jax.lax.Precision.HIGHEST)
    return rows.reshape(images.shape)
