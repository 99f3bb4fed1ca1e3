"""MNIST and Fashion-MNIST: the IDX format of LeCun's page, gzipped.

A file is two zero bytes, the element type (8: unsigned byte), the number of dimensions, each
dimension as a big-endian 32-bit number, then the body.
"""

import gzip
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

PARTS = {"train": "train", "test": "t10k"}


def _archives(base: str, sums: tuple[str, ...], mtimes: tuple[int | None, ...]) -> list[Archive]:
    files = (
        f"{part}-{kind}-ubyte.gz"
        for part in PARTS.values()
        for kind in ("images-idx3", "labels-idx1")
    )
    return [
        Archive(file, f"sha256:{digest}", f"{base}/{file}", mtime)
        for file, digest, mtime in zip(files, sums, mtimes, strict=True)
    ]


MNIST = _archives(
    "https://storage.googleapis.com/cvdf-datasets/mnist",
    (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
    (None, None, None, None),
)
FASHION_MNIST = _archives(
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    (
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
    (1504176606, 1504176606, 1504176627, 1504176627),
)


def splits(dataset: Dataset, paths: Mapping[str, Path]) -> dict[str, Shards]:
    """Returns the examples of both splits, one shard each, in the files' order."""
    return {split: [partial(_examples, dataset, part, paths)] for split, part in PARTS.items()}


def _examples(dataset: Dataset, part: str, paths: Mapping[str, Path]) -> Examples:
    images, labels = read_part(part, paths, dataset.classes)
    for image, label in zip(images, labels, strict=True):
        yield encode_png(image[..., None]), int(label)


def read_part(part: str, paths: Mapping[str, Path], classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the images, uint8 [N, 28, 28], and labels, uint8 [N], of "train" or "t10k".

    Raises Damaged for other shapes and for labels outside 0 .. classes - 1.
    """
    image_path = paths[f"{part}-images-idx3-ubyte.gz"]
    label_path = paths[f"{part}-labels-idx1-ubyte.gz"]
    images, labels = read(image_path), read(label_path)
    if images.shape[1:] != (28, 28):
        raise Damaged(image_path, None, f"holds an array of {images.shape}, not 28×28 images")
    if labels.shape != images.shape[:1]:
        what = f"an array of {labels.shape} for {len(images)} images in {image_path.name}"
        raise Damaged(label_path, None, what)
    for index in np.flatnonzero(labels >= classes)[:1]:
        what = f"label {labels[index]}, valid are 0 to {classes - 1}"
        raise Damaged(label_path, int(index), what)
    return images, labels


def read(path: Path) -> np.ndarray:
    """Returns the uint8 array of a gzipped IDX file; raises Damaged if it is invalid."""
    with archives.reading(path), gzip.open(path) as file:
        content = file.read()
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise Damaged(path, None, f"starts with {content[:4].hex()}: not IDX of unsigned bytes")
    start = 4 + 4 * content[3]
    shape = tuple(np.frombuffer(content[4:start].ljust(start - 4, b"\0"), ">u4").tolist())
    body = len(content) - start
    if body != np.prod(shape, dtype=np.int64):
        what = f"the header says {'×'.join(map(str, shape))} bytes, the body has {max(body, 0)}"
        raise Damaged(path, None, what)
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
