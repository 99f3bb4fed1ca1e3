"""data.npz of a run: everything needed to use its weights without the data set.

Statistics of the preprocessing are computed once, when the run starts; each checkpoint has the
sha256 of the record. Digests show whether the data set is still the same.
"""

import dataclasses
import hashlib
import io
import json
import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

import data
import sharding
from errors import UserError
from training.workdirs import DATA, write_whole

ABOUT = "about"  # the entry with JSON; the others are arrays of statistics


@dataclasses.dataclass(frozen=True)
class DataRecord:
    """A data set at the start of a run.

    examples: number of images in "train", "validation" (if there is one), "test". digests: of the
    images and labels of each, as in Pipeline.digests. statistics: of the preprocessing, NumPy.
    """

    dataset: data.Dataset
    examples: Mapping[str, int]
    digests: Mapping[str, str]
    statistics: Mapping[str, tuple[np.ndarray, ...]]

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The statistics by "operation/index"."""
        return {
            f"{name}/{place}": array
            for name, arrays in self.statistics.items()
            for place, array in enumerate(arrays)
        }

    @property
    def about(self) -> str:
        """Everything except the statistics, as JSON."""
        fields = {"dataset": dataclasses.asdict(self.dataset)}
        fields |= {"examples": dict(self.examples), "digests": dict(self.digests)}
        return json.dumps(fields)

    @property
    def sha256(self) -> str:
        """A digest of the contents, since the bytes of the file depend on NumPy's version."""
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
        sharding.to_host(pipeline.statistics),
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
            f"{path}: is damaged; it has the preprocessing that the run's weights were trained "
            "with: restore it from a copy"
        ) from None


def adopt(workdir: pathlib.Path, pipeline: Any) -> DataRecord:
    """The record in `workdir`, or a new one if there is none; writes nothing.

    Gives the statistics of an existing record to the pipeline. Raises UserError, with what changed,
    if the data set is not the one that the run started with.
    """
    now = of(pipeline)
    kept = read(workdir)
    if kept is None:
        return now
    if found := changes(kept, now):
        raise UserError(
            f"--workdir: {workdir}: the data set {now.dataset.name} is not the one that the run "
            f"started with: {'; '.join(found)}; restore it, or train in another folder"
        )
    pipeline.use(kept.statistics)
    return kept


def changes(before: DataRecord, now: DataRecord) -> list[str]:
    """What differs in the data set, in words: only the most general, which explains the rest."""
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
