"""LeNet-5: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document
recognition", Proc. IEEE 86(11), 1998, and the variants taught under its name.

Layer names are the paper's (C1 ... F6) for the paper's network, the lecture's (conv1 ... fc5) for
the modern one. Imports only `models`.
"""

from functools import partial

import flax.linen as nn
import jax

from models.layers import INITIALIZERS, AvgPool, Conv, Dense, MaxPool, Network
from models.presets import Preset

ACTIVATIONS = {"relu": nn.relu, "tanh": nn.tanh}
POOLS = {"max": MaxPool, "average": AvgPool}


class LeNetModern(Network):
    """The LeNet-5 of lectures: two convolutions, two poolings, three dense layers, softmax.

    conv_features and dense_features are the widths; conv_pad pads conv1 (2 for 28×28 images).
    """

    conv_features: tuple[int, int] = (6, 16)
    dense_features: tuple[int, ...] = (120, 84)
    conv_pad: int = 0
    activation: str = "relu"
    pool: str = "max"

    @nn.compact
    def forward(self, images: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """[N, H, W, C] -> logits [N, classes]."""
        kernel_init = self.kernel_init(INITIALIZERS["he"])
        conv = partial(Conv, kernel=(5, 5), kernel_init=kernel_init, **self.types)
        dense = partial(Dense, kernel_init=kernel_init, **self.types)
        activation, pool = ACTIVATIONS[self.activation], POOLS[self.pool]

        x = images
        for index, features in enumerate(self.conv_features, start=1):
            pad = self.conv_pad if index == 1 else 0
            x = activation(conv(features=self.channels(features), pad=pad, name=f"conv{index}")(x))
            x = pool(2, 2, name=f"pool{index}")(x)
        first = len(self.conv_features) + 1
        for index, features in enumerate(self.dense_features, start=first):
            x = activation(dense(features=self.channels(features), name=f"fc{index}")(x))
        last = first + len(self.dense_features)
        return dense(features=self.num_classes, name=f"fc{last}")(x), {}


PRESETS = {
    "lenet5_modern": Preset(
        LeNetModern,
        {"input": (32, 32, 1), "num_classes": 10},
        "LeCun et al. 1998, Fig. 2, as taught today: full C3, ReLU, max pooling, softmax",
    ),
}
