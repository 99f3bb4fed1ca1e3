"""Times convolutions of maps smaller than the kernel: by XLA, and as a product of patches.

command   python benchmarks/small_maps.py
measures  for maps of 1 to 6 pixels a side: XLA's convolution and models.convolution.patches with
          one matrix product, forward, and forward with both gradients, milliseconds; the largest
          difference of the two results as a share of the largest result
Prints a table. models.convolution uses patches if the map is smaller than the kernel. Output from
several machines is in benchmarks/logs/.
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

from models.convolution import patches
from startup import environment
from training.progress import table

SHAPES = [(3, 1, 128), (3, 2, 64), (3, 2, 128), (3, 3, 64), (3, 4, 64), (5, 2, 16), (5, 4, 16)]
SHAPES += [(5, 5, 16), (5, 6, 16)]  # kernel, map, channels
BATCH, REPEATS, BEST_OF = 128, 20, 5


def milliseconds(call: Callable, *arguments: jax.Array) -> float:
    """The smallest mean over `BEST_OF` rounds of `REPEATS` calls, without compilation."""
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


def convolved(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """XLA's convolution, padded to keep the size of the map."""
    pad = kernel.shape[0] // 2
    pads, layout = ((pad, pad), (pad, pad)), ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=layout)


def multiplied(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The same convolution as one matrix product of patches."""
    height, width, _, features = kernel.shape
    pad = height // 2
    seen = patches(x, (height, width), 1, ((pad, pad), (pad, pad)))
    return seen @ kernel.reshape(-1, features)


def gradients(call: Callable) -> Callable:
    """The gradients of the sum of squares of `call(x, kernel)` with respect to both."""
    return jax.grad(lambda x, kernel: jnp.square(call(x, kernel)).sum(), (0, 1))


def main(_: list[str]) -> None:
    """Times every shape both ways."""
    rows = [("kernel", "map", "channels", "way", "forward", "with gradients", "differs by")]
    for side, size, channels in SHAPES:
        keys = jax.random.split(jax.random.key(0))
        images = jax.random.normal(keys[0], (BATCH, size, size, channels))
        kernel = jax.random.normal(keys[1], (side, side, channels, channels))
        want = convolved(images, kernel)
        error = jnp.abs(multiplied(images, kernel) - want).max() / jnp.abs(want).max()
        for way, call, differs in (
            ("convolution", convolved, ""),
            ("patches", multiplied, f"{error:.0e}"),
        ):
            forward = milliseconds(call, images, kernel)
            both = milliseconds(gradients(call), images, kernel)
            times = (f"{forward:.2f} ms", f"{both:.2f} ms")
            rows.append((f"{side}×{side}", f"{size}×{size}", str(channels), way, *times, differs))
    made_on = environment.describe()
    print(f"{platform.machine()}, {made_on['processor_cores']} cores, {made_on['device_kind']}")
    print(f"Python {made_on['python']}, jax {jax.__version__}, commit {made_on['commit']}")
    print(f"batch {BATCH}\n\n{table(rows)}")


if __name__ == "__main__":
    app.run(main)
