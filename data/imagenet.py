"""ImageNet 2012 and Imagenette, ten easy classes of it: tars of JPEG files, stored unchanged.

ImageNet is only for registered users of image-net.org and is not downloaded: three files must be in
the folder that `--archives` names. The validation tar is flat and has no labels. They are in the
development kit, as the competition's ids (1 .. 1000), which its `meta.mat` maps to WordNet ids. Our
labels are the indices of the 1,000 sorted WordNet ids, as is usual.

Files are not decoded here. Among ImageNet's files named JPEG one is a PNG and 22 are CMYK: decode
by content, not by name.
"""

import io
import re
import tarfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from data import archives
from data.archives import Archive
from data.catalog import Dataset
from data.damage import Damaged
from data.shards import Examples, Shards, in_shards

TRAIN = Archive(
    "ILSVRC2012_img_train.tar",
    "sha256:b08200a27a8e34218a0e58fde36b0fe8f73bc377f4acea2d91602057c3ca45bb",
    None,
)
VALIDATION = Archive(
    "ILSVRC2012_img_val.tar",
    "sha256:c7e06a6c0baccf06d8dbeb6577d71efff84673a5dbdd50633ab44f8ea0456ae0",
    None,
)
KIT = Archive("ILSVRC2012_devkit_t12.tar.gz", "md5:fa75699e90414af021442c21a62c3abf", None)
IMAGENETTE = Archive(
    "imagenette2.tgz",
    "sha256:6cbfac238434d89fe99e651496f0812ebc7a10fa62bd42d6874042bf01de4efd",
    "https://s3.amazonaws.com/fast-ai-imageclas/imagenette2.tgz",
)
IMAGENETTE_IDS = (
    "n01440764", "n02102040", "n02979186", "n03000684", "n03028079",
    "n03394916", "n03417042", "n03425413", "n03445777", "n03888257",
)  # fmt: skip

# A shard is held in memory while it is written: about 110 kB an image.
IMAGES_PER_SHARD = 1024


def splits(dataset: Dataset, paths: Mapping[str, Path]) -> dict[str, Shards]:
    """Returns ImageNet's examples in the tars' order, one training shard per class."""
    ids, truth = _read_kit(dataset, paths[KIT.file])
    labels = {wordnet_id: label for label, wordnet_id in enumerate(sorted(ids.values()))}
    with archives.reading(paths[TRAIN.file]), tarfile.open(paths[TRAIN.file]) as outer:
        classes = outer.getmembers()
    stems = {Path(info.name).stem for info in classes}
    if stems != set(labels):
        odd = ", ".join(sorted(stems ^ set(labels))[:3])
        what = f"holds {len(stems)} classes, the development kit {len(labels)}; differing: {odd}"
        raise Damaged(paths[TRAIN.file], None, what)
    return {
        "train": [
            partial(_one_class, paths[TRAIN.file], info, labels[Path(info.name).stem])
            for info in classes
        ],
        "test": in_shards(
            _validation(paths[VALIDATION.file], [labels[ids[number]] for number in truth]),
            len(truth),
            IMAGES_PER_SHARD,
        ),
    }


def imagenette_splits(dataset: Dataset, paths: Mapping[str, Path]) -> dict[str, Shards]:
    """Returns Imagenette's examples: members `imagenette2/{train,val}/<WordNet id>/*.JPEG`."""
    (path,) = paths.values()
    return {
        split: in_shards(_imagenette(path, folder), dataset.splits[split], IMAGES_PER_SHARD)
        for split, folder in (("train", "train"), ("test", "val"))
    }


def _read_kit(dataset: Dataset, path: Path) -> tuple[dict[int, str], list[int]]:
    """Returns the WordNet id of each competition id, and the competition id of each test image."""
    # Imported here: SciPy is slow to import, and nothing else in this package needs it.
    from scipy.io import loadmat

    with archives.reading(path), tarfile.open(path) as tar:
        bodies = {
            Path(info.name).name: archives.member(tar, info, path) for info in tar if info.isfile()
        }
    try:
        synsets = loadmat(io.BytesIO(bodies["meta.mat"]), squeeze_me=True)["synsets"]
        ids = {
            int(synset["ILSVRC2012_ID"]): str(synset["WNID"])
            for synset in synsets
            if synset["num_children"] == 0  # The others are inner nodes of WordNet's tree.
        }
        truth = [int(line) for line in bodies["ILSVRC2012_validation_ground_truth.txt"].split()]
    except Exception as error:  # SciPy's reader has no common base class for its errors.
        raise Damaged(path, None, f"not the development kit of 2012 ({error})") from error
    if len(ids) != dataset.classes:
        raise Damaged(path, "meta.mat", f"{len(ids)} classes, not {dataset.classes}")
    for line, number in enumerate(truth, 1):
        if number not in ids:
            raise Damaged(path, f"ground truth line {line}", f"label {number} is not in meta.mat")
    return ids, truth


def _one_class(path: Path, info: tarfile.TarInfo, label: int) -> Examples:
    with archives.reading(path), tarfile.open(path) as outer:
        stream = outer.extractfile(info)
        if stream is None:
            raise Damaged(path, info.name, "not a tar file")
        try:
            with tarfile.open(fileobj=stream) as inner:
                for image in inner:
                    yield _photograph(inner, image, path), label
        except tarfile.TarError as error:
            raise Damaged(path, info.name, f"damaged ({error})") from error


def _validation(path: Path, labels: list[int]) -> Examples:
    with archives.reading(path), tarfile.open(path) as tar:
        for info in tar:
            # The number in the name, not the position in the tar, is the line of the ground truth.
            match = re.fullmatch(r"(?:\./)?ILSVRC2012_val_(\d{8})\.JPEG", info.name)
            if match is None or not 1 <= int(match[1]) <= len(labels):
                raise Damaged(path, info.name, f"not one of {len(labels)} validation images")
            yield _photograph(tar, info, path), labels[int(match[1]) - 1]


def _imagenette(path: Path, folder: str) -> Examples:
    with archives.reading(path), tarfile.open(path) as tar:
        for info in tar:
            parts = Path(info.name).parts
            if not info.isfile() or parts[1:2] != (folder,) or parts[-1].startswith("."):
                continue
            if len(parts) != 4 or parts[2] not in IMAGENETTE_IDS:
                raise Damaged(path, info.name, "not in the folder of one of the ten classes")
            yield _photograph(tar, info, path), IMAGENETTE_IDS.index(parts[2])


def _photograph(tar: tarfile.TarFile, info: tarfile.TarInfo, path: Path) -> bytes:
    body = archives.member(tar, info, path)
    if not body.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")):
        raise Damaged(path, info.name, "neither a JPEG nor a PNG file")
    return body
