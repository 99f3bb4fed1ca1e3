"""Broken data is one line that names file and record, wherever it is met."""

import dataclasses
import io
import os
import random
import zlib
from collections.abc import Callable
from pathlib import Path

import archives
import numpy as np
import pytest
from PIL import Image

import data
from data import builder, images, prepare
from errors import UserError

IMAGES = np.random.RandomState(0).randint(0, 256, (6, 28, 28), dtype=np.uint8)
COLOUR = np.random.RandomState(0).randint(0, 256, (6, 32, 32, 3), dtype=np.uint8)
LABELS = np.arange(6)


def refusal(call: Callable[[], object], error: type[UserError] = data.Damaged) -> str:
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


def truncated(body: bytes) -> bytes:
    return body[: len(body) // 2]


def flipped(body: bytes) -> bytes:
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 0x10]) + body[middle + 1 :]


@pytest.mark.parametrize("damage", [truncated, flipped])
def test_a_damaged_archive_is_found_by_its_sum(
    damage: Callable[[bytes], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = {"train": IMAGES, "t10k": IMAGES}
    files = archives.mnist(parts, {"train": LABELS, "t10k": LABELS})
    archives.publish(monkeypatch, "mnist", files, tmp_path / "a", 6, 6)
    path = tmp_path / "a" / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    message = refusal(lambda: prepare.prepare("mnist", tmp_path, tmp_path / "a"))
    assert message.startswith(f"{path}: damaged, or not the published file: sha256:")
    assert not (tmp_path / "convnet_mnist").exists()


@pytest.mark.parametrize(
    ("file", "body", "expected"),
    [
        ("train-images-idx3-ubyte.gz", truncated, "truncated or damaged archive"),
        ("train-images-idx3-ubyte.gz", flipped, "truncated or damaged archive"),
        (
            "train-labels-idx1-ubyte.gz",
            lambda _: archives.gzipped(b"\0\0\x09\x01" + archives.idx(LABELS)[4:]),
            "starts with 00000901: not IDX of unsigned bytes",
        ),
        ("t10k-images-idx3-ubyte.gz", lambda _: archives.gzipped(b"PK"), "starts with 504b"),
        (
            "train-images-idx3-ubyte.gz",
            lambda _: archives.gzipped(archives.idx(IMAGES)[:-5]),
            "the header says 6×28×28 bytes, the body has 4699",
        ),
        (
            "train-images-idx3-ubyte.gz",
            lambda _: archives.gzipped(archives.idx(IMAGES)[:9]),
            "the header says 6×0×0 bytes, the body has 0",
        ),
        (
            "t10k-images-idx3-ubyte.gz",
            lambda _: archives.gzipped(archives.idx(IMAGES[:, :20])),
            "holds an array of (6, 20, 28), not 28×28 images",
        ),
        (
            "t10k-labels-idx1-ubyte.gz",
            lambda _: archives.gzipped(archives.idx(LABELS[:5])),
            "an array of (5,) for 6 images in t10k-images-idx3-ubyte.gz",
        ),
        (
            "train-labels-idx1-ubyte.gz",
            lambda _: archives.gzipped(archives.idx(np.array([0, 1, 2, 10, 4, 5]))),
            "record 3: label 10, valid are 0 to 9",
        ),
    ],
)
def test_inconsistent_idx_files_are_refused(
    file: str,
    body: Callable[[bytes], bytes],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = {"train": IMAGES, "t10k": IMAGES}
    files = archives.mnist(parts, {"train": LABELS, "t10k": LABELS})
    files[file] = body(files[file])
    archives.publish(monkeypatch, "mnist", files, tmp_path / "a", 6, 6)
    message = refusal(lambda: prepare.prepare("mnist", tmp_path, tmp_path / "a"))
    assert message.startswith(str(tmp_path / "a" / file))
    assert expected in message
    left = [path.name for path in (tmp_path / "convnet_mnist").rglob("*")]
    assert "1.0.0" not in left
    assert not [name for name in left if name.startswith("incomplete") and "1.0.0" in name]


def test_too_few_images_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {"train": IMAGES, "t10k": IMAGES}
    files = archives.mnist(parts, {"train": LABELS, "t10k": LABELS})
    archives.publish(monkeypatch, "mnist", files, tmp_path / "a", 6, 7)
    message = refusal(lambda: prepare.prepare("mnist", tmp_path, tmp_path / "a"), UserError)
    assert "its files hold 6 test images, not 7" in message
    assert not (tmp_path / "convnet_mnist" / "1.0.0").exists()


CIFAR_HOME = "cifar-10-batches-bin"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda members: members.pop(f"{CIFAR_HOME}/data_batch_3.bin"), "has no member"),
        (
            lambda members: members.update(
                {f"{CIFAR_HOME}/data_batch_2.bin": archives.cifar(COLOUR[:1], LABELS[:1])[:-1]}
            ),
            "/data_batch_2.bin: 3072 bytes are not whole records of 3073",
        ),
        (
            lambda members: members.update(
                {f"{CIFAR_HOME}/test_batch.bin": archives.cifar(COLOUR[:2], np.array([9, 10]))}
            ),
            "record cifar-10-batches-bin/test_batch.bin[1]: label 10, valid are 0 to 9",
        ),
    ],
)
def test_incomplete_cifar_is_refused(
    change: Callable[[dict[str, bytes]], object],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    members = {
        f"{CIFAR_HOME}/data_batch_{n}.bin": archives.cifar(COLOUR[n : n + 1], LABELS[n : n + 1])
        for n in range(1, 6)
    } | {f"{CIFAR_HOME}/test_batch.bin": archives.cifar(COLOUR[:2], LABELS[:2])}
    change(members)
    files = {"cifar-10-binary.tar.gz": archives.tar(members, "gz")}
    archives.publish(monkeypatch, "cifar10", files, tmp_path / "a", 5, 2)
    message = refusal(lambda: prepare.prepare("cifar10", tmp_path, tmp_path / "a"))
    assert message.startswith(str(tmp_path / "a" / "cifar-10-binary.tar.gz"))
    assert expected in message


def test_a_tar_that_was_published_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = {f"{CIFAR_HOME}/data_batch_1.bin": archives.cifar(COLOUR, LABELS)}
    files = {"cifar-10-binary.tar.gz": truncated(archives.tar(members, "gz"))}
    archives.publish(monkeypatch, "cifar10", files, tmp_path / "a", 6, 6)
    message = refusal(lambda: prepare.prepare("cifar10", tmp_path, tmp_path / "a"))
    assert "truncated or damaged archive" in message


ORDER = ("n03888257", "n01440764", "n02102040")


def imagenet_files() -> dict[str, bytes]:
    classes = {
        f"{wordnet_id}.tar": archives.tar({f"{wordnet_id}_0.JPEG": archives.photograph(seed)})
        for seed, wordnet_id in enumerate(archives.WORDNET_IDS)
    }
    val = {f"ILSVRC2012_val_{n:08d}.JPEG": archives.photograph(n) for n in (1, 2)}
    return {
        "ILSVRC2012_img_train.tar": archives.tar(classes),
        "ILSVRC2012_img_val.tar": archives.tar(val),
        "ILSVRC2012_devkit_t12.tar.gz": archives.kit(ORDER, [1, 2]),
    }


def one_class_of(body: bytes) -> bytes:
    good = archives.tar({f"{i}_0.JPEG": archives.photograph(0) for i in archives.WORDNET_IDS[:1]})
    return archives.tar(
        {f"{i}.tar": body if i == "n02102040" else good for i in archives.WORDNET_IDS}
    )


@pytest.mark.parametrize(
    ("file", "body", "expected"),
    [
        (
            "ILSVRC2012_img_train.tar",
            archives.tar({"n01440764.tar": archives.tar({"a.JPEG": b""})}),
            "holds 1 classes, the development kit 3; differing: n02102040, n03888257",
        ),
        (
            "ILSVRC2012_img_train.tar",
            one_class_of(b"\x07" * 1024),
            "record n02102040.tar: damaged",
        ),
        (
            "ILSVRC2012_img_train.tar",
            one_class_of(archives.tar({"n02102040_7.JPEG": b"<html>404"})),
            "record n02102040_7.JPEG: neither a JPEG nor a PNG file",
        ),
        (
            "ILSVRC2012_img_val.tar",
            archives.tar({"ILSVRC2012_val_00000003.JPEG": archives.photograph(0)}),
            "record ILSVRC2012_val_00000003.JPEG: not one of 2 validation images",
        ),
        (
            "ILSVRC2012_devkit_t12.tar.gz",
            archives.kit(ORDER, [1, 1001]),
            "record ground truth line 2: label 1001 is not in meta.mat",
        ),
        (
            "ILSVRC2012_devkit_t12.tar.gz",
            archives.kit(ORDER[:2], [1, 2]),
            "record meta.mat: 2 classes, not 3",
        ),
        (
            "ILSVRC2012_devkit_t12.tar.gz",
            archives.tar({"data/meta.mat": b"MATLAB"}, "gz"),
            "not the development kit of 2012",
        ),
    ],
)
def test_incomplete_imagenet_is_refused(
    file: str, body: bytes, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = imagenet_files() | {file: body}
    archives.publish(monkeypatch, "imagenet2012", files, tmp_path / "a", 3, 2, classes=3)
    message = refusal(lambda: prepare.prepare("imagenet2012", tmp_path, tmp_path / "a"))
    assert message.startswith(str(tmp_path / "a" / file))
    assert expected in message


def test_a_tar_that_ends_between_two_members_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's tarfile treats a truncated header as the end of the archive."""
    files = imagenet_files()
    val = files["ILSVRC2012_img_val.tar"]
    second = val.index(b"ILSVRC2012_val_00000002")
    files["ILSVRC2012_img_val.tar"] = val[: second + 100]
    archives.publish(monkeypatch, "imagenet2012", files, tmp_path / "a", 3, 2, classes=3)
    message = refusal(lambda: prepare.prepare("imagenet2012", tmp_path, tmp_path / "a"), UserError)
    assert "its files hold 1 test images, not 2" in message


SMALL = "synthetic:16x16x3:4:64:8"


def shard(name: str, split: str, folder: Path) -> Path:
    entry = data.dataset(name)
    (path,) = (folder / builder.folder_name(entry)).glob(f"1.0.0/*-{split}.*")
    return path


def test_damaged_records_are_noticed_or_harmless_never_silent(tmp_path: Path) -> None:
    pixels, _ = data.load_arrays(SMALL, "train", tmp_path)
    expected = [image.tobytes() for image in pixels]
    path = shard(SMALL, "train", tmp_path)
    whole = path.read_bytes()
    noticed = 0
    draw = random.Random(0)
    broken = [whole[: int(len(whole) * part)] for part in (0, 0.01, 0.5, 0.9, 0.999)]
    for _ in range(40):
        position = draw.randrange(len(whole))
        flip = whole[position] ^ 1 << draw.randrange(8)
        broken.append(whole[:position] + bytes([flip]) + whole[position + 1 :])
    for body in broken:
        path.write_bytes(body)
        found: list[bytes] = []
        error: data.Damaged | None = None
        try:
            images_found, _ = data.load_arrays(SMALL, "train", tmp_path)
            found = [image.tobytes() for image in images_found]
        except data.Damaged as damaged:
            error = damaged
        if error is None:  # The flip hit padding.
            assert found == expected
        else:
            noticed += 1
            assert error.file == str(path)
            assert str(error).startswith(f"{path}, record {error.record}: cannot be read")
            assert "\n" not in str(error)
    assert noticed >= 15


def test_a_damaged_record_leaves_the_others_readable(tmp_path: Path) -> None:
    pixels, _ = data.load_arrays(SMALL, "train", tmp_path)
    path = shard(SMALL, "train", tmp_path)
    whole = path.read_bytes()
    # Inside the compressed pixels of image 20, which the record stores unchanged.
    encoded, _ = data.open_split(SMALL, "train", tmp_path).encoded(20)
    position = whole.index(encoded[60:90])
    path.write_bytes(whole[:position] + b"\0" + whole[position + 1 :])
    source = data.open_split(SMALL, "train", tmp_path)
    for index in (0, 19, 21, 63):
        np.testing.assert_array_equal(source[index]["image"], pixels[index])
    for read in (source.__getitem__, source.encoded):
        with pytest.raises(data.Damaged) as caught:
            read(20)
        assert (caught.value.file, caught.value.record) == (str(path), 20)
    with pytest.raises(data.Damaged, match=", record 20: cannot be read"):
        data.load_arrays(SMALL, "train", tmp_path)


@pytest.mark.parametrize(
    ("encoded", "label", "expected"),
    [
        (images.encode_png(COLOUR[0]), 10, "label 10, valid are 0 to 9"),
        (images.encode_png(COLOUR[0]), -1, "label -1, valid are 0 to 9"),
        (images.encode_png(COLOUR[0, :1, :1]), 3, "an image of 1×1 pixels"),
        (images.encode_png(COLOUR[0, :30]), 3, "an image of (30, 32, 3), not (32, 32, 3)"),
        (images.encode_png(COLOUR[0])[:-500], 3, "not a complete image (image file is truncated"),
        (b"", 3, "neither a PNG nor a JPEG image"),
        (b"GIF89a" + bytes(50), 3, "neither a PNG nor a JPEG image"),
    ],
)
def test_records_whose_content_is_wrong(
    encoded: bytes,
    label: int,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Intact records with contents that are invalid in this set."""
    entry = dataclasses.replace(data.DATASETS["cifar10"], splits={"train": 3, "test": 3})
    good = (images.encode_png(COLOUR[0]), 3)
    lenient = dataclasses.replace(entry, classes=1000, class_names=None)
    shards = [lambda: iter([good, (encoded, label), good])]
    if label < 0:
        # TFDS itself refuses to write it; -1 is what it stores where labels are withheld.
        monkeypatch.setattr(
            "tensorflow_datasets.features.ClassLabel.encode_example", lambda _, x: x
        )
    builder.write(lenient, {"train": shards, "test": shards}, "png", tmp_path)
    monkeypatch.setitem(data.DATASETS, "cifar10", entry)
    message = refusal(lambda: data.load_arrays("cifar10", "train", tmp_path))
    assert message.startswith(f"{shard('cifar10', 'train', tmp_path)}, record 1: {expected}")


def test_a_prepared_set_with_a_missing_file_is_refused(tmp_path: Path) -> None:
    data.load_arrays(SMALL, "train", tmp_path)
    path = shard(SMALL, "train", tmp_path)
    path.unlink()
    assert str(path) in refusal(lambda: data.load_arrays(SMALL, "train", tmp_path))
    (path.parent / "dataset_info.json").write_text('{"name": "syn')
    message = refusal(lambda: data.load_arrays(SMALL, "train", tmp_path))
    assert message.startswith(f"{path.parent}: cannot be opened")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for split in ("train", "test"):
        for seed, kind in enumerate(("cat", "dog")):
            file = tmp_path / split / kind / "0.jpg"
            file.parent.mkdir(parents=True)
            file.write_bytes(archives.photograph(seed, (60, 40)))
    return tmp_path


def tiny() -> bytes:
    return archives.photograph(0, (1, 1))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (archives.photograph(0, (60, 40))[:-200], "not a complete image (image file is truncated"),
        (archives.photograph(0, (60, 40))[:30], "not a complete image"),
        (archives.photograph(0, (60, 40))[:2], "neither a PNG nor a JPEG image"),
        (tiny(), "an image of 1×1 pixels"),
        (b"", "neither a PNG nor a JPEG image"),
    ],
)
def test_damaged_files_of_a_folder(body: bytes, expected: str, pictures: Path) -> None:
    file = pictures / "train" / "dog" / "0.jpg"
    file.write_bytes(body)
    source = data.open_split(f"folder:{pictures}", "train")
    (index,) = [i for i in range(2) if source.place(i)[0] == str(file)]
    assert refusal(lambda: source[index]).startswith(f"{file}: {expected}")
    assert source[1 - index]["image"].shape == (40, 60, 3)


def test_png_with_a_flipped_bit_is_noticed() -> None:
    """PNG has a CRC for each chunk, so every flip in the pixels must be found."""
    whole = images.encode_png(COLOUR[0])
    start, end = whole.index(b"IDAT") + 4, whole.index(b"IEND") - 8
    for position in range(start, end, 97):
        broken = whole[:position] + bytes([whole[position] ^ 0x10]) + whole[position + 1 :]
        assert zlib.crc32(broken[start:end]) != zlib.crc32(whole[start:end])
        with pytest.raises(ValueError, match=r"not a complete image|neither"):
            images.decode(broken, 3)


def test_folders_that_are_no_data_set(pictures: Path) -> None:
    def message(path: Path) -> str:
        return refusal(lambda: data.dataset(f"folder:{path}"), UserError)

    assert "there is no folder" in message(pictures / "nowhere")
    (pictures / "empty").mkdir()
    assert "no class folders" in message(pictures / "empty")
    (pictures / "train" / "bird").mkdir()
    assert f"{pictures / 'train' / 'bird'}: the folder of this class is empty" in message(pictures)
    (pictures / "train" / "bird" / "notes.txt").write_text("a bird")
    assert "bird/notes.txt: not an image file (valid endings: .jpg, .jpeg, .png)" in message(
        pictures
    )
    (pictures / "train" / "bird" / "notes.txt").unlink()
    (pictures / "train" / "bird").rmdir()
    (pictures / "train" / "loose.png").write_bytes(b"")
    assert "loose.png: a file where the folder of a class is expected" in message(pictures)
    (pictures / "train" / "loose.png").unlink()
    loop = pictures / "train" / "loop.png"
    loop.symlink_to(loop)
    assert f"{loop}: cannot be read: Too many levels of symbolic links" in message(pictures)
    loop.unlink()
    latin1 = pictures / "train" / os.fsdecode(b"caf\xe9")
    latin1.mkdir()
    assert r"train/caf\xe9: the name is not UTF-8; rename it" in message(pictures)
    latin1.rmdir()
    (pictures / "val").mkdir()
    assert "has test and val; which is the test split?" in message(pictures)
    (pictures / "val").rmdir()
    (pictures / "test" / "horse").mkdir()
    (pictures / "test" / "horse" / "a.jpg").write_bytes(archives.photograph(0))
    assert f"{pictures / 'test' / 'horse'}: a class that" in message(pictures)
    (pictures / "test").rename(pictures / "elsewhere")
    assert "has train but no test folder" in message(pictures)


def test_one_image_cannot_be_split(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "cat" / "a.png")
    assert "too few images" in refusal(lambda: data.dataset(f"folder:{tmp_path}"), UserError)


def test_damage_found_by_a_worker_reaches_the_main_process() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(data.Damaged("x.tar", "a.jpg", "cut\noff")))
    assert (error.file, error.record, str(error)) == (
        "x.tar",
        "a.jpg",
        "x.tar, record a.jpg: cut off",
    )


def test_a_sixteen_bit_stream_cut_off() -> None:
    stream = io.BytesIO()
    Image.new("I;16", (64, 64), 700).save(stream, "PNG")
    with pytest.raises(ValueError, match="not a complete image"):
        images.decode(stream.getvalue()[:-40], 1)
