"""Batch norm's own gradient and the native sums against the definition in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import batch_norm, convolution

EPSILON = 1e-5
# [groups, images, ..., channels]: one group, several, a channel count that fills no vector, few
# positions, more than one part, and a vector of features.
SHAPES = [(1, 8, 6, 5, 16), (4, 3, 2, 2, 19), (2, 5, 1, 1, 32), (1, 10, 30, 30, 16), (3, 7, 33)]


pytestmark = pytest.mark.parametrize("form", ["xla", "native"], indirect=True)


def by_definition(x, scale, shift, g):
    """Output, mean, variance, and the gradients by x, scale and shift (Ioffe and Szegedy 2015)."""
    x, scale, shift, g = (np.asarray(a, np.float64) for a in (x, scale, shift, g))
    over = tuple(range(1, x.ndim - 1))
    mean, var = x.mean(over, keepdims=True), x.var(over, keepdims=True)
    unit = (x - mean) / np.sqrt(var + EPSILON)
    by_unit = g * scale
    along = (by_unit * unit).mean(over, keepdims=True)
    by_x = (by_unit - by_unit.mean(over, keepdims=True) - unit * along) / np.sqrt(var + EPSILON)
    every = tuple(range(x.ndim - 1))
    return unit * scale + shift, mean, var, by_x, (g * unit).sum(every), g.sum(every)


def computed(form, x, scale, shift, g):
    @jax.jit
    def run(x, scale, shift, g):
        def layer(x, scale, shift):
            return batch_norm.normalised(EPSILON, x, scale, shift)

        (y, (mean, var)), back = jax.vjp(layer, x, scale, shift)
        return y, mean, var, *back((g, (jnp.zeros_like(mean), jnp.zeros_like(var))))

    with convolution.formed(form):
        return run(x, scale, shift, g)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forms_agree_with_the_definition(form: str, shape: tuple[int, ...]) -> None:
    draw = np.random.default_rng(0)
    x, g = (draw.standard_normal(shape, np.float32) for _ in range(2))
    scale, shift = (draw.standard_normal(shape[-1], np.float32) for _ in range(2))
    x = 3 * x + 2
    found = computed(form, x, scale, shift, g)
    names = ("y", "mean", "var", "by x", "by scale", "by shift")
    for name, one, other in zip(names, found, by_definition(x, scale, shift, g), strict=True):
        tolerance = 3e-6 * np.abs(other).max()
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance, err_msg=name)


def test_the_native_sums_are_used_where_convolutions_are_native(form: str) -> None:
    def program(channels):
        x, ones = jnp.zeros((1, 4, channels)), jnp.ones(channels)
        with convolution.formed(form):
            traced = jax.jit(lambda x: batch_norm.normalised(EPSILON, x, ones, ones)).lower(x)
        return traced.as_text()

    assert ("BatchNormMoments" in program(16)) == (form == "native")
    assert "BatchNormMoments" not in program(8)


def test_the_variance_keeps_its_digits_far_from_zero(form: str) -> None:
    """A mean a thousand times the deviation: E[x²] - E[x]² in float32 would have no digit left."""
    x = (1000 + np.random.default_rng(0).standard_normal((1, 4096, 16))).astype(np.float32)
    ones = np.ones(16, np.float32)
    var = computed(form, x, ones, ones, x)[2]
    np.testing.assert_allclose(var[0, 0], x[0].astype(np.float64).var(0), rtol=1e-5)


def test_a_constant_channel_has_no_variance(form: str) -> None:
    x = np.full((2, 100, 16), 0.1, np.float32)
    ones = np.ones(16, np.float32)
    y, _, var, by_x, *_ = computed(form, x, ones, 0 * ones, x)
    np.testing.assert_allclose(var, 0, atol=1e-12)
    np.testing.assert_allclose(y, 0, atol=1e-4)
    assert np.isfinite(by_x).all()
