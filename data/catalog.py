"""The table of data sets: names, sizes, classes, splits. Reads no files.

Cheap to import (no TFDS, no image library), because configs read it. "test" is the split of the
papers' results: for ImageNet and Imagenette that is the published validation set.
"""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The properties of a data set.

    shape: (H, W, C) of every image; None if sizes vary (then RGB).
    classes: number of labels, 0 .. classes - 1; class_names: their names in that order, or None.
    splits: images in "train" and "test".
    engine: "resident" (the split fits on the device as uint8) or "streaming" (decoded on demand).
    sorted_by_class: the archives are ordered by class. Such a set is read through one fixed
    permutation, so that the end of the training images has all classes.
    """

    name: str
    shape: tuple[int, int, int] | None
    classes: int
    class_names: tuple[str, ...] | None
    splits: Mapping[str, int]
    engine: str
    sorted_by_class: bool = False


DIGITS = tuple("0123456789")
CLOTHES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
CIFAR10 = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip

CIFAR100 = (
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle",
    "bottle", "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle",
    "caterpillar", "cattle", "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch",
    "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant", "flatfish", "forest", "fox",
    "girl", "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion",
    "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain", "mouse", "mushroom",
    "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree",
    "plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road",
    "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake",
    "spider", "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank",
    "telephone", "television", "tiger", "tractor", "train", "trout", "tulip", "turtle",
    "wardrobe", "whale", "willow_tree", "wolf", "woman", "worm",
)  # fmt: skip
# Ordered by WordNet id, the names of the archive's folders: n01440764 ... n03888257.
IMAGENETTE = (
    "tench", "English springer", "cassette player", "chain saw", "church",
    "French horn", "garbage truck", "gas pump", "golf ball", "parachute",
)  # fmt: skip

IMAGENET_SPLITS = {"train": 1_281_167, "test": 50_000}

DATASETS: dict[str, Dataset] = {
    entry.name: entry
    for entry in (
        Dataset("digits", (8, 8, 1), 10, DIGITS, {"train": 1437, "test": 360}, "resident"),
        Dataset("mnist", (28, 28, 1), 10, DIGITS, {"train": 60_000, "test": 10_000}, "resident"),
        Dataset(
            "fashion_mnist", (28, 28, 1), 10, CLOTHES, {"train": 60_000, "test": 10_000}, "resident"
        ),
        Dataset(
            "fashion_mnist_scenes",
            (32, 32, 3),
            10,
            CLOTHES,
            {"train": 60_000, "test": 10_000},
            "resident",
        ),
        Dataset("cifar10", (32, 32, 3), 10, CIFAR10, {"train": 50_000, "test": 10_000}, "resident"),
        Dataset(
            "cifar100", (32, 32, 3), 100, CIFAR100, {"train": 50_000, "test": 10_000}, "resident"
        ),
        Dataset(
            "imagenette", None, 10, IMAGENETTE, {"train": 9_469, "test": 3_925}, "streaming", True
        ),
        # Labels are the 1,000 WordNet ids of the competition, sorted (as Keras, torchvision and
        # TFDS have them), not the ILSVRC2012_ID of the development kit.
        Dataset(
            "imagenet2012", None, 1000, None, IMAGENET_SPLITS, "streaming", sorted_by_class=True
        ),
        Dataset("synthetic", (8, 8, 1), 10, None, {"train": 512, "test": 128}, "resident"),
    )
}
