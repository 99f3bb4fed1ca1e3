"""Residual networks: He et al. 2016a, "Deep residual learning for image recognition", and He et al.
2016b, "Identity mappings in deep residual networks".

One class builds the plain nets, the residual nets and every unit of the second paper: they differ
in fields alone, so that a study compares what it says it compares. Stages carry the names of the
first paper's Table 1 (conv1, conv2_1 ... conv5_3) on CIFAR too, where the paper prints none; the
layers of a unit are a, b, c and projection. Paddings are those of Caffe and Torch, not XLA's SAME.
Imports only `models`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from models.layers import INITIALIZERS, BatchNorm, Conv, Dense, GlobalAvgPool, Initializer, MaxPool
from models.network import Network, Outputs
from models.presets import Preset

# (kernel, output width in units of the stage's features) of the layers of a unit.
BLOCKS: dict[str, tuple[tuple[int, int], ...]] = {
    "basic": ((3, 1), (3, 1)),
    "bottleneck": ((1, 1), (3, 1), (1, 4)),
    "one_layer": ((3, 1),),  # the 1-layer skips of He et al. 2016b, Table 3
}
STEMS = ("imagenet", "cifar")  # 7×7/2 and a 3×3/2 max pool, or one 3×3
# The padding of that max pool. The authors' nets of 2015 are Caffe's: none, and the last window
# hangs over the edge. Torch's releases, those of 2016 among them, pad by 1 on all sides.
POOL1: dict[str, dict[str, Any]] = {
    "caffe": {"pad": 0, "ceil_mode": True},
    "torch": {"pad": 1},
}
SHORTCUTS = ("none", "A", "B", "C")
STRIDES = ("1x1", "3x3")
GATES = ("none", "exclusive", "shortcut_only")
# He et al. 2016b, Fig. 4 (a) to (e).
UNITS = (
    "original",
    "bn_after_addition",
    "relu_before_addition",
    "relu_only_preact",
    "preact",
)


class Unit(nn.Module):
    """A residual unit, or the same layers without their shortcut.

    x [N, H, W, C] -> [N, H', W', C']. Whether the shortcut keeps, pads or projects its input is
    decided from the two shapes that are added. `preactivated` says that the input is activated
    already: the first unit of a pre-activation net, whose activation follows conv1 and serves both
    paths (He et al. 2016b, section 4.2). Raises ValueError where option A would drop channels.
    """

    features: int
    block: str
    stride: int
    stride_in: str
    shortcut: str
    unit: str
    preactivated: bool
    shortcut_scale: float
    residual_scale: float
    gate: str
    gate_bias: float
    shortcut_dropout: float
    batch_norm: Mapping[str, Any]
    kernel_init: Initializer
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        active = x
        if self.unit == "preact" and not self.preactivated:
            active = nn.relu(BatchNorm(**self.batch_norm, **types, name="bn1")(x, train))
        elif self.unit == "relu_only_preact" and not self.preactivated:
            active = nn.relu(x)

        layers = BLOCKS[self.block]
        strided = 1 if self.block == "bottleneck" and self.stride_in == "3x3" else 0
        residual = active
        for index, (kernel, widen) in enumerate(layers):
            if index > 0:
                residual = nn.relu(residual)
            last = index == len(layers) - 1
            normalized = not (last and self.unit in ("preact", "bn_after_addition"))
            residual = Conv(
                self.features * widen,
                (kernel, kernel),
                stride=self.stride if index == strided else 1,
                pad=kernel // 2,
                bias=False,
                batch_norm=self.batch_norm if normalized else None,
                kernel_init=self.kernel_init,
                **types,
                name="abc"[index],
            )(residual, train)
        if self.unit == "relu_before_addition":
            residual = nn.relu(residual)

        if self.shortcut != "none":
            residual = self.add_shortcut(x, active, residual, train)
        if self.unit == "bn_after_addition":
            residual = BatchNorm(**self.batch_norm, **types, name="bn_sum")(residual, train)
        if self.unit in ("original", "bn_after_addition"):
            residual = nn.relu(residual)
        return residual

    def add_shortcut(
        self, x: jax.Array, active: jax.Array, residual: jax.Array, train: bool
    ) -> jax.Array:
        """The residual plus its shortcut, each scaled or gated: He et al. 2016b, Table 1."""
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        features = residual.shape[-1]
        path = x
        if self.shortcut == "C" or (self.shortcut == "B" and x.shape != residual.shape):
            # A pre-activation unit projects its activated input and does not normalise the result.
            path = Conv(
                features,
                (1, 1),
                stride=self.stride,
                bias=False,
                batch_norm=None if self.unit == "preact" else self.batch_norm,
                kernel_init=self.kernel_init,
                **types,
                name="projection",
            )(active, train)
        elif x.shape != residual.shape:
            if features < x.shape[-1]:
                raise ValueError(
                    f"shortcut: A cannot turn {x.shape[-1]} channels into {features}, only append"
                )
            appended = ((0, 0), (0, 0), (0, 0), (0, features - x.shape[-1]))
            path = jnp.pad(x[:, :: self.stride, :: self.stride], appended)

        if self.gate != "none":
            gate = nn.sigmoid(
                Conv(
                    features,
                    (1, 1),
                    stride=self.stride,
                    kernel_init=self.kernel_init,
                    bias_init=nn.initializers.constant(self.gate_bias),
                    **types,
                    name="gate",
                )(x)
            )
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
    stem: str = "imagenet"
    pool1: str = "caffe"  # the padding of the ImageNet stem's pool, a name of POOL1
    shortcut: str = "B"  # "none" makes the plain net
    stride_in: str = "1x1"  # the first layer of a bottleneck (v1), or its "3x3" (v1.5)
    unit: str = "original"
    shortcut_scale: float = 1.0
    residual_scale: float = 1.0
    gate: str = "none"
    gate_bias: float = 0.0  # b_g, the initial bias of the gates
    shortcut_dropout: float = 0.0  # fraction dropped on every shortcut
    batch_norm_group: int = 0  # images that are normalised together; 0: the whole batch
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
        if self.batch_norm_group < 0:
            raise ValueError(f"batch_norm_group: must be 0 or more, not {self.batch_norm_group}")
        if not 0 <= self.shortcut_dropout < 1:
            raise ValueError(f"shortcut_dropout: must be in [0, 1), not {self.shortcut_dropout}")
        super().__post_init__()

    def __call__(
        self, images: jax.Array, *, train: bool = False, capture: Sequence[str] = ()
    ) -> Outputs:
        """As every network, but raises ValueError where `capture` meets `remat`.

        What a recomputed unit holds inside does not outlive it.
        """
        if self.remat and capture:
            raise ValueError("capture: needs remat=False, the weights are the same")
        return super().__call__(images, train=train, capture=capture)

    @nn.compact
    def forward(self, images: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """[N, H, W, C] -> logits [N, classes]; there are no side heads."""
        kernel_init = self.kernel_init(INITIALIZERS["he"])
        batch_norm: dict[str, Any] = {"group": self.batch_norm_group}
        imagenet = self.stem == "imagenet"
        x = Conv(
            self.channels(self.features[0]),
            (7, 7) if imagenet else (3, 3),
            stride=2 if imagenet else 1,
            pad=3 if imagenet else 1,
            bias=False,
            batch_norm=batch_norm,
            kernel_init=kernel_init,
            **self.types,
            name="conv1",
        )(images, train)
        x = nn.relu(x)
        if imagenet:
            x = MaxPool(3, 2, **POOL1[self.pool1], name="pool1")(x)

        unit = nn.remat(Unit, static_argnums=(2,)) if self.remat else Unit
        for stage, (count, features) in enumerate(zip(self.stages, self.features, strict=True)):
            for index in range(count):
                x = unit(
                    features=self.channels(features),
                    block=self.block,
                    stride=2 if stage > 0 and index == 0 else 1,
                    stride_in=self.stride_in,
                    shortcut=self.shortcut,
                    unit=self.unit,
                    preactivated=stage == 0 and index == 0,
                    shortcut_scale=self.shortcut_scale,
                    residual_scale=self.residual_scale,
                    gate=self.gate,
                    gate_bias=self.gate_bias,
                    shortcut_dropout=self.shortcut_dropout,
                    batch_norm=batch_norm,
                    kernel_init=kernel_init,
                    **self.types,
                    name=f"conv{stage + 2}_{index + 1}",
                )(x, train)
        if self.unit == "preact":
            x = BatchNorm(**batch_norm, **self.types, name="final_bn")(x, train)
        if self.unit in ("preact", "relu_only_preact"):
            x = nn.relu(x)
        x = GlobalAvgPool(name="global_avg_pool")(x)
        return Dense(self.num_classes, kernel_init=kernel_init, **self.types, name="fc")(x), {}


# He et al. 2016a, Table 1: block and units a stage, by depth. The paper prints no units for 200
# layers; 3, 24, 36, 3 are those of the authors' released code.
IMAGENET_STAGES: dict[int, tuple[str, tuple[int, ...]]] = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
    200: ("bottleneck", (3, 24, 36, 3)),
}
# He et al. 2016a, Table 1: FLOPs, which are multiply-adds.
IMAGENET_FLOPS = {
    "plain18": "1.8×10⁹",
    "resnet18_A": "1.8×10⁹",
    "plain34": "3.6×10⁹",
    "resnet34_A": "3.6×10⁹",
    "resnet50_v1": "3.8×10⁹",
    "resnet101_v1": "7.6×10⁹",
    "resnet152_v1": "11.3×10⁹",
}
V1_5_DEVIATIONS = (
    "The 3×3 layer of the first bottleneck of conv3 to conv5 has the stride of 2, not its first "
    "1×1 layer.",
    "The max pool after conv1 pads by 1 on all sides, as in Torch; the authors' does not pad.",
)


def _imagenet_presets() -> dict[str, Preset]:
    table = "He et al. 2016a, Table 1"
    nets: dict[str, tuple[int, str, dict[str, str]]] = {}
    for depth in (18, 34):
        nets[f"plain{depth}"] = (depth, table, {"shortcut": "none"})
        for shortcut in ("A", "B", "C"):
            source = f"{table}, shortcuts of section 4.1"
            nets[f"resnet{depth}_{shortcut}"] = (depth, source, {"shortcut": shortcut})
    for depth in (50, 101, 152):
        nets[f"resnet{depth}_v1"] = (depth, table, {"stride_in": "1x1"})
        nets[f"resnet{depth}_v1_5"] = (depth, table, {"stride_in": "3x3", "pool1": "torch"})
    source = "He et al. 2016b, section 5; units of each stage as in the authors' released code"
    nets["resnet200_preact"] = (200, source, {"unit": "preact", "pool1": "torch"})

    presets = {}
    for name, (depth, source, overrides) in nets.items():
        block, stages = IMAGENET_STAGES[depth]
        presets[name] = Preset(
            ResNet,
            {
                "input": (224, 224, 3),
                "num_classes": 1000,
                "block": block,
                "stages": stages,
                **overrides,
            },
            source,
            deviations=V1_5_DEVIATIONS if name.endswith("v1_5") else (),
            published={"multiply_adds": flops} if (flops := IMAGENET_FLOPS.get(name)) else {},
        )
    return presets


# He et al. 2016a, Table 6: parameters by depth.
CIFAR_PARAMS = {20: "0.27M", 32: "0.46M", 44: "0.66M", 56: "0.85M", 110: "1.7M", 1202: "19.4M"}
# He et al. 2016b, Tables 2, 3 and 4: parameters, "" where none are printed.
PREACT_PARAMS = {
    "resnet110_cifar10_preact": "1.7M",
    "resnet164_cifar10_original": "1.7M",
    "resnet164_cifar10_preact": "1.7M",
    "resnet164_cifar100_original": "",
    "resnet164_cifar100_preact": "",
    "resnet1001_cifar10_original": "10.2M",
    "resnet1001_cifar10_preact": "10.2M",
    "resnet1001_cifar100_original": "",
    "resnet1001_cifar100_preact": "",
}


def _cifar(units: int, block: str, **fields: Any) -> dict[str, Any]:
    """The fields of a CIFAR net with `units` units in each of its three stages."""
    return {
        "input": (32, 32, 3),
        "num_classes": 10,
        "stages": (units, units, units),
        "features": (16, 32, 64),
        "block": block,
        "stem": "cifar",
        **fields,
    }


def _cifar_presets() -> dict[str, Preset]:
    presets = {}
    for depth, params in CIFAR_PARAMS.items():
        for shortcut in SHORTCUTS if depth < 1202 else ("A",):
            name = f"resnet{depth}_cifar10_{shortcut}"
            source = "He et al. 2016a, section 4.2"
            if shortcut == "none":
                name = f"plain{depth}_cifar10"
            elif shortcut != "A":
                source += f" with option {shortcut} of section 4.1"
            fields = _cifar((depth - 2) // 6, "basic", shortcut=shortcut)
            printed = {"params": params} if shortcut in ("none", "A") else {}
            presets[name] = Preset(ResNet, fields, source, published=printed)
    for name, params in PREACT_PARAMS.items():
        net, data, unit = name.split("_")
        depth, classes = int(net.removeprefix("resnet")), int(data.removeprefix("cifar"))
        basic = depth == 110
        fields = _cifar(
            (depth - 2) // (6 if basic else 9),
            "basic" if basic else "bottleneck",
            shortcut="A" if basic else "B",
            unit=unit,
            num_classes=classes,
        )
        source = "He et al. 2016b, section 4 and the authors' released code for its shortcuts"
        printed = {"params": params} if params else {}
        presets[name] = Preset(ResNet, fields, source, published=printed)
    return presets


PRESETS: dict[str, Preset] = {**_imagenet_presets(), **_cifar_presets()}
