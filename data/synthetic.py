"""A made-up data set of any shape: what tests and dry runs of big networks use instead of data.

Each class is a fixed low-frequency pattern, each image that pattern plus noise: a small network
learns it in a few steps, so that "the loss falls" can be tested where no real data is at hand.
"""

from collections.abc import Iterator

import numpy as np

from data.catalog import Dataset
from data.images import encode_png


def examples(dataset: Dataset, split: str) -> Iterator[tuple[bytes, int]]:
    """Yields (PNG bytes, label) for every image of a split, labels going round the classes."""
    assert dataset.shape is not None
    height, width, channels = dataset.shape
    # RandomState's streams are frozen by NumPy's policy; Generator's may change between versions.
    coarse = np.random.RandomState(0).uniform(64, 192, (dataset.classes, 2, 2, channels))
    rows = np.arange(height) * 2 // height
    columns = np.arange(width) * 2 // width
    noise = np.random.RandomState(1 if split == "train" else 2)
    for index in range(dataset.splits[split]):
        label = index % dataset.classes
        pattern = coarse[label][rows][:, columns]
        pixels = pattern + noise.normal(0, 16, dataset.shape)
        yield encode_png(np.clip(np.rint(pixels), 0, 255).astype(np.uint8)), label
