"""fashion_mnist_scenes: drawn on made-up photographs whose scenes are known, and from archives."""

import dataclasses
import hashlib
import pathlib

import archives
import numpy as np
import pytest

import data
from data import prepare, scenes
from errors import UserError

ITEMS = np.random.RandomState(0).randint(0, 256, (7, 28, 28), dtype=np.uint8)
PHOTOS = np.random.RandomState(1).randint(0, 256, (2, 427, 640, 3), dtype=np.uint8)


def draw(split: str, items: np.ndarray, photos: np.ndarray = PHOTOS) -> np.ndarray:
    return np.concatenate(list(scenes.scenes(split, items, photos)))


def fixed(monkeypatch: pytest.MonkeyPatch, **values: float) -> None:
    """Those draws have one value, and the rest does nothing to an item or a patch."""
    still = {"gain": 1, "scale": 1, "half_turn": 0, "shift": 0, "tint": 1, "opacity": 1} | values
    ranges = {name: (value, value) for name, value in still.items()}
    monkeypatch.setattr(scenes, "RANGES", dataclasses.replace(scenes.RANGES, **ranges))


def test_no_tile_is_shown_in_both_splits(monkeypatch: pytest.MonkeyPatch):
    fixed(monkeypatch)
    number = np.arange(3)[:, None] * 5 + np.arange(5)  # of a tile, by row and column
    plain = np.repeat(np.repeat(number, 142, axis=0), 128, axis=1)[None, ..., None]
    photos = np.concatenate([plain, 20 + plain]).repeat(3, axis=-1).astype(np.uint8)
    shown = {}
    for split in ("train", "test"):
        found = draw(split, np.zeros((1200, 28, 28), np.uint8), photos)
        # A patch that left its tile would mix two.
        assert (found == found[:, :1, :1, :1]).all()
        shown[split] = set(found[:, 0, 0, 0].tolist())
    tests = {2, 6, 10, 9, 13}  # where (row + column) % 3 is 2
    assert shown["test"] == tests | {20 + tile for tile in tests}
    assert shown["train"] == {*range(15), *range(20, 35)} - shown["test"]


def test_a_white_item_covers_its_square_and_leaves_the_rest(monkeypatch: pytest.MonkeyPatch):
    fixed(monkeypatch)
    white = draw("train", np.full((3, 28, 28), 255, np.uint8))
    behind = draw("train", np.zeros((3, 28, 28), np.uint8))
    assert (white[:, 2:30, 2:30] == 255).all()
    white[:, 2:30, 2:30] = behind[:, 2:30, 2:30]
    np.testing.assert_array_equal(white, behind)


def test_brightness_blends_the_tint_over_the_patch(monkeypatch: pytest.MonkeyPatch):
    fixed(monkeypatch, tint=0.2, opacity=0.5)
    grey = np.full((1, 427, 640, 3), 100, np.uint8)
    found = draw("test", ITEMS, grey)[:, 2:30, 2:30]
    alpha = 0.5 * ITEMS.astype(float)[..., None] / 255
    exact = 100 * (1 - alpha) + 255 * 0.2 * alpha
    assert np.abs(found - exact).max() <= 0.5 + 1e-9


def test_items_are_turned_shifted_and_scaled(monkeypatch: pytest.MonkeyPatch):
    black = np.zeros((1, 427, 640, 3), np.uint8)
    fixed(monkeypatch, half_turn=1)  # the tangent of 45 degrees: a quarter turn
    turned = draw("train", ITEMS, black)[:, 2:30, 2:30, 0]
    np.testing.assert_array_equal(turned, np.rot90(ITEMS, axes=(1, 2)))
    fixed(monkeypatch, shift=2)
    np.testing.assert_array_equal(draw("train", ITEMS, black)[:, 4:32, 4:32, 0], ITEMS)
    fixed(monkeypatch, scale=0.5)
    halved = draw("train", np.full((1, 28, 28), 255, np.uint8), black)[0, ..., 0]
    assert (halved[9:23, 9:23] == 255).all()
    assert halved.sum() == 14 * 14 * 255


def test_a_scene_is_a_function_of_split_and_place(monkeypatch: pytest.MonkeyPatch):
    whole = draw("train", ITEMS)
    assert (whole.shape, whole.dtype) == ((7, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(draw("train", ITEMS[:3]), whole[:3])
    monkeypatch.setattr(scenes, "CHUNK", 2)
    np.testing.assert_array_equal(draw("train", ITEMS), whole)
    assert (draw("test", ITEMS) != whole).any()


def test_other_photographs_are_refused(monkeypatch: pytest.MonkeyPatch):
    assert scenes.photographs().shape == (2, 427, 640, 3)
    monkeypatch.setitem(scenes.PHOTOGRAPHS, "flower.jpg", "0" * 64)
    with pytest.raises(UserError, match=r"^scikit-learn's flower\.jpg: its decoded pixels are not"):
        scenes.photographs()


def test_scenes_are_prepared_whole_or_not_at_all(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    labels = {"train": np.arange(5) % 3, "t10k": np.array([9, 4])}
    files = archives.mnist({"train": ITEMS[:5], "t10k": ITEMS[5:]}, labels)
    archives.publish(monkeypatch, "fashion_mnist_scenes", files, tmp_path / "a", 5, 2)
    with pytest.raises(UserError, match="fashion_mnist_scenes: the train images made here are not"):
        prepare.prepare("fashion_mnist_scenes", tmp_path, tmp_path / "a")
    with pytest.raises(UserError, match="not prepared"):
        data.load_arrays("fashion_mnist_scenes", "train", tmp_path)
    photos = scenes.photographs()
    parts = {"train": ("train", ITEMS[:5]), "test": ("t10k", ITEMS[5:])}
    for split, (part, items) in parts.items():
        content = draw(split, items, photos).tobytes() + labels[part].astype(np.uint8).tobytes()
        monkeypatch.setitem(scenes.IMAGES, split, hashlib.sha256(content).hexdigest())
    prepare.prepare("fashion_mnist_scenes", tmp_path, tmp_path / "a")
    for split, (part, items) in parts.items():
        images, found = data.load_arrays("fashion_mnist_scenes", split, tmp_path)
        np.testing.assert_array_equal(images, draw(split, items, photos))
        np.testing.assert_array_equal(found, labels[part])
