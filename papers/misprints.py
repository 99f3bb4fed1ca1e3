"""Printing and arithmetic errors in the papers; `describe.py` shows them beside its counts."""

import dataclasses
import fnmatch


@dataclasses.dataclass(frozen=True)
class Misprint:
    """A printed number that does not follow from the network that the paper describes.

    networks: names it applies to, with wildcards. counted: the result of the arithmetic, or the
    value used here. reason: the cause of the difference, and which of the two to trust.
    """

    networks: tuple[str, ...]
    where: str
    printed: str
    counted: str
    reason: str


def misprints(network: str) -> tuple[Misprint, ...]:
    """The misprints that apply to a network."""
    return tuple(
        entry
        for entry in MISPRINTS
        if any(fnmatch.fnmatchcase(network, pattern) for pattern in entry.networks)
    )


_LENET = ("lenet5_1998",)
_ALEXNET = ("alexnet_2012*",)
_GOOGLENET = ("googlenet_2014*",)

MISPRINTS: tuple[Misprint, ...] = (
    Misprint(
        _LENET,
        "LeCun et al. 1998, section II.B: connections of the whole network",
        "340,908 in the preprint; 345,308 is quoted from the journal",
        "340,908",
        "The sum includes the 840 links of the output units. The journal's surplus of 4,400 is "
        "156,000 − 151,600, which would follow from a misprint in C3's connections.",
    ),
    Misprint(
        _LENET,
        "LeCun et al. 1998: operation of a subsampling unit on its four inputs",
        "averages them (section II.A), adds them (section II.B)",
        "adds them",
        "The two differ only by a factor of four in the coefficient. Section II.B is the detailed "
        "description, so the fan-in of a unit is 4.",
    ),
    Misprint(
        _LENET,
        "LeCun et al. 1998: layers with trainable weights",
        "7",
        "6",
        "The centres of the output's radial basis units, 840 numbers, stay fixed.",
    ),
    Misprint(
        _ALEXNET,
        "Krizhevsky et al. 2012, Fig. 2: neurons of conv1",
        "253,440",
        "290,400",
        "The printed number is 55·48·96; the layer has 55·55·96. The network then has 659,272 "
        "neurons, which fits the 650,000 of the text; with the printed number it has 622,312.",
    ),
    Misprint(
        _ALEXNET,
        "Krizhevsky et al. 2012, Fig. 2: side of the input",
        "224",
        "227",
        "(224 − 11)/4 + 1 is 54.25. The 55×55 maps of conv1 need 227 pixels, or 224 and three "
        "pixels of padding.",
    ),
    Misprint(
        _ALEXNET,
        "Krizhevsky et al. 2012, section 4.1: crops and flips of one image",
        "2048-fold",
        "2,178",
        "A 224-pixel crop of 256 pixels has 33 offsets per axis, both edges included: 33·33·2. The "
        "printed number is 32·32·2.",
    ),
    Misprint(
        ("alexnet_owt_*",),
        "Krizhevsky 2014, footnote on the one-column network",
        "64-192-384-384-256 filters, 0.2% more parameters, 2.4% fewer connections",
        "1.4% more parameters",
        "With 256 filters in conv4, as in torchvision, there are 0.22% more parameters and 1.4% "
        "fewer multiply-adds.",
    ),
    Misprint(
        ("vgg_D*", "vgg_E*"),
        "He et al. 2016a, section 3.3: FLOPs of VGG-16 and VGG-19",
        "15.3 and 19.6 ×10⁹",
        "15.470 and 19.632 ×10⁹; without dense layers 15.347 and 19.508",
        "VGG-16 was counted without its dense layers, VGG-19 with them.",
    ),
    Misprint(
        ("vgg_*",),
        "Simonyan and Zisserman 2015, section 3.1: variance of the initial weights",
        "10⁻², a standard deviation of 0.1",
        "std 0.01 in most code",
        "With 0.1 the signal grows by a factor of 1.7 in a 3×3 layer of 64 channels and of 4.8 in "
        "one of 512; with 0.01 it vanishes. Train with Glorot's or He's initialisation.",
    ),
    Misprint(
        _GOOGLENET,
        "Szegedy et al. 2015, Table 1, conv1: parameters and ops",
        "2.7K, 34M",
        "9,408 weights, 118.0M",
        "The row fits a separable 7×7, eight filters per channel and then 1×1: 2,712 weights, "
        "34.0M. Text and figure show a plain 7×7; the other is googlenet_2014_separable_conv1.",
    ),
    Misprint(
        _GOOGLENET,
        "Szegedy et al. 2015, Table 1: unit of the parameter column",
        "K",
        "1024",
        "112K of conv2 is 114,688 weights; 3a, 3b and the linear layer agree.",
    ),
    Misprint(
        _GOOGLENET,
        "Szegedy et al. 2015, Table 1: parameters of 4a, 4b, 4c, 4d, 4e, 5b",
        "364, 437, 463, 580, 840, 1388 K",
        "366.8, 438.0, 497.5, 590.5, 847.0, 1409.0 K",
        "The ops in these six rows fit the printed widths, so widths and ops are right.",
    ),
    Misprint(
        _GOOGLENET,
        "Szegedy et al. 2015, Table 1, 5a: parameters and ops",
        "1072K, 54M",
        "1018K, 51.1M",
        "The two printed numbers fit each other (1072·1024·49 is 53.8M) but not the widths.",
    ),
    Misprint(
        _GOOGLENET,
        "Szegedy et al. 2015, section 4: ops of the whole network",
        "about 1.5×10⁹",
        "1.583×10⁹",
        "1.499×10⁹ with the separable conv1 of the table.",
    ),
    Misprint(
        _GOOGLENET,
        "Szegedy et al. 2015, section 1: parameters against AlexNet's",
        "12 times fewer",
        "8.7 times fewer",
        "60,965,224 / 6,998,552; twelve times fewer would be 5.1 million.",
    ),
    Misprint(
        _GOOGLENET,
        "Szegedy et al. 2015, Table 3, last row: gain over the base",
        "3.45 points",
        "3.40 points",
        "10.07 − 6.67.",
    ),
    Misprint(
        ("resnet50_v1", "resnet34_*", "plain34"),
        "He et al. 2016a, Table 1: FLOPs of the 34- and 50-layer nets",
        "3.6 and 3.8 ×10⁹",
        "3.644 (shortcuts A), 3.664 (B) and 3.858 ×10⁹",
        "The number for 50 layers is truncated, those for 18, 101 and 152 are rounded.",
    ),
    Misprint(
        ("resnet18_A", "resnet34_A"),
        "He et al. 2016a, section 4.1: error of ResNet-34 below that of ResNet-18",
        "2.8 points",
        "2.85 points",
        "27.88 − 25.03, rounded down.",
    ),
    Misprint(
        ("resnet1001_*", "resnet1202_*"),
        "He et al. 2016a, 2016b: parameters of ResNet-1001 and ResNet-1202",
        "10.2M and 19.4M",
        "10,327,706 and 19,421,274",
        "10.2M excludes batch norm (10,178,490), 19.4M includes it (19,331,642 without).",
    ),
    Misprint(
        ("resnet164_*",),
        "He et al. 2016b: parameters of ResNet-164",
        "1.7M",
        "1,703,258",
        "Right both with batch norm and without.",
    ),
    Misprint(
        ("resnet110_cifar10_*",),
        "He et al. 2016a, Table 6: error of ResNet-110 on CIFAR-10",
        "6.43% and 6.61%",
        "both",
        "6.43 is the best of five runs, 6.61 their mean (first paper) or median (second paper).",
    ),
    Misprint(
        ("lecture_lenet_rgb",),
        "the lecture's slide: parameters of its five layers, as remembered",
        "208, 416, 48,001, 10,081, 841",
        "608, 3,216, 48,120, 10,164, 850",
        "The slide omits the input channels of the convolutions and counts one bias per dense "
        "layer.",
    ),
)
