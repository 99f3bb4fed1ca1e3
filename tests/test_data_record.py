"""What a run keeps of its data set: use without data; a data set that changed during the run."""

import contextlib
import dataclasses
import pathlib
import shutil
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

import data
import evaluate
import input_pipeline
import sharding
import train
from errors import UserError
from tests.toy import lenet_config
from training import data_record, trained

CLASSES = ("cat", "dog", "owl")


def picture(path: pathlib.Path, seed: int, side: int = 20) -> None:
    """Random pixels; the side determines the size of the file."""
    pixels = np.random.RandomState(seed).randint(0, 256, (side, side, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def config_of(**fields: Any) -> ConfigDict:
    """LeNet for two steps on the folder images/ of the working directory."""
    return lenet_config(
        **{
            "data.name": "folder:images",
            "data.size": 16,
            "data.normalize": ("scale()", "channel_mean()"),
            "batch_size": 8,
            "eval.batch_size": 8,
            "duration": "2 steps",
            "eval.every": "2 steps",
            "checkpoint.every": "2 steps",
            **fields,
        }
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """images/ of three classes, and run/, trained on them for two steps."""
    root = tmp_path_factory.mktemp("record")
    for split, count in (("train", 4), ("test", 3)):
        for label, name in enumerate(CLASSES):
            (root / "images" / split / name).mkdir(parents=True)
            for index in range(count):
                picture(root / "images" / split / name / f"{index}.png", index, 20 + label)
    with contextlib.chdir(root):
        train.train_and_evaluate(config_of(), "run")
    return root


@pytest.fixture
def images(
    made: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> pathlib.Path:
    """Copies run/ and images/ to the working directory; returns images/, for tests to change."""
    shutil.copytree(made, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy" / "images"


def add_images(images: pathlib.Path) -> None:
    for index in range(2):
        Image.new("RGB", (20, 20), "white").save(images / "train" / "cat" / f"white{index}.png")


def permute_classes(images: pathlib.Path) -> None:
    for split in ("train", "test"):
        (images / split / "cat").rename(images / split / "aside")
        (images / split / "owl").rename(images / split / "cat")
        (images / split / "aside").rename(images / split / "owl")


def add_class(images: pathlib.Path) -> None:
    for split in ("train", "test"):
        shutil.copytree(images / split / "cat", images / split / "elk")


def rename_class(images: pathlib.Path) -> None:
    for split in ("train", "test"):
        (images / split / "owl").rename(images / split / "yak")


def edit_image(images: pathlib.Path) -> None:
    picture(images / "test" / "dog" / "1.png", 1, 30)


CHANGES: dict[str, tuple[Callable[[pathlib.Path], None], str]] = {
    "images added": (add_images, "12 train images then, 14 now"),
    "classes permuted": (permute_classes, "other images or labels in train and test"),
    "a class added": (add_class, "class elk is new"),
    "a class renamed": (rename_class, "class owl is gone; class yak is new"),
    "an image edited": (edit_image, "other images or labels in test"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_data_set_that_changed_during_a_run_is_one_line(
    change: str, images: pathlib.Path
) -> None:
    apply, words = CHANGES[change]
    apply(images)
    before = {path: path.read_bytes() for path in pathlib.Path("run").rglob("*") if path.is_file()}
    with pytest.raises(
        UserError, match=f"not the one that the run started with: {words}; "
    ) as said:
        train.train_and_evaluate(config_of(), "run")
    assert "\n" not in str(said.value)
    assert all(path.read_bytes() == content for path, content in before.items())


@pytest.mark.parametrize("change", [*CHANGES, "gone"])
def test_loading_needs_no_image(change: str, images: pathlib.Path) -> None:
    with closing(input_pipeline.create(config_of(), sharding.create_mesh())) as pipeline:
        shown = np.arange(8 * 16 * 16 * 3, dtype=np.uint8).reshape(8, 16, 16, 3)
        expected = np.asarray(pipeline.preprocess(shown))
    if change == "gone":
        images.rename(images.parent / "elsewhere")
    else:
        CHANGES[change][0](images)
    net = trained.load("run")
    np.testing.assert_array_equal(net.preprocess(shown), expected)
    assert net.class_names == CLASSES
    assert net.predict(shown).shape == (8,)


def test_evaluation_names_classes_that_the_run_did_not_have(images: pathlib.Path) -> None:
    add_class(images)
    with pytest.raises(UserError, match=r"the 3 classes of folder:images, .* elk is new"):
        evaluate.evaluate(["run"], ["center"])


def test_a_moved_folder_is_evaluated_where_it_is(images: pathlib.Path) -> None:
    (here,) = evaluate.evaluate(["run"], ["center"])
    images.rename(images.parent / "elsewhere")
    (there,) = evaluate.evaluate(["run"], ["center"], data_name="folder:elsewhere")
    assert (there["top1"], there["loss"]) == (here["top1"], here["loss"])


def test_a_damaged_record_is_one_line(images: pathlib.Path) -> None:
    path = pathlib.Path("run") / "data.npz"
    content = path.read_bytes()
    half = bytearray(content)
    half[len(half) // 2] ^= 1
    for damaged in (b"", content[:-40], bytes(half), b"[1, 2]"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"data\.npz: is damaged") as said:
            trained.load("run")
        assert "\n" not in str(said.value)


def test_weights_are_not_used_with_another_record(images: pathlib.Path) -> None:
    record = data_record.read(pathlib.Path("run"))
    assert record is not None
    (mean,) = record.statistics["channel_mean"]
    (pathlib.Path("run") / "data.npz").unlink()
    data_record.keep(
        pathlib.Path("run"),
        dataclasses.replace(record, statistics={"channel_mean": (mean + 1,)}),
    )
    for use in (lambda: trained.load("run"), lambda: train.train_and_evaluate(config_of(), "run")):
        with pytest.raises(UserError, match=r"a checkpoint of another data than .* data\.npz"):
            use()


def test_a_lost_record_is_written_again_from_the_same_data(images: pathlib.Path) -> None:
    before = data_record.read(pathlib.Path("run"))
    assert before is not None
    (pathlib.Path("run") / "data.npz").unlink()
    with pytest.raises(UserError, match=r"run: has no data\.npz"):
        trained.load("run")
    edit_image(images)
    with pytest.raises(UserError, match="a checkpoint of another data"):
        train.train_and_evaluate(config_of(), "run")
    picture(images / "test" / "dog" / "1.png", 1, 21)
    train.train_and_evaluate(config_of(), "run")
    again = data_record.read(pathlib.Path("run"))
    assert again is not None
    assert again.sha256 == before.sha256


def test_the_digest_of_a_resident_set_depends_on_every_pixel_and_label(
    data_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def digests() -> dict[str, str]:
        return input_pipeline.create(lenet_config(), sharding.create_mesh(), data_dir).digests()

    whole, load = digests(), data.load_arrays
    assert digests() == whole

    def changed(place: int) -> dict[str, str]:
        def load_changed(*arguments: Any) -> tuple[np.ndarray, np.ndarray]:
            arrays = load(*arguments)
            if arguments[1] == "test":
                arrays[place].flat[-1] ^= 1
            return arrays

        monkeypatch.setattr(data, "load_arrays", load_changed)
        return digests()

    for place in (0, 1):  # images, labels
        found = changed(place)
        assert found["train"] == whole["train"]
        assert found["test"] != whole["test"]
