"""AlexNet: Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural
networks", NIPS 2012, and the one-column net of Krizhevsky, "One weird trick for parallelizing
convolutional neural networks", arXiv 1404.5997, 2014.

The paper's two GPUs become the two groups of conv2, conv4 and conv5. Layer names are those of the
authors' release (conv1 ... fc8). Imports only `models`.
"""

from functools import partial

import flax.linen as nn
import jax

from models.layers import Conv, Dense, LocalResponseNorm, MaxPool
from models.network import Network
from models.presets import Preset

# name: (kernel, stride, padding); conv1's padding is a field. The paper prints no padding; 2 and 1
# follow from the printed map sizes.
CONVOLUTIONS = {
    "conv1": (11, 4, 0),
    "conv2": (5, 1, 2),
    "conv3": (3, 1, 1),
    "conv4": (3, 1, 1),
    "conv5": (3, 1, 1),
}
TWO_TOWERS = ("conv2", "conv4", "conv5")  # connected only to the maps on their own GPU
BIAS_ONE = ("conv2", "conv4", "conv5", "fc6", "fc7")  # biases initialised "with the constant 1"
REMOVABLE = ("conv2", "conv3", "conv4", "conv5")  # section 7: "any of the middle layers"


class AlexNet(Network):
    """Five convolutions, three dense layers; conv → ReLU → LRN → pool, or → pool → LRN.

    features: widths of conv1 ... conv5. dense_features: widths of fc6 and fc7. groups: towers in
    conv2, conv4, conv5. conv1_pad: 0 for 227×227 images, 2 for 224×224.
    lrn, lrn_k, lrn_alpha, lrn_alpha_over_n: local response normalisation after conv1 and conv2,
    and its constants (Caffe: k 1, alpha over n); lrn_last: after the pooling, as in CaffeNet.
    pool_window: 3 overlaps, 2 does not (stride 2).
    dropout: rate of fc6 and fc7; dropout_first: before these layers instead of after them.
    init_std, dense_std: standard deviations of the initial weights, dense_std for fc6 and fc7
    (Caffe: 0.005). bias_one: initial value of the biases that the paper sets to 1 (Caffe: 0.1).
    removed: layers of conv2 ... conv5 to leave out, for the ablation of section 7.
    dense_form: apply the dense layers at every position of a larger image: logits
    [N, h, w, classes].
    """

    features: tuple[int, ...] = (96, 256, 384, 384, 256)
    dense_features: tuple[int, int] = (4096, 4096)
    groups: int = 2
    conv1_pad: int = 0
    lrn: bool = True
    lrn_k: float = 2.0
    lrn_alpha: float = 1e-4
    lrn_alpha_over_n: bool = False
    lrn_last: bool = False
    pool_window: int = 3
    dropout: float = 0.5
    dropout_first: bool = False
    init_std: float = 0.01
    dense_std: float = 0.01
    bias_one: float = 1.0
    removed: tuple[str, ...] = ()
    dense_form: bool = False

    def channels(self, printed: int) -> int:
        """A printed width times the `width` field, rounded to a multiple of the groups."""
        return self.groups * max(1, round(printed * self.width / self.groups))

    def fc6_window(self) -> tuple[int, int]:
        """Height and width of the map that enters fc6, for images of the size `input`."""

        def side(pixels: int) -> int:
            pixels = (pixels + 2 * self.conv1_pad - 11) // 4 + 1
            for _ in range(3):
                pixels = (pixels - self.pool_window) // 2 + 1
            return pixels

        return side(self.input[0]), side(self.input[1])

    @property
    def last_stage(self) -> tuple[str, ...]:
        """The dense layers."""
        return ("fc6/*", "fc7/*", "fc8/*")

    @nn.compact
    def forward(self, images: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """[N, H, W, C] -> logits [N, classes]."""
        for name in self.removed:
            if name not in REMOVABLE:
                raise ValueError(f"removed: {name!r} is none of {', '.join(REMOVABLE)}")

        def bias(name: str) -> nn.initializers.Initializer:
            return nn.initializers.constant(self.bias_one if name in BIAS_ONE else 0.0)

        normal = nn.initializers.normal
        pool = partial(MaxPool, window=self.pool_window, stride=2)
        lrn = partial(
            LocalResponseNorm,
            alpha=self.lrn_alpha,
            k=self.lrn_k,
            alpha_over_n=self.lrn_alpha_over_n,
        )

        x = images
        for (name, (side, stride, pad)), features in zip(
            CONVOLUTIONS.items(), self.features, strict=True
        ):
            if name not in self.removed:
                x = Conv(
                    features=self.channels(features),
                    kernel=(side, side),
                    stride=stride,
                    pad=self.conv1_pad if name == "conv1" else pad,
                    groups=self.groups if name in TWO_TOWERS else 1,
                    kernel_init=self.kernel_init(normal(self.init_std)),
                    bias_init=bias(name),
                    **self.types,
                    name=name,
                )(x)
                x = nn.relu(x)
            number = name[-1]
            normed = self.lrn and name in ("conv1", "conv2")
            if normed and not self.lrn_last:
                x = lrn(name=f"lrn{number}")(x)
            if name in ("conv1", "conv2", "conv5"):
                x = pool(name=f"pool{number}")(x)
            if normed and self.lrn_last:
                x = lrn(name=f"lrn{number}")(x)

        windows = (
            {"fc6": self.fc6_window(), "fc7": (1, 1), "fc8": (1, 1)} if self.dense_form else {}
        )
        for name, features in zip(("fc6", "fc7"), self.dense_features, strict=True):
            drop = nn.Dropout(self.dropout, deterministic=not train, name=f"drop{name[-1]}")
            if self.dropout_first:
                x = drop(x)
            x = Dense(
                features=self.channels(features),
                window=windows.get(name),
                kernel_init=self.kernel_init(normal(self.dense_std)),
                bias_init=bias(name),
                **self.types,
                name=name,
            )(x)
            x = nn.relu(x)
            if not self.dropout_first:
                x = drop(x)
        last = Dense(
            features=self.num_classes,
            window=windows.get("fc8"),
            kernel_init=self.kernel_init(normal(self.init_std)),
            **self.types,
            name="fc8",
        )
        return last(x), {}


_IMAGENET = {"input": (227, 227, 3), "num_classes": 1000}
_SIZE = "Images are 227×227: the printed 224 gives maps of 54.25 pixels, not the printed 55."
_CAFFE = {
    **_IMAGENET,
    "lrn_k": 1.0,
    "lrn_alpha_over_n": True,
    "bias_one": 0.1,
    "dense_std": 0.005,
}
_CAFFE_DEVIATIONS = (
    "Response normalisation has k = 1 and alpha over n; the paper prints k = 2.",
    "Biases of 1 start at 0.1, and fc6 and fc7 with standard deviation 0.005.",
)
_ONE_COLUMN = {
    "input": (224, 224, 3),
    "num_classes": 1000,
    "features": (64, 192, 384, 256, 256),
    "groups": 1,
    "conv1_pad": 2,
    "lrn": False,
    "dropout_first": True,
    "bias_one": 0.0,
}
_ONE_COLUMN_READING = (
    "Pooling, padding, dropout before fc6 and fc7 and the absence of response normalisation are "
    "torchvision's; the paper prints only the widths."
)
_ONE_COLUMN_START = (
    "Initial weights are N(0, 0.01²) and biases 0, as in AlexNet; torchvision draws both uniformly "
    "in ±1/√fan-in."
)

PRESETS = {
    "alexnet_2012": Preset(
        AlexNet,
        _IMAGENET,
        "Krizhevsky et al. 2012, sections 3.1-3.5 and 4.2, Fig. 2",
        deviations=(
            "The towers of the two GPUs are groups of one network on one device.",
            _SIZE,
        ),
        published={
            "params": "60 million",
            "neurons": "650,000",
            "conv1 neurons": "253,440",
        },
        # With biases of 1 and std 0.01, Caffe's authors saw a flat loss.
        recommended_initializer="he",
    ),
    "alexnet_2012_ungrouped": Preset(
        AlexNet,
        {**_IMAGENET, "groups": 1},
        "Krizhevsky et al. 2012 as a single tower, as in lectures",
        deviations=("conv2, conv4 and conv5 use all maps of the layer below.", _SIZE),
        recommended_initializer="he",
    ),
    "alexnet_2012_one_gpu": Preset(
        AlexNet,
        {**_IMAGENET, "features": (48, 128, 192, 192, 256), "groups": 1},
        "Krizhevsky et al. 2012, section 3.2 and footnote 2: half the maps in conv1 to conv4",
        deviations=(_SIZE,),
        recommended_initializer="he",
    ),
    "alexnet_caffe": Preset(
        AlexNet,
        _CAFFE,
        "Caffe's bvlc_alexnet, after Krizhevsky et al. 2012",
        deviations=(*_CAFFE_DEVIATIONS, _SIZE),
        recommended_initializer="he",
    ),
    "caffenet": Preset(
        AlexNet,
        {**_CAFFE, "lrn_last": True, "bias_one": 1.0},
        "Caffe's bvlc_reference_caffenet, after Krizhevsky et al. 2012",
        deviations=(
            _CAFFE_DEVIATIONS[0],
            "Response normalisation follows the pooling instead of preceding it.",
            "fc6 and fc7 start with standard deviation 0.005.",
            _SIZE,
        ),
        recommended_initializer="he",
    ),
    "alexnet_owt_torchvision": Preset(
        AlexNet,
        _ONE_COLUMN,
        "torchvision's AlexNet, after Krizhevsky 2014, footnote 1",
        deviations=(
            "conv4 has 256 maps; the paper prints 384.",
            _ONE_COLUMN_START,
        ),
        published={"params": "61,100,840"},
        recommended_initializer="he",
    ),
    "alexnet_owt_footnote_widths": Preset(
        AlexNet,
        {**_ONE_COLUMN, "features": (64, 192, 384, 384, 256)},
        "Krizhevsky 2014 (arXiv 1404.5997), footnote 1, widths as printed",
        deviations=(_ONE_COLUMN_READING, _ONE_COLUMN_START),
        recommended_initializer="he",
    ),
}
