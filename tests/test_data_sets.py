"""The sets themselves: facts, readers against generated archives, the prepared form."""

import dataclasses
import gzip
import io
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import archives
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

import data
from data import images, prepare, prepared
from data.archives import Archive
from errors import UserError

ROOT = Path(__file__).parent.parent


def random_images(seed: int, *shape: int) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, shape, dtype=np.uint8)


def test_table_has_the_published_numbers_of_images() -> None:
    """LeCun et al. 1998, Xiao et al. 2017, Krizhevsky 2009, Russakovsky et al. 2015."""
    counts = {name: tuple(entry.splits.values()) for name, entry in data.DATASETS.items()}
    assert counts == {
        "digits": (1437, 360),
        "mnist": (60_000, 10_000),
        "fashion_mnist": (60_000, 10_000),
        "fashion_mnist_scenes": (60_000, 10_000),
        "cifar10": (50_000, 10_000),
        "cifar100": (50_000, 10_000),
        "imagenette": (9_469, 3_925),
        "imagenet2012": (1_281_167, 50_000),
        "synthetic": (512, 128),
    }
    for entry in data.DATASETS.values():
        assert entry.class_names is None or len(set(entry.class_names)) == entry.classes


def test_digits_are_scikit_learns_each_once(data_dir: str) -> None:
    from sklearn.datasets import load_digits

    whole = load_digits()
    found = []
    for split, count in (("train", 1437), ("test", 360)):
        pixels, labels = data.load_arrays("digits", split, data_dir)
        assert pixels.shape == (count, 8, 8, 1)
        assert (pixels.dtype, labels.dtype) == (np.uint8, np.int32)
        levels = np.rint(pixels.astype(float) * 16 / 255)
        found += [
            (level.tobytes(), int(label)) for level, label in zip(levels, labels, strict=True)
        ]
    rows = zip(whole.images, whole.target, strict=True)
    assert sorted(found) == sorted((image.tobytes(), int(label)) for image, label in rows)


def test_digits_test_split_is_the_documented_permutation(data_dir: str) -> None:
    from sklearn.datasets import load_digits

    rows = np.sort(np.random.RandomState(0).permutation(1797)[:360])
    np.testing.assert_array_equal(
        data.load_arrays("digits", "test", data_dir)[1], load_digits().target[rows]
    )


def test_synthetic_follows_its_name_and_can_be_learnt(data_dir: str) -> None:
    entry = data.dataset("synthetic:12x10x3:4:40:8")
    assert (entry.shape, entry.classes, dict(entry.splits)) == (
        (12, 10, 3), 4, {"train": 40, "test": 8},
    )  # fmt: skip
    train, labels = data.load_arrays(entry.name, "train", data_dir)
    test, expected = data.load_arrays(entry.name, "test", data_dir)
    assert train.shape == (40, 12, 10, 3)
    assert sorted(np.bincount(labels)) == [10] * 4
    means = np.stack([train[labels == label].mean(axis=0) for label in range(4)])
    distances = ((test[:, None].astype(float) - means[None]) ** 2).sum(axis=(2, 3, 4))
    np.testing.assert_array_equal(distances.argmin(axis=1), expected)
    assert not np.array_equal(train[:8], test)


def test_sources_give_the_same_images_one_at_a_time_and_after_pickling(data_dir: str) -> None:
    pixels, labels = data.load_arrays("digits", "test", data_dir)
    source = data.open_split("digits", "test", data_dir)
    for opened in (source, pickle.loads(pickle.dumps(source))):
        assert len(opened) == 360
        for index in (0, 17, 359):
            example = opened[index]
            np.testing.assert_array_equal(example["image"], pixels[index])
            assert example["label"] == labels[index]
            encoded, label = opened.encoded(index)
            np.testing.assert_array_equal(images.decode(encoded, 1), pixels[index])
            assert label == labels[index]
    with pytest.raises(IndexError, match="360 of 360"):
        source[360]


def test_mnist_from_its_archives_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = {"train": random_images(0, 7, 28, 28), "t10k": random_images(1, 3, 28, 28)}
    labels = {"train": np.array([5, 0, 4, 1, 9, 2, 1]), "t10k": np.array([7, 2, 1])}
    archives.publish(monkeypatch, "mnist", archives.mnist(pixels, labels), tmp_path / "a", 7, 3)
    prepare.prepare("mnist", tmp_path, tmp_path / "a")
    for split, part in (("train", "train"), ("test", "t10k")):
        found, targets = data.load_arrays("mnist", split, tmp_path)
        np.testing.assert_array_equal(found[..., 0], pixels[part])
        np.testing.assert_array_equal(targets, labels[part])


def test_fashion_mnist_is_checked_under_a_rewritten_gzip_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian packs with `gzip -n`: the pinned sums are of files whose header has name and time."""
    bodies = {
        "train-images-idx3-ubyte": archives.idx(random_images(0, 4, 28, 28)),
        "train-labels-idx1-ubyte": archives.idx(np.arange(4)),
        "t10k-images-idx3-ubyte": archives.idx(random_images(1, 2, 28, 28)),
        "t10k-labels-idx1-ubyte": archives.idx(np.arange(2)),
    }
    mtimes = {archive.file: archive.gzip_mtime for archive in prepare.idx.FASHION_MNIST}
    official = {
        f"{name}.gz": archives.gzipped(body, name, mtimes[f"{name}.gz"] or 0)
        for name, body in bodies.items()
    }
    archives.publish(monkeypatch, "fashion_mnist", official, tmp_path / "a", 4, 2)
    for name, body in bodies.items():
        bare = archives.gzipped(body)
        assert bare != official[f"{name}.gz"]
        (tmp_path / "a" / f"{name}.gz").write_bytes(bare)
    prepare.prepare("fashion_mnist", tmp_path, tmp_path / "a")
    np.testing.assert_array_equal(
        data.load_arrays("fashion_mnist", "train", tmp_path)[1], np.arange(4)
    )
    changed = archives.gzipped(archives.idx(np.arange(4)[::-1]))
    (tmp_path / "a" / "train-labels-idx1-ubyte.gz").write_bytes(changed)
    with pytest.raises(data.Damaged, match=r"train-labels-idx1-ubyte\.gz: damaged, or not the pub"):
        prepare.prepare("fashion_mnist", tmp_path / "other", tmp_path / "a")


def test_the_published_header_is_what_gzip_writes(tmp_path: Path) -> None:
    """Against Python's own gzip, which writes name and time by RFC 1952."""
    named = archives.gzipped(b"body" * 100, "file-ubyte", 1504176606)
    bare = archives.gzipped(b"body" * 100)
    (tmp_path / "file-ubyte.gz").write_bytes(bare)
    header = prepare.archives._published_header(bare[:10], "file-ubyte.gz", 1504176606)
    assert header + bare[10:] == named
    assert gzip.decompress(header + bare[10:]) == b"body" * 100
    assert struct.unpack("<I", header[4:8]) == (1504176606,)


def test_cifar10_from_its_archive_in_its_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, labels = random_images(0, 12, 32, 32, 3), np.arange(12) % 10
    home = "cifar-10-batches-bin"
    members = {f"{home}/batches.meta.txt": b"airplane\n", f"{home}/readme.html": b"<html>"}
    # In another order than they are counted in, as in the official tar.
    for number in (2, 1, 5, 4, 3):
        part = slice(2 * number - 2, 2 * number)
        members[f"{home}/data_batch_{number}.bin"] = archives.cifar(pixels[part], labels[part])
    members[f"{home}/test_batch.bin"] = archives.cifar(pixels[10:], labels[10:])
    files = {"cifar-10-binary.tar.gz": archives.tar(members, "gz")}
    archives.publish(monkeypatch, "cifar10", files, tmp_path / "a", 10, 2)
    prepare.prepare("cifar10", tmp_path, tmp_path / "a")
    for split, part in (("train", slice(0, 10)), ("test", slice(10, 12))):
        found, targets = data.load_arrays("cifar10", split, tmp_path)
        np.testing.assert_array_equal(found, pixels[part])
        np.testing.assert_array_equal(targets, labels[part])


def test_cifar100_takes_the_fine_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, fine = random_images(0, 6, 32, 32, 3), np.array([99, 0, 47, 11, 98, 50])
    coarse = np.array([13, 4, 17, 14, 2, 5])
    home = "cifar-100-binary"
    members = {
        f"{home}/train.bin": archives.cifar(pixels[:4], coarse[:4], fine[:4]),
        f"{home}/test.bin": archives.cifar(pixels[4:], coarse[4:], fine[4:]),
        f"{home}/fine_label_names.txt": b"apple\n",
    }
    files = {"cifar-100-binary.tar.gz": archives.tar(members, "gz")}
    archives.publish(monkeypatch, "cifar100", files, tmp_path / "a", 4, 2)
    prepare.prepare("cifar100", tmp_path, tmp_path / "a")
    found, targets = data.load_arrays("cifar100", "train", tmp_path)
    np.testing.assert_array_equal(found, pixels[:4])
    np.testing.assert_array_equal(targets, fine[:4])


def test_imagenette_keeps_the_files_and_mixes_the_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = {
        f"imagenette2/{folder}/{wordnet_id}/{wordnet_id}_{number}.JPEG": archives.photograph(number)
        for folder, numbers in (("val", range(90, 91)), ("train", range(0, 30)))
        for wordnet_id in archives.WORDNET_IDS
        for number in numbers
    }
    labels = {"n01440764": 0, "n02102040": 1, "n03888257": 9}
    members["imagenette2/.DS_Store"] = b"junk"
    files = {"imagenette2.tgz": archives.tar(members, "gz")}
    archives.publish(monkeypatch, "imagenette", files, tmp_path / "a", 90, 3)
    monkeypatch.setattr(prepare.imagenet, "IMAGES_PER_SHARD", 40)
    target = prepare.prepare("imagenette", tmp_path, tmp_path / "a")
    assert len(list(target.glob("*train*"))) == 3
    for split, folder in (("train", "train"), ("test", "val")):
        source = data.open_split("imagenette", split, tmp_path)
        found = [source.encoded(index) for index in range(len(source))]
        expected = [
            (body, labels[name.split("/")[2]])
            for name, body in members.items()
            if name.startswith(f"imagenette2/{folder}/")
        ]
        assert sorted(found) == sorted(expected)
    # The archive is sorted by class. Were it read so, the last third would be of one class.
    train = data.open_split("imagenette", "train", tmp_path)
    assert {train.encoded(index)[1] for index in range(60, 90)} == {0, 1, 9}
    assert train[0]["image"].shape == (16, 20, 3)


@pytest.fixture
def imagenet() -> dict[str, bytes]:
    """Three classes; the order of the competition's ids differs from that of the WordNet ids."""
    train = {
        f"{wordnet_id}.tar": archives.tar(
            {f"{wordnet_id}_{n}.JPEG": archives.photograph(10 * c + n) for n in range(2)}
        )
        for c, wordnet_id in enumerate(archives.WORDNET_IDS)
    }
    val = {
        # Not in the order of their numbers: the name counts.
        f"ILSVRC2012_val_{number:08d}.JPEG": archives.photograph(50 + number)
        for number in (2, 1, 4, 3)
    }
    order = ("n03888257", "n01440764", "n02102040")
    return {
        "ILSVRC2012_img_train.tar": archives.tar(train),
        "ILSVRC2012_img_val.tar": archives.tar(val),
        "ILSVRC2012_devkit_t12.tar.gz": archives.kit(order, [1, 2, 3, 1]),
    }


def test_imagenet_labels_are_places_of_the_sorted_ids(
    imagenet: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archives.publish(monkeypatch, "imagenet2012", imagenet, tmp_path / "a", 6, 4, classes=3)
    prepare.prepare("imagenet2012", tmp_path, tmp_path / "a")
    train = data.open_split("imagenet2012", "train", tmp_path)
    expected = [(archives.photograph(10 * c + n), c) for c in range(3) for n in range(2)]
    assert sorted(train.encoded(index) for index in range(6)) == sorted(expected)
    test = data.open_split("imagenet2012", "test", tmp_path)
    # Competition ids 1, 2, 3, 1 are n03888257, n01440764, n02102040, n03888257.
    expected = [(archives.photograph(51 + i), label) for i, label in enumerate((2, 0, 1, 2))]
    assert sorted(test.encoded(index) for index in range(4)) == sorted(expected)


def test_imagenet_is_never_downloaded() -> None:
    with pytest.raises(UserError, match=r"put ILSVRC2012_img_train\.tar, .*devkit.* --archives="):
        prepare.prepare("imagenet2012", "nowhere")


def test_what_tfds_prepared_is_read_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TFDS's features and folder of CIFAR-10, written in TFDS's hashed order."""
    pixels, labels = random_images(0, 50, 32, 32, 3), np.arange(50) % 10

    class Theirs(tfds.core.GeneratorBasedBuilder):
        name = "cifar10"
        VERSION = tfds.core.Version("3.0.2")

        def _info(self) -> tfds.core.DatasetInfo:
            features = {
                "id": tfds.features.Text(),
                "image": tfds.features.Image(shape=(32, 32, 3)),
                "label": tfds.features.ClassLabel(num_classes=10),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(0), "test": self._generate_examples(40)}

        def _generate_examples(self, first):
            for index in range(first, first + 40 if first == 0 else 50):
                png = io.BytesIO(images.encode_png(pixels[index]))
                yield (
                    f"n{index}",
                    {"id": f"n{index}", "image": png, "label": int(labels[index])},
                )

    Theirs(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    small = dataclasses.replace(data.DATASETS["cifar10"], splits={"train": 40, "test": 10})
    monkeypatch.setitem(data.DATASETS, "cifar10", small)
    for split, part in (("train", slice(0, 40)), ("test", slice(40, 50))):
        found, targets = data.load_arrays("cifar10", split, tmp_path)
        order = np.argsort([image.tobytes() for image in found])
        expected = np.argsort([image.tobytes() for image in pixels[part]])
        np.testing.assert_array_equal(found[order], pixels[part][expected])
        np.testing.assert_array_equal(targets[order], labels[part][expected])

    info = tmp_path / "cifar10" / "3.0.2" / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(
        UserError, match=r"cifar10/3.0.2 is tfrecord, not array_record\); run: pyth"
    ):
        data.load_arrays("cifar10", "test", tmp_path)


def test_names_that_are_none_are_refused_with_the_valid_ones(data_dir: str) -> None:
    with pytest.raises(UserError, match=r"'cifar11'; valid names: digits, .*folder:PATH"):
        data.dataset("cifar11")
    for name in ("synthetic:8x8:10", "synthetic:8x8x2:10", "synthetic:8x8x1:0", "synthetic:"):
        with pytest.raises(UserError, match="expected synthetic:HxWxC:CLASSES"):
            data.dataset(name)
    with pytest.raises(UserError, match="no split 'validation'; valid: train, test"):
        data.open_split("digits", "validation", data_dir)
    with pytest.raises(UserError, match="images vary in size"):
        data.load_arrays("imagenette", "train", data_dir)


def test_a_set_that_is_not_prepared_says_the_command_and_asks_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr("socket.getaddrinfo", no_network)
    folder = tmp_path / "with space"
    with pytest.raises(UserError) as caught:
        data.load_arrays("cifar10", "train", folder)
    command = f"run: python -m data.prepare cifar10 --data_dir='{folder}'"
    assert str(caught.value).endswith(command)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="prepare imagenet2012 --archives=DIR --data_dir"):
        data.open_split("imagenet2012", "test", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_data_directory_is_the_argument_then_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "environment"))
    assert prepared.data_directory(tmp_path / "argument") == tmp_path / "argument"
    assert prepared.data_directory(None) == tmp_path / "environment"
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert prepared.data_directory(None) == Path.home() / "tensorflow_datasets"


def test_the_table_is_read_without_tfds() -> None:
    code = "import data, sys; sys.exit('tensorflow_datasets' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def save(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(random_images(seed, 9, 7, 3)).save(path, "PNG")


def test_folder_with_train_and_validation(tmp_path: Path) -> None:
    for number, kind in enumerate(("cat", "dog", "cat")):
        save(tmp_path / "train" / kind / f"{number}.png", number)
    save(tmp_path / "val" / "dog" / "x.PNG", 9)
    (tmp_path / "train" / ".DS_Store").write_text("junk")
    name = f"folder:{tmp_path}"
    entry = data.dataset(name)
    assert entry.class_names == ("cat", "dog")
    assert (dict(entry.splits), entry.engine) == ({"train": 3, "test": 1}, "streaming")
    source = data.open_split(name, "train")
    found = {source[index]["image"].tobytes(): source[index]["label"] for index in range(3)}
    expected = {random_images(n, 9, 7, 3).tobytes(): kind for n, kind in enumerate((0, 1, 0))}
    assert found == expected
    test = pickle.loads(pickle.dumps(data.open_split(name, "test")))
    np.testing.assert_array_equal(test[0]["image"], random_images(9, 9, 7, 3))
    assert test[0]["label"] == 1


def test_folder_without_splits_keeps_every_image_on_its_side(tmp_path: Path) -> None:
    for number in range(40):
        save(tmp_path / "pictures" / f"class{number % 2}" / f"{number}.png", number)
    name = f"folder:{tmp_path / 'pictures'}"

    def sides() -> dict[str, set[str]]:
        both = {}
        for split in ("train", "test"):
            source = data.open_split(name, split)
            both[split] = {Path(source.place(i)[0]).name for i in range(len(source))}
        return both

    before = sides()
    assert len(before["train"]) + len(before["test"]) == 40
    assert not before["train"] & before["test"]
    assert 2 <= len(before["test"]) <= 16  # One in five, by a hash: 8 on average.
    for number in range(40, 60):
        save(tmp_path / "pictures" / f"class{number % 2}" / f"{number}.png", number)
    after = sides()
    assert before["train"] <= after["train"]
    assert before["test"] <= after["test"]


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("L", 77, (77, 77, 77)),
        ("I;16", 257 * 100, (100, 100, 100)),
        ("RGBA", (10, 200, 30, 0), (10, 200, 30)),
    ],
)
def test_other_colour_models_become_rgb(
    mode: str, value: int | tuple[int, ...], expected: tuple[int, ...]
) -> None:
    stream = io.BytesIO()
    image = Image.new(mode, (6, 4), value)
    image.save(stream, "JPEG" if mode == "CMYK" else "PNG")
    pixels = images.decode(stream.getvalue(), 3)
    assert pixels.shape == (4, 6, 3)
    np.testing.assert_allclose(pixels, np.broadcast_to(expected, (4, 6, 3)), atol=4)


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_pictures_stand_upright_whatever_exif_says_of_the_camera(form: str) -> None:
    """CIPA DC-008, tag 0x0112: the sides of the scene where row 0 and column 0 of a file lie."""
    sides = [
        *[("top", "left"), ("top", "right"), ("bottom", "right"), ("bottom", "left")],
        *[("left", "top"), ("right", "top"), ("right", "bottom"), ("left", "bottom")],
    ]
    scene = np.repeat(np.repeat(np.array([[0, 90], [180, 255], [40, 130]], np.uint8), 16, 0), 16, 1)
    for orientation, (row, column) in enumerate(sides, 1):
        # Rows go away from side `row`, columns away from side `column`.
        stored = scene if row in ("top", "bottom") else scene.T
        stored = stored[::-1] if row in ("bottom", "right") else stored
        stored = stored[:, ::-1] if column in ("bottom", "right") else stored
        exif = Image.Exif()
        exif[0x0112] = orientation
        stream = io.BytesIO()
        Image.fromarray(stored).save(stream, form, exif=exif)
        encoded = stream.getvalue()
        pixels = images.decode(encoded, 1, upright=True)
        np.testing.assert_allclose(pixels[..., 0], scene, atol=3)
        # Without, as stored: a published set is read as its papers and torchvision read it.
        np.testing.assert_allclose(images.decode(encoded, 1)[..., 0], stored, atol=3)


def test_a_folders_pictures_stand_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(12):
        path = tmp_path / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (9, 5)).save(path, exif=exif)
    source = data.open_split(f"folder:{tmp_path}", "train")
    assert source[0]["image"].shape == (9, 5, 3)


def test_an_exif_block_that_is_broken_turns_nothing() -> None:
    pixels, stream = random_images(0, 8, 6, 3), io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", exif=b"Exif\x00\x00not a TIFF header")
    np.testing.assert_array_equal(images.decode(stream.getvalue(), 3, upright=True), pixels)


def test_an_archive_taken_from_a_folder_must_be_there(tmp_path: Path) -> None:
    archive = Archive("some.tar", "sha256:0", None)
    with pytest.raises(UserError, match=r"missing some\.tar"):
        prepare.archives.find([archive], tmp_path)
