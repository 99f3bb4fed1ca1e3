"""What a run keeps of its data set, in data.npz: all that its weights need to be used without data.

Statistics of the preprocessing are taken once, when the run starts, and stay those of its weights:
each checkpoint holds the sha256 of the record. Digests tell whether the data set is still the same.
"""

import dataclasses
import hashlib
import io
import json
import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

import data
from errors import UserError
from training.workdirs import DATA, write_whole

ABOUT = "about"  # the entry that holds JSON; the others are arrays of statistics


@dataclasses.dataclass(frozen=True)
class DataRecord:
    """A data set as a run found it.

    examples: images in "train", "validation" (where there is one), "test". digests: of the images
    and labels of each, as Pipeline.digests. statistics: of the preprocessing, NumPy arrays.
    """

    dataset: data.Dataset
    examples: Mapping[str, int]
    digests: Mapping[str, str]
    statistics: Mapping[str, tuple[np.ndarray, ...]]

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The statistics by "operation/place"."""
        return {
            f"{name}/{place}": array
            for name, arrays in self.statistics.items()
            for place, array in enumerate(arrays)
        }

    @property
    def about(self) -> str:
        """All but the statistics, as JSON."""
        fields = {"dataset": dataclasses.asdict(self.dataset)}
        fields |= {"examples": dict(self.examples), "digests": dict(self.digests)}
        return json.dumps(fields)

    @property
    def sha256(self) -> str:
        """Of everything in the record; other versions of NumPy may write it in other bytes."""
        digest = hashlib.sha256(self.about.encode())
        for name, array in sorted(self.arrays.items()):
            digest.update(f"\n{name} {array.dtype} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def of(pipeline: Any) -> DataRecord:
    """The record of an input_pipeline.Pipeline."""
    return DataRecord(
        pipeline.dataset,
        pipeline.examples,
        pipeline.digests(),
        jax.device_get(pipeline.statistics),
    )


def keep(workdir: pathlib.Path, record: DataRecord) -> None:
    """Writes the record of a run, once. Raises UserError if it cannot be written."""
    if (workdir / DATA).exists():
        return
    content = io.BytesIO()
    np.savez(content, **{ABOUT: np.array(record.about)}, **record.arrays)  # type: ignore[arg-type]
    write_whole(workdir / DATA, content.getvalue())


def read(workdir: pathlib.Path) -> DataRecord | None:
    """The record of a run; None if there is none. Raises UserError if it is damaged."""
    path = workdir / DATA
    if not path.exists():
        return None
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            arrays = dict(stored)
        about = json.loads(str(arrays.pop(ABOUT)))
        fields = about["dataset"]
        for name in ("shape", "class_names"):  # JSON has no tuples
            fields[name] = None if fields[name] is None else tuple(fields[name])
        statistics: dict[str, tuple[np.ndarray, ...]] = {}
        for key in sorted(arrays, key=lambda key: (key.split("/")[0], int(key.split("/")[1]))):
            name = key.split("/")[0]
            statistics[name] = (*statistics.get(name, ()), arrays[key])
        return DataRecord(data.Dataset(**fields), about["examples"], about["digests"], statistics)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, KeyError, TypeError, IndexError, EOFError, zipfile.BadZipFile):
        raise UserError(
            f"{path}: is damaged; it holds the preprocessing that the run's weights were trained "
            "with, put it back from a copy"
        ) from None


def adopt(workdir: pathlib.Path, pipeline: Any) -> DataRecord:
    """The record that a run in `workdir` goes by: the one there, or a new one; writes nothing.

    The pipeline gets the statistics of the one there. Raises UserError that says what changed where
    the data set is not the one that the run began with.
    """
    now = of(pipeline)
    kept = read(workdir)
    if kept is None:
        return now
    if found := changes(kept, now):
        raise UserError(
            f"--workdir: {workdir}: the data set {now.dataset.name} is not the one that the run "
            f"began with: {'; '.join(found)}; put it back, or train in another folder"
        )
    pipeline.use(kept.statistics)
    return kept


def changes(before: DataRecord, now: DataRecord) -> list[str]:
    """What differs in the data set, in words: the coarsest only, the others follow from it."""
    found = class_changes(before.dataset, now.dataset)
    if not found and before.dataset.shape != now.dataset.shape:
        found = [f"images of {before.dataset.shape} then, {now.dataset.shape} now"]
    if not found:
        found = [
            f"{before.dataset.splits[split]:,} {split} images then, {count:,} now"
            for split, count in now.dataset.splits.items()
            if before.dataset.splits[split] != count
        ]
    if not found:
        differing = [part for part, digest in now.digests.items() if before.digests[part] != digest]
        if differing:
            found = [f"other images or labels in {' and '.join(differing)}"]
    return found


def class_changes(before: data.Dataset, now: data.Dataset) -> list[str]:
    """What differs in the classes of a data set, in words."""
    if before.classes != now.classes and None in (before.class_names, now.class_names):
        return [f"{before.classes} classes then, {now.classes} now"]
    if None in (before.class_names, now.class_names) or before.class_names == now.class_names:
        return []
    then, here = before.class_names or (), now.class_names or ()
    gone, new = (
        [name for name in then if name not in here],
        [name for name in here if name not in then],
    )
    words = [f"class {name} is gone" for name in gone] + [f"class {name} is new" for name in new]
    more = len(words) - 4
    return (words[:4] + ([f"{more} more such"] if more > 0 else [])) or [
        "its classes are in another order"
    ]
