"""The count sheet's names for the layers of LeNet, AlexNet, the CIFAR nets, VGG and NiN.

Almost everywhere as we do. Also the counts, by arithmetic, of the networks it does not hold.
"""

# Network -> our layer's name -> the sheet's row, where they differ.
SHEET_NAMES: dict[str, dict[str, str]] = {
    "lecture_lenet_rgb": {
        "conv1": "CONV1",
        "pool1": "POOL1",
        "conv2": "CONV2",
        "pool2": "POOL2",
        "fc3": "FC3",
        "fc4": "FC4",
        "fc5": "softmax",
    },
}

# A batch norm adds a scale and a shift a map to a column of VGG's Table 1, and no multiply-adds.
# A, B, D and E are torchvision's published counts too.
_MAPS = {
    "A": 64 + 128 + 2 * 256 + 4 * 512,
    "B": 2 * (64 + 128 + 256) + 4 * 512,
    "C": 2 * (64 + 128) + 3 * 256 + 6 * 512,
    "D": 2 * (64 + 128) + 3 * 256 + 6 * 512,
    "E": 2 * (64 + 128) + 4 * 256 + 8 * 512,
}
_PLAIN = {
    "A": (132_863_336, 7_609_090_048),
    "B": (133_047_848, 11_308_466_176),
    "C": (133_638_952, 11_770_888_192),
    "D": (138_357_544, 15_470_264_320),
    "E": (143_667_240, 19_632_062_464),
}
EXTRA_COUNTS: dict[str, tuple[int, int]] = {
    f"vgg_{column}_bn": (params + 2 * _MAPS[column], multiply_adds)
    for column, (params, multiply_adds) in _PLAIN.items()
}
