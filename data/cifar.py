"""CIFAR-10 and CIFAR-100: the "binary version" of Krizhevsky's page, a gzipped tar.

A record is its labels, one byte each (CIFAR-100: the coarse, then the fine label; we use the fine
one), then 3,072 bytes: the red, green and blue planes of 32×32, row by row.
"""

import tarfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from data import archives
from data.archives import Archive
from data.catalog import Dataset
from data.damage import Damaged
from data.images import encode_png
from data.shards import Examples, Shards

CIFAR10 = Archive(
    "cifar-10-binary.tar.gz",
    "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
)
CIFAR100 = Archive(
    "cifar-100-binary.tar.gz",
    "sha256:58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
)
MEMBERS = {
    "cifar10": {
        "train": [f"cifar-10-batches-bin/data_batch_{n}.bin" for n in range(1, 6)],
        "test": ["cifar-10-batches-bin/test_batch.bin"],
    },
    "cifar100": {
        "train": ["cifar-100-binary/train.bin"],
        "test": ["cifar-100-binary/test.bin"],
    },
}
LABEL_BYTES = {"cifar10": 1, "cifar100": 2}
PIXEL_BYTES = 3 * 32 * 32


def splits(dataset: Dataset, paths: Mapping[str, Path]) -> dict[str, Shards]:
    """Returns the examples of both splits in the tar's order, one shard per file."""
    (path,) = paths.values()
    return {
        split: [partial(_examples, dataset, path, name) for name in members]
        for split, members in MEMBERS[dataset.name].items()
    }


def _examples(dataset: Dataset, path: Path, name: str) -> Examples:
    with archives.reading(path), tarfile.open(path) as tar:
        try:
            content = archives.member(tar, tar.getmember(name), path)
        except KeyError as error:
            raise Damaged(path, None, f"has no member {name}") from error
    label_bytes = LABEL_BYTES[dataset.name]
    size = label_bytes + PIXEL_BYTES
    if len(content) % size:
        raise Damaged(path, name, f"{len(content)} bytes are not whole records of {size}")
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    for index, record in enumerate(records):
        label = int(record[label_bytes - 1])
        if label >= dataset.classes:
            what = f"label {label}, valid are 0 to {dataset.classes - 1}"
            raise Damaged(path, f"{name}[{index}]", what)
        planes = record[label_bytes:].reshape(3, 32, 32)
        yield encode_png(np.ascontiguousarray(planes.transpose(1, 2, 0))), label
