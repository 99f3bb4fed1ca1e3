"""Reads what is prepared: our own folders first, then TFDS's, by random access.

Images come out as the bytes that went in and are decoded here, because only then can a damaged
record be named by file and place. TensorFlow is never imported.
"""

import bisect
import os
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

from data import images
from data.catalog import Dataset
from data.damage import Damaged


class Source(Protocol):
    """One split, by random access. Picklable, so that worker processes can open it too."""

    def __len__(self) -> int:
        """Returns the number of images."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns {"image": uint8 [H, W, C], "label": int}; raises Damaged."""

    def encoded(self, index: int) -> tuple[bytes, int]:
        """Returns the image file's bytes and the label; raises Damaged."""

    def place(self, index: int) -> tuple[str, int | str | None]:
        """Returns the file and the record where an image lies, for messages."""


class PreparedSource:
    """A split of a prepared set, in the order of its records."""

    def __init__(self, directory: Path, stored_split: str, dataset: Dataset) -> None:
        self._directory, self._stored_split, self._dataset = directory, stored_split, dataset
        self._open()

    def _open(self) -> None:
        # Imported here: TFDS takes 0.4 s, and the table of sets is read without it.
        import tensorflow_datasets as tfds

        try:
            builder = tfds.builder_from_directory(self._directory)
            info = builder.info.splits[self._stored_split]
            self._records = builder.as_data_source(
                self._stored_split, decoders={"image": tfds.decode.SkipDecoding()}
            )
        except Exception as error:
            raise Damaged(self._directory, None, f"cannot be opened ({error})") from error
        self._files = [Path(file.filename).name for file in info.file_instructions]
        self._ends = list(accumulate(file.take for file in info.file_instructions))

    def __getstate__(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in ("_directory", "_stored_split", "_dataset")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __len__(self) -> int:
        return len(self._records)

    def place(self, index: int) -> tuple[str, int]:
        """Returns the shard and the record within it where an image lies."""
        shard = bisect.bisect_right(self._ends, index)
        start = self._ends[shard - 1] if shard else 0
        return str(self._directory / self._files[shard]), index - start

    def encoded(self, index: int) -> tuple[bytes, int]:
        """Returns the image file's bytes and the label; raises Damaged."""
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        try:
            record = self._records[index]
            encoded, label = record["image"], int(record["label"])
        except Exception as error:
            raise Damaged(*self.place(index), f"cannot be read ({error})") from error
        if not 0 <= label < self._dataset.classes:
            what = f"label {label}, valid are 0 to {self._dataset.classes - 1}"
            raise Damaged(*self.place(index), what)
        return encoded, label

    def __getitem__(self, index: int) -> dict[str, Any]:
        encoded, label = self.encoded(index)
        shape = self._dataset.shape
        try:
            pixels = images.decode(encoded, shape[-1] if shape else 3)
        except ValueError as error:
            raise Damaged(*self.place(index), str(error)) from error
        if shape and pixels.shape != shape:
            raise Damaged(*self.place(index), f"image of shape {pixels.shape}, not {shape}")
        return {"image": pixels, "label": label}


def data_directory(data_dir: str | os.PathLike[str] | None) -> Path:
    """Returns the argument, else TFDS_DATA_DIR, else TFDS's own default."""
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(chosen).expanduser()
