"""`fashion_mnist_scenes`: Fashion-MNIST's items in front of photographs, 32×32 pixels in colour.

Made as Larochelle et al. 2007 made MNIST's digits on image backgrounds. Image i of a split shows
item i of the same split of Fashion-MNIST: scaled, rotated, shifted, tinted, and alpha-blended by
its brightness over a random patch of one of the two photographs that come with scikit-learn. Each
photograph is cut into 15 tiles; ten of them are for training, the other five for testing.

Every draw is a function of (split, i), and only operations that IEEE 754 rounds exactly are used
(no sine, no sum over an axis), so that every machine makes the same bytes. Their checksums are
those of arrays, not of PNG files, whose bytes depend on the version of zlib. The photographs are
JPEG without chroma subsampling; decoders may still differ by one level, so the checksum of their
decoded pixels is verified first. A difference is an error, because results would not be comparable.

The difficulty is fixed: a set with other ranges needs another name. LeNet-5 (seed 0, 20 epochs of
configs/lenet5.py) has an error of 29.7% on the test images.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from data import idx
from data.catalog import Dataset
from data.images import encode_png
from data.shards import Examples, Shards
from errors import UserError

SIDE = 32
PHOTOGRAPHS = {  # sha256 of the decoded pixels
    "china.jpg": "e701459344fd69797154c91add3bb5d70e5ed1a61d8bed889bab3a796104698d",
    "flower.jpg": "3202904ed246795bf616c66d7859cd7c6080eff736c6e38dc5cc62779742033f",
}
IMAGES = {  # sha256 of a split's images, uint8 [N, 32, 32, 3], and then its labels, uint8 [N]
    "train": "bbb7c90b87110868a153c04404cdd314bcc45319d2caaa0ac7e4f7c658cddba8",
    "test": "b906445461922c1f1617f3e1b98c197df8c76d494d3bb9e6268af687f6457817",
}
ROWS, COLUMNS = 3, 5  # tiles of a photograph; those with (row + column) % 3 == 2 are for testing
SEEDS = {"train": 0, "test": 1}
CHUNK = 1000  # images made at a time; does not change the result


@dataclasses.dataclass(frozen=True)
class Ranges:
    """The ranges of the uniform draws, which set the difficulty.

    patch: side in pixels of the photograph. gain: factor of each channel of the patch. scale: scene
    pixels per item pixel. half_turn: tangent of half the angle, counter-clockwise. shift: of the
    item's centre, in pixels. tint: of each channel; 1 is white. opacity: at the item's brightest
    pixels.
    """

    patch: tuple[float, float] = (32, 64)
    gain: tuple[float, float] = (0.6, 1.0)
    scale: tuple[float, float] = (0.7, 1.1)
    half_turn: tuple[float, float] = (-0.2, 0.2)
    shift: tuple[float, float] = (-4, 4)
    tint: tuple[float, float] = (0.0, 1.0)
    opacity: tuple[float, float] = (0.7, 1.0)


RANGES = Ranges()


def splits(dataset: Dataset, paths: Mapping[str, Path]) -> dict[str, Shards]:
    """Returns the examples of both splits, one shard each; `paths` are Fashion-MNIST's archives."""
    return {split: [partial(_examples, dataset, split, paths)] for split in dataset.splits}


def _examples(dataset: Dataset, split: str, paths: Mapping[str, Path]) -> Examples:
    items, labels = idx.read_part(idx.PARTS[split], paths, dataset.classes)
    digest, labels_left = hashlib.sha256(), iter(labels)
    for chunk in scenes(split, items, photographs()):
        digest.update(chunk.tobytes())
        for image, label in zip(chunk, labels_left, strict=False):
            yield encode_png(image), int(label)
    digest.update(labels.tobytes())
    # Raised before the records get their final name, so that a differing set is not kept.
    if digest.hexdigest() != IMAGES[split]:
        raise UserError(
            f"{dataset.name}: the {split} images made here are not the expected ones "
            f"(sha256 {digest.hexdigest()}, expected {IMAGES[split]})"
        )


def photographs() -> np.ndarray:
    """The two photographs, uint8 [2, 427, 640, 3]; UserError if their pixels differ."""
    # Imported here: scikit-learn is slow to import and needed only to prepare the set.
    from sklearn.datasets import load_sample_image

    found = []
    for name, pinned in PHOTOGRAPHS.items():
        pixels = load_sample_image(name)
        if hashlib.sha256(pixels.tobytes()).hexdigest() != pinned:
            raise UserError(
                f"scikit-learn's {name}: its decoded pixels are not the expected ones; install "
                "Pillow from PyPI (libjpeg-turbo) and scikit-learn 1.5 or newer"
            )
        found.append(pixels)
    return np.stack(found)


def scenes(split: str, items: np.ndarray, photos: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the scenes of a split, uint8 [n, 32, 32, 3], in chunks in the items' order.

    items: uint8 [N, 28, 28]; photos: uint8 [K, H, W, 3].
    """
    # RandomState's streams are frozen by NumPy's policy; Generator's may change between versions.
    state = np.random.RandomState(SEEDS[split])
    tiles = _tiles(split, photos)
    for start in range(0, len(items), CHUNK):
        chunk = items[start : start + CHUNK]
        draws = state.random_sample((len(chunk), 18))
        behind = _backgrounds(draws[:, :8], tiles)
        brightness = _placed(draws[:, 8:12], chunk) / 255
        tint = _between(RANGES.tint, draws[:, 12:15])[:, None, None]
        alpha = _between(RANGES.opacity, draws[:, 15])[:, None, None, None] * brightness
        blended = behind * (1 - alpha) + 255 * tint * alpha
        yield np.rint(blended).astype(np.uint8)


def _tiles(split: str, photos: np.ndarray) -> np.ndarray:
    """The tiles of a split, uint8 [T, h, w, 3]."""
    height, width = photos.shape[1] // ROWS, photos.shape[2] // COLUMNS
    return np.stack(
        [
            photo[row * height : (row + 1) * height, column * width : (column + 1) * width]
            for photo in photos
            for row in range(ROWS)
            for column in range(COLUMNS)
            if ((row + column) % 3 == 2) == (split == "test")
        ]
    )


def _backgrounds(draws: np.ndarray, tiles: np.ndarray) -> np.ndarray:
    """One patch per row of draws, [n, 32, 32, 3] in 0..255, mirrored with probability 0.5."""
    which = (draws[:, 0] * len(tiles)).astype(np.int64)
    side = _between(RANGES.patch, draws[:, 1])[:, None]
    pixel = (np.arange(SIDE) + 0.5) / SIDE * side - 0.5
    down = draws[:, 2, None] * (tiles.shape[1] - side) + pixel
    right = draws[:, 3, None] * (tiles.shape[2] - side) + pixel
    right = np.where(draws[:, 4, None] < 0.5, right, right[:, ::-1])
    gains = _between(RANGES.gain, draws[:, 5:8])[:, None, None]
    down, right = np.broadcast_arrays(down[:, :, None], right[:, None, :])
    return _bilinear(tiles, which, down, right) * gains


def _placed(draws: np.ndarray, items: np.ndarray) -> np.ndarray:
    """The items scaled, rotated and shifted, [n, 32, 32, 1] in 0..255, on a background of 0."""
    scale = _between(RANGES.scale, draws[:, 0])[:, None, None]
    half = _between(RANGES.half_turn, draws[:, 1])[:, None, None]
    cosine, sine = (1 - half * half) / (1 + half * half), 2 * half / (1 + half * half)
    shift = _between(RANGES.shift, draws[:, 2:4])
    pixel = np.arange(SIDE) - (SIDE - 1) / 2
    down = (pixel[None, :, None] - shift[:, 0, None, None]) / scale
    right = (pixel[None, None, :] - shift[:, 1, None, None]) / scale
    framed = np.pad(items, ((0, 0), (1, 1), (1, 1)))[..., None]  # outside is 0
    centre = (framed.shape[1] - 1) / 2
    return _bilinear(
        framed,
        np.arange(len(items)),
        centre + cosine * down + sine * right,
        centre + cosine * right - sine * down,
    )


def _bilinear(
    images: np.ndarray, which: np.ndarray, down: np.ndarray, right: np.ndarray
) -> np.ndarray:
    """images[which] at positions [n, 32, 32], interpolated; edges are repeated outside."""
    down = np.clip(down, 0, images.shape[1] - 1)
    right = np.clip(right, 0, images.shape[2] - 1)
    top = np.minimum(down.astype(np.int64), images.shape[1] - 2)
    left = np.minimum(right.astype(np.int64), images.shape[2] - 2)
    y, x = (down - top)[..., None], (right - left)[..., None]
    of = which[:, None, None]
    upper = images[of, top, left] * (1 - x) + images[of, top, left + 1] * x
    lower = images[of, top + 1, left] * (1 - x) + images[of, top + 1, left + 1] * x
    return upper * (1 - y) + lower * y


def _between(limits: tuple[float, float], draws: np.ndarray) -> np.ndarray:
    low, high = limits
    return low + (high - low) * draws
