"""Parts of a data set: some of its classes, and so many labels a class."""

import pickle
import re
from typing import Any

import jax
import numpy as np
import pytest

import data
import input_pipeline
import sharding
from data.classes import COUNTS
from errors import UserError
from tests.toy import lenet_config


@pytest.mark.parametrize("split", ["train", "test"])
def test_chosen_classes_keep_their_order_and_are_renumbered(split: str, data_dir: str) -> None:
    images, labels = data.load_arrays("digits", split, data_dir)
    for name, chosen in (("digits:2-4", [2, 3, 4]), ("digits:9+0-1", [9, 0, 1])):
        pixels, new = data.load_arrays(name, split, data_dir)
        kept = np.isin(labels, chosen)
        np.testing.assert_array_equal(pixels, images[kept])
        np.testing.assert_array_equal(np.asarray(chosen)[new], labels[kept])
        entry = data.dataset(name)
        assert entry.classes == 3
        assert entry.class_names == tuple(map(str, chosen))
        assert entry.splits[split] == len(new)

        source = pickle.loads(pickle.dumps(data.open_split(name, split, data_dir)))
        assert len(source) == len(new)
        np.testing.assert_array_equal(source[5]["image"], pixels[5])
        assert source[5]["label"] == source.encoded(5)[1] == new[5]
        with pytest.raises(IndexError):
            source[len(new)]
    digests = {data.open_split(f"digits:{c}", split, data_dir).digest() for c in ("0-4", "5-9")}
    assert len(digests) == 2


def test_the_counts_are_those_of_the_sets(data_dir: str) -> None:
    for split in ("train", "test"):
        _, labels = data.load_arrays("digits", split, data_dir)
        assert COUNTS["digits"][split] == tuple(np.bincount(labels))
    for name, counts in COUNTS.items():
        for split, of_class in counts.items():
            assert len(of_class) == data.dataset(name).classes
            assert sum(of_class) == data.dataset(name).splits[split]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digits:", "'' is no class or range of classes of digits, 0 to 9; for example digits:0-7"),
        ("digits:0-10", "'0-10' is no class or range"),
        ("digits:4-2", "'4-2' is no class or range"),
        ("digits:0-3+2", "names a class twice"),
        ("digits:7", "has one class only"),
        ("imagenette:0-3", "classes can be chosen only of digits, mnist, "),
        ("nothing:0-3", "there is no data set 'nothing:0-3'; valid names: "),
    ],
)
def test_other_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        data.dataset(name)


def drawn(data_dir: str, **fields: Any) -> tuple[np.ndarray, np.ndarray]:
    """The training images of a config and their labels, in stored order."""
    config = lenet_config(**{"data.name": "digits:0-2", "data.augment": (), **fields})
    mesh = sharding.create_mesh(jax.devices()[:1])
    pipeline = input_pipeline.create(config, mesh, data_dir)
    assert pipeline.examples["train"] == 3 * config.data.labels_a_class
    inputs = pipeline.fetch(0)
    return np.asarray(inputs["images"]), np.asarray(inputs["labels"])


def test_labels_a_class_are_drawn_by_the_seed_and_fewer_are_a_part_of_more(data_dir: str) -> None:
    few, labels = drawn(data_dir, **{"data.labels_a_class": 10})
    assert np.bincount(labels).tolist() == [10, 10, 10]
    more, _ = drawn(data_dir, **{"data.labels_a_class": 30})
    again, _ = drawn(data_dir, **{"data.labels_a_class": 10})
    other, _ = drawn(data_dir, **{"data.labels_a_class": 10, "seed": 1})
    np.testing.assert_array_equal(few, again)
    assert {image.tobytes() for image in few} <= {image.tobytes() for image in more}
    assert {image.tobytes() for image in few} != {image.tobytes() for image in other}


def test_labels_are_drawn_from_what_training_would_have(data_dir: str) -> None:
    """Neither of the validation part nor beyond config.data.train_images."""
    images, _ = data.load_arrays("digits:0-2", "train", data_dir)
    fields = {"data.labels_a_class": 20, "data.train_images": 90, "data.validation": 30}
    few, _ = drawn(data_dir, **fields)
    assert {i.tobytes() for i in few} <= {i.tobytes() for i in images[:90]}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data.labels_a_class": 142}, "digits:0-2 has 141 training images of the class 2"),
        ({"data.labels_a_class": 500}, "digits:0-2 has 3 classes and 439 training images"),
        ({"data.labels_a_class": 10, "data.on_damage": "skip"}, "needs the resident engine"),
        ({"data.labels_a_class": 10, "data.engine": "streaming"}, "needs the resident engine"),
    ],
)
def test_labels_that_are_not_there_are_one_line(
    fields: dict[str, Any], message: str, data_dir: str
) -> None:
    with pytest.raises(
        UserError, match=f"config.data.labels_a_class={fields['data.labels_a_class']}: .*{message}"
    ):
        drawn(data_dir, **fields)
