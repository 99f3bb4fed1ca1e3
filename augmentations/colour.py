"""Augmentations that change colours: pure functions of (key, image), [H, W, 3] in 0..255."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array | np.ndarray

# The eigenvalues and eigenvectors (columns) of ImageNet's RGB covariance, pixels in [0, 1], as the
# Torch re-implementation of ResNet has them; Krizhevsky et al. do not print theirs.
IMAGENET_PCA = (
    np.array([0.2175, 0.0188, 0.0045], np.float32),
    np.array(
        [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]],
        np.float32,
    ),
)

# ITU-R 601 luma, which image libraries use for grey.
LUMA = (0.299, 0.587, 0.114)


def fit_pca(chunks: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (3,) and eigenvectors (3, 3; columns) of the RGB covariance, pixels in [0, 1].

    Computed over all pixels of all images in float64. Largest first; the entry of largest
    magnitude of each vector is positive.
    """
    count, total, products = 0, np.zeros(3), np.zeros((3, 3))
    for chunk in chunks:
        pixels = chunk.reshape(-1, 3).astype(np.float64) / 255.0
        count += len(pixels)
        total += pixels.sum(axis=0)
        products += pixels.T @ pixels
    mean = total / count
    values, vectors = np.linalg.eigh(products / count - np.outer(mean, mean))
    values, vectors = values[::-1], vectors[:, ::-1]
    largest = np.abs(vectors).argmax(axis=0)
    vectors = vectors * np.sign(vectors[largest, np.arange(3)])
    return np.maximum(values, 0.0).astype(np.float32), vectors.astype(np.float32)


def pca_colour(
    key: jax.Array, image: jax.Array, values: Array, vectors: Array, *, sd: float
) -> jax.Array:
    """Adds Σ_i p_i·α_i·λ_i to every pixel, α_i ~ N(0, sd²) once per image.

    Krizhevsky et al. 2012, section 4.1. As printed, the factor is λ, not its square root. The
    constants are for pixels in [0, 1], where the shift along the first axis has sd 0.022; the shift
    is multiplied by 255 for this image.
    """
    alpha = sd * jax.random.normal(key, (3,))
    return image + 255.0 * (vectors @ (alpha * values))[None, None, :]


def brightness(image: jax.Array, factor: jax.Array | float) -> jax.Array:
    """Blends with black: factors below 1 darken, above 1 brighten."""
    return jnp.clip(factor * image, 0.0, 255.0)


def contrast(image: jax.Array, factor: jax.Array | float) -> jax.Array:
    """Blends with the image's mean grey: factors below 1 reduce contrast, above 1 increase it."""
    grey = jnp.mean(image @ jnp.array(LUMA))
    return jnp.clip(grey + factor * (image - grey), 0.0, 255.0)


def saturation(image: jax.Array, factor: jax.Array | float) -> jax.Array:
    """Blends with each pixel's grey: factors below 1 reduce saturation, above 1 increase it."""
    grey = (image @ jnp.array(LUMA))[:, :, None]
    return jnp.clip(grey + factor * (image - grey), 0.0, 255.0)


def photometric(key: jax.Array, image: jax.Array, *, low: float, high: float) -> jax.Array:
    """Contrast, brightness and colour, each by a factor in low..high, in random order.

    Howard 2013, "Some improvements on deep convolutional neural network based image
    classification", section 2.2: factors 0.5..1.5; his further lighting noise is `pca_colour`.
    """
    order_key, factor_key = jax.random.split(key)
    order = jax.random.permutation(order_key, 3)
    factors = jax.random.uniform(factor_key, (3,), minval=low, maxval=high)
    for place in range(3):
        which = order[place]
        factor = factors[which]
        image = jax.lax.select_n(
            which, contrast(image, factor), brightness(image, factor), saturation(image, factor)
        )
    return image
