"""Network in Network: Lin et al. 2014 (arXiv 1312.4400).

An mlpconv layer is a convolution followed by two 1×1 convolutions ("cascaded cross-channel
parametric pooling", cccp), each with ReLU. The paper prints no widths; widths and initial weights
are from the authors' released definitions. Imports only `models`.
"""

import flax.linen as nn
import jax

from models.layers import POOLS, Conv, Dense, GlobalAvgPool, MaxPool, chosen
from models.network import Network
from models.presets import Preset


class NiN(Network):
    """mlpconv layers with 3/2 pooling between them, then global average pooling.

    blocks: (kernel, stride, padding) of each mlpconv layer's convolution. widths: of its three
    convolutions; the last block has two, since its third has one map per class.
    init_stds: standard deviations of the initial weights, in the same order.
    pool2: "max" (the file that gave the paper's numbers) or "average" (the authors' Caffe file).
    dropout: the rate after the poolings that dropout_after names, between the mlpconv layers.
    head: "gap", or "dense" for one fully connected layer in its place (Table 5).
    head_dropout: the rate before that fully connected layer (section 4.6).
    last_bias: initial value of the last cccp layer's biases. Its ReLU is followed by the head, so
    a class whose maps are negative at the start never learns; a bias of 1 prevents this.
    """

    blocks: tuple[tuple[int, int, int], ...] = ((5, 1, 2), (5, 1, 2), (3, 1, 1))
    widths: tuple[tuple[int, ...], ...] = ((192, 160, 96), (192, 192, 192), (192, 192))
    init_stds: tuple[tuple[float, float, float], ...] = ((0.05, 0.05, 0.05),) * 3
    pool2: str = "max"
    dropout: float = 0.5
    dropout_after: tuple[str, ...] = ("pool1", "pool2")  # the poolings that dropout follows
    head: str = "gap"
    head_dropout: float = 0.0
    last_bias: float = 0.0

    @property
    def last_stage(self) -> tuple[str, ...]:
        """The last mlpconv layer, and the dense head if there is one."""
        count = len(self.blocks)
        return (f"conv{count}/*", f"cccp{2 * count - 1}/*", f"cccp{2 * count}/*", "fc10/*")

    @nn.compact
    def forward(self, images: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """[N, H, W, C] -> logits [N, classes]."""
        pool2 = chosen("pool2", self.pool2, POOLS)
        dense_head = chosen("head", self.head, {"gap": False, "dense": True})
        if self.head_dropout and not dense_head:
            raise ValueError("head_dropout: the head is 'gap', it needs 'dense'")
        x = images
        for number, ((side, stride, pad), widths, stds) in enumerate(
            zip(self.blocks, self.widths, self.init_stds, strict=True), start=1
        ):
            last_block = number == len(self.blocks)
            features = [self.channels(width) for width in widths]
            if last_block:
                features.append(self.num_classes)
            names = (f"conv{number}", f"cccp{2 * number - 1}", f"cccp{2 * number}")
            shapes = ((side, stride, pad), (1, 1, 0), (1, 1, 0))
            for name, out, std, (kernel, step, border) in zip(
                names, features, stds, shapes, strict=True
            ):
                bias = self.last_bias if last_block and name == names[-1] else 0.0
                conv = Conv(
                    features=out,
                    kernel=(kernel, kernel),
                    stride=step,
                    pad=border,
                    kernel_init=self.kernel_init(nn.initializers.normal(std)),
                    bias_init=nn.initializers.constant(bias),
                    **self.types,
                    name=name,
                )
                x = nn.relu(conv(x))
            if not last_block:
                pool = pool2 if number == 2 else MaxPool
                name = f"pool{number}"
                x = pool(3, 2, ceil_mode=True, name=name)(x)
                if name in self.dropout_after:
                    drop = nn.Dropout(self.dropout, deterministic=not train, name=f"drop{number}")
                    x = drop(x)
        if not dense_head:
            return GlobalAvgPool(name="poolg")(x), {}
        if self.head_dropout:
            x = nn.Dropout(self.head_dropout, deterministic=not train, name="drop3")(x)
        last = Dense(
            features=self.num_classes,
            kernel_init=self.kernel_init(nn.initializers.normal(0.05)),
            **self.types,
            name="fc10",
        )
        return last(x), {}


_CIFAR10 = {"input": (32, 32, 3), "num_classes": 10}
_FILE = "Lin et al. 2014, section 4; the authors' cuda-convnet definition"
_DENSE_READING = (
    "The dense head replaces global average pooling on the 10 maps of cccp6; the paper does not "
    "specify the input of its fully connected layer."
)

PRESETS = {
    "nin_cifar10": Preset(
        NiN,
        _CIFAR10,
        f"{_FILE} cifar-10",
        recommended_initializer="he",
    ),
    "nin_cifar100": Preset(
        NiN,
        {
            "input": (32, 32, 3),
            "num_classes": 100,
            "init_stds": ((0.001, 0.01, 0.01), (0.05, 0.05, 0.05), (0.05, 0.05, 0.05)),
        },
        f"{_FILE} cifar-100",
        recommended_initializer="he",
    ),
    "nin_svhn": Preset(
        NiN,
        {
            **_CIFAR10,
            "blocks": ((5, 1, 2), (5, 1, 2), (5, 1, 2)),
            "widths": ((128, 96, 64), (320, 256, 128), (384, 256)),
        },
        f"{_FILE} svhn",
        recommended_initializer="he",
    ),
    "nin_mnist": Preset(
        NiN,
        {
            "input": (28, 28, 1),
            "num_classes": 10,
            "blocks": ((5, 1, 2), (5, 1, 2), (5, 1, 2)),
            "widths": ((96, 64, 48), (128, 96, 48), (128, 96)),
        },
        f"{_FILE} mnist",
        recommended_initializer="he",
    ),
    "nin_cifar10_fc_head": Preset(
        NiN,
        {**_CIFAR10, "head": "dense", "head_dropout": 0.5},
        "Lin et al. 2014, Table 5, mlpconv + fully connected + dropout",
        deviations=(_DENSE_READING,),
        recommended_initializer="he",
    ),
    "nin_imagenet": Preset(
        NiN,
        {
            "input": (224, 224, 3),
            "num_classes": 1000,
            "blocks": ((11, 4, 0), (5, 1, 2), (3, 1, 1), (3, 1, 1)),
            "widths": ((96, 96, 96), (256, 256, 256), (384, 384, 384), (1024, 1024)),
            "init_stds": (
                (0.01, 0.05, 0.05),
                (0.05, 0.05, 0.05),
                (0.01, 0.05, 0.05),
                (0.05, 0.05, 0.01),
            ),
            "dropout_after": ("pool3",),
        },
        "the authors' Caffe definition for ImageNet; the paper has no ImageNet network",
        recommended_initializer="he",
    ),
}
