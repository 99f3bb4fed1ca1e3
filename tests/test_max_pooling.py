"""The two forms of max pooling's gradient give the same bits, with ties and at the edges."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import max_pooling
from models.max_pooling import Window

# Image height and width, window, stride, (top, bottom, left, right).
SHAPES = [
    ((13, 13), 3, 2, (0, 0, 0, 0)),
    ((12, 12), 3, 2, (0, 1, 0, 1)),
    ((14, 9), 3, 2, (1, 1, 1, 1)),
    ((7, 8), 3, 1, (1, 1, 1, 1)),
    ((9, 9), 5, 3, (2, 1, 0, 4)),
    ((6, 7), 2, 1, (0, 0, 0, 0)),
    ((4, 4), 4, 3, (2, 2, 1, 2)),
]


@pytest.fixture(params=SHAPES, ids=str)
def case(request: pytest.FixtureRequest) -> tuple[Window, np.ndarray]:
    """A window, and images of few different values, so that many windows hold a maximum twice."""
    (height, width), size, stride, (top, bottom, left, right) = request.param
    draw = np.random.default_rng(0)
    x = draw.integers(0, 4, (3, height, width, 5)).astype(np.float32)
    return Window(size, stride, ((top, bottom), (left, right))), x


def by_definition(window: Window, x: np.ndarray, g: np.ndarray) -> np.ndarray:
    """The first maximum of each window, row by row, takes its gradient; window after window."""
    (top, bottom), (left, right) = window.pad
    pad = ((0, 0), (top, bottom), (left, right), (0, 0))
    padded = np.pad(x, pad, constant_values=-np.inf)
    by_x = np.zeros_like(padded)
    for n, p, q, c in np.ndindex(g.shape):
        rows, columns = p * window.stride, q * window.stride
        seen = padded[n, rows : rows + window.size, columns : columns + window.size, c]
        i, j = divmod(int(seen.argmax()), window.size)
        by_x[n, rows + i, columns + j, c] += g[n, p, q, c]
    return by_x[:, top : top + x.shape[1], left : left + x.shape[2]]


def test_both_forms_are_the_definition_to_the_bit(case: tuple[Window, np.ndarray]) -> None:
    window, x = case
    y = max_pooling.overlapping(window, jnp.asarray(x))
    g = np.random.default_rng(1).standard_normal(y.shape, np.float32)
    expected = by_definition(window, x, g)
    for form in (max_pooling.shifted, max_pooling.scattered):
        np.testing.assert_array_equal(jax.jit(partial(form, window))(x, y, g), expected)
    by_x = jax.vjp(partial(max_pooling.overlapping, window), jnp.asarray(x))[1](jnp.asarray(g))[0]
    np.testing.assert_array_equal(by_x, expected)


def test_on_gpus_the_gradient_has_no_scatter() -> None:
    """The program that is lowered for each platform."""
    window = Window(3, 2, ((0, 0), (0, 0)))
    x = jnp.zeros((1, 7, 7, 2))
    gradient = jax.jit(jax.grad(lambda x: max_pooling.overlapping(window, x).sum()))
    for platform, scatters in (("cuda", False), ("rocm", False), ("cpu", True), ("tpu", True)):
        lowered = gradient.trace(x).lower(lowering_platforms=(platform,)).as_text()
        assert ("select_and_scatter" in lowered) == scatters, platform
