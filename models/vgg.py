"""VGG: Simonyan, Zisserman, "Very deep convolutional networks for large-scale image recognition",
ICLR 2015 (arXiv 1409.1556).

The columns of Table 1 are data; layer names are those of the authors' release (conv1_1 ... fc8).
Imports only `models`.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax

from models.layers import Conv, Dense, LocalResponseNorm, MaxPool, chosen
from models.network import Network
from models.presets import Preset

# Kernel sizes by stage, one column of Table 1 each. Maps: 64, 128, 256, 512, 512.
CONFIGURATIONS: dict[str, tuple[tuple[int, ...], ...]] = {
    "A": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "B": ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)),
    "C": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),
    "D": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    "E": ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),
    # Section 4.1: B with each pair of 3×3 layers replaced by one 5×5.
    "B_5x5": ((5,), (5,), (5,), (5,), (5,)),
}
FEATURES = (64, 128, 256, 512, 512)


class VGG(Network):
    """Five stages of small convolutions, each ended by 2×2 max pooling, and three dense layers.

    configuration: a column of Table 1, or "B_5x5". lrn: response normalisation after conv1_1.
    batch_norm: a batch norm in every convolution, which keeps its bias. batch_norm_group: images
    normalised together (0: the whole batch).
    dense_features: widths of fc6 and fc7; dropout: the rate after each.
    init_std: standard deviation of the paper's initial weights. The paper prints a variance of
    10⁻², so 0.1; most code takes 0.01.
    dense_form: apply fc6 to fc8 at every position of a larger image, with the same weights: logits
    [N, h, w, classes] (section 3.2).
    """

    configuration: str = "D"
    lrn: bool = False
    batch_norm: bool = False
    batch_norm_group: int = 0
    dense_features: tuple[int, int] = (4096, 4096)
    dropout: float = 0.5
    init_std: float = 0.1
    dense_form: bool = False

    @property
    def last_stage(self) -> tuple[str, ...]:
        """The dense layers."""
        return ("fc6/*", "fc7/*", "fc8/*")

    @nn.compact
    def forward(self, images: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """[N, H, W, C] -> logits [N, classes]."""
        stages = chosen("configuration", self.configuration, CONFIGURATIONS)
        init: dict[str, Any] = {
            "kernel_init": self.kernel_init(nn.initializers.normal(self.init_std)),
            **self.types,
        }
        batch_norm = {"group": self.batch_norm_group} if self.batch_norm else None

        x = images
        for stage, (kernels, features) in enumerate(zip(stages, FEATURES, strict=True), start=1):
            for index, side in enumerate(kernels, start=1):
                conv = Conv(
                    features=self.channels(features),
                    kernel=(side, side),
                    pad=side // 2,
                    batch_norm=batch_norm,
                    **init,
                    name=f"conv{stage}_{index}",
                )
                x = nn.relu(conv(x, train))
                if self.lrn and (stage, index) == (1, 1):
                    x = LocalResponseNorm(name="lrn1")(x)
            x = MaxPool(2, 2, name=f"pool{stage}")(x)

        dense = partial(Dense, **init)
        # Five poolings halve the image before fc6.
        first = (self.input[0] // 32, self.input[1] // 32)
        windows = {"fc6": first, "fc7": (1, 1), "fc8": (1, 1)} if self.dense_form else {}
        for name, features in zip(("fc6", "fc7"), self.dense_features, strict=True):
            x = dense(features=self.channels(features), window=windows.get(name), name=name)(x)
            x = nn.relu(x)
            x = nn.Dropout(self.dropout, deterministic=not train, name=f"drop{name[-1]}")(x)
        return dense(features=self.num_classes, window=windows.get("fc8"), name="fc8")(x), {}


# Millions of parameters, Table 2.
_PRINTED = {"A": 133, "A-LRN": 133, "B": 133, "C": 134, "D": 138, "E": 144}
_FROM_A = (
    "All initial weights are random; the paper takes those of the first four convolutions and the "
    "dense layers from a trained A, as runs with configs/vgg.py:from=WORKDIR do."
)
_IMAGENET = {"input": (224, 224, 3), "num_classes": 1000}


def _as_printed(column: str) -> Preset:
    """The network of one column of Table 1."""
    configuration = column.removesuffix("-LRN")
    return Preset(
        VGG,
        {**_IMAGENET, "configuration": configuration, "lrn": column != configuration},
        f"Simonyan and Zisserman 2015, Table 1, column {column}",
        deviations=() if configuration == "A" else (_FROM_A,),
        published={"params": f"{_PRINTED[column]} million"},
        # The paper also suggests Glorot's; He's keeps the scale of activations through ReLUs.
        recommended_initializer="he",
    )


def _with_batch_norm(configuration: str) -> Preset:
    """The same column with a batch norm in every convolution, as torchvision's "vgg_bn" nets."""
    return Preset(
        VGG,
        {**_IMAGENET, "configuration": configuration, "batch_norm": True},
        f"Simonyan and Zisserman 2015, Table 1, column {configuration}; batch norm as torchvision",
        deviations=("A batch norm follows every convolution; the paper has none.",),
        recommended_initializer="he",
    )


PRESETS = {
    **{f"vgg_{column.replace('-', '_')}": _as_printed(column) for column in _PRINTED},
    "vgg_B_5x5": Preset(
        VGG,
        {**_IMAGENET, "configuration": "B_5x5"},
        "Simonyan and Zisserman 2015, section 4.1, the shallow net",
        deviations=("The 5×5 convolutions are padded by 2; the paper prints no padding.", _FROM_A),
        recommended_initializer="he",
    ),
    **{f"vgg_{column}_bn": _with_batch_norm(column) for column in "ABCDE"},
}
