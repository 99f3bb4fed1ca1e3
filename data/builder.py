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
import io
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import tensorflow_datasets as tfds
from absl import logging
from tqdm import tqdm

from data.catalog import Dataset
from data.locking import locked
from data.prepared import VERSION, folder_name
from data.shards import Examples, Shards
from errors import UserError


class SourceOrderBuilder(tfds.core.ShardBasedBuilder):
    """Stores encoded images and labels as they come, and counts them."""

    VERSION = tfds.core.Version(VERSION)

    def __init__(
        self, dataset: Dataset, splits: Mapping[str, Shards], encoding: str, data_dir: Path
    ) -> None:
        self.name = folder_name(dataset)
        self._dataset, self._splits, self._encoding = dataset, splits, encoding
        self._counts: Counter[str] = Counter()
        self._bars: dict[str, tqdm] = {}
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
        expected = self._dataset.splits[split]
        for key, (encoded, label) in enumerate(shard()):
            if split not in self._bars:
                # With the first image, so that slow imports before it do not count. delay: no bar
                # for small sets; disable=None: nor where the output is not a terminal.
                self._bars[split] = tqdm(
                    total=expected, desc=split, unit=" images", leave=False, disable=None, delay=1
                )
            # TFDS stores a file object's bytes as they are; an array would need TensorFlow.
            yield key, {"image": io.BytesIO(encoded), "label": label}
            self._counts[split] += 1
            self._bars[split].update()
        if last:
            if split in self._bars:
                self._bars[split].close()
            # Here, before TFDS renames the folder. A tar cut between two members ends silently.
            if self._counts[split] != expected:
                raise UserError(
                    f"{self._dataset.name}: its files hold {self._counts[split]} {split} images, "
                    f"not {expected}: they are not complete, or not the published ones"
                )


def write(dataset: Dataset, splits: Mapping[str, Shards], encoding: str, data_dir: Path) -> None:
    """Writes the set under `data_dir` whole or not at all; a prepared one is left as it is.

    `splits` maps "train" and "test" to their shards; `encoding` is "png" or "jpeg".
    Raises UserError where the folder cannot be written or the disk is full.
    """
    home = data_dir / folder_name(dataset)
    downloads = home / "incomplete.downloads"  # TFDS insists on one, and leaves it empty.
    try:
        home.mkdir(parents=True, exist_ok=True)
        with locked(home / ".lock"), _quiet():
            for left_by_a_killed_run in home.glob("incomplete.*"):
                shutil.rmtree(left_by_a_killed_run, ignore_errors=True)
            # Does nothing where the set is prepared, by us or by whom we waited for.
            builder = SourceOrderBuilder(dataset, splits, encoding, data_dir)
            builder.download_and_prepare(download_dir=downloads)
            shutil.rmtree(downloads, ignore_errors=True)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and (home / VERSION).is_dir():
            return  # Lost a race against a host that does not share our lock: theirs is as good.
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
    """Silences what TFDS logs, prints and draws; our own bar goes to stderr."""
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
