"""Protocols on small networks with random weights: crops by hand, dense maps, devices, batches.

LeNet's modern form at 16 pixels: a short side of 256 is 18, so that images stored at 18 × 18 are
not resampled, and crops by hand are slices.
"""

from functools import partial
from types import SimpleNamespace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

import models
import sharding
from augmentations import normalize, recipe
from errors import UserError
from inspection import cost
from models.layers import Conv, Dense, GlobalAvgPool
from models.network import Network
from protocols import dense, score_average
from protocols.predictions import Predictor
from training.trained import Trained

DATA = {"augment": (), "size": 16, "short_side": 0, "channels": 0}


class Averaged(Network):
    """One convolution without padding, averaged before a linear classifier."""

    @nn.compact
    def forward(self, images: jax.Array, train: bool):
        maps = nn.relu(Conv(6, (3, 3), stride=2, name="conv1")(images))
        return Dense(self.num_classes, name="fc2")(GlobalAvgPool(name="pool1")(maps)), {}


def lenet(**fields) -> Network:
    return models.create({"name": "lenet5_modern", "input": (16, 16, 1), **fields})


def trained(network: Network, *calls: str, seed: int = 0, statistics=None) -> Trained:
    """A network with weights from the seed; its data are scaled to 0..1 unless `calls` is given."""
    data = {**DATA, "normalize": calls or ("scale()",)}
    record: Any = SimpleNamespace(statistics=statistics or {})
    draws = np.random.RandomState(seed)
    variables = jax.tree.map(
        lambda leaf: jnp.asarray(
            draws.normal(0, np.sqrt(2 / max(1, np.prod(leaf.shape[:-1]))), leaf.shape), leaf.dtype
        ),
        models.variables_of(network),
    )
    config = ConfigDict({"model": {"name": "lenet5_modern"}})
    made = recipe.read(data, (18, 18, network.input[2]))
    return Trained(network, variables, made, record, config, 0)


def predictor(run: Trained, count: int = 1, batch: int = 8) -> Predictor:
    return Predictor(run, sharding.create_mesh(jax.devices()[:count]), batch)


def images(count: int, height: int = 18, width: int = 18, channels: int = 1) -> np.ndarray:
    shape = (count, height, width, channels)
    return np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)


def logits(run: Trained, pixels: np.ndarray) -> np.ndarray:
    """The network's posteriors of images that are already cut."""
    return np.asarray(apply(run.network, run.variables, jnp.asarray(pixels, jnp.float32) / 255))


@partial(jax.jit, static_argnums=0)
def apply(network: Network, variables, pixels: jax.Array) -> jax.Array:
    outputs: Any = network.apply(variables, pixels)
    return outputs.logits


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.fixture(scope="module")
def run() -> Trained:
    return trained(lenet())


def test_ten_crops_by_hand_are_the_protocol(run):
    x = images(5)
    crops = [
        x[:, top : top + 16, left : left + 16]
        for top, left in ((0, 0), (0, 2), (2, 0), (2, 2), (1, 1))
    ]
    crops += [crop[:, :, ::-1] for crop in crops]
    by_hand = np.mean([softmax(logits(run, crop)) for crop in crops], axis=0)
    own = predictor(run)
    np.testing.assert_allclose(own.predict(x, own.protocol("ten_crop")), by_hand, atol=2e-6)
    # Not the softmax of the average.
    other = softmax(np.mean([logits(run, crop) for crop in crops], axis=0))
    assert np.abs(other - by_hand).max() > 1e-4


def test_dense_on_an_image_of_the_training_size_is_one_crop(run):
    x = images(3, 16, 16)
    own = predictor(run)
    one = softmax(logits(run, x))
    for text in ("dense:sides=224,flip=0", "center:side=224", "plain"):
        np.testing.assert_allclose(own.predict(x, own.protocol(text)), one, atol=2e-6)


@pytest.mark.parametrize("network", [lenet(), lenet(conv_features=(3, 5), dense_features=(7,))])
def test_entries_of_the_dense_map_are_the_crops_at_their_positions(network):
    run = trained(network)
    x = images(2, 24, 28)
    form = dense.fully_convolutional(network)
    entries = apply(form, run.variables, jnp.asarray(x, jnp.float32) / 255)
    # Two poolings: positions are four pixels apart.
    assert entries.shape == (2, 3, 4, 10)
    for row in range(3):
        for column in range(4):
            crop = x[:, 4 * row : 4 * row + 16, 4 * column : 4 * column + 16]
            np.testing.assert_allclose(entries[:, row, column], logits(run, crop), atol=1e-5)


def test_dense_averages_scores_over_positions_then_posteriors_over_flips_and_scales(run):
    own = predictor(run)
    x = images(2, 24, 24)  # 24 pixels are 336 of the paper's
    crops = [
        x[:, top : top + 16, left : left + 16] for top in range(0, 9, 4) for left in range(0, 9, 4)
    ]
    straight = np.mean([logits(run, crop) for crop in crops], axis=0)
    mirror = [x[:, :, ::-1][:, t : t + 16, c : c + 16] for t in (0, 4, 8) for c in (0, 4, 8)]
    mirrored = np.mean([logits(run, crop) for crop in mirror], axis=0)
    expected = (softmax(straight) + softmax(mirrored)) / 2
    found = own.predict(x, own.protocol("dense:sides=336"))
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert (
        np.abs(np.mean([softmax(logits(run, c)) for c in crops + mirror], 0) - found).max() > 1e-4
    )
    scores = own.predict(x, own.protocol("dense:sides=336,average=scores"))
    np.testing.assert_allclose(scores, softmax((straight + mirrored) / 2), atol=2e-6)
    # Two scales: the mean of the results of each.
    both = own.predict(x, own.protocol("multi_scale:sides=336+224"))
    single = own.predict(x, own.protocol("dense:sides=224"))
    np.testing.assert_allclose(both, (found + single) / 2, atol=2e-6)


def test_crops_and_dense_is_the_mean_of_the_two(run):
    own, x = predictor(run), images(2)
    parts = [
        own.predict(x, own.protocol(f"{name}:sides=256+288")) for name in ("grid_crop", "dense")
    ]
    both = own.predict(x, own.protocol("multi_crop_and_dense:sides=256+288"))
    np.testing.assert_allclose(both, (parts[0] + parts[1]) / 2, atol=2e-6)


def test_a_network_that_averages_its_last_map_is_dense_by_nature():
    network = Averaged(input=(16, 16, 1), num_classes=3)
    run = trained(network)
    assert dense.fully_convolutional(network) is network
    x = images(2, 21, 18)
    # Every entry of the last map, classified by itself: one 3×3 window of the image, every second.
    kernel, bias = (
        np.asarray(run.variables["params"]["conv1"][name]) for name in ("kernel", "bias")
    )
    last = run.variables["params"]["fc2"]
    rows, columns = range(0, 19, 2), range(0, 16, 2)
    windows = np.stack([x[:, i : i + 3, j : j + 3] for i in rows for j in columns]) / 255
    maps = np.maximum(np.einsum("pnhwc,hwco->pno", windows, kernel) + bias, 0)
    scores = (maps @ np.asarray(last["kernel"]) + np.asarray(last["bias"])).mean(0)
    own = predictor(run)
    # The short side is 18 pixels, 252 of the paper's: nothing is resampled.
    found = own.predict(x, own.protocol("dense:sides=252,flip=0"))
    np.testing.assert_allclose(found, softmax(scores), atol=2e-6)


@pytest.mark.parametrize("text", ["ten_crop", "dense:sides=320"])
def test_devices_and_batches_change_nothing(run, text):
    x = images(7, 20, 23)
    single = predictor(run, 1, batch=7)
    whole = single.predict(x, single.protocol(text))
    for count, batch in ((8, 7), (3, 2), (1, 5)):
        own = predictor(run, count, batch)
        parts = [own.predict(part, own.protocol(text)) for part in (x[:4], x[4:])]
        np.testing.assert_allclose(np.concatenate(parts), whole, atol=2e-6)


def test_images_of_many_sizes_are_cut_one_by_one(run):
    sizes = ((18, 18), (36, 30), (18, 18), (25, 41), (36, 30))
    many = [images(1, *size)[0].repeat(3, axis=-1) for size in sizes]
    own = predictor(run, 2, batch=2)
    for text in ("ten_crop", "crop_144", "dense:sides=320,flip=0"):
        protocol = own.protocol(text)
        together = own.predict(many, protocol)
        # In a batch of one, and at another position of a batch.
        np.testing.assert_allclose(own.predict(many[1:3], protocol), together[1:3], atol=2e-6)
        # On the device the same views are cut, without rounding to whole grey levels.
        for row in (0, 1):
            stacked = own.predict(many[row][None], protocol)
            np.testing.assert_allclose(together[row], stacked[0], atol=2e-2)
        np.testing.assert_allclose(together[0], together[2], atol=2e-6)


def test_one_dispatch_holds_a_bounded_number_of_pixels(run):
    own = predictor(run, 2, batch=32)
    assert own._capacity((16, 16)) == 32
    assert own._capacity((32, 64)) == 4
    assert own._capacity((160, 160)) == 2  # at least one a device
    assert predictor(run, 8, batch=3).batch == 8


def test_multiply_adds_are_summed_over_the_views(run):
    own = predictor(run)
    # 16 pixels: conv1 12²·25·6, conv2 2²·150·16, and 1·16·120 + 120·84 + 84·10.
    one = 144 * 150 + 4 * 2400 + 16 * 120 + 120 * 84 + 84 * 10
    assert own.multiply_adds(own.protocol("center"), (18, 18)) == one
    # A square image has 48 distinct views.
    assert own.multiply_adds(own.protocol("crop_144"), (18, 18)) == 48 * one
    assert own.multiply_adds(own.protocol("crop_144"), (18, 60)) == 144 * one
    # 24 pixels: conv1 20², conv2 6², the dense layers at 3 × 3 positions.
    large = 400 * 150 + 36 * 2400 + 9 * (16 * 120 + 120 * 84 + 84 * 10)
    assert own.multiply_adds(own.protocol("dense:sides=336"), (24, 24)) == 2 * large
    assert cost.measure(run.network).multiply_adds == one


def test_the_mean_image_is_a_mean_colour_for_images_of_another_size():
    mean = np.random.RandomState(1).rand(16, 16, 3).astype(np.float32)
    x = jnp.ones((2, 20, 24, 3))
    found = normalize.per_pixel_mean(x, jnp.asarray(mean))
    np.testing.assert_allclose(found, 1 - np.broadcast_to(mean.mean((0, 1)), x.shape), rtol=1e-5)
    same = normalize.per_pixel_mean(x[:, :16, :16], jnp.asarray(mean))
    np.testing.assert_allclose(same[0], 1 - mean, rtol=1e-5)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"name": "lenet_caffe", "input": (28, 28, 1)}, "ip1 takes its whole 4×4 map"),
        ({"name": "cuda_convnet_cifar10_18pct"}, "fc10 takes its whole 4×4 map"),
        ({"name": "cuda_convnet_cifar10_conv_local"}, "local3 has a kernel of its own"),
    ],
)
def test_a_network_that_cannot_be_dense_says_why(spec, words):
    with pytest.raises(ValueError, match=words):
        dense.fully_convolutional(models.create(spec))


def test_a_predictor_refuses_in_one_line():
    caffe = models.create({"name": "lenet_caffe", "input": (16, 16, 1)})
    own = predictor(trained(caffe))
    with pytest.raises(UserError, match=r"--protocol=dense: .*cannot be dense: ip1"):
        own.multiply_adds(own.protocol("dense"), (18, 18))
    whitened = predictor(trained(lenet(), "scale()", "zca()"))
    with pytest.raises(UserError, match="zca needs images of 16×16, not 18×18"):
        whitened.multiply_adds(whitened.protocol("dense"), (18, 18))
    own = predictor(trained(lenet()))
    with pytest.raises(UserError, match="at 12×12: conv2: a 5×5 window"):
        own.multiply_adds(own.protocol("dense:sides=168"), (18, 18))


def test_models_of_an_ensemble_count_equally(run):
    x = images(3)
    runs = [run, trained(lenet(), seed=1)]
    owns = [predictor(each) for each in runs]
    answers = [own.predict(x, own.protocol("ten_crop")) for own in owns]
    np.testing.assert_array_equal(score_average.over_models(answers[:1]), answers[0])
    mean = score_average.over_models(answers)
    np.testing.assert_allclose(mean, (answers[0] + answers[1]) / 2)
    np.testing.assert_allclose(mean.sum(-1), 1, rtol=1e-5)
