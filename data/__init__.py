"""Where the bytes come from: named data sets, prepared once and then read by random access.

`DATASETS` and `dataset(name)` are facts and cheap; `open_split` and `load_arrays` read. Only
`digits` and `synthetic` prepare themselves; `python -m data.prepare NAME` prepares the others.
This package reads files: batches, randomness and devices are `input_pipeline.py`'s.
"""

import os
from functools import partial
from pathlib import Path

import numpy as np

from data import digits, synthetic
from data.catalog import DATASETS, PARAMETRISED, Dataset, dataset
from data.damage import Damaged
from data.prepared import PreparedSource, Source, data_directory
from errors import UserError

__all__ = [
    "DATASETS",
    "PARAMETRISED",
    "Damaged",
    "Dataset",
    "Source",
    "dataset",
    "load_arrays",
    "open_split",
]


def open_split(name: str, split: str, data_dir: str | os.PathLike[str] | None = None) -> Source:
    """Opens one split ("train" or "test") of a data set for random access.

    `data_dir` is where prepared sets lie: by default TFDS_DATA_DIR, else TFDS's own default.
    Raises UserError for an unknown name or split, and, at once and with the command to run, for a
    set that is not prepared.
    """
    entry = dataset(name)
    if split not in entry.splits:
        raise UserError(f"data set {name} has no split {split!r}; valid: {', '.join(entry.splits)}")
    return _open(entry, split, data_directory(data_dir))


def load_arrays(
    name: str, split: str, data_dir: str | os.PathLike[str] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns a whole split: images uint8 [N, H, W, C] and labels int32 [N], in source order.

    Raises UserError as `open_split` does, and for sets whose images vary in size.
    """
    entry = dataset(name)
    if entry.shape is None:
        raise UserError(
            f"data set {name} holds images of many sizes: it cannot be loaded as one array; "
            'use the streaming engine (config.data.engine="streaming")'
        )
    source = open_split(name, split, data_dir)
    images = np.empty((len(source), *entry.shape), np.uint8)
    labels = np.empty(len(source), np.int32)
    for index in range(len(source)):
        example = source[index]
        images[index], labels[index] = example["image"], example["label"]
    return images, labels


def _open(entry: Dataset, split: str, data_path: Path) -> Source:
    # Imported here: TFDS takes 0.4 s, and configs that only read the table do without.
    from data import builder

    home = data_path / builder.folder_name(entry) / builder.VERSION
    if not home.is_dir():
        make = digits.examples if entry.name == "digits" else synthetic.examples
        shards = {name: [partial(make, entry, name)] for name in entry.splits}
        builder.write(entry, shards, "png", data_path)
    return PreparedSource(home, split, entry)
