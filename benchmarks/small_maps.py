"""What it costs to convolve a map smaller than the kernel, and to multiply it out as patches.

command   python benchmarks/small_maps.py
measures  for maps of 1 to 6 pixels a side: XLA's convolution and models.layers.patches with one
          matrix product, forward, and forward with both gradients, milliseconds; the largest
          difference of the two results as a share of the largest result
Prints a table; judges nothing. models.layers.Conv takes the second way where the map is smaller
than the kernel. benchmarks/logs/ has what it printed on the machines it was run on.
"""

import pathlib
import platform
import sys
import time
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import jax
import jax.numpy as jnp
from absl import app
from jax import lax

from models.layers import patches
from training.progress import table

SHAPES = [(3, 1, 128), (3, 2, 64), (3, 2, 128), (3, 3, 64), (3, 4, 64), (5, 2, 16), (5, 4, 16)]
SHAPES += [(5, 5, 16), (5, 6, 16)]  # kernel, map, channels
BATCH, REPEATS, BEST_OF = 128, 20, 5


def milliseconds(call: Callable, *arguments: jax.Array) -> float:
    """The least mean of `BEST_OF` rounds of `REPEATS` calls, compiled before."""
    compiled = jax.jit(call)
    jax.block_until_ready(compiled(*arguments))
    rounds = []
    for _ in range(BEST_OF):
        began = time.perf_counter()
        for _ in range(REPEATS):
            out = compiled(*arguments)
        jax.block_until_ready(out)
        rounds.append((time.perf_counter() - began) / REPEATS)
    return 1e3 * min(rounds)


def main(_: list[str]) -> None:
    """Times every shape both ways."""
    rows = [("kernel", "map", "channels", "way", "forward", "with gradients", "differs by")]
    for side, size, channels in SHAPES:
        keys = jax.random.split(jax.random.key(0))
        images = jax.random.normal(keys[0], (BATCH, size, size, channels))
        kernel = jax.random.normal(keys[1], (side, side, channels, channels))

        def convolved(x: jax.Array, kernel: jax.Array, pad: int = side // 2) -> jax.Array:
            pads = ((pad, pad), (pad, pad))
            layout = ("NHWC", "HWIO", "NHWC")
            return lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=layout)

        def multiplied(x: jax.Array, kernel: jax.Array, side: int = side) -> jax.Array:
            taps = patches(x, (side, side), 1, side // 2)
            return taps @ kernel.reshape(-1, kernel.shape[-1])

        want = convolved(images, kernel)
        for way, call in (("convolution", convolved), ("patches", multiplied)):

            def loss(x: jax.Array, kernel: jax.Array, call: Callable = call) -> jax.Array:
                return jnp.square(call(x, kernel)).sum()

            error = jnp.abs(call(images, kernel) - want).max() / jnp.abs(want).max()
            rows.append(
                (
                    f"{side}×{side}",
                    f"{size}×{size}",
                    str(channels),
                    way,
                    f"{milliseconds(call, images, kernel):.2f} ms",
                    f"{milliseconds(jax.grad(loss, (0, 1)), images, kernel):.2f} ms",
                    f"{error:.0e}",
                )
            )
    print(f"{platform.machine()}, {jax.devices()[0].device_kind}, jax {jax.__version__}")
    print(f"batch {BATCH}\n\n{table(rows)}")


if __name__ == "__main__":
    app.run(main)
