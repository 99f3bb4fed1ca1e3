"""GoogLeNet: Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke, Rabinovich, "Going
deeper with convolutions" (2014), and later networks of that name.

Layer names are those of the paper's Table 1 and Fig. 2b (conv1, inception_3a/3x3_reduce, linear);
the side heads are aux1 (on 4a) and aux2 (on 4d), in that order. What the paper does not specify
(normalisation constants, rounding of pooled sizes, initialisation) follows Caffe's release of the
network. Imports only `models`.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from models.layers import (
    AvgPool,
    Conv,
    Dense,
    GlobalAvgPool,
    Initializer,
    LocalResponseNorm,
    MaxPool,
)
from models.network import Network
from models.presets import Preset

# Table 1: 1×1, 3×3 reduce, 3×3, 5×5 reduce, 5×5, pool projection.
MODULES: dict[str, tuple[int, int, int, int, int, int]] = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
HEADS = {"aux1": "4a", "aux2": "4d"}
STEMS = ("7x7", "separable_7x7", "3x3")
MODULE_KINDS = ("reduced", "naive", "unreduced")
# Caffe's "xavier" filler uses only the fan-in: uniform in ±√(3/fan_in).
CAFFE_XAVIER: Initializer = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")
TORCHVISION_NORMAL: Initializer = nn.initializers.normal(0.01)


class AdaptiveAvgPool(nn.Module):
    """Mean over each window of a `size`×`size` grid that covers the map, as in PyTorch.

    Window i of n is floor(i·H/n) to ceil((i+1)·H/n). x [N, H, W, C] -> [N, size, size, C].
    """

    size: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for axis in (1, 2):
            side = x.shape[axis]
            spans = [
                (index * side // self.size, -(-(index + 1) * side // self.size))
                for index in range(self.size)
            ]
            means = [
                jax.lax.slice_in_dim(x, low, high, axis=axis).mean(axis) for low, high in spans
            ]
            x = jnp.stack(means, axis)
        return x


HEAD_POOLS: dict[str, Callable[..., nn.Module]] = {
    "5x5/3": partial(AvgPool, window=5, stride=3),
    "2x2/2": partial(AvgPool, window=2, stride=2),
    "adaptive_4x4": partial(AdaptiveAvgPool, size=4),
}


class InceptionModule(nn.Module):
    """Four branches on one input, concatenated by channel in the order of Fig. 2.

    x [N, H, W, C] -> [N, H, W, C'], C' being the sum of `features` without the two reductions. The
    naive module (Fig. 2a) has no reductions and no pool projection: C' = C + the 1×1, 3×3 and 5×5.
    The unreduced module has no reductions either, but the projection, so that its output is as wide
    as that of the reduced module.
    """

    features: tuple[int, ...]  # in the order of MODULES
    kind: str
    kernel_5x5: int
    conv: Mapping[str, Any]  # fields of every convolution

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        one, three_reduce, three, five_reduce, five, projected = self.features

        def conv(features: int, side: int, name: str, x: jax.Array) -> jax.Array:
            layer = Conv(features, (side, side), pad=side // 2, **self.conv, name=name)
            return nn.relu(layer(x, train))

        reduced = self.kind == "reduced"
        first = conv(one, 1, "1x1", x)
        second = conv(three_reduce, 1, "3x3_reduce", x) if reduced else x
        second = conv(three, 3, "3x3", second)
        third = conv(five_reduce, 1, "5x5_reduce", x) if reduced else x
        third = conv(five, self.kernel_5x5, "5x5", third)
        fourth = MaxPool(3, 1, pad=1, name="pool")(x)
        fourth = conv(projected, 1, "pool_proj", fourth) if self.kind != "naive" else fourth
        return jnp.concatenate((first, second, third, fourth), axis=-1)


class SideHead(nn.Module):
    """A side head (section 5): pooling, 1×1 convolution, dense, dropout, dense.

    x [N, H, W, C] -> logits [N, classes].
    """

    num_classes: int
    features: tuple[int, int]  # of the convolution and of the first dense layer
    pool: str
    dropout: float
    conv: Mapping[str, Any]
    dense: Mapping[str, Any]
    bias_init: Initializer

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = HEAD_POOLS[self.pool](name="pool")(x)
        x = nn.relu(Conv(self.features[0], (1, 1), **self.conv, name="conv")(x, train))
        x = nn.relu(Dense(self.features[1], bias_init=self.bias_init, **self.dense, name="fc")(x))
        x = nn.Dropout(self.dropout, deterministic=not train, name="dropout")(x)
        return Dense(self.num_classes, **self.dense, name="linear")(x)


class GoogLeNet(Network):
    """The 22-layer network of Table 1, [N, H, W, C] -> logits and the side heads' logits.

    heads: aux1, aux2 or both, in that order; () is the deployed network.
    Raises ValueError for a field outside its valid values.
    """

    stem: str = "7x7"  # "3x3" is for inputs of 16 to 32 pixels: stride 1 and one pooling
    module: str = "reduced"  # one of MODULE_KINDS: Fig. 2 (b), or "naive", Fig. 2 (a)
    reduction: float = 1.0  # multiplies the widths of the modules' reductions, in addition to width
    reduction_in: tuple[str, ...] = ()  # modules to which `reduction` applies; empty: all
    kernel_5x5: int = 5  # of the branch called 5×5
    pool4: int = 3  # window of the pooling before 5a
    head_pool: str = "5x5/3"  # of the side heads, one of HEAD_POOLS
    dropout: float = 0.4  # the rate before the classifier
    head_dropout: float = 0.7  # the rate in the side heads
    conv_bias: float = 0.2  # initial
    lrn: bool = True  # local response normalisation
    batch_norm: bool = False  # after every convolution, in place of its bias
    batch_norm_group: int = 0  # images that are normalised together; 0: the whole batch

    def __post_init__(self) -> None:
        for field, values in (
            ("stem", STEMS),
            ("module", MODULE_KINDS),
            ("head_pool", tuple(HEAD_POOLS)),
            ("kernel_5x5", (3, 5)),
            ("pool4", (2, 3)),
        ):
            if getattr(self, field) not in values:
                valid = ", ".join(map(str, values))
                raise ValueError(f"{field}: {getattr(self, field)!r} is none of {valid}")
        if tuple(head for head in HEADS if head in self.heads) != tuple(self.heads):
            raise ValueError(f"heads: {self.heads} must be of {tuple(HEADS)}, in that order")
        if not self.reduction > 0:
            raise ValueError(f"reduction: must be above 0, not {self.reduction}")
        for name in self.reduction_in:
            if name not in MODULES:
                raise ValueError(f"reduction_in: {name!r} is none of {', '.join(MODULES)}")
        super().__post_init__()

    @property
    def last_stage(self) -> tuple[str, ...]:
        """Modules 5a and 5b, the classifier, and the side heads."""
        return ("inception_5*", "linear/*", *(f"{head}/*" for head in self.heads))

    @nn.compact
    def forward(self, images: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """[N, H, W, C] -> logits [N, classes] and those of each head in `heads`."""
        # The variant with batch norm is torchvision's, which has its own initialisation.
        paper = TORCHVISION_NORMAL if self.batch_norm else CAFFE_XAVIER
        dense = {"kernel_init": self.kernel_init(paper), **self.types}
        bias_init = nn.initializers.constant(0.0 if self.batch_norm else self.conv_bias)
        norm = {"epsilon": 1e-3, "group": self.batch_norm_group} if self.batch_norm else None
        conv = {"bias": not self.batch_norm, "bias_init": bias_init, "batch_norm": norm, **dense}
        pool = partial(MaxPool, stride=2, ceil_mode=True)

        x = self.first_layers(images, conv, train)
        x = pool(window=3, name="pool1")(x)
        x = self.normalize(x, "norm1")
        x = nn.relu(Conv(self.channels(64), (1, 1), **conv, name="conv2_reduce")(x, train))
        x = nn.relu(Conv(self.channels(192), (3, 3), pad=1, **conv, name="conv2")(x, train))
        x = self.normalize(x, "norm2")
        if self.stem != "3x3":
            x = pool(window=3, name="pool2")(x)

        side: dict[str, jax.Array] = {}
        for name in MODULES:
            if name == "4a":
                x = pool(window=3, name="pool3")(x)
            elif name == "5a":
                x = pool(window=self.pool4, name="pool4")(x)
            x = InceptionModule(
                features=self.module_features(name),
                kind=self.module,
                kernel_5x5=self.kernel_5x5,
                conv=conv,
                name=f"inception_{name}",
            )(x, train)
            for head, place in HEADS.items():
                if head in self.heads and place == name:
                    side[head] = SideHead(
                        num_classes=self.num_classes,
                        features=(self.channels(128), self.channels(1024)),
                        pool=self.head_pool,
                        dropout=self.head_dropout,
                        conv=conv,
                        dense=dense,
                        bias_init=bias_init,
                        name=head,
                    )(x, train)
        x = GlobalAvgPool(name="pool5")(x)
        x = nn.Dropout(self.dropout, deterministic=not train, name="dropout")(x)
        return Dense(self.num_classes, **dense, name="linear")(x), side

    def module_features(self, name: str) -> tuple[int, ...]:
        """The widths of a module, from its row in Table 1."""
        one, three_reduce, three, five_reduce, five, projected = MODULES[name]
        factor = self.reduction if name in (self.reduction_in or MODULES) else 1.0
        three_reduce, five_reduce = round(three_reduce * factor), round(five_reduce * factor)
        widths = (one, three_reduce, three, five_reduce, five, projected)
        return tuple(self.channels(width) for width in widths)

    def first_layers(self, images: jax.Array, conv: Mapping[str, Any], train: bool) -> jax.Array:
        """conv1 and its activation: plain, as a depthwise and a 1×1 layer, or for small images."""
        features = self.channels(64)
        if self.stem == "3x3":
            x = Conv(features, (3, 3), pad=1, **conv, name="conv1")(images, train)
        elif self.stem == "7x7":
            x = Conv(features, (7, 7), stride=2, pad=3, **conv, name="conv1")(images, train)
        else:
            colours = images.shape[-1]
            x = Conv(
                8 * colours,
                (7, 7),
                stride=2,
                pad=3,
                groups=colours,
                bias=False,
                kernel_init=conv["kernel_init"],
                **self.types,
                name="conv1_depthwise",
            )(images)
            x = Conv(features, (1, 1), **conv, name="conv1")(x, train)
        return nn.relu(x)

    def normalize(self, x: jax.Array, name: str) -> jax.Array:
        """Local response normalisation with Caffe's constants, if `lrn` is set."""
        if not self.lrn:
            return x
        return LocalResponseNorm(5, 1e-4, 0.75, k=1.0, alpha_over_n=True, name=name)(x)


_TABLE = "Szegedy et al. 2015, Table 1"
_IMAGENET: dict[str, Any] = {"input": (224, 224, 3), "num_classes": 1000}
_SMALL: dict[str, Any] = {
    "input": (32, 32, 3),
    "num_classes": 10,
    "stem": "3x3",
    "head_pool": "2x2/2",
}
_TORCHVISION: dict[str, Any] = {
    **_IMAGENET,
    "kernel_5x5": 3,
    "pool4": 2,
    "head_pool": "adaptive_4x4",
    "dropout": 0.2,
    "lrn": False,
    "batch_norm": True,
}
_BOTH = {"heads": tuple(HEADS)}
_READINGS = (
    "The paper gives no initialisation: weights are uniform in ±√(3/fan_in) and biases 0.2, those "
    "of the classifiers 0, as in Caffe's release.",
    "The paper gives no constants of its local response normalisation: 5 channels, α/n = 1e-4/5, "
    "β 0.75 and k 1 are Caffe's.",
)
_SEPARABLE = (
    "Table 1 gives conv1 2.7K weights and 34M operations, which fits a depthwise 7×7 with 8 maps "
    "per colour and a 1×1; the paper's text and figure show a plain 7×7.",
)
_NAIVE = (
    "Modules are the naive ones of Fig. 2a: no reductions and no projection of the pooled input.",
)
_SMALL_DEVIATIONS = (
    "For images of 16 to 32 pixels: conv1 is a 3×3 of stride 1, there is no pool2, and the heads "
    "pool 2×2 with stride 2.",
)
_TORCHVISION_DEVIATIONS = (
    "Batch norm (epsilon 0.001) follows every convolution, in place of its bias, and there is no "
    "local response normalisation.",
    "The branch called 5×5 has 3×3 kernels.",
    "The pooling before 5a is 2×2, the heads pool to a 4×4 grid, and dropout before the "
    "classifier is 0.2.",
    "Initial weights are Gaussian with standard deviation 0.01; torchvision's remapping of the "
    "input is left to the data pipeline.",
)

PRESETS: dict[str, Preset] = {
    "googlenet_2014": Preset(
        GoogLeNet,
        _IMAGENET,
        f"{_TABLE}, as deployed: without its side heads",
        deviations=_READINGS,
        published={
            "params": "6797.7K, the sum of the rows",
            "multiply_adds": "1.5×10⁹",
        },
    ),
    "googlenet_2014_with_aux": Preset(
        GoogLeNet, {**_IMAGENET, **_BOTH}, f"{_TABLE} and section 5", deviations=_READINGS
    ),
    "googlenet_2014_separable_conv1": Preset(
        GoogLeNet,
        {**_IMAGENET, "stem": "separable_7x7"},
        f"{_TABLE}, its row of conv1",
        deviations=_READINGS + _SEPARABLE,
        published={"params": "6797.7K, the sum of the rows", "multiply_adds": "1.5×10⁹"},
    ),
    "googlenet_naive": Preset(
        GoogLeNet,
        {**_IMAGENET, "module": "naive"},
        f"{_TABLE} with the modules of Fig. 2a",
        deviations=_READINGS + _NAIVE,
    ),
    "googlenet_small": Preset(
        GoogLeNet,
        _SMALL,
        f"{_TABLE} with a stem for small images",
        deviations=_READINGS + _SMALL_DEVIATIONS,
        recommended_initializer="he",
    ),
    "googlenet_small_naive": Preset(
        GoogLeNet,
        {**_SMALL, "module": "naive"},
        f"{_TABLE} with a stem for small images and the modules of Fig. 2a",
        deviations=_READINGS + _SMALL_DEVIATIONS + _NAIVE,
        recommended_initializer="he",
    ),
    "googlenet_torchvision": Preset(
        GoogLeNet,
        _TORCHVISION,
        "torchvision's GoogLeNet, without its side heads",
        deviations=_TORCHVISION_DEVIATIONS,
    ),
    "googlenet_torchvision_with_aux": Preset(
        GoogLeNet,
        {**_TORCHVISION, **_BOTH},
        "torchvision's GoogLeNet",
        deviations=_TORCHVISION_DEVIATIONS,
    ),
}
