"""Times the convolutions of typical layers in each of their forms on CPU.

command   python benchmarks/convolutions.py
measures  milliseconds of the forward pass and of the two gradients, by XLA's own convolution and by
          models.convolution.convolve in its forms; the largest difference from XLA's results in
          float64, as a share of the largest value. On maps smaller than the kernel every form is
          one product of patches.
Prints a table. Forms take turns in each round, and the smallest mean over rounds is printed. Output
from several machines is in benchmarks/logs/.
"""

import pathlib
import platform
import sys
import time
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import jax
import jax.numpy as jnp
import numpy as np
from absl import app

from models import convolution, native
from models.convolution import Window
from startup import environment, xla_settings
from training.progress import table

# Batch, side of the map, kernel, input and output channels; padded to keep the side.
SHAPES = [
    *((128, 32, 3, 16, 16), (128, 16, 3, 32, 32), (128, 8, 3, 64, 64), (128, 4, 3, 64, 64)),
    *((128, 8, 3, 128, 128), (16, 56, 3, 64, 64), (16, 28, 3, 128, 128), (16, 14, 3, 256, 256)),
    *((16, 28, 3, 96, 128), (128, 24, 5, 32, 32), (128, 32, 5, 1, 6), (128, 2, 3, 128, 128)),
]
XLA = "XLA"
REPEATS, ROUNDS = 5, 4

Array = jax.Array


def run(way: str, window: Window) -> Callable[[Array, Array], Array]:
    """The convolution of x and a kernel in this way."""

    def call(x: Array, kernel: Array) -> Array:
        if way == XLA:
            return convolution.plain(window, x, kernel)
        with convolution.formed(way):
            return convolution.convolve(x, kernel, window.stride, window.pad, groups=1)

    return call


def gradients(
    call: Callable[[Array, Array], Array],
) -> Callable[[Array, Array, Array], tuple[Array, Array]]:
    """The gradients by x and by the kernel, of an output gradient g."""

    def back(x: Array, kernel: Array, g: Array) -> tuple[Array, Array]:
        return jax.vjp(call, x, kernel)[1](g)

    return back


def mean_ms(compiled: Callable[..., Array | tuple[Array, Array]], *operands: Array) -> float:
    """Milliseconds of a call, the mean of REPEATS."""
    began = time.perf_counter()
    for _ in range(REPEATS):
        out = compiled(*operands)
    jax.block_until_ready(out)
    return 1e3 * (time.perf_counter() - began) / REPEATS


def main(_: list[str]) -> None:
    """Times every shape in every way."""
    ways = [XLA, "formulated", *(["native"] if native.load() else [])]
    rows: list[tuple[str, ...]] = [
        ("kernel", "map", "channels", "batch", "way", "forward", "gradients", "differs by")
    ]
    for batch, side, taps, channels, features in SHAPES:
        keys = jax.random.split(jax.random.key(0), 3)
        x = jax.random.normal(keys[0], (batch, side, side, channels))
        kernel = jax.random.normal(keys[1], (taps, taps, channels, features))
        g = jax.random.normal(keys[2], (batch, side, side, features))
        window = Window(1, ((taps // 2, taps // 2), (taps // 2, taps // 2)))
        forward = {way: jax.jit(run(way, window)) for way in ways}
        backward = {way: jax.jit(gradients(run(way, window))) for way in ways}
        results = {way: (forward[way](x, kernel), *backward[way](x, kernel, g)) for way in ways}
        with jax.enable_x64():
            x64, kernel64, g64 = (jnp.asarray(array, jnp.float64) for array in (x, kernel, g))
            gradients64 = backward[XLA](x64, kernel64, g64)
            exact = [np.asarray(one) for one in (forward[XLA](x64, kernel64), *gradients64)]
        best = {way: [float("inf"), float("inf")] for way in ways}
        for _round in range(ROUNDS):
            for way in ways:
                best[way][0] = min(best[way][0], mean_ms(forward[way], x, kernel))
                best[way][1] = min(best[way][1], mean_ms(backward[way], x, kernel, g))
        for way, milliseconds in best.items():
            differs = max(
                float(np.abs(one - other).max() / np.abs(other).max())
                for one, other in zip(map(np.asarray, results[way]), exact, strict=True)
            )
            times = (f"{each:.2f} ms" for each in milliseconds)
            shape = (f"{taps}×{taps}", f"{side}×{side}", f"{channels} to {features}", str(batch))
            rows.append((*shape, way, *times, f"{differs:.0e}"))
    made_on = environment.describe()
    print(f"{platform.machine()}, {made_on['processor_cores']} cores, {made_on['device_kind']}")
    print(f"Python {made_on['python']}, jax {jax.__version__}, commit {made_on['commit']}")
    print(f"\n{table(rows)}")


if __name__ == "__main__":
    xla_settings.apply()
    app.run(main)
