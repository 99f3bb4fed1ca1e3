"""First filters and nearest neighbours: what is found and what is drawn."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from drawn import drawn, outputs_of
from ml_collections import ConfigDict
from PIL import Image

import data
import describe
import input_pipeline
import models
import sharding
from errors import UserError
from inspection import weights, weights_picture
from training import neighbours
from training.trained import load


def test_the_first_convolution_is_found():
    network = models.create({"name": "resnet20_cifar10_A", "input": 8, "width": 0.25})
    params = drawn(network)["params"]
    layer, filters = weights.first_filters(network, params)
    assert layer == "conv1"
    np.testing.assert_array_equal(filters, params["conv1"]["kernel"])
    none = models.create({"name": "lecture_conv1x1"})
    with pytest.raises(UserError, match="its first layer has no filters to draw"):
        weights.first_filters(none, drawn(none)["params"])


@pytest.mark.parametrize(
    ("name", "last", "before"),
    [("lenet5_modern", "fc5", "fc4"), ("resnet20_cifar10_A", "fc", "pool")],
)
def test_the_last_hidden_layer_is_what_the_last_layer_gets(name, last, before):
    network = models.create({"name": name, "input": (16, 16, 1), "width": 0.5})
    variables = drawn(network)
    images = np.random.RandomState(0).standard_normal((3, 16, 16, 1)).astype(np.float32)
    found, hidden = weights.last_hidden(network)
    assert found == last
    features = hidden(variables, jnp.asarray(images))
    # The layer's own arithmetic on the features gives the logits.
    kernel, bias = (variables["params"][last][part] for part in ("kernel", "bias"))
    logits = outputs_of(network, variables, images).logits
    np.testing.assert_allclose(features @ kernel + bias[None], logits, rtol=1e-4, atol=1e-4)


def test_the_nearest_rows_come_first():
    kept = np.array([[0.0, 0.0], [3.0, 4.0], [1.0, 0.0], [0.0, 1.0]])
    queries = np.array([[0.0, 0.1], [3.0, 3.0]])
    # From (0, 0.1): 0.1, 4.9, 1.005, 0.9. From (3, 3): 4.24, 1, 3.6, 3.6.
    assert weights.nearest(queries, kept, 3).tolist() == [[0, 3, 2], [1, 2, 3]]


def test_filters_are_scaled_each_by_its_largest_weight():
    filters = np.zeros((2, 2, 1, 2), np.float32)
    filters[0, 0, 0, 0], filters[1, 1, 0, 1] = 0.5, -4.0
    block = weights_picture.mosaic(filters)
    # Two tiles of 2 × 2 weights, 8 pixels each, one above the other; the gap is 16 / 12 pixels.
    assert block.shape == (2 * 16 + 1, 16, 3)
    assert (block[:8, :8] == 1.0).all()
    assert (block[8:16, 8:] == 0.5).all()
    assert (block[16] == 1.0).all()
    assert (block[25:, 8:] == 0.0).all()
    assert (weights_picture.mosaic(np.zeros((3, 3, 3, 1))) == 0.5).all()


@pytest.mark.parametrize(
    ("count", "columns"), [(1, 1), (6, 2), (16, 4), (31, 4), (64, 8), (96, 8), (192, 12)]
)
def test_blocks_of_filters_have_full_rows_if_possible(count: int, columns: int):
    assert weights_picture._columns(count) == columns


@pytest.mark.parametrize(
    ("labels", "rows"),
    [
        ([3, 3, 1, 0], [3, 2, 0, 1]),
        ([0, 1] * 6, [0, 2, 4, 6, 1, 3, 5, 7]),
        (list(range(20)), [0, 2, 5, 7, 10, 12, 15, 17]),  # place · 20 // 8
    ],
)
def test_rows_are_of_different_classes(labels: list[int], rows: list[int]):
    assert neighbours._rows(np.array(labels)) == rows


def test_neighbours_are_those_of_a_search_by_hand(run, data_dir):
    loaded = load(run)
    found = neighbours.find(loaded, data_dir)
    images, labels = data.load_arrays(loaded.config.data.name, "train", data_dir)
    tests, of_tests = data.load_arrays(loaded.config.data.name, "test", data_dir)
    assert found.searched == "64 training images"
    assert found.images.shape == (8, 7, 16, 16, 1)

    def features(pixels: np.ndarray) -> np.ndarray:
        captured = loaded.apply(loaded.preprocess(pixels), capture=("fc4",)).captured["fc4"]
        return np.maximum(captured, 0.0)  # the network's nonlinearity is ReLU

    kept = features(images)
    for row, names in zip(found.images, found.labels, strict=True):
        (place,) = (i for i in range(len(tests)) if (tests[i] == row[0]).all())
        distances = np.linalg.norm(kept - features(tests[place : place + 1]), axis=1)
        order = np.argsort(distances)[:6]
        np.testing.assert_array_equal(row[1:], images[order])
        assert names == [str(of_tests[place]), *(str(labels[index]) for index in order)]


def test_of_labels_drawn_by_the_seed_only_those_are_searched(run, data_dir, tmp_path):
    config = json.loads((run / "config.json").read_text())
    config["data"]["labels_a_class"] = 2
    with_few = dataclasses.replace(load(run), config=ConfigDict(config))
    images, labels = neighbours._read(with_few, "train", 64, data_dir)
    assert sorted(labels) == sorted([*range(10)] * 2)
    made = input_pipeline.create(with_few.config.lock(), sharding.create_mesh(), data_dir)
    np.testing.assert_array_equal(labels, made.views(20, None)[0])
    assert images.shape == (20, 16, 16, 1)


def test_the_command_draws_both_and_without_data_the_filters(run, data_dir, tmp_path, capsys):
    path = tmp_path / "weights.png"
    words = (f"--weights={run}", f"--show={path}")
    describe.main((*words, f"--data_dir={data_dir}"))
    assert capsys.readouterr().out == f"{path}\n"
    with Image.open(path) as both:
        wide = both.size[0]
    config = json.loads((run / "config.json").read_text())
    with pytest.MonkeyPatch.context() as patch:

        def gone(*_: object) -> None:
            raise UserError(f"data set {config['data']['name']} is not prepared")

        patch.setattr(data, "open_split", gone)
        describe.main(words)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("left out: nearest neighbours: data set synthetic:16x16x1")
    assert second == str(path)
    with Image.open(path) as filters:
        assert filters.size[0] < wide * 0.6


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--weights=runs/a"], "--weights: needs --show=PATH"),
        (["--weights=nowhere", "--show=a.png"], "nowhere: no run here"),
        (["--weights=a", "--all", "--show=a.png"], "exactly one of"),
    ],
)
def test_mistakes_are_one_line(words, says, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=says):
        describe.main(words)
