"""Residual networks: He et al. 2016a, "Deep residual learning for image recognition", and He et al.
2016b, "Identity mappings in deep residual networks".

One class builds the plain nets, the residual nets and every unit of the second paper, so that the
networks of a study differ only in their fields. Stages have the names of the first paper's Table 1
(conv1, conv2_1 ... conv5_3), also on CIFAR, where the paper prints none; the layers of a unit are
a, b, c and projection. Paddings are those of Caffe and Torch, not XLA's SAME. Imports only
`models`.
"""

import itertools
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from models.layers import INITIALIZERS, BatchNorm, Conv, Dense, GlobalAvgPool, MaxPool
from models.network import Network, Outputs, Skips

# (kernel, output width in units of the stage's features) of the layers of a unit.
BLOCKS: dict[str, tuple[tuple[int, int], ...]] = {
    "basic": ((3, 1), (3, 1)),
    "bottleneck": ((1, 1), (3, 1), (1, 4)),
    "one_layer": ((3, 1),),  # the 1-layer skips of He et al. 2016b, Table 3
}
STEMS = ("imagenet", "cifar")  # 7×7/2 and a 3×3/2 max pool, or one 3×3
# The padding of that max pool. The authors' nets of 2015 are for Caffe: no padding, and the last
# window extends over the edge. Releases for Torch, including those of 2016, pad by 1 on all sides.
POOL1: dict[str, dict[str, Any]] = {
    "caffe": {"pad": 0, "ceil_mode": True},
    "torch": {"pad": 1},
}
SHORTCUTS = ("none", "A", "B", "C")
STRIDES = ("1x1", "3x3")
GATES = ("none", "exclusive", "shortcut_only")
# Convolutions with a bias before their batch norm: none in the paper, the first in the authors'
# released ResNet-50, all in Keras.
CONV_BIASES = ("none", "conv1", "all")
# He et al. 2016b, Fig. 4 (a) to (e).
UNITS = (
    "original",
    "bn_after_addition",
    "relu_before_addition",
    "relu_only_preact",
    "preact",
)
OWN_NORMS = ("bn_after_addition", "preact")  # with a batch norm that belongs to no convolution


class Unit(nn.Module):
    """A residual unit, or the same layers without their shortcut.

    x [N, H, W, C] -> [N, H', W', C']. The two shapes that are added decide whether the shortcut
    keeps, pads or projects its input. conv, norm: Conv and BatchNorm with the network's fields
    bound; conv includes batch norm by default. preactivated: the input is already activated, as in
    the first unit of a pre-activation net, whose activation follows conv1 and is used by both paths
    (He et al. 2016b, section 4.2). zero_scale: the last layer's batch norm starts with scale 0. The
    other fields are those of ResNet. Raises ValueError if option A would have to drop channels.
    """

    features: int
    stride: int
    preactivated: bool
    zero_scale: bool
    conv: partial[Conv]
    norm: Callable[..., BatchNorm]
    block: str
    stride_in: str
    shortcut: str
    unit: str
    shortcut_scale: float
    residual_scale: float
    gate: str
    gate_bias: float
    shortcut_dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        active = x
        if self.unit == "preact" and not self.preactivated:
            active = nn.relu(self.norm(name="bn1")(x, train))
        elif self.unit == "relu_only_preact" and not self.preactivated:
            active = nn.relu(x)

        layers = BLOCKS[self.block]
        strided = 1 if self.block == "bottleneck" and self.stride_in == "3x3" else 0
        residual = active
        for index, (kernel, widen) in enumerate(layers):
            if index > 0:
                residual = nn.relu(residual)
            last = index == len(layers) - 1
            own: dict[str, Any] = {}
            if last and self.unit in OWN_NORMS:
                own["batch_norm"] = None
            elif last and self.zero_scale:
                fields = self.conv.keywords["batch_norm"]
                own["batch_norm"] = {**fields, "scale_init": nn.initializers.zeros}
            residual = self.conv(
                self.features * widen,
                (kernel, kernel),
                stride=self.stride if index == strided else 1,
                pad=kernel // 2,
                **own,
                name="abc"[index],
            )(residual, train)
        if self.unit == "relu_before_addition":
            residual = nn.relu(residual)

        if self.shortcut != "none":
            residual = self.add_shortcut(x, active, residual, train)
        if self.unit == "bn_after_addition":
            residual = self.norm(name="bn_sum")(residual, train)
        if self.unit in ("original", "bn_after_addition"):
            residual = nn.relu(residual)
        return residual

    def add_shortcut(
        self, x: jax.Array, active: jax.Array, residual: jax.Array, train: bool
    ) -> jax.Array:
        """The residual plus its shortcut, each scaled or gated: He et al. 2016b, Table 1."""
        features = residual.shape[-1]
        one_by_one = partial(self.conv, features, (1, 1), stride=self.stride)
        path = x
        if self.shortcut == "C" or (self.shortcut == "B" and x.shape != residual.shape):
            # A pre-activation unit projects its activated input, without batch norm afterwards.
            unnormalized = {"batch_norm": None} if self.unit == "preact" else {}
            path = one_by_one(**unnormalized, name="projection")(active, train)
        elif x.shape != residual.shape:
            if features < x.shape[-1]:
                raise ValueError(
                    f"shortcut: A only appends channels, so {x.shape[-1]} cannot become {features}"
                )
            appended = ((0, 0), (0, 0), (0, 0), (0, features - x.shape[-1]))
            path = jnp.pad(x[:, :: self.stride, :: self.stride], appended)

        if self.gate != "none":
            bias = nn.initializers.constant(self.gate_bias)
            gate = one_by_one(bias=True, bias_init=bias, batch_norm=None, name="gate")(x)
            gate = nn.sigmoid(gate)
            path = path * (1 - gate)
            residual = residual * gate if self.gate == "exclusive" else residual
        if self.shortcut_scale != 1:
            path = path * self.shortcut_scale
        if self.residual_scale != 1:
            residual = residual * self.residual_scale
        if self.shortcut_dropout:
            path = nn.Dropout(self.shortcut_dropout, deterministic=not train)(path)
        return path + residual


class ResNet(Network):
    """Plain and residual networks, He et al. 2016a and 2016b: [N, H, W, C] -> logits [N, classes].

    Raises ValueError for a field outside its valid values.
    """

    stages: tuple[int, ...] = (3, 4, 6, 3)  # units in each stage
    features: tuple[int, ...] = (64, 128, 256, 512)  # of the 3×3 layers of each stage
    block: str = "bottleneck"  # the layers of a unit, a name of BLOCKS
    stem: str = "imagenet"  # one of STEMS: 7×7/2 and a pool, or "cifar", one 3×3
    pool1: str = "caffe"  # the padding of the ImageNet stem's pool, a name of POOL1
    shortcut: str = "B"  # "none" makes the plain net
    stride_in: str = "1x1"  # the first layer of a bottleneck (v1), or its "3x3" (v1.5)
    unit: str = "original"  # one of UNITS: He et al. 2016b, Fig. 4
    shortcut_scale: float = 1.0  # multiplies every shortcut
    residual_scale: float = 1.0  # multiplies every residual branch
    gate: str = "none"  # of the shortcuts, one of GATES: He et al. 2016b, section 3.1
    gate_bias: float = 0.0  # b_g, the initial bias of the gates
    shortcut_dropout: float = 0.0  # fraction dropped on every shortcut
    conv_bias: str = "none"  # which convolutions have a bias, a name in CONV_BIASES
    batch_norm: bool = True  # False: every convolution has a bias in its place
    batch_norm_epsilon: float = 1e-5  # added to the variance
    batch_norm_group: int = 0  # images that are normalised together; 0: the whole batch
    # A residual of 0: a unit inserted into a trained residual net changes nothing. Goyal et al.
    # 2017, section 5.1, start all units so.
    zero_scale: tuple[str, ...] = ()  # patterns of units whose last batch norm starts with scale 0
    remat: bool = False  # recompute every unit in the backward pass: memory for time

    def __post_init__(self) -> None:
        valid: tuple[tuple[str, Sequence[str]], ...] = (
            ("block", tuple(BLOCKS)),
            ("stem", STEMS),
            ("pool1", tuple(POOL1)),
            ("shortcut", SHORTCUTS),
            ("stride_in", STRIDES),
            ("unit", UNITS),
            ("gate", GATES),
            ("conv_bias", CONV_BIASES),
        )
        for field, values in valid:
            if getattr(self, field) not in values:
                raise ValueError(
                    f"{field}: {getattr(self, field)!r} is none of {', '.join(values)}"
                )
        if len(self.stages) != len(self.features) or min(self.stages, default=0) < 1:
            raise ValueError(
                f"stages: {self.stages} must hold 1 or more for each of the {len(self.features)} "
                "features"
            )
        if not self.batch_norm_epsilon > 0:
            raise ValueError(f"batch_norm_epsilon: must be above 0, not {self.batch_norm_epsilon}")
        without = ", ".join(unit for unit in UNITS if unit not in OWN_NORMS)
        for field, chosen in (("batch_norm", not self.batch_norm), ("zero_scale", self.zero_scale)):
            if chosen and self.unit in OWN_NORMS:
                raise ValueError(f"{field}: {chosen} needs a unit of {without}, not {self.unit}")
        if self.zero_scale and not self.batch_norm:
            raise ValueError(f"zero_scale: {self.zero_scale} needs batch_norm=True")
        for pattern in self.zero_scale:
            if not any(fnmatchcase(name, pattern) for name in self.units):
                raise ValueError(
                    f"zero_scale: {pattern!r} matches no unit; the units are conv2_1 to "
                    f"{self.units[-1]}"
                )
        super().__post_init__()

    @property
    def units_by_stage(self) -> tuple[tuple[str, ...], ...]:
        """The names of each stage's units: conv2_1, conv2_2 ..."""
        return tuple(
            tuple(f"conv{stage}_{index}" for index in range(1, count + 1))
            for stage, count in enumerate(self.stages, start=2)
        )

    @property
    def units(self) -> tuple[str, ...]:
        """The names of all units, first to last."""
        return tuple(itertools.chain.from_iterable(self.units_by_stage))

    @property
    def skips(self) -> Skips:
        """One per unit; with weights in all units (C) or in those that change the shape (B)."""
        if self.shortcut == "none":
            return Skips()
        weighted: tuple[str, ...] = ()
        if self.shortcut == "C":
            weighted = self.units
        elif self.shortcut == "B":
            widens = BLOCKS[self.block][-1][1] > 1
            firsts = tuple(names[0] for names in self.units_by_stage)
            weighted = firsts if widens else firsts[1:]
        return Skips(dict.fromkeys(self.units, 1), weighted)

    @property
    def last_stage(self) -> tuple[str, ...]:
        """The last stage's units, the norm after them if there is one, and the classifier."""
        return (f"conv{len(self.stages) + 1}_*", "final_bn/*", "fc/*")

    def __call__(
        self, images: jax.Array, *, train: bool = False, capture: Sequence[str] = ()
    ) -> Outputs:
        """As Network; raises ValueError if both `capture` and `remat` are used.

        Tracers from inside a recomputed unit are not valid outside it.
        """
        if self.remat and capture:
            raise ValueError("capture: needs remat=False, which has the same weights")
        return super().__call__(images, train=train, capture=capture)

    @nn.compact
    def forward(self, images: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """[N, H, W, C] -> logits [N, classes]; there are no side heads."""
        kernel_init = self.kernel_init(INITIALIZERS["he"])
        batch_norm: dict[str, Any] = {
            "group": self.batch_norm_group,
            "epsilon": self.batch_norm_epsilon,
        }
        weights: dict[str, Any] = {"kernel_init": kernel_init, **self.types}
        biased = self.conv_bias if self.batch_norm else "all"
        conv = partial(
            Conv,
            bias=biased == "all",
            batch_norm=batch_norm if self.batch_norm else None,
            **weights,
        )
        conv1 = partial(conv, bias=biased != "none", name="conv1")
        norm: Callable[..., BatchNorm] = partial(BatchNorm, **batch_norm, **self.types)
        unit = partial(
            nn.remat(Unit, static_argnums=(2,)) if self.remat else Unit,
            conv=conv,
            norm=norm,
            block=self.block,
            stride_in=self.stride_in,
            shortcut=self.shortcut,
            unit=self.unit,
            shortcut_scale=self.shortcut_scale,
            residual_scale=self.residual_scale,
            gate=self.gate,
            gate_bias=self.gate_bias,
            shortcut_dropout=self.shortcut_dropout,
        )

        if self.stem == "imagenet":
            x = conv1(self.channels(self.features[0]), (7, 7), stride=2, pad=3)(images, train)
            x = MaxPool(3, 2, **POOL1[self.pool1], name="pool1")(nn.relu(x))
        else:
            x = conv1(self.channels(self.features[0]), (3, 3), pad=1)(images, train)
            x = nn.relu(x)
        widths = zip(self.units_by_stage, self.features, strict=True)
        for stage, (names, features) in enumerate(widths):
            for index, name in enumerate(names):
                first = index == 0
                x = unit(
                    features=self.channels(features),
                    stride=2 if stage > 0 and first else 1,
                    preactivated=stage == 0 and first,
                    zero_scale=any(fnmatchcase(name, pattern) for pattern in self.zero_scale),
                    name=name,
                )(x, train)
        if self.unit == "preact":
            x = norm(name="final_bn")(x, train)
        if self.unit in ("preact", "relu_only_preact"):
            x = nn.relu(x)
        x = GlobalAvgPool(name="global_avg_pool")(x)
        return Dense(self.num_classes, **weights, name="fc")(x), {}
