"""DenseNet: Huang, Liu, van der Maaten, Weinberger, "Densely connected convolutional networks"
(2017), in the paper's variant BC: bottleneck layers and compressing transitions.

The input of a layer is the maps of all layers before it in its block. Layer names: conv0
and pool0, dense1_1 ... dense4_16, transition1 ... transition3. Imports only `models`.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from models.layers import INITIALIZERS, AvgPool, BatchNorm, Conv, Dense, GlobalAvgPool, MaxPool
from models.network import Network, Skips
from models.presets import Preset


class DenseLayer(nn.Module):
    """H of section 3: BN, ReLU, 1×1 to 4k maps, BN, ReLU, 3×3 to k maps, appended to its input.

    x [N, H, W, C] -> [N, H, W, C + growth].
    """

    growth: int
    batch_norm: Mapping[str, Any]
    conv: Mapping[str, Any]  # fields of both convolutions

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        types = {"dtype": self.conv["dtype"], "param_dtype": self.conv["param_dtype"]}
        new = nn.relu(BatchNorm(**self.batch_norm, **types, name="bn1")(x, train))
        reduce = Conv(
            4 * self.growth, (1, 1), batch_norm=self.batch_norm, **self.conv, name="conv1"
        )
        new = nn.relu(reduce(new, train))
        new = Conv(self.growth, (3, 3), pad=1, **self.conv, name="conv2")(new)
        return jnp.concatenate((x, new), axis=-1)


class Transition(nn.Module):
    """BN, ReLU, 1×1 to `features` maps, 2×2 average pooling.

    x [N, H, W, C] -> [N, H/2, W/2, features].
    """

    features: int
    batch_norm: Mapping[str, Any]
    conv: Mapping[str, Any]

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        types = {"dtype": self.conv["dtype"], "param_dtype": self.conv["param_dtype"]}
        x = nn.relu(BatchNorm(**self.batch_norm, **types, name="bn")(x, train))
        x = Conv(self.features, (1, 1), **self.conv, name="conv")(x)
        return AvgPool(2, 2, name="pool")(x)


class DenseNet(Network):
    """A DenseNet-BC of Table 1, [N, H, W, C] -> logits [N, classes].

    Raises ValueError for a field outside its valid values.
    """

    blocks: tuple[int, ...] = (6, 12, 24, 16)  # layers in each block
    growth: int = 32  # k, maps that each layer adds
    compression: float = 0.5  # θ, the fraction of maps that a transition keeps
    batch_norm_group: int = 0  # images that are normalised together; 0: the whole batch

    def __post_init__(self) -> None:
        if min(self.blocks, default=0) < 1:
            raise ValueError(f"blocks: {self.blocks} must hold 1 or more for each block")
        if self.growth < 1:
            raise ValueError(f"growth: must be 1 or more, not {self.growth}")
        if not 0 < self.compression <= 1:
            raise ValueError(f"compression: must be in (0, 1], not {self.compression}")
        super().__post_init__()

    @property
    def skips(self) -> Skips:
        """Connections from each map of a block to each later layer: section 3, L(L + 1)/2."""
        return Skips(
            {f"dense{i}": count * (count + 1) // 2 for i, count in enumerate(self.blocks, start=1)}
        )

    @property
    def last_stage(self) -> tuple[str, ...]:
        """The last block, the norm after it, and the classifier."""
        return (f"dense{len(self.blocks)}_*", "norm5/*", "fc/*")

    @nn.compact
    def forward(self, images: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """[N, H, W, C] -> logits [N, classes]; there are no side heads."""
        batch_norm: dict[str, Any] = {"group": self.batch_norm_group}
        kernel_init = self.kernel_init(INITIALIZERS["he"])
        conv = {"bias": False, "kernel_init": kernel_init, **self.types}
        growth = self.channels(self.growth)
        x = Conv(2 * growth, (7, 7), stride=2, pad=3, batch_norm=batch_norm, **conv, name="conv0")(
            images, train
        )
        x = MaxPool(3, 2, pad=1, name="pool0")(nn.relu(x))
        for block, layers in enumerate(self.blocks, start=1):
            for layer in range(1, layers + 1):
                x = DenseLayer(growth, batch_norm, conv, name=f"dense{block}_{layer}")(x, train)
            if block < len(self.blocks):
                kept = max(1, int(x.shape[-1] * self.compression))
                x = Transition(kept, batch_norm, conv, name=f"transition{block}")(x, train)
        x = nn.relu(BatchNorm(**batch_norm, **self.types, name="norm5")(x, train))
        x = GlobalAvgPool(name="global_avg_pool")(x)
        return Dense(self.num_classes, kernel_init=kernel_init, **self.types, name="fc")(x), {}


PRESETS: dict[str, Preset] = {
    "densenet121": Preset(
        DenseNet,
        {"input": (224, 224, 3), "num_classes": 1000},
        "Huang et al. 2017, Table 1",
    ),
}
