"""A synthetic data set of any shape, for tests and dry runs of large networks.

Each class is a fixed low-frequency pattern, each image that pattern plus noise. A small network
learns it in a few steps, so that tests without real data can see the loss fall.
"""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from data.catalog import DATASETS, Dataset
from data.images import encode_png
from data.shards import Examples, Shards
from errors import UserError

LARGEST_SIDE = 4096  # as config.data.size


def describe(name: str, parameters: str) -> Dataset:
    """Returns the set described by HxWxC:CLASSES[:TRAIN[:TEST]]; raises UserError."""
    number = r"([1-9]\d*)"
    pattern = rf"{number}x{number}x([13]):{number}(?::{number})?(?::{number})?"
    match = re.fullmatch(pattern, parameters)
    if match is None:
        raise UserError(
            f"data set {name!r}: expected synthetic:HxWxC:CLASSES[:TRAIN[:TEST]], whole numbers "
            "of at least 1 and C of 1 or 3, for example synthetic:32x32x3:10:512:128"
        )
    default = DATASETS["synthetic"].splits
    height, width, channels, classes = (int(match[i]) for i in range(1, 5))
    if max(height, width) > LARGEST_SIDE:
        raise UserError(f"data set {name!r}: a side must be from 1 to {LARGEST_SIDE}")
    splits = {"train": int(match[5] or default["train"]), "test": int(match[6] or default["test"])}
    return Dataset(name, (height, width, channels), classes, None, splits, "resident")


def splits(dataset: Dataset, paths: Mapping[str, Path]) -> dict[str, Shards]:
    """Returns the examples of both splits, one shard each; there are no archives (`paths`)."""
    return {split: [partial(examples, dataset, split)] for split in dataset.splits}


def examples(dataset: Dataset, split: str) -> Examples:
    """Yields (PNG bytes, label) for every image of a split, cycling through the classes."""
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
