"""A user's own images: one folder per class, JPEG or PNG, read in place.

Either PATH/train/CLASS/* and PATH/test/CLASS/* (or val, or validation), or only PATH/CLASS/*. In
the second case a hash of its name puts one image in five into the test split: the split is the same
on every machine, and adding images does not move others. Splits are ordered by that hash too, so
that the end of the training images has all classes.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data import images
from data.catalog import Dataset
from data.damage import Damaged, size_of
from errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png")
TEST_FOLDERS = ("test", "val", "validation")
ONE_IN = 5


def describe(name: str, path: str) -> Dataset:
    """Returns the data set of a folder; raises UserError that names the invalid folder."""
    classes, splits = _scan(path)
    counts = {split: len(files) for split, files in splits.items()}
    for split, count in counts.items():
        if count == 0:
            raise UserError(f"{path}: too few images: none is in the {split} split")
    return Dataset(name, None, len(classes), tuple(classes), counts, "streaming")


class FolderSource:
    """One split of a folder, by random access."""

    def __init__(self, path: str, split: str) -> None:
        classes, splits = _scan(path)
        labels = {name: label for label, name in enumerate(classes)}
        self._files = [(file, labels[Path(file).parent.name]) for file in splits[split]]

    def __len__(self) -> int:
        return len(self._files)

    def place(self, index: int) -> tuple[str, None]:
        """Returns the file; it holds one record."""
        return self._files[index][0], None

    def digest(self) -> str:
        """Returns a sha256 of class/name, size and label of every file, in order."""
        digest = hashlib.sha256()
        for file, label in self._files:
            name = "/".join(Path(file).parts[-2:])
            digest.update(json.dumps([name, size_of(file), label]).encode())
        return digest.hexdigest()

    def encoded(self, index: int) -> tuple[bytes, int]:
        """Returns the image file's bytes and the label; raises Damaged."""
        file, label = self._files[index]
        try:
            return Path(file).read_bytes(), label
        except OSError as error:
            raise Damaged(file, None, f"cannot be read: {error.strerror}") from error

    def __getitem__(self, index: int) -> dict[str, Any]:
        encoded, label = self.encoded(index)
        try:
            return {"image": images.decode(encoded, 3, upright=True), "label": label}
        except ValueError as error:
            raise Damaged(*self.place(index), str(error)) from error


def _scan(path: str) -> tuple[list[str], dict[str, list[str]]]:
    """Returns the sorted class names and the files of each split, ordered by hash."""
    root = Path(os.path.expanduser(path))
    if not path or not os.path.isdir(root):  # isdir is False also for invalid paths
        raise UserError(f"data set folder:{path}: there is no folder {str(root)!r}")
    held_out = [root / name for name in TEST_FOLDERS if (root / name).is_dir()]
    if (root / "train").is_dir() and held_out:
        if len(held_out) > 1:
            names = " and ".join(folder.name for folder in held_out)
            raise UserError(f"{root}: has {names}; which is the test split? Keep one of them here")
        train, test = _classes(root / "train"), _classes(held_out[0])
        if strangers := sorted(set(test) - set(train)):
            raise UserError(f"{held_out[0] / strangers[0]}: a class that {root / 'train'} lacks")
        return list(train), {"train": _ordered(train), "test": _ordered(test)}
    if (root / "train").is_dir():
        raise UserError(f"{root}: has train but no test folder (test, val or validation)")
    classes = _classes(root)
    split: dict[str, list[str]] = {"train": [], "test": []}
    for file in _ordered(classes):
        split["test" if int(_hash(file), 16) % ONE_IN == 0 else "train"].append(file)
    return list(classes), split


def _classes(root: Path) -> dict[str, list[str]]:
    found = {}
    for folder in _entries(root):
        if not _is(folder, os.DirEntry.is_dir):
            raise UserError(f"{folder.path}: a file where the folder of a class is expected")
        files = _entries(Path(folder.path))
        for file in files:
            if not file.name.lower().endswith(SUFFIXES) or not _is(file, os.DirEntry.is_file):
                valid = ", ".join(SUFFIXES)
                raise UserError(f"{file.path}: not an image file (valid endings: {valid})")
        if not files:
            raise UserError(f"{folder.path}: the folder of this class is empty")
        found[folder.name] = [file.path for file in files]
    if not found:
        raise UserError(f"{root}: no class folders in it")
    return found


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Returns a folder's entries sorted by name, without hidden files (.DS_Store)."""
    try:
        with os.scandir(folder) as entries:
            shown = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise UserError(f"{folder}: cannot be read: {error.strerror}") from error
    for entry in shown:
        try:
            entry.name.encode()
        except UnicodeEncodeError:
            name = os.fsencode(entry.path).decode(errors="backslashreplace")
            raise UserError(f"{name}: the name is not UTF-8; rename it") from None
    return sorted(shown, key=lambda entry: entry.name)


def _is(entry: os.DirEntry[str], kind: Callable[[os.DirEntry[str]], bool]) -> bool:
    """entry.is_dir() or entry.is_file(); raises UserError for a symbolic link in a loop."""
    try:
        return kind(entry)
    except OSError as error:
        raise UserError(f"{entry.path}: cannot be read: {error.strerror}") from error


def _ordered(classes: dict[str, list[str]]) -> list[str]:
    return sorted((file for files in classes.values() for file in files), key=_hash)


def _hash(file: str) -> str:
    # Class and name only, so that a copy of the folder has the same splits and order.
    path = Path(file)
    return hashlib.sha256(f"{path.parent.name}/{path.name}".encode()).hexdigest()
