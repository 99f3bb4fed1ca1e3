"""LeNet-5: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document
recognition", Proc. IEEE 86(11), 1998, and later networks of that name.

Layer names are those of the paper (C1 ... F6, OUTPUT), of Caffe for Caffe's network, and of the
lecture (conv1 ... fc5) for the modern one. Imports only `models`.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from models.convolution import convolve
from models.layers import (
    ACTIVATIONS,
    INITIALIZERS,
    POOLS,
    AvgPool,
    Conv,
    Dense,
    Initializer,
    MaxPool,
    chosen,
    require_output,
    uniform_fan_in,
)
from models.network import Network
from models.presets import Preset

# Table I: the maps of S2 that each map of C3 is connected to.
C3_TABLE = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)

# The targets of the ten digits for the 84 units of F6, 7 wide and 12 high, # for +1. The paper has
# its bitmaps only as a picture (Fig. 3); these are in its style, with two empty rows at the bottom.
BITMAPS = """
..###.. ...##.. .#####. ####### ....##. ####### ..####. ####### .#####. .#####.
.##.##. ..###.. ##...## .....## ...###. ##..... .##.... .....## ##...## ##..###
##...## .####.. ##...## ....##. ..####. ##..... ##..... .....## ##...## ##...##
##...## ...##.. .....## ...##.. .##.##. ######. ##..... ....##. ##...## ##...##
##...## ...##.. ....##. ..####. ##..##. .....## ######. ...##.. .#####. ##..###
##...## ...##.. ...##.. .....## ##..##. .....## ###..## ...##.. ##...## .######
##...## ...##.. ..##... .....## ####### .....## ##...## ..##... ##...## .....##
##...## ...##.. .##.... .....## ....##. .....## ##...## ..##... ##...## .....##
.##.##. ...##.. ##..... ##...## ....##. ##...## ###..## ..##... ##...## ....##.
..###.. .###### ####### .#####. ....##. .#####. .#####. ..##... .#####. .####..
....... ....... ....... ....... ....... ....... ....... ....... ....... .......
....... ....... ....... ....... ....... ....... ....... ....... ....... .......
"""


def rbf_centres() -> np.ndarray:
    """The fixed centres of the RBF units, [10, 84] of ±1: the bitmaps, row by row."""
    rows = [line.split() for line in BITMAPS.split("\n") if line]
    ink = [[[c == "#" for c in row[digit]] for row in rows] for digit in range(10)]
    return np.where(np.asarray(ink), 1.0, -1.0).reshape(10, -1).astype(np.float32)


def squash(a: jax.Array) -> jax.Array:
    """The paper's sigmoid, 1.7159 tanh(2a/3): ±1 maps to ±1. LeCun et al. 1998, appendix A."""
    return 1.7159 * jnp.tanh(a * (2 / 3))


class Subsample(nn.Module):
    """The sum over each 2×2 window times the map's coefficient, plus its bias. Section II.B.

    x [N, H, W, C] -> [N, H/2, W/2, C]; an odd last row or column is dropped.
    """

    kernel_init: Initializer
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def multiply_adds(self, *input_shapes: tuple[int, ...]) -> int:
        """One multiplication per output, by its coefficient."""
        height, width, channels = input_shapes[0]
        return (height // 2) * (width // 2) * channels

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        require_output(self, x, (2, 2), ((0, 0), (0, 0)))
        channels = x.shape[-1]

        def draw(key: jax.Array) -> jax.Array:
            # The four inputs share one weight: draw with a fan-in of 4, keep one.
            return self.kernel_init(key, (4, channels), self.param_dtype)[0]

        coefficient = self.param("kernel", draw)
        bias = self.param("bias", nn.initializers.zeros, (channels,), self.param_dtype)
        even = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2].astype(self.dtype)
        total = even.reshape(x.shape[0], x.shape[1] // 2, 2, x.shape[2] // 2, 2, channels)
        total = total.sum((2, 4))
        coefficient, bias = (
            value.astype(self.dtype).reshape(1, 1, 1, -1) for value in (coefficient, bias)
        )
        return total * coefficient + bias


class PartialConv(nn.Module):
    """A convolution with output maps connected to the input maps that `table` lists. Table I.

    x [N, H, W, C] -> [N, H', W', len(table)]. The parameter "kernel" has one kernel per connection,
    in the table's order, so that no weights have to be masked in training.
    """

    table: tuple[tuple[int, ...], ...]
    kernel: tuple[int, int]
    kernel_init: Initializer
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def multiply_adds(self, *input_shapes: tuple[int, ...]) -> int:
        """The weights of the table's kernels, once per output position."""
        height, width, _ = input_shapes[0]
        positions = (height - self.kernel[0] + 1) * (width - self.kernel[1] + 1)
        return positions * self.kernel[0] * self.kernel[1] * sum(map(len, self.table))

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        require_output(self, x, self.kernel, ((0, 0), (0, 0)))

        def draw(key: jax.Array) -> jax.Array:
            # Map by map, since the fan-in differs between the maps.
            keys = jax.random.split(key, len(self.table))
            maps = [
                self.kernel_init(k, (*self.kernel, len(seen), 1), self.param_dtype)[..., 0]
                for k, seen in zip(keys, self.table, strict=True)
            ]
            return jnp.concatenate(maps, axis=-1)

        kernel = self.param("kernel", draw).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (len(self.table),), self.param_dtype)
        sources = np.asarray([source for seen in self.table for source in seen])
        targets = np.repeat(np.arange(len(self.table)), [len(seen) for seen in self.table])
        full = jnp.zeros((*self.kernel, x.shape[-1], len(self.table)), self.dtype)
        full = full.at[:, :, sources, targets].set(kernel)
        x = convolve(x.astype(self.dtype), full, 1, ((0, 0), (0, 0)), 1)
        return x + bias.astype(self.dtype).reshape(1, 1, 1, -1)


class EuclideanRBF(nn.Module):
    """Minus the squared distance to each class's fixed centre, float32: [..., 84] -> [..., 10].

    The paper's output is the distance, and the class with the smallest is chosen. The sign is
    changed so that it is the class with the largest, as in every other network here.
    """

    def multiply_adds(self, *input_shapes: tuple[int, ...]) -> int:
        """One square per position for each of the 84 components of the ten centres."""
        *positions, units = input_shapes[0]
        return int(np.prod(positions, dtype=int)) * units * 10

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        centres = rbf_centres()
        wide = x.astype(jnp.float32)[..., None, :]
        return -jnp.square(wide - centres.reshape((1,) * (x.ndim - 1) + centres.shape)).sum(-1)


# Valid values of LeNet5's `activation`.
SQUASHING: dict[str, Callable[[jax.Array], jax.Array]] = {"scaled_tanh": squash, "relu": nn.relu}


class LeNet5(Network):
    """LeNet-5 as printed: trainable subsampling, partial C3, scaled tanh, radial-basis output.

    Each field but the last replaces one part by what later networks have. c3: "partial" (Table I)
    or "full". subsampling: "trainable", or "average" or "max", which have neither coefficients nor
    a sigmoid. activation: "scaled_tanh" or "relu", of C1, C3, C5 and F6. output: "rbf", whose
    logits are minus the distances, or "softmax", a dense layer.
    dense_form: apply C5, F6 and OUTPUT at every position of a larger image (section II.B, "C5 ...
    would be larger than 1×1"): logits [N, h, w, classes].
    Raises ValueError for a number of classes other than ten with the RBF output, since the bitmaps
    are digits, and for a `width` other than 1 with the partial table.
    """

    c3: str = "partial"
    subsampling: str = "trainable"
    activation: str = "scaled_tanh"
    output: str = "rbf"
    dense_form: bool = False

    @property
    def gives_distances(self) -> bool:
        """Whether the output is the paper's."""
        return self.output == "rbf"

    @property
    def curvature_layers(self) -> Mapping[str, Callable[[jax.Array], jax.Array]]:
        """All layers up to the last with weights."""
        squashed = chosen("activation", self.activation, SQUASHING)
        pooled = squash if self.subsampling == "trainable" else _unchanged
        layers = {"C1": squashed, "S2": pooled, "C3": squashed, "S4": pooled}
        layers |= {"C5": squashed, "F6": squashed}
        return layers if self.gives_distances else layers | {"OUTPUT": _unchanged}

    @nn.compact
    def forward(self, images: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """[N, H, W, C] -> minus the RBF distances, or logits."""
        partial_c3 = chosen("c3", self.c3, {"partial": True, "full": False})
        distances = chosen("output", self.output, {"rbf": True, "softmax": False})
        if distances and self.num_classes != 10:
            raise ValueError(
                f"num_classes: the RBF output has bitmaps for 10 classes, not {self.num_classes}"
            )
        if partial_c3 and self.width != 1:
            raise ValueError(
                "width: Table I connects 6 to 16 maps; another width needs c3='full', "
                f"not {self.width}"
            )
        init: dict[str, Any] = {"kernel_init": self.kernel_init(INITIALIZERS["lecun_fan_in"])}
        conv = partial(Conv, kernel=(5, 5), **init, **self.types)
        subsampling: dict[str, Callable[..., nn.Module]] = {
            "trainable": partial(Subsample, **init, **self.types),
            "average": partial(AvgPool, 2, 2),
            "max": partial(MaxPool, 2, 2),
        }
        subsample = chosen("subsampling", self.subsampling, subsampling)
        after = self.curvature_layers

        x = after["C1"](conv(features=self.channels(6), name="C1")(images))
        x = after["S2"](subsample(name="S2")(x))
        if partial_c3:
            third = PartialConv(table=C3_TABLE, kernel=(5, 5), **init, **self.types, name="C3")
            x = after["C3"](third(x))
        else:
            x = after["C3"](conv(features=self.channels(16), name="C3")(x))
        x = after["S4"](subsample(name="S4")(x))
        x = after["C5"](conv(features=self.channels(120), name="C5")(x))
        window = (1, 1) if self.dense_form else None
        dense = partial(Dense, window=window, **init, **self.types)
        # One unit per pixel of a bitmap, for every `width`.
        x = after["F6"](dense(features=84, name="F6")(x))
        if distances:
            return EuclideanRBF(name="OUTPUT")(x), {}
        return dense(features=self.num_classes, name="OUTPUT")(x), {}


def _unchanged(x: jax.Array) -> jax.Array:
    return x


class LeNetModern(Network):
    """The LeNet-5 of lectures: two convolutions, two poolings, three dense layers, softmax.

    conv_features, dense_features: the widths. conv_pad: of conv1, 2 for 28×28 images.
    activation: "relu" or "tanh"; pool: "max" or "average".
    dense_form: apply the dense layers at every position of a larger image, with the same weights:
    logits [N, h, w, classes].
    """

    conv_features: tuple[int, int] = (6, 16)
    dense_features: tuple[int, ...] = (120, 84)
    conv_pad: int = 0
    activation: str = "relu"
    pool: str = "max"
    dense_form: bool = False

    @property
    def last_stage(self) -> tuple[str, ...]:
        """The dense layers after the first."""
        return tuple(
            f"fc{len(self.conv_features) + i}/*" for i in range(2, len(self.dense_features) + 2)
        )

    @nn.compact
    def forward(self, images: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """[N, H, W, C] -> logits [N, classes]."""
        kernel_init = self.kernel_init(INITIALIZERS["he"])
        conv = partial(Conv, kernel=(5, 5), kernel_init=kernel_init, **self.types)
        dense = partial(Dense, kernel_init=kernel_init, **self.types)
        activation = chosen("activation", self.activation, ACTIVATIONS)
        pool = chosen("pool", self.pool, POOLS)

        x = images
        for index, features in enumerate(self.conv_features, start=1):
            pad = self.conv_pad if index == 1 else 0
            x = activation(conv(features=self.channels(features), pad=pad, name=f"conv{index}")(x))
            x = pool(2, 2, name=f"pool{index}")(x)
        first = len(self.conv_features) + 1
        window = self.last_map() if self.dense_form else None
        for index, features in enumerate(self.dense_features, start=first):
            layer = dense(features=self.channels(features), window=window, name=f"fc{index}")
            x = activation(layer(x))
            window = window and (1, 1)
        last = first + len(self.dense_features)
        return dense(features=self.num_classes, window=window, name=f"fc{last}")(x), {}

    def last_map(self) -> tuple[int, int]:
        """(height, width) of the map that enters the dense layers, for images of size `input`."""
        height, width = (side + 2 * self.conv_pad for side in self.input[:2])
        for _ in self.conv_features:
            height, width = (height - 4) // 2, (width - 4) // 2
        return height, width


class LeNetCaffe(Network):
    """The "LeNet" of Caffe's MNIST example, with a ReLU after ip1 and no other nonlinearity."""

    @property
    def last_stage(self) -> tuple[str, ...]:
        """The dense layers."""
        return ("ip1/*", "ip2/*")

    @nn.compact
    def forward(self, images: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """[N, H, W, C] -> logits [N, classes]."""
        kernel_init = self.kernel_init(uniform_fan_in(3**0.5, 0.5))  # Caffe's "xavier"
        conv = partial(Conv, kernel=(5, 5), kernel_init=kernel_init, **self.types)
        dense = partial(Dense, kernel_init=kernel_init, **self.types)
        x = conv(features=self.channels(20), name="conv1")(images)
        x = MaxPool(2, 2, ceil_mode=True, name="pool1")(x)
        x = conv(features=self.channels(50), name="conv2")(x)
        x = MaxPool(2, 2, ceil_mode=True, name="pool2")(x)
        x = nn.relu(dense(features=self.channels(500), name="ip1")(x))
        return dense(features=self.num_classes, name="ip2")(x), {}


_READINGS = (
    "The RBF centres are bitmaps in the style of Fig. 3; the paper does not list its pixels.",
    "Logits are minus the paper's outputs, so that the largest gives the class.",
    "Biases start at zero; the paper prints only the range of the weights.",
)

PRESETS = {
    "lenet5_1998": Preset(
        LeNet5,
        {"input": (32, 32, 1), "num_classes": 10},
        "LeCun et al. 1998, section II.B, Fig. 2 and Table I",
        deviations=_READINGS,
        published={
            "params": "60,000",
            "connections": "340,908",
            "C1 params": "156",
            "S2 params": "12",
            "C3 params": "1,516",
            "S4 params": "32",
            "C5 params": "48,120",
            "F6 params": "10,164",
        },
        # With ±2.4/fan-in and the paper's Levenberg-Marquardt step sizes the units saturate.
        recommended_initializer="lecun_sqrt_fan_in",
    ),
    "lenet5_1998_full_c3": Preset(
        LeNet5,
        {"input": (32, 32, 1), "num_classes": 10, "c3": "full"},
        "LeCun et al. 1998, Fig. 2, without Table I",
        deviations=("C3 uses all six maps of S2, not the subsets of Table I.", *_READINGS),
        recommended_initializer="lecun_sqrt_fan_in",
    ),
    "lenet5_modern": Preset(
        LeNetModern,
        {"input": (32, 32, 1), "num_classes": 10},
        "LeCun et al. 1998, Fig. 2, as taught today: full C3, ReLU, max pooling, softmax",
        deviations=(
            "Max pooling without weights; the paper's pooling sums, scales and squashes.",
            "ReLU instead of the scaled tanh.",
            "C3 uses all six maps; the output is dense with softmax instead of RBF units.",
            "Initial weights are those of He et al. 2015.",
        ),
    ),
    "lecture_lenet_rgb": Preset(
        LeNetModern,
        {"input": (32, 32, 3), "num_classes": 10, "conv_features": (8, 16)},
        "the lecture's worked example: a small LeNet-like network on 32×32 RGB images",
        published={
            "CONV1 params": "208",
            "CONV2 params": "416",
            "FC3 params": "48,001",
            "FC4 params": "10,081",
            "softmax params": "841",
        },
    ),
    "lenet_caffe": Preset(
        LeNetCaffe,
        {"input": (28, 28, 1), "num_classes": 10},
        "Caffe, examples/mnist/lenet: not LeNet-5",
    ),
}
