"""The lecture's worked example of Inception's reductions: one convolution, with and without a 1×1.

28×28×192 to 32 maps by 5×5, 120.4 million multiplications; through 16 maps by 1×1, 12.4 million.
"""

from functools import partial

import flax.linen as nn
import jax

from models.inception import CAFFE_XAVIER
from models.layers import Conv, GlobalAvgPool
from models.network import Network
from models.presets import Preset


class LectureConv(Network):
    """One convolution of the lecture, optionally after a 1×1 reduction to `reduce` maps.

    [N, H, W, C] -> the means of its `num_classes` maps [N, classes], so that all weights and
    multiply-adds are in the convolutions.
    """

    kernel: int = 5  # its side
    reduce: int = 0  # maps of the 1×1 convolution before it; 0: none

    @nn.compact
    def forward(self, images: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """[N, H, W, C] -> [N, classes]."""
        side = self.kernel
        conv = partial(Conv, kernel_init=self.kernel_init(CAFFE_XAVIER), **self.types)
        x = images
        if self.reduce:
            reduced = self.channels(self.reduce)
            x = nn.relu(conv(features=reduced, kernel=(1, 1), name=f"{side}x{side}_reduce")(x))
        x = conv(
            features=self.num_classes, kernel=(side, side), pad=side // 2, name=f"{side}x{side}"
        )(x)
        return GlobalAvgPool(name="global_avg_pool")(x), {}


PRESETS = {
    "lecture_conv5x5": Preset(
        LectureConv,
        {"input": (28, 28, 192), "num_classes": 32},
        "the lecture's worked example: 28×28×192 to 32 maps by 5×5",
        published={"multiply_adds": "120.4M"},
    ),
    "lecture_conv5x5_bottleneck": Preset(
        LectureConv,
        {"input": (28, 28, 192), "num_classes": 32, "reduce": 16},
        "the lecture's worked example: the same through 16 maps by 1×1",
        published={"multiply_adds": "12.4M"},
    ),
    "lecture_conv1x1": Preset(
        LectureConv,
        {"input": (28, 28, 192), "num_classes": 32, "kernel": 1},
        "the lecture's worked example: 28×28×192 to 32 maps by 1×1",
    ),
}
