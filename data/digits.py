"""The handwritten digits inside scikit-learn's wheel: real data with no download.

1,797 grey images of 8×8 pixels with 17 levels (Alpaydin and Kaynak, UCI "Optical Recognition of
Handwritten Digits", the test part). They have no published split; `digits_test_indices.txt` defines
ours: the first 360 entries of `numpy.random.RandomState(0).permutation(1797)`, not stratified. The
file keeps the split fixed even if NumPy changes its generator.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from data.catalog import Dataset
from data.images import encode_png
from data.shards import Examples, Shards

TEST_INDICES = Path(__file__).with_name("digits_test_indices.txt")


def splits(dataset: Dataset, paths: Mapping[str, Path]) -> dict[str, Shards]:
    """Returns the examples of both splits, one shard each; there are no archives (`paths`)."""
    return {split: [partial(examples, split)] for split in dataset.splits}


def examples(split: str) -> Examples:
    """Yields (PNG bytes, label) of "train" (1,437) or "test" (360) in scikit-learn's order.

    Levels 0 .. 16 become 0 .. 255 by round(level * 255 / 16), which is invertible.
    """
    # Imported here: scikit-learn is slow to import and needed once, when the set is prepared.
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(bunch.images * 255 / 16).astype(np.uint8)[..., None]
    in_test = np.zeros(len(pixels), bool)
    in_test[np.loadtxt(TEST_INDICES, dtype=np.int64)] = True
    for index in np.flatnonzero(in_test == (split == "test")):
        yield encode_png(pixels[index]), int(bunch.target[index])
