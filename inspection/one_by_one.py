"""Shows that a 1×1 convolution is a dense layer at each position.

    python -m inspection.one_by_one lecture_conv5x5_bottleneck

Lin et al. 2014, section 3.2. Every 1×1 convolution of the network is computed on random images and
compared with NumPy's product of the pixels at each position, a matrix of positions and channels,
with the layer's kernel as a dense layer's matrix.
"""

import argparse
import dataclasses
import sys
from typing import Any

import flax.linen as nn
import jax
import numpy as np

import models
from errors import UserError
from models.layers import Conv

IMAGES, SEED = 2, 0
ROUNDING = 1e-5  # relative to the largest output: what the order of float32 sums may change


@dataclasses.dataclass(frozen=True)
class Layer:
    """A 1×1 convolution beside the dense layer. difference: the largest of an output, relative to
    the largest output. positions: of one image.
    """

    name: str
    channels: int
    features: int
    positions: int
    difference: float


def compare(network: models.Network) -> list[Layer]:
    """Every 1×1 convolution of a network without groups, in order, beside its dense layer."""
    seen: list[tuple[Conv, np.ndarray, Any]] = []

    def see(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        layer = context.module
        one_by_one = isinstance(layer, Conv) and layer.kernel == (1, 1) and layer.groups == 1
        out = call(*args, **kwargs)
        if one_by_one and context.method_name == "__call__":
            seen.append((layer, np.asarray(args[0]), layer.variables["params"]))
        return out

    draw = np.random.default_rng(SEED)
    images = draw.standard_normal((IMAGES, *network.input)).astype(np.float32)
    variables = jax.jit(network.init)(jax.random.key(SEED), images[:1])
    with nn.intercept_methods(see):
        network.apply(variables, images)
    return [_compared(*one) for one in seen]


def _compared(layer: Conv, x: np.ndarray, params: Any) -> Layer:
    # Without its batch norm, which follows the convolution.
    own = {name: params[name] for name in ("kernel", "bias") if name in params}
    bare = layer.clone(batch_norm=None, parent=None, name=None)
    convolved = np.asarray(bare.apply({"params": own}, x), np.float64)
    pixels = x[:, :: layer.stride, :: layer.stride].astype(np.float64)
    matrix = np.asarray(own["kernel"], np.float64)[0, 0]
    dense = pixels.reshape(-1, x.shape[-1]) @ matrix + np.asarray(own.get("bias", 0.0))
    apart = np.abs(convolved.reshape(dense.shape) - dense).max() / np.abs(dense).max()
    positions = convolved.shape[1] * convolved.shape[2]
    channels, features = matrix.shape
    return Layer("/".join(layer.path), channels, features, positions, float(apart))


def main() -> None:
    """Prints a line for each 1×1 convolution; exits with 1 if one is not its dense layer."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("network", metavar="NAME")
    try:
        network = models.create({"name": parser.parse_args().network})
    except ValueError as error:
        raise UserError(str(error)) from None
    wrong = False
    for layer in compare(network):
        same = layer.difference < ROUNDING
        wrong |= not same
        print(
            f"{layer.name}: {layer.channels} to {layer.features} channels, "
            + (
                f"equal to a dense layer at each of {layer.positions} positions"
                if same
                else f"differs from a dense layer by {layer.difference:.1e}"
            )
        )
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
