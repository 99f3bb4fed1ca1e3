"""Named data sets, prepared once and then read by random access.

`DATASETS` and `dataset(name)` read no images and are cheap; `open_split` and `load_arrays` read
them. `digits` and `synthetic` are prepared on first use, the others by `python -m data.prepare
NAME`. This package only reads files; `input_pipeline.py` makes batches.
May import display, errors, startup.
"""

import os

import numpy as np

from data import classes, folder, synthetic
from data.catalog import DATASETS, Dataset
from data.classes import ClassesSource
from data.damage import Damaged
from data.prepared import PreparedSource, Source, data_directory
from errors import UserError

__all__ = ["DATASETS", "Damaged", "Dataset", "Source", "dataset", "load_arrays", "open_split"]

PARAMETRISED = (
    "NAME:CLASSES (fashion_mnist:0-7)",
    "folder:PATH",
    "synthetic:HxWxC:CLASSES[:TRAIN[:TEST]]",
)
SELF_PREPARING = ("digits", "synthetic")


def dataset(name: str) -> Dataset:
    """Returns the data set of that name, including parametrised names. Scans a folder.

    Raises UserError with the valid names for an unknown name.
    """
    if name in DATASETS:
        return DATASETS[name]
    kind, colon, parameters = name.partition(":")
    if kind == "synthetic" and colon:
        described = synthetic.describe(name, parameters)
    elif kind == "folder" and colon:
        described = folder.describe(name, parameters)
    elif kind in DATASETS:
        described = classes.describe(name, DATASETS[kind], parameters)
    else:
        valid = ", ".join((*DATASETS, *PARAMETRISED))
        raise UserError(f"there is no data set {name!r}; valid names: {valid}")
    if described.classes < 2:
        raise UserError(f"data set {name}: has one class only; expected two or more")
    return described


def open_split(name: str, split: str, data_dir: str | os.PathLike[str] | None = None) -> Source:
    """Opens one split ("train" or "test") of a data set for random access.

    `data_dir` is the folder of prepared sets, by default TFDS_DATA_DIR, else TFDS's default.
    Raises UserError for an unknown name or split, and, with the command to run, for a set that is
    not prepared.
    """
    entry = dataset(name)
    if split not in entry.splits:
        raise UserError(f"data set {name} has no split {split!r}; valid: {', '.join(entry.splits)}")
    kind, _, parameters = name.partition(":")
    if kind == "folder":
        return folder.FolderSource(parameters, split)
    chosen = kind in DATASETS and kind != "synthetic" and parameters
    whole = DATASETS[kind] if chosen else entry
    if kind in SELF_PREPARING:
        # Imported here: it imports TFDS and every family of sets.
        from data import prepare

        prepare.prepare(whole.name, data_dir)
    source = PreparedSource(whole, split, data_directory(data_dir))
    return ClassesSource(source, classes.read(name, whole, parameters)) if chosen else source


def load_arrays(
    name: str, split: str, data_dir: str | os.PathLike[str] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns a whole split: images uint8 [N, H, W, C] and labels int32 [N], in source order.

    Raises UserError as `open_split` does, and if images vary in size.
    """
    entry = dataset(name)
    if entry.shape is None:
        raise UserError(
            f"data set {name}: its images vary in size and cannot be loaded as one array; "
            'use config.data.engine="streaming"'
        )
    source = open_split(name, split, data_dir)
    assert isinstance(source, PreparedSource | ClassesSource)  # A folder's images have no shape.
    return source.arrays()
