"""The table of data sets: names, sizes, classes, splits. Facts only, no bytes are read here.

Cheap to import (no TFDS, no image library), because configs read it. "test" is the split on which
the papers' numbers stand: for ImageNet and Imagenette that is the published validation set.
"""

import dataclasses
import re
from collections.abc import Mapping

from errors import UserError


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One data set as the pipeline sees it.

    shape: (H, W, C) of every image, or None where sizes vary (then colour, 3 channels).
    classes: number of labels, 0 .. classes - 1; class_names: their names in that order, or None.
    splits: images in "train" and "test".
    engine: "resident" (the split fits the device as uint8) or "streaming" (decoded as it goes).
    """

    name: str
    shape: tuple[int, int, int] | None
    classes: int
    class_names: tuple[str, ...] | None
    splits: Mapping[str, int]
    engine: str


DIGITS = tuple("0123456789")
CLOTHES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
CIFAR10 = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip

DATASETS: dict[str, Dataset] = {
    entry.name: entry
    for entry in (
        Dataset("digits", (8, 8, 1), 10, DIGITS, {"train": 1437, "test": 360}, "resident"),
        Dataset("synthetic", (8, 8, 1), 10, None, {"train": 512, "test": 128}, "resident"),
    )
}

PARAMETRISED = ("folder:PATH", "synthetic:HxWxC:CLASSES[:TRAIN[:TEST]]")


def dataset(name: str) -> Dataset:
    """Returns the data set of that name, parametrised names included; else UserError."""
    if name in DATASETS:
        return DATASETS[name]
    kind, _, rest = name.partition(":")
    if kind == "synthetic":
        return _synthetic(name, rest)
    valid = ", ".join((*DATASETS, *PARAMETRISED))
    raise UserError(f"there is no data set {name!r}; valid names: {valid}")


def _synthetic(name: str, rest: str) -> Dataset:
    number = r"([1-9]\d*)"
    pattern = rf"{number}x{number}x([13]):{number}(?::{number})?(?::{number})?"
    match = re.fullmatch(pattern, rest)
    if match is None:
        raise UserError(
            f"data set {name!r}: expected synthetic:HxWxC:CLASSES[:TRAIN[:TEST]], whole numbers "
            "of at least 1 and C of 1 or 3, for example synthetic:32x32x3:10:512:128"
        )
    default = DATASETS["synthetic"].splits
    height, width, channels, classes = (int(match[i]) for i in range(1, 5))
    splits = {"train": int(match[5] or default["train"]), "test": int(match[6] or default["test"])}
    return Dataset(name, (height, width, channels), classes, None, splits, "resident")
