"""What the papers report under their test protocols, as data: `evaluate.py --published`.

Errors in percent. A protocol is written as evaluate.py takes it, so that a measured number finds
its published one. For networks of small images the tables have one view, and are read from
`papers.networks`.
"""

import dataclasses

from papers import networks as published

VALIDATION, TEST, TEST_2010 = "ILSVRC 2012 val", "ILSVRC test", "ILSVRC 2010 test"


@dataclasses.dataclass(frozen=True)
class Published:
    """One entry of a paper's table.

    networks: the members of the ensemble, one for a single network; top1 or top5 is None where it
    is not printed. remark: what else the entry depends on, most of all the training scale S.
    """

    networks: tuple[str, ...]
    protocol: str
    data: str
    top1: float | None
    top5: float | None
    source: str
    remark: str = ""


def rows(networks: tuple[str, ...]) -> tuple[Published, ...]:
    """The entries with any of these networks, in the papers' order."""
    small = tuple(
        Published((rate.network,), "plain", rate.data, rate.top1, rate.top5, rate.source)
        for rate in published.ERROR_RATES
        if rate.protocol == "the image as it is"
    )
    return tuple(entry for entry in PUBLISHED + small if set(entry.networks) & set(networks))


def _alexnet() -> tuple[Published, ...]:
    one, five = ("alexnet_2012",), ("alexnet_2012",) * 5
    first = "Krizhevsky et al. 2012, Table 1"
    second = "Krizhevsky et al. 2012, Table 2"
    return (
        Published(one, "ten_crop", TEST_2010, 37.5, 17.0, first),
        Published(one, "center", TEST_2010, 39.0, 18.3, f"{first}, footnote"),
        Published(one, "ten_crop", VALIDATION, 40.7, 18.2, second),
        Published(five, "ten_crop", VALIDATION, 38.1, 16.4, second),
        Published(five, "ten_crop", TEST, None, 16.4, second),
    )


def _vgg() -> tuple[Published, ...]:
    fixed, jitter = "S = {}", "S in [256, 512]"
    entries = []

    def add(table: str, names: str, protocol: str, top1: float, top5: float, remark: str) -> None:
        networks = tuple(f"vgg_{name}" for name in names.split("+"))
        source = f"Simonyan and Zisserman 2015, Table {table}"
        entries.append(Published(networks, protocol, VALIDATION, top1, top5, source, remark))

    for name, top1, top5 in (
        ("A", 29.6, 10.4),
        ("A_LRN", 29.7, 10.5),
        ("B", 28.7, 9.9),
        ("C", 28.1, 9.4),
        ("D", 27.0, 8.8),
        ("E", 27.3, 9.0),
    ):
        add("3", name, "dense", top1, top5, fixed.format(256))
    for name, top1, top5 in (("C", 28.1, 9.3), ("D", 26.8, 8.7), ("E", 26.9, 8.7)):
        add("3", name, "dense:sides=384", top1, top5, fixed.format(384))
    for name, top1, top5 in (("C", 27.3, 8.8), ("D", 25.6, 8.1), ("E", 25.5, 8.0)):
        add("3", name, "dense:sides=384", top1, top5, jitter)
    for name, top1, top5 in (
        ("B", 28.2, 9.6),
        ("C", 27.7, 9.2),
        ("D", 26.6, 8.6),
        ("E", 26.9, 8.7),
    ):
        add("4", name, "dense:sides=224+256+288", top1, top5, fixed.format(256))
    for name, top1, top5 in (("C", 27.8, 9.2), ("D", 26.5, 8.6), ("E", 26.7, 8.6)):
        add("4", name, "dense:sides=352+384+416", top1, top5, fixed.format(384))
    for name, top1, top5 in (("C", 26.3, 8.2), ("D", 24.8, 7.5), ("E", 24.8, 7.5)):
        add("4", name, "dense:sides=256+384+512", top1, top5, jitter)
    for name, crops, both in (
        ("D", (24.6, 7.5), (24.4, 7.2)),
        ("E", (24.6, 7.4), (24.4, 7.1)),
    ):
        add("5", name, "grid_crop", *crops, jitter)
        add("5", name, "multi_crop_and_dense", *both, jitter)
    add("6", "D+E", "dense:sides=256+384+512", 24.0, 7.1, jitter)
    add("6", "D+E", "grid_crop", 23.9, 7.2, jitter)
    add("6", "D+E", "multi_crop_and_dense", 23.7, 6.8, jitter)
    return tuple(entries)


def _googlenet() -> tuple[Published, ...]:
    return tuple(
        Published(
            ("googlenet_2014",) * models,
            protocol,
            VALIDATION,
            None,
            top5,
            "Szegedy et al. 2014, Table 3",
        )
        for models, protocol, top5 in (
            (1, "center", 10.07),
            (1, "ten_crop", 9.15),
            (1, "crop_144", 7.89),
            (7, "center", 8.09),
            (7, "ten_crop", 7.62),
            (7, "crop_144", 6.67),
        )
    )


def _resnet() -> tuple[Published, ...]:
    entries = []

    def add(
        network: str, protocol: str, top1: float, top5: float | None, source: str, remark: str = ""
    ) -> None:
        source = f"He et al. 2016, {source}"
        entries.append(Published((network,), protocol, VALIDATION, top1, top5, source, remark))

    add("plain18", "ten_crop", 27.94, None, "Table 2")
    add("resnet18_A", "ten_crop", 27.88, None, "Table 2")
    for network, top1, top5 in (
        ("plain34", 28.54, 10.02),
        ("resnet34_A", 25.03, 7.76),
        ("resnet34_B", 24.52, 7.46),
        ("resnet34_C", 24.19, 7.40),
        ("resnet50_v1", 22.85, 6.71),
        ("resnet101_v1", 21.75, 6.05),
        ("resnet152_v1", 21.43, 5.71),
    ):
        add(network, "ten_crop", top1, top5, "Table 3")
    for network, top1, top5 in (
        ("resnet34_B", 21.84, 5.71),
        ("resnet34_C", 21.53, 5.60),
        ("resnet50_v1", 20.74, 5.25),
        ("resnet101_v1", 19.87, 4.60),
        ("resnet152_v1", 19.38, 4.49),
    ):
        add(network, "multi_scale", top1, top5, "Table 4")
    for network, top1, top5 in (
        ("resnet50_v1", 24.7, 7.8),
        ("resnet101_v1", 23.6, 7.1),
        ("resnet152_v1", 23.0, 6.7),
    ):
        add(network, "center", top1, top5, "the authors' release")
    large, reading = "center:side=320,crop=320", "the crop is printed, its short side is read"
    five = "identity mappings, Table 5"
    add("resnet152_v1", large, 21.3, 5.5, five, reading)
    add("resnet200_preact", large, 20.7, 5.3, five, reading)
    return tuple(entries)


PUBLISHED: tuple[Published, ...] = (*_alexnet(), *_vgg(), *_googlenet(), *_resnet())
