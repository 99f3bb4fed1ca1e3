"""The count sheet's names for layers of the residual, Inception and densely connected nets.

The sheet's rows are named after released code, ours after the papers; a row of the sheet that holds
a whole unit, or a run of units, stands for all layers inside. Also the counts, by arithmetic, of
the networks that the sheet does not hold.
"""

import re

_GOOGLENET = {
    "conv1/7x7_s2": "conv1",
    "conv1/depthwise_7x7_mult8": "conv1_depthwise",
    "conv1/pointwise": "conv1",
    "pool1/norm1": "norm1",
    "conv2/3x3_reduce": "conv2_reduce",
    "conv2/3x3": "conv2",
    "conv2/norm2": "norm2",
    "loss3/classifier": "linear",
}
_HEAD = {"ave_pool": "pool", "conv": "conv", "fc": "fc", "classifier": "linear"}


def _unit(name: str) -> str:
    """conv2_1 from conv2_1 or s1.b1."""
    found = re.fullmatch(r"s(\d+)\.b(\d+)", name)
    return f"conv{int(found[1]) + 1}_{found[2]}" if found else name


def layers_of(row: str) -> tuple[str, ...]:
    """The names of our layers that the sheet's row `row` counts, as prefixes.

    A layer belongs to the row where its name is one of these, or begins with one and a slash.
    Empty for a row that only refers to another network's rows.
    """
    if " .. " in row:
        first, last = (_unit(end) for end in row.split(" .. "))
        stage, start = first.split("_")
        return tuple(f"{stage}_{i}" for i in range(int(start), int(last.split("_")[1]) + 1))
    if row in _GOOGLENET:
        return (_GOOGLENET[row],)
    if row == "final":
        return ("final_bn",)
    if found := re.fullmatch(r"(pool\d)/\dx\d_s\d", row):
        return (found[1],)
    if found := re.fullmatch(r"loss(\d)/(\w+)", row):
        return (f"aux{found[1]}/{_HEAD[found[2]]}",)
    if found := re.fullmatch(r"(\d[a-e])/(\w+)", row):
        return (f"inception_{found[1]}/{found[2]}",)
    if found := re.fullmatch(r"d(\d)\.l(\d+)\.(\w+)", row):
        return (f"dense{found[1]}_{found[2]}/{found[3]}",)
    if found := re.fullmatch(r"t(\d)\.(\w+)", row):
        return (f"transition{found[1]}/{found[2]}",)
    if found := re.fullmatch(r"((?:conv\d_\d+)|(?:s\d\.b\d+))(?:\.(a|b|c|proj))?", row):
        layer = {None: "", "proj": "/projection"}.get(found[2], f"/{found[2]}")
        return (_unit(found[1]) + layer,)
    return () if row.startswith("identical to") else (row,)


def cifar_counts(units: int, shortcut: str) -> tuple[int, int]:
    """(params, multiply-adds) of a 6n+2 net: He et al. 2016a, section 4.2, layer by layer."""
    params, multiply_adds = 9 * 3 * 16 + 2 * 16 + 64 * 10 + 10, 9 * 3 * 16 * 32**2 + 64 * 10
    before = 16
    for side, width in ((32, 16), (16, 32), (8, 64)):
        for _ in range(units):
            weights = 9 * before * width + 9 * width * width
            norms = 2 * width + 2 * width
            if shortcut == "C" or (shortcut == "B" and before != width):
                weights += before * width
                norms += 2 * width
            params += weights + norms
            multiply_adds += weights * side**2
            before = width
    return params, multiply_adds


# Szegedy et al. 2015, Table 1: 1×1, 3×3 reduce, 3×3, 5×5 reduce, 5×5, projection, and the stage.
_TABLE_1 = (
    (3, 64, 96, 128, 16, 32, 32),
    (3, 128, 128, 192, 32, 96, 64),
    (4, 192, 96, 208, 16, 48, 64),
    (4, 160, 112, 224, 24, 64, 64),
    (4, 128, 128, 256, 24, 64, 64),
    (4, 112, 144, 288, 32, 64, 64),
    (4, 256, 160, 320, 32, 128, 128),
    (5, 256, 160, 320, 32, 128, 128),
    (5, 384, 192, 384, 48, 128, 128),
)


def googlenet_counts(
    stem: tuple[int, int, int], sides: dict[int, int], classes: int, *, naive: bool
) -> tuple[int, int]:
    """(params, multiply-adds) of a net with Table 1's modules.

    stem: conv1's kernel and the sides of the maps of conv1 and conv2. sides: those of the stages.
    """
    kernel, first, second = stem
    params = multiply_adds = 0

    def conv(side: int, fan_in: int, maps: int) -> None:
        nonlocal params, multiply_adds
        params += fan_in * maps + maps
        multiply_adds += fan_in * maps * side**2

    conv(first, kernel**2 * 3, 64)
    conv(second, 64, 64)
    conv(second, 9 * 64, 192)
    maps = 192
    for stage, one, three_reduce, three, five_reduce, five, projection in _TABLE_1:
        side = sides[stage]
        conv(side, maps, one)
        conv(side, 9 * (maps if naive else three_reduce), three)
        conv(side, 25 * (maps if naive else five_reduce), five)
        if not naive:
            conv(side, maps, three_reduce)
            conv(side, maps, five_reduce)
            conv(side, maps, projection)
        maps = one + three + five + (maps if naive else projection)
    conv(1, maps, classes)
    return params, multiply_adds


_IMAGENET = ((7, 112, 56), {3: 28, 4: 14, 5: 7}, 1000)
_SMALL = ((3, 32, 16), {3: 16, 4: 8, 5: 4}, 10)

# Counts of the networks that the sheet does not hold, by arithmetic or from the lecture.
EXTRA_COUNTS: dict[str, tuple[int, int]] = {
    **{
        f"plain{depth}_cifar10": cifar_counts((depth - 2) // 6, "none")
        for depth in (20, 32, 44, 56, 110)
    },
    **{
        f"resnet{depth}_cifar10_{shortcut}": cifar_counts((depth - 2) // 6, shortcut)
        for depth in (20, 32, 44, 56, 110)
        for shortcut in "BC"
    },
    "googlenet_naive": googlenet_counts(*_IMAGENET, naive=True),
    "googlenet_small": googlenet_counts(*_SMALL, naive=False),
    "googlenet_small_naive": googlenet_counts(*_SMALL, naive=True),
    "lecture_conv5x5": (5 * 5 * 192 * 32 + 32, 120_422_400),
    "lecture_conv5x5_bottleneck": (192 * 16 + 16 + 5 * 5 * 16 * 32 + 32, 2_408_448 + 10_035_200),
    "lecture_conv1x1": (6_176, 4_816_896),
}
