"""Random access to prepared sets: our folders first, then TFDS's.

Records are read as encoded bytes and decoded here, so that an error can name the file and record of
a damaged image. TensorFlow is not imported.
"""

import bisect
import hashlib
import json
import os
import re
import shlex
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from data import images
from data.catalog import Dataset
from data.damage import Damaged, size_of
from errors import UserError

# Version of the sets that we write. Increase it with any change: other versions are not read.
VERSION = "1.0.0"

# Records read at a time into an array: more would only use more memory for encoded images.
BATCH = 4096

# The folders of the same images prepared by TFDS's builders, and their name of our "test".
TFDS_FOLDERS = {
    "mnist": ("mnist", "test"),
    "fashion_mnist": ("fashion_mnist", "test"),
    "cifar10": ("cifar10", "test"),
    "cifar100": ("cifar100", "test"),
    "imagenette": ("imagenette/full-size-v2", "validation"),
    "imagenet2012": ("imagenet2012", "validation"),
}


class Source(Protocol):
    """Random access to one split. Picklable, so that worker processes can open it too."""

    def __len__(self) -> int:
        """Returns the number of images."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns {"image": uint8 [H, W, C], "label": int}; raises Damaged."""

    def encoded(self, index: int) -> tuple[bytes, int]:
        """Returns the image file's bytes and the label; raises Damaged."""

    def place(self, index: int) -> tuple[str, int | None]:
        """Returns the file and record number of an image, for messages."""

    def digest(self) -> str:
        """Returns a sha256 of the files' names below the set's folder, sizes and labels, in order.

        Opens no image: an edit that does not change a file's size is not detected.
        """


class PreparedSource:
    """A split of a prepared set, in the order of its records.

    In sets that we wrote, records have the archives' order; a set of ours that is sorted by class
    is read through one fixed permutation.
    """

    def __init__(self, dataset: Dataset, split: str, data_dir: Path) -> None:
        self._dataset, self._split, self._data_dir = dataset, split, data_dir
        self._open()

    def _open(self) -> None:
        # Imported here: it takes 0.4 s and is not needed to look up a set.
        import tensorflow_datasets as tfds

        dataset = self._dataset
        self._directory, stored_split = locate(dataset, self._split, self._data_dir)
        try:
            builder = tfds.builder_from_directory(self._directory)
            pieces = builder.info.splits[stored_split].file_instructions
            self._records = builder.as_data_source(
                stored_split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
            )
        except Exception as error:
            raise Damaged(self._directory, None, f"cannot be opened ({error})") from error
        self._files = [str(self._directory / Path(piece.filename).name) for piece in pieces]
        self._ends = list(accumulate(piece.take for piece in pieces))
        count, expected = len(self._records), dataset.splits[self._split]
        if count != expected:
            raise Damaged(self._directory, None, f"{count} {self._split} images, not {expected}")
        self._order: np.ndarray | range = range(count)
        if dataset.sorted_by_class and self._directory.parent.name == folder_name(dataset):
            # RandomState's streams are frozen by NumPy's policy.
            self._order = np.random.RandomState(0).permutation(count)

    def __getstate__(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in ("_dataset", "_split", "_data_dir")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __len__(self) -> int:
        return len(self._order)

    def place(self, index: int) -> tuple[str, int]:
        """Returns the shard and record number of an image."""
        record = int(self._order[index])
        shard = bisect.bisect_right(self._ends, record)
        return self._files[shard], record - (self._ends[shard - 1] if shard else 0)

    def digest(self) -> str:
        """Returns a sha256 of the shards' names and sizes; the labels are inside the shards."""
        listed = [(Path(file).name, size_of(file)) for file in self._files]
        return hashlib.sha256(json.dumps(listed).encode()).hexdigest()

    def encoded(self, index: int) -> tuple[bytes, int]:
        """Returns the image file's bytes and the label; raises Damaged."""
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        try:
            record = self._records[int(self._order[index])]
        except Exception as error:  # The reader's C++ library raises no narrower class.
            raise Damaged(*self.place(index), f"cannot be read ({error})") from error
        return self._parse(record, index)

    def __getitem__(self, index: int) -> dict[str, Any]:
        encoded, label = self.encoded(index)
        return {"image": self._decode(encoded, index), "label": label}

    def arrays(self, places: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Returns images, uint8 [N, H, W, C], and labels, int32 [N]; raises Damaged.

        places: the indices of the images to decode, ascending; None for all. Images must have one
        shape. Reading in batches takes half the time.
        """
        assert self._dataset.shape is not None
        chosen = np.arange(len(self)) if places is None else places
        pixels = np.empty((len(chosen), *self._dataset.shape), np.uint8)
        labels = np.empty(len(chosen), np.int32)
        wanted = dict(zip(chosen.tolist(), range(len(chosen)), strict=True))
        for index, (encoded, label) in enumerate(self._all()):
            if index in wanted:
                pixels[wanted[index]] = self._decode(encoded, index)
                labels[wanted[index]] = label
        return pixels, labels

    def labels(self) -> np.ndarray:
        """Returns all labels, int32 [N], and decodes no image; raises Damaged."""
        return np.fromiter((label for _, label in self._all()), np.int32, len(self))

    def _all(self) -> Iterator[tuple[bytes, int]]:
        for start in range(0, len(self), BATCH):
            batch = range(start, min(start + BATCH, len(self)))
            try:
                records = self._records.__getitems__([int(self._order[index]) for index in batch])
                examples = [self._parse(*pair) for pair in zip(records, batch, strict=True)]
            except Exception:
                # A batch does not tell which record failed (and may have an empty record instead
                # of an error), so read them one at a time.
                examples = [self.encoded(index) for index in batch]
            yield from examples

    def _parse(self, record: bytes, index: int) -> tuple[bytes, int]:
        # TFDS's parser handles any set of features and takes twenty times as long.
        from tensorflow_datasets.proto import tf_example_pb2

        if not record:  # The reader returns this for an empty file, without an error.
            raise Damaged(*self.place(index), "cannot be read (the record is empty)")
        try:
            feature = tf_example_pb2.Example.FromString(record).features.feature
            (encoded,) = feature["image"].bytes_list.value
            (label,) = feature["label"].int64_list.value
        except Exception as error:
            raise Damaged(*self.place(index), f"not an image with a label ({error})") from error
        if not 0 <= label < self._dataset.classes:
            what = f"label {label}, valid are 0 to {self._dataset.classes - 1}"
            raise Damaged(*self.place(index), what)
        return encoded, label

    def _decode(self, encoded: bytes, index: int) -> np.ndarray:
        shape = self._dataset.shape
        try:
            pixels = images.decode(encoded, shape[-1] if shape else 3)
        except ValueError as error:
            raise Damaged(*self.place(index), str(error)) from error
        if shape and pixels.shape != shape:
            raise Damaged(*self.place(index), f"an image of {pixels.shape}, not {shape}")
        return pixels


def data_directory(data_dir: str | os.PathLike[str] | None) -> Path:
    """Returns the argument, else TFDS_DATA_DIR, else TFDS's default."""
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(chosen).expanduser()


def folder_name(dataset: Dataset) -> str:
    """Returns the name, in a data directory, of the folder of a set that we prepared."""
    return "convnet_" + re.sub(r"[^a-z0-9]+", "_", dataset.name)


def locate(dataset: Dataset, split: str, data_dir: Path) -> tuple[Path, str]:
    """Returns the folder of a prepared set and the split's name in it.

    Raises UserError with the command to run if the set is not prepared.
    """
    ours = data_dir / folder_name(dataset) / VERSION
    if ours.is_dir():
        return ours, split
    folder, test = TFDS_FOLDERS.get(dataset.name, (dataset.name, "test"))
    formats = {}
    for version in sorted((data_dir / folder).glob("*.*.*"), key=_version, reverse=True):
        try:
            formats[version] = json.loads((version / "dataset_info.json").read_text())["fileFormat"]
        except (OSError, ValueError, KeyError):
            continue  # Not a complete TFDS folder.
        if formats[version] == "array_record":
            return version, test if split == "test" else split
    archives = " --archives=DIR" if dataset.name == "imagenet2012" else ""
    command = f"python -m data.prepare {dataset.name}{archives}"
    elsewise = "; ".join(f"{path} is {form}, not array_record" for path, form in formats.items())
    raise UserError(
        f"data set {dataset.name} is not prepared in {data_dir}{elsewise and f' ({elsewise})'}; "
        f"run: {command} --data_dir={shlex.quote(str(data_dir))}"
    )


def _version(path: Path) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else -1 for part in path.name.split("."))
