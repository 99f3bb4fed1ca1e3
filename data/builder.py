"""Writes any data set in TFDS's `array_record` form, without TensorFlow.

One TFDS builder serves every set: a family's file says which encoded images with which labels, in
what order; this one stores them. `tfds.core.ShardBasedBuilder` keeps the order it is given (the
usual builders sort by a hash of the key) and streams, so that ImageNet needs its size on disk once.

What we write is named `convnet_<set>`, so that it never meets a folder of TFDS's own builders.
TFDS writes into an `incomplete.*` folder beside the target and renames it; a lock held meanwhile
lets the runs that race queue, and lets the next one sweep up what a killed one left.
"""

import contextlib
import errno
import fcntl
import io
import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import tensorflow_datasets as tfds
from absl import logging

from data.catalog import Dataset
from errors import UserError

VERSION = "1.0.0"

Examples = Iterator[tuple[bytes, int]]
"""(encoded image, label) in source order."""

Shards = Sequence[Callable[[], Examples]]
"""The shards of one split, called one after the other, each when the one before is written."""


class SourceOrderBuilder(tfds.core.ShardBasedBuilder):
    """Stores encoded images and labels as they come."""

    VERSION = tfds.core.Version(VERSION)

    def __init__(
        self, dataset: Dataset, splits: Mapping[str, Shards], encoding: str, data_dir: Path
    ) -> None:
        self.name = folder_name(dataset)
        self._dataset, self._splits, self._encoding = dataset, splits, encoding
        super().__init__(data_dir=data_dir, file_format="array_record")

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
        def keyed(shard: Callable[[], Examples]) -> Iterator[tuple[int, dict]]:
            for key, (encoded, label) in enumerate(shard()):
                # TFDS stores a file object's bytes as they are; an array would need TensorFlow.
                yield key, {"image": io.BytesIO(encoded), "label": label}

        return {
            split: [partial(keyed, shard) for shard in shards]
            for split, shards in self._splits.items()
        }


def folder_name(dataset: Dataset) -> str:
    """Returns the folder, under a data directory, of a set that we prepared."""
    return "convnet_" + re.sub(r"[^a-z0-9]+", "_", dataset.name)


def write(dataset: Dataset, splits: Mapping[str, Shards], encoding: str, data_dir: Path) -> None:
    """Writes the set under `data_dir` whole or not at all; a prepared one is left as it is.

    `splits` maps "train" and "test" to their shards; `encoding` is "png" or "jpeg".
    Raises UserError where the folder cannot be written or the disk is full.
    """
    home = data_dir / folder_name(dataset)
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _locked(home / ".lock"), _quiet():
            for left_by_a_killed_run in home.glob("incomplete.*"):
                shutil.rmtree(left_by_a_killed_run, ignore_errors=True)
            # Does nothing where the set is prepared, by us or by whom we waited for.
            SourceOrderBuilder(dataset, splits, encoding, data_dir).download_and_prepare()
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and (home / VERSION).is_dir():
            return  # Lost a race against a host that does not share our lock: theirs is as good.
        raise UserError(f"{home}: cannot prepare {dataset.name} here: {error.strerror}") from error


def in_shards(examples: Iterable[tuple[bytes, int]], count: int, per_shard: int) -> Shards:
    """Cuts a stream of `count` examples into consecutive shards of `per_shard` at most."""
    stream = iter(examples)
    sizes = [min(per_shard, count - start) for start in range(0, count, per_shard)]
    return [partial(itertools.islice, stream, size) for size in sizes]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    # The lock dies with the process, kill -9 included.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o664)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences TFDS's log and bars: the caller has a bar of its own, or needs none."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    tfds.disable_progress_bar()
    try:
        # TFDS prints two lines whatever its verbosity.
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()
        logging.set_verbosity(before)
