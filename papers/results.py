"""The results that papers print, each once: by network, data set, test protocol and metric.

Use `rows`, `row` and `plainest`. A test compares the numbers in the config headers with this table.
The sizes that papers print (parameters, multiply-adds, connections) are in the networks' presets.
"""

import dataclasses

IMAGENET, IMAGENET_TEST = "ILSVRC 2012 val", "ILSVRC test"
IMAGENET_2010 = "ILSVRC 2010 test"
CIFAR10, CIFAR100, MNIST, SVHN = "CIFAR-10", "CIFAR-100", "MNIST", "SVHN"

# top1, top5: test error in percent. *_gap: percentage points of error above the network without the
# change. train: training error in percent.
METRICS = ("top1", "top5", "top1_gap", "top5_gap", "train")


@dataclasses.dataclass(frozen=True)
class Row:
    """One number of a paper.

    networks: one name, or the members of an ensemble; a variant without a name is NAME:field=value,
    as for describe.py. protocol: as for evaluate.py, "" if the number is not from a test. sign: "≈"
    or "above" if the paper is no more precise. remark: other conditions of the number. recalled:
    quoted from memory, not checked against the paper.
    """

    networks: tuple[str, ...]
    data: str
    protocol: str
    metric: str
    value: float
    source: str
    remark: str = ""
    sign: str = ""
    recalled: bool = False

    @property
    def text(self) -> str:
        """The number as it is printed, "25.03", "≈ 9.5" or "14.51 (recalled)"."""
        return f"{self.sign} {self.value}".strip() + (" (recalled)" if self.recalled else "")


def rows(
    *networks: str,
    protocol: str | None = None,
    data: str | None = None,
    metric: str | None = None,
    remark: str | None = None,
) -> tuple[Row, ...]:
    """The rows of any of the networks (default: all) with these fields, in table order."""
    wanted = {"protocol": protocol, "data": data, "metric": metric, "remark": remark}
    return tuple(
        row
        for row in ROWS
        if (not networks or set(row.networks) & set(networks))
        and all(getattr(row, name) == value for name, value in wanted.items() if value is not None)
    )


def row(network: str, protocol: str = "plain", metric: str = "top1", remark: str = "") -> Row:
    """The row of a single network. Raises LookupError unless there is exactly one."""
    found = [
        each
        for each in rows(network, protocol=protocol, metric=metric, remark=remark)
        if each.networks == (network,) and each.data != IMAGENET_2010
    ]
    if len(found) != 1:
        raise LookupError(f"{len(found)} rows of {network}, {protocol}, {metric}, {remark!r}")
    return found[0]


# The order in which `plainest` looks for a protocol.
PLAINEST = ("ten_crop", "dense", "center", "center:side=320,crop=320", "plain")


def plainest(network: str) -> tuple[Row, ...]:
    """The rows of a single network under the plainest protocol that its paper prints."""
    single = [each for each in rows(network) if each.networks == (network,)]
    single = [each for each in single if each.data != IMAGENET_2010]
    for protocol in PLAINEST:
        found = tuple(
            each for each in single if each.protocol == protocol and each.metric in ("top1", "top5")
        )
        if found:
            return found
    return ()


def _pair(
    networks: str | tuple[str, ...],
    protocol: str,
    top1: float | None,
    top5: float | None,
    source: str,
    remark: str = "",
    data: str = IMAGENET,
) -> tuple[Row, ...]:
    """Top-1 and top-5 error of one test; None for what is not printed."""
    members = (networks,) if isinstance(networks, str) else networks
    return tuple(
        Row(members, data, protocol, metric, value, source, remark)
        for metric, value in (("top1", top1), ("top5", top5))
        if value is not None
    )


def _small(
    network: str,
    data: str,
    value: float,
    source: str,
    remark: str = "",
    sign: str = "",
    recalled: bool = False,
) -> tuple[Row, ...]:
    """The test error on small images, which are not cropped or resized."""
    return (Row((network,), data, "plain", "top1", value, source, remark, sign, recalled),)


def _lenet() -> tuple[Row, ...]:
    lecun = "LeCun et al. 1998"
    return (
        *_small("lenet5_1998", MNIST, 0.95, f"{lecun}, section III.B"),
        *_small(
            "lenet5_1998", MNIST, 0.8, f"{lecun}, section III.B", "with distorted images added"
        ),
        *_small("lenet5_1998", MNIST, 1.7, f"{lecun}, Fig. 6", "15,000 training images", "≈", True),
    )


def _alexnet() -> tuple[Row, ...]:
    paper = "Krizhevsky et al. 2012"
    one, five = "alexnet_2012", ("alexnet_2012",) * 5
    changes: tuple[tuple[str, str, float, float | None, str, str], ...] = (
        ("alexnet_2012_one_gpu", "", 1.7, 1.2, "section 3.2", ""),
        (one, "without LRN", 1.4, 1.2, "section 3.3", ""),
        (one, "pooling 2×2, no overlap", 0.4, 0.3, "section 3.4", ""),
        (one, "without the shift of colour", 1, None, "section 4.1", "above"),
        (one, "without a middle convolution", 2, None, "section 7", "≈"),
    )
    conv_local = "cuda_convnet_cifar10_conv_local"
    return (
        *_pair(one, "ten_crop", 40.7, 18.2, f"{paper}, Table 2"),
        *_pair(five, "ten_crop", 38.1, 16.4, f"{paper}, Table 2"),
        *_pair(five, "ten_crop", None, 16.4, f"{paper}, Table 2", data=IMAGENET_TEST),
        *_pair(one, "ten_crop", 37.5, 17.0, f"{paper}, Table 1", data=IMAGENET_2010),
        *_pair(one, "center", 39.0, 18.3, f"{paper}, Table 1, footnote", data=IMAGENET_2010),
        *(
            Row((network,), IMAGENET, "", f"{metric}_gap", gap, f"{paper}, {where}", what, sign)
            for network, what, top1, top5, where, sign in changes
            for metric, gap in (("top1", top1), ("top5", top5))
            if gap is not None
        ),
        *_pair("alexnet_owt_torchvision", "center", 43.478, 20.934, "torchvision, first weights"),
        *_small(conv_local, CIFAR10, 13, f"{paper}, section 3.3", "without LRN"),
        *_small(conv_local, CIFAR10, 11, f"{paper}, section 3.3", "with LRN"),
        *_small("cuda_convnet_cifar10_18pct", CIFAR10, 18, "cuda-convnet, its own record"),
        *_small(
            "cuda_convnet_cifar10_18pct",
            CIFAR10,
            19,
            "cuda-convnet, its own record",
            "without normalisation",
        ),
        *_small("cuda_convnet_cifar10_80sec", CIFAR10, 26, "cuda-convnet, its own record"),
        Row(
            ("cuda_convnet_cifar10_18pct",),
            CIFAR10,
            "",
            "train",
            25,
            f"{paper}, Fig. 1",
            "reached by ReLU in a sixth of the epochs that tanh needs",
        ),
    )


# By training scale: the protocols of Table 3 (one test scale) and Table 4 (three).
_VGG_SCALES = {
    "S = 256": ("dense", "dense:sides=224+256+288"),
    "S = 384": ("dense:sides=384", "dense:sides=352+384+416"),
    "S in [256, 512]": ("dense:sides=384", "dense:sides=256+384+512"),
}
_VGG: tuple[tuple[str, str, tuple[float, float], tuple[float, float] | None], ...] = (
    ("A", "S = 256", (29.6, 10.4), None),
    ("A_LRN", "S = 256", (29.7, 10.5), None),
    ("B", "S = 256", (28.7, 9.9), (28.2, 9.6)),
    ("C", "S = 256", (28.1, 9.4), (27.7, 9.2)),
    ("C", "S = 384", (28.1, 9.3), (27.8, 9.2)),
    ("C", "S in [256, 512]", (27.3, 8.8), (26.3, 8.2)),
    ("D", "S = 256", (27.0, 8.8), (26.6, 8.6)),
    ("D", "S = 384", (26.8, 8.7), (26.5, 8.6)),
    ("D", "S in [256, 512]", (25.6, 8.1), (24.8, 7.5)),
    ("E", "S = 256", (27.3, 9.0), (26.9, 8.7)),
    ("E", "S = 384", (26.9, 8.7), (26.7, 8.6)),
    ("E", "S in [256, 512]", (25.5, 8.0), (24.8, 7.5)),
)


def _vgg() -> tuple[Row, ...]:
    paper, jitter = "Simonyan and Zisserman 2015", "S in [256, 512]"
    found: list[Row] = []
    for column, scale, single, several in _VGG:
        for table, protocol, pair in zip(
            (3, 4), _VGG_SCALES[scale], (single, several), strict=True
        ):
            if pair:
                source = f"{paper}, Table {table}"
                found += _pair(f"vgg_{column}", protocol, *pair, source, scale)
    both = ("vgg_D", "vgg_E")
    for networks, protocol, top1, top5, table in (
        ("vgg_D", "grid_crop", 24.6, 7.5, 5),
        ("vgg_D", "multi_crop_and_dense", 24.4, 7.2, 5),
        ("vgg_E", "grid_crop", 24.6, 7.4, 5),
        ("vgg_E", "multi_crop_and_dense", 24.4, 7.1, 5),
        (both, "dense:sides=256+384+512", 24.0, 7.1, 6),
        (both, "grid_crop", 23.9, 7.2, 6),
        (both, "multi_crop_and_dense", 23.7, 6.8, 6),
    ):
        found += _pair(networks, protocol, top1, top5, f"{paper}, Table {table}", jitter)
    source = f"{paper}, section 4.1"
    found.append(Row(("vgg_B_5x5",), IMAGENET, "", "top1_gap", 7, source, "to B, centre crop"))
    return tuple(found)


def _nin() -> tuple[Row, ...]:
    paper = "Lin et al. 2014"
    text, table = f"{paper}, section 4", f"{paper}, Table 5"
    return (
        *_small("nin_cifar10", CIFAR10, 8.81, f"{paper}, Table 1", "augmented"),
        *_small("nin_cifar10", CIFAR10, 10.41, f"{paper}, Table 1"),
        *_small("nin_cifar10", CIFAR10, 14.51, text, "without dropout", recalled=True),
        *_small("nin_cifar10_fc_head", CIFAR10, 10.88, table, recalled=True),
        *_small(
            "nin_cifar10_fc_head", CIFAR10, 11.59, table, "without dropout before it", recalled=True
        ),
        *_small("nin_cifar100", CIFAR100, 35.68, f"{paper}, Table 2"),
        *_small("nin_svhn", SVHN, 2.35, f"{paper}, Table 3"),
        *_small("nin_mnist", MNIST, 0.47, f"{paper}, Table 4"),
    )


def _inception() -> tuple[Row, ...]:
    table = "Szegedy et al. 2015, Table 3"
    return (
        *(
            each
            for models, protocol, top5 in (
                (1, "center", 10.07),
                (1, "ten_crop", 9.15),
                (1, "crop_144", 7.89),
                (7, "center", 8.09),
                (7, "ten_crop", 7.62),
                (7, "crop_144", 6.67),
            )
            for each in _pair(("googlenet_2014",) * models, protocol, None, top5, table)
        ),
        *_pair("googlenet_torchvision", "center", 30.222, 10.470, "torchvision, first weights"),
        *_pair("densenet121", "center", 25.02, 7.71, "Huang et al. 2017, Table 3"),
    )


def _resnet_imagenet() -> tuple[Row, ...]:
    paper, units = "He et al. 2016a", "He et al. 2016b, Table 5"
    port, reading = "the Torch port of ResNet", "the crop is printed, its short side is read"
    large = "center:side=320,crop=320"
    tables: tuple[tuple[str, str, tuple[tuple[str, float, float | None], ...]], ...] = (
        ("ten_crop", f"{paper}, Table 2", (("plain18", 27.94, None), ("resnet18_A", 27.88, None))),
        (
            "ten_crop",
            f"{paper}, Table 3",
            (
                ("plain34", 28.54, 10.02),
                ("resnet34_A", 25.03, 7.76),
                ("resnet34_B", 24.52, 7.46),
                ("resnet34_C", 24.19, 7.40),
                ("resnet50_v1", 22.85, 6.71),
                ("resnet101_v1", 21.75, 6.05),
                ("resnet152_v1", 21.43, 5.71),
            ),
        ),
        (
            "multi_scale",
            f"{paper}, Table 4",
            (
                ("resnet34_B", 21.84, 5.71),
                ("resnet34_C", 21.53, 5.60),
                ("resnet50_v1", 20.74, 5.25),
                ("resnet101_v1", 19.87, 4.60),
                ("resnet152_v1", 19.38, 4.49),
            ),
        ),
        (
            "center",
            f"{paper}, the authors' release",
            (
                ("resnet50_v1", 24.7, 7.8),
                ("resnet101_v1", 23.6, 7.1),
                ("resnet152_v1", 23.0, 6.7),
            ),
        ),
        (
            "center",
            port,
            (
                ("resnet18_B", 30.43, 10.76),
                ("resnet50_v1_5", 24.01, 7.02),
                ("resnet101_v1_5", 22.44, 6.21),
                ("resnet152_v1_5", 22.16, 6.16),
            ),
        ),
    )
    return (
        *(
            each
            for protocol, source, nets in tables
            for network, top1, top5 in nets
            for each in _pair(network, protocol, top1, top5, source)
        ),
        *_pair("resnet152_v1", large, 21.3, 5.5, units, reading),
        *_pair("resnet200_preact", large, 20.7, 5.3, units, reading),
    )


def _resnet_cifar() -> tuple[Row, ...]:
    six, units = "He et al. 2016a, Table 6", "He et al. 2016b, Table 3"
    plots, second = "He et al. 2016a, Fig. 6", "He et al. 2016b, Table 2"
    median = "median of 5 runs"
    found: list[Row] = []
    for depth, error in ((20, 8.75), (32, 7.51), (44, 7.17), (56, 6.97)):
        found += _small(f"resnet{depth}_cifar10_A", CIFAR10, error, six)
    original = f"{six}, mean of 5 runs; He et al. 2016b, Tables 1 to 3, {median}"
    found += _small("resnet110_cifar10_A", CIFAR10, 6.61, original)
    found += _small("resnet110_cifar10_A", CIFAR10, 6.43, six, "best of 5 runs")
    found += _small("resnet1202_cifar10_A", CIFAR10, 7.93, six)
    # The paper prints no numbers for the plain nets; these were read off the plot by others.
    for depth, error in ((20, 9.5), (32, 10), (44, 12), (56, 13.5)):
        found += _small(f"plain{depth}_cifar10", CIFAR10, error, plots, sign="≈")
    found += _small("plain110_cifar10", CIFAR10, 60, plots, sign="above")
    for unit, error in (
        ("bn_after_addition", 8.17),
        ("relu_before_addition", 7.84),
        ("relu_only_preact", 6.71),
    ):
        found += _small(f"resnet110_cifar10_A:unit={unit}", CIFAR10, error, f"{second}, {median}")
    # A run that ends above 20 is printed as "fail".
    half = "resnet110_cifar10_A:shortcut_scale=0.5"
    found += _small(half, CIFAR10, 20, f"He et al. 2016b, Table 1, {median}", sign="above")
    for network, data, error in (
        ("resnet110_cifar10_preact", CIFAR10, 6.37),
        ("resnet164_cifar10_original", CIFAR10, 5.93),
        ("resnet164_cifar10_preact", CIFAR10, 5.46),
        ("resnet1001_cifar10_original", CIFAR10, 7.61),
        ("resnet1001_cifar10_preact", CIFAR10, 4.92),
        ("resnet164_cifar100_original", CIFAR100, 25.16),
        ("resnet164_cifar100_preact", CIFAR100, 24.33),
        ("resnet1001_cifar100_original", CIFAR100, 27.82),
        ("resnet1001_cifar100_preact", CIFAR100, 22.71),
    ):
        found += _small(network, data, error, f"{units}, {median}")
    return tuple(found)


ROWS: tuple[Row, ...] = (
    *_lenet(),
    *_alexnet(),
    *_vgg(),
    *_nin(),
    *_inception(),
    *_resnet_imagenet(),
    *_resnet_cifar(),
)
