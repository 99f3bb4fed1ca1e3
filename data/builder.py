"""Writes any data set in TFDS's `array_record` format, without TensorFlow.

One TFDS builder stores all sets; the modules of the sets yield encoded images and labels in order.
`tfds.core.ShardBasedBuilder` keeps that order (the usual builders sort by a hash of the key) and
streams, so that ImageNet needs its size on disk only once.

Folders are named `convnet_<set>`, so that they do not collide with those of TFDS's builders. TFDS
writes to an `incomplete.*` folder beside the target and renames it. A lock serialises concurrent
calls; the next call reuses the shards that a killed one finished and deletes its other files.
"""

import contextlib
import errno
import io
import itertools
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from absl import logging
from array_record.python.array_record_module import ArrayRecordReader

from data.catalog import Dataset
from data.locking import locked
from data.prepared import VERSION, folder_name
from data.shards import Examples, Shards
from display import Progress
from errors import UserError

KEPT = "finished_shards"
WRITING = ".writing"  # suffix of a shard's name until it is complete


class KeepingWriter(tfds.core.ExampleWriter):
    """Writes shards, and reuses those that an earlier call has finished.

    A shard gets its final name when it is complete. If a later shard fails, it is moved to `kept`,
    because TFDS removes its folder. taken: the number of images in the shard of the last call if it
    was reused, None if it was written.
    """

    def __init__(self, kept: Path) -> None:
        super().__init__(tfds.core.FileFormat.ARRAY_RECORD)
        self._kept = kept
        self.taken: int | None = None

    def write(self, path: os.PathLike[str], examples: Any) -> None:
        """Writes serialised examples; consumes none if the shard is reused."""
        path = Path(path)
        self.taken = None
        if (self._kept / path.name).exists():
            (self._kept / path.name).rename(path)
            self.taken = ArrayRecordReader(str(path)).num_records()
            return
        unfinished = path.with_name(path.name + WRITING)
        try:
            super().write(unfinished, examples)
        except BaseException:  # Ctrl-C too
            unfinished.unlink(missing_ok=True)
            keep_shards(path.parent, self._kept)
            raise
        unfinished.rename(path)


def keep_shards(folder: Path, kept: Path) -> None:
    """Moves the finished shards out of TFDS's temporary folder."""
    kept.mkdir(exist_ok=True)
    for shard in folder.glob("*.array_record-*"):
        if not shard.name.endswith(WRITING):
            shard.rename(kept / shard.name)


class SourceOrderBuilder(tfds.core.ShardBasedBuilder):
    """Stores encoded images and labels in the given order and checks their number."""

    VERSION = tfds.core.Version(VERSION)

    def __init__(
        self, dataset: Dataset, splits: Mapping[str, Shards], encoding: str, data_dir: Path
    ) -> None:
        self.name = folder_name(dataset)
        self._dataset, self._splits, self._encoding = dataset, splits, encoding
        self._counts: Counter[str] = Counter()
        self._bars: dict[str, Progress] = {}
        self._writer = KeepingWriter(data_dir / self.name / KEPT)
        super().__init__(data_dir=data_dir, file_format="array_record")

    def _example_writer(self) -> KeepingWriter:
        return self._writer

    def _info(self) -> tfds.core.DatasetInfo:
        names = self._dataset.class_names
        label = (
            tfds.features.ClassLabel(names=list(names))
            if names
            else tfds.features.ClassLabel(num_classes=self._dataset.classes)
        )
        image = tfds.features.Image(
            shape=self._dataset.shape or (None, None, 3), encoding_format=self._encoding
        )
        features = tfds.features.FeaturesDict({"image": image, "label": label})
        return tfds.core.DatasetInfo(
            builder=self, features=features, supervised_keys=("image", "label")
        )

    def _shard_iterators_per_split(
        self, dl_manager: tfds.download.DownloadManager
    ) -> Mapping[str, Sequence[Callable[[], Iterator[tuple[int, dict]]]]]:
        return {
            split: [
                partial(self._keyed, split, shard, last=number == len(shards))
                for number, shard in enumerate(shards, 1)
            ]
            for split, shards in self._splits.items()
        }

    def _keyed(
        self, split: str, shard: Callable[[], Examples], last: bool
    ) -> Iterator[tuple[int, dict]]:
        if split not in self._bars:
            self._bars[split] = Progress(
                total=self._dataset.splits[split],
                label=split,
                unit="images",
                brief=True,
                lines=sys.stderr,
            )
        # TFDS counts what this yields, so a reused shard yields placeholders.
        taken = self._writer.taken
        examples = shard() if taken is None else itertools.repeat((b"", 0), taken)
        for key, (encoded, label) in enumerate(examples):
            # TFDS stores a file object's bytes unchanged; to encode an array it needs TensorFlow.
            yield key, {"image": io.BytesIO(encoded), "label": label}
            self._counts[split] += 1
            self._bars[split].advance()
        if last:
            self._bars[split].close()
            expected = self._dataset.splits[split]
            # Checked before TFDS renames the folder: a tar cut between two members raises nothing.
            if self._counts[split] != expected:
                raise UserError(
                    f"{self._dataset.name}: its files hold {self._counts[split]} {split} images, "
                    f"not {expected}; they are incomplete or not the published ones"
                )


def write(dataset: Dataset, splits: Mapping[str, Shards], encoding: str, data_dir: Path) -> None:
    """Writes the complete set under `data_dir`; does nothing if it is prepared already.

    Shards that an interrupted call has finished are reused.
    `splits` maps "train" and "test" to their shards; `encoding` is "png" or "jpeg".
    Raises UserError if the folder cannot be written or the disk is full.
    """
    home = data_dir / folder_name(dataset)
    downloads = home / "incomplete.downloads"  # TFDS requires one and leaves it empty.
    try:
        home.mkdir(parents=True, exist_ok=True)
        with locked(home / ".lock"), _quiet():
            for left_by_a_killed_run in home.glob("incomplete.*"):
                keep_shards(left_by_a_killed_run, home / KEPT)
                shutil.rmtree(left_by_a_killed_run, ignore_errors=True)
            # Does nothing if the set is prepared, for example by the process we waited for.
            builder = SourceOrderBuilder(dataset, splits, encoding, data_dir)
            builder.download_and_prepare(download_dir=downloads)
            shutil.rmtree(downloads, ignore_errors=True)
            shutil.rmtree(home / KEPT, ignore_errors=True)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and (home / VERSION).is_dir():
            return  # A host that does not share our lock has prepared the set meanwhile.
        reason = error.strerror or error
        raise UserError(f"{home}: cannot prepare {dataset.name} here: {reason}") from error
    except RuntimeError as error:
        # array_record's C++ writer: "write() failed: No space left on device; writing ...".
        failed = re.match(r"\w+\(\) failed: ([^;]*)", str(error))
        if failed is None:
            raise
        raise UserError(f"{home}: cannot prepare {dataset.name} here: {failed[1]}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences TFDS's logs, prints and progress bars; our progress bar goes to stderr."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    tfds.disable_progress_bar()
    try:
        # TFDS prints two lines at any verbosity.
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()
        logging.set_verbosity(before)
