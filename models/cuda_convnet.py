"""The CIFAR-10 networks that Krizhevsky released with cuda-convnet in 2011. Krizhevsky et al. 2012
report CIFAR-10 results with them (Fig. 1, and the 13% and 11% of section 3.3).

Layer names are those of the released layer files. Imports only `models`.
"""

import flax.linen as nn
import jax

from models.layers import (
    ACTIVATIONS,
    AvgPool,
    Conv,
    Dense,
    LocalConv,
    LocalResponseNorm,
    MaxPool,
    chosen,
)
from models.network import Network
from models.presets import Preset


class CudaConvnetQuick(Network):
    """Three convolutions with 3/2 pooling, then dense layers: the files 18pct, 19pct and 80sec.

    dense_features: widths of the dense layers before the last. dense_std: standard deviation of
    the initial weights of all dense layers. activation: "relu" or "tanh", for Fig. 1.
    """

    dense_features: tuple[int, ...] = ()
    dense_std: float = 0.01
    activation: str = "relu"

    @property
    def last_stage(self) -> tuple[str, ...]:
        """The last convolution and the dense layers."""
        return ("conv3/*", "fc*")

    @nn.compact
    def forward(self, images: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """[N, H, W, C] -> logits [N, classes]."""
        activation = chosen("activation", self.activation, ACTIVATIONS)

        def conv(features: int, std: float, name: str) -> Conv:
            return Conv(
                features=self.channels(features),
                kernel=(5, 5),
                pad=2,
                kernel_init=self.kernel_init(nn.initializers.normal(std)),
                **self.types,
                name=name,
            )

        x = MaxPool(3, 2, ceil_mode=True, name="pool1")(conv(32, 1e-4, "conv1")(images))
        x = activation(x)
        x = activation(conv(32, 0.01, "conv2")(x))
        x = AvgPool(3, 2, ceil_mode=True, name="pool2")(x)
        x = activation(conv(64, 0.01, "conv3")(x))
        x = AvgPool(3, 2, ceil_mode=True, name="pool3")(x)

        init = self.kernel_init(nn.initializers.normal(self.dense_std))
        for features in self.dense_features:
            dense = Dense(
                features=self.channels(features),
                kernel_init=init,
                **self.types,
                name=f"fc{features}",
            )
            x = activation(dense(x))
        last = Dense(features=self.num_classes, kernel_init=init, **self.types, name="fc10")
        return last(x), {}


class CudaConvnetLocal(Network):
    """Two convolutions, two layers without weight sharing, one dense: the files conv-local.

    lrn: response normalisation before each pooling; the 11% net with it, the 13% net without. The
    11% file has two revisions. This one normalises over 5 channels before each pool and has 32 maps
    in local3; the other normalises over 9 channels after pool2 and has 64.
    pool_window: 3 overlaps, 2 does not (stride 2). dropout: rate before fc10; the files have none.
    activation: "relu" or "tanh".
    """

    lrn: bool = False
    pool_window: int = 3
    dropout: float = 0.0
    activation: str = "relu"

    @property
    def last_stage(self) -> tuple[str, ...]:
        """The layers without weight sharing, and the dense one."""
        return ("local*", "fc10/*")

    @nn.compact
    def forward(self, images: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """[N, H, W, C] -> logits [N, classes]."""
        activation = chosen("activation", self.activation, ACTIVATIONS)
        normal = nn.initializers.normal
        x = images
        for number, std in ((1, 1e-4), (2, 0.01)):
            conv = Conv(
                features=self.channels(64),
                kernel=(5, 5),
                pad=2,
                kernel_init=self.kernel_init(normal(std)),
                **self.types,
                name=f"conv{number}",
            )
            x = activation(conv(x))
            if self.lrn:
                norm = LocalResponseNorm(alpha=0.001, k=1.0, alpha_over_n=True, name=f"lrn{number}")
                x = norm(x)
            x = MaxPool(self.pool_window, 2, ceil_mode=True, name=f"pool{number}")(x)
        for number in (3, 4):
            local = LocalConv(
                features=self.channels(32),
                kernel=(3, 3),
                pad=1,
                kernel_init=self.kernel_init(normal(0.04)),
                **self.types,
                name=f"local{number}",
            )
            x = activation(local(x))
        if self.dropout:
            x = nn.Dropout(self.dropout, deterministic=not train, name="drop4")(x)
        init = self.kernel_init(normal(0.01))
        last = Dense(features=self.num_classes, kernel_init=init, **self.types, name="fc10")
        return last(x), {}


_CIFAR10 = {"input": (32, 32, 3), "num_classes": 10}

PRESETS = {
    "cuda_convnet_cifar10_18pct": Preset(
        CudaConvnetQuick,
        _CIFAR10,
        "cuda-convnet, example-layers/layers-18pct.cfg",
        deviations=(
            "There is no normalisation within maps after pool1 and pool2, as in layers-19pct.cfg; "
            "this file has it.",
        ),
        # With the released weights (std 1e-4 in conv1) ReLU stays at chance for long on small data.
        recommended_initializer="he",
    ),
    "cuda_convnet_cifar10_80sec": Preset(
        CudaConvnetQuick,
        {**_CIFAR10, "dense_features": (64,), "dense_std": 0.1},
        "cuda-convnet, example-layers/layers-80sec.cfg",
        recommended_initializer="he",
    ),
    "cuda_convnet_cifar10_conv_local": Preset(
        CudaConvnetLocal,
        {**_CIFAR10, "input": (24, 24, 3)},
        "cuda-convnet, example-layers/layers-conv-local-13pct.cfg (with lrn: -11pct.cfg, the "
        "revision with normalisation over 5 channels and 32 maps in local3)",
        recommended_initializer="he",
    ),
}
