"""Some classes of a data set: `NAME:CLASSES`, for example fashion_mnist:0-7 or fashion_mnist:8+9.

The images keep their order; labels are renumbered from 0 in the order given. For transfer learning:
a network is trained on some classes and meets the others later.
"""

import hashlib
import re
from typing import Any

import numpy as np

from data.catalog import Dataset
from data.prepared import PreparedSource
from errors import UserError

# Images of each class in the published archives; of digits, in our split.
COUNTS: dict[str, dict[str, tuple[int, ...]]] = {
    "digits": {
        "train": (151, 147, 141, 154, 151, 142, 137, 140, 135, 139),
        "test": (27, 35, 36, 29, 30, 40, 44, 39, 39, 41),
    },
    "mnist": {
        "train": (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
        "test": (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
    },
    **{
        name: {"train": (6000,) * 10, "test": (1000,) * 10}
        for name in ("fashion_mnist", "fashion_mnist_scenes")
    },
    "cifar10": {"train": (5000,) * 10, "test": (1000,) * 10},
    "cifar100": {"train": (500,) * 100, "test": (100,) * 100},
}


def describe(name: str, whole: Dataset, parameters: str) -> Dataset:
    """The data set `name` of the classes "0-7" or "8+9" of `whole`. Raises UserError."""
    if whole.name not in COUNTS:
        raise UserError(f"data set {name!r}: classes can be chosen only of {', '.join(COUNTS)}")
    chosen = read(name, whole, parameters)
    return Dataset(
        name,
        whole.shape,
        len(chosen),
        tuple((whole.class_names or ())[label] for label in chosen),
        {
            split: sum(counts[label] for label in chosen)
            for split, counts in COUNTS[whole.name].items()
        },
        whole.engine,
    )


def read(name: str, whole: Dataset, parameters: str) -> list[int]:
    """The labels that "0-7" or "8+9" lists. Raises UserError with the form and the valid labels."""
    chosen: list[int] = []
    for part in parameters.split("+"):
        match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if not first <= last < whole.classes:
            raise UserError(
                f"data set {name!r}: {part!r} is no class or range of classes of {whole.name}, "
                f"0 to {whole.classes - 1}; for example {whole.name}:0-7 or {whole.name}:8+9"
            )
        chosen += range(first, last + 1)
    if len(set(chosen)) < len(chosen):
        raise UserError(f"data set {name!r}: names a class twice")
    return chosen


class ClassesSource:
    """The images of some classes of one split, with labels renumbered in their order."""

    def __init__(self, source: PreparedSource, chosen: list[int]) -> None:
        self._source, self._chosen = source, chosen
        self._places = np.flatnonzero(np.isin(source.labels(), chosen))
        self._new = {label: new for new, label in enumerate(chosen)}

    def __len__(self) -> int:
        return len(self._places)

    def place(self, index: int) -> tuple[str, int]:
        """Returns the shard and record number of an image."""
        return self._source.place(self._at(index))

    def digest(self) -> str:
        """Returns a sha256 of the whole split's digest and of the classes."""
        return hashlib.sha256(f"{self._source.digest()} {self._chosen}".encode()).hexdigest()

    def encoded(self, index: int) -> tuple[bytes, int]:
        """Returns the image file's bytes and the new label; raises Damaged."""
        encoded, label = self._source.encoded(self._at(index))
        return encoded, self._new[label]

    def __getitem__(self, index: int) -> dict[str, Any]:
        example = self._source[self._at(index)]
        return {**example, "label": self._new[example["label"]]}

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns all images, uint8 [N, H, W, C], and new labels, int32 [N]; raises Damaged."""
        pixels, labels = self._source.arrays(self._places)
        return pixels, np.asarray([self._new[label] for label in labels.tolist()], np.int32)

    def _at(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        return int(self._places[index])
