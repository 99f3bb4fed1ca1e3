"""Small archives in the formats of the official ones, for the real readers."""

import dataclasses
import gzip
import hashlib
import io
import struct
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data import catalog, prepare

WORDNET_IDS = ("n01440764", "n02102040", "n03888257")


def photograph(seed: int, size: tuple[int, int] = (20, 16), mode: str = "RGB") -> bytes:
    """A JPEG of that (width, height) whose pixels are smooth, so that it stays near its source."""
    coarse = np.random.RandomState(seed).randint(0, 256, (2, 2, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BILINEAR).convert(mode)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=95)
    return stream.getvalue()


def idx(array: np.ndarray) -> bytes:
    """An IDX file of unsigned bytes."""
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + (
        array.astype(np.uint8).tobytes()
    )  # fmt: skip


def gzipped(body: bytes, name: str = "", mtime: int = 0) -> bytes:
    """A gzip file as `gzip NAME` writes it, or without a name as `gzip -n` does."""
    stream = io.BytesIO()
    with gzip.GzipFile(filename=name, mode="wb", fileobj=stream, mtime=mtime) as file:
        file.write(body)
    content = bytearray(stream.getvalue())
    content[9] = 3  # Written on Unix; Python says "unknown".
    return bytes(content)


def mnist(images: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]) -> dict[str, bytes]:
    """The four files of MNIST's page for the parts "train" and "t10k"."""
    files = {}
    for part in images:
        files[f"{part}-images-idx3-ubyte.gz"] = gzipped(idx(images[part]))
        files[f"{part}-labels-idx1-ubyte.gz"] = gzipped(idx(labels[part]))
    return files


def tar(members: Mapping[str, bytes], compression: str = "") -> bytes:
    """A tar with those members, folders included as `tar` would, gzipped for "gz"."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=f"w:{compression}") as archive:  # type: ignore[call-overload] # typeshed wants a literal
        folders = set()
        for name, body in members.items():
            for folder in [str(path) for path in reversed(Path(name).parents) if path.name]:
                if folder not in folders:
                    folders.add(folder)
                    info = tarfile.TarInfo(folder)
                    info.type = tarfile.DIRTYPE
                    archive.addfile(info)
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return stream.getvalue()


def cifar(images: np.ndarray, *labels: np.ndarray) -> bytes:
    """A batch file: for each image its labels, then its red, green and blue planes."""
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.column_stack([*labels, planes]).astype(np.uint8).tobytes()


def kit(competition_order: tuple[str, ...], truth: list[int]) -> bytes:
    """ImageNet's development kit: `meta.mat` also holds the inner nodes of the tree."""
    from scipy.io import savemat

    fields = [
        "ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children",
        "wordnet_height", "num_train_images",
    ]  # fmt: skip
    rows = [
        (number, wordnet_id, f"words of {wordnet_id}", "gloss", 0, np.zeros(0), 0, 1300)
        for number, wordnet_id in enumerate(competition_order, 1)
    ]
    rows.append((len(rows) + 1, "n00001740", "entity", "gloss", 2, np.array([1.0, 2.0]), 18, 0))
    synsets = np.array(rows, dtype=[(field, object) for field in fields]).reshape(-1, 1)
    stream = io.BytesIO()
    savemat(stream, {"synsets": synsets})
    lines = "".join(f"{number}\n" for number in truth).encode()
    home = "ILSVRC2012_devkit_t12"
    return tar(
        {
            f"{home}/readme.txt": b"ILSVRC2012",
            f"{home}/data/meta.mat": stream.getvalue(),
            f"{home}/data/ILSVRC2012_validation_ground_truth.txt": lines,
        },
        "gz",
    )


def publish(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    files: Mapping[str, bytes],
    folder: Path,
    train: int,
    test: int,
    classes: int | None = None,
) -> None:
    """Writes the files to a folder and pins their sums and counts, like those of official files.

    What is not pinned stays as it is: names of files, readers, formats.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file, body in files.items():
        (folder / file).write_bytes(body)
    recipe, entry = prepare.PREPARATIONS[name], catalog.DATASETS[name]
    archives = []
    for archive in recipe.archives:
        algorithm = archive.checksum.partition(":")[0]
        digest = hashlib.new(algorithm, files[archive.file]).hexdigest()
        archives.append(dataclasses.replace(archive, checksum=f"{algorithm}:{digest}"))
    monkeypatch.setitem(
        prepare.PREPARATIONS, name, dataclasses.replace(recipe, archives=archives, installed=None)
    )
    entry = dataclasses.replace(
        entry, splits={"train": train, "test": test}, classes=classes or entry.classes
    )
    monkeypatch.setitem(catalog.DATASETS, name, entry)
