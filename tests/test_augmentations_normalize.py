"""Normalisations and their statistics against NumPy in float64; call strings and their errors."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from ml_collections import ConfigDict

from augmentations import normalize, recipe
from augmentations.calls import AUGMENTATIONS, NORMALIZATIONS, parse
from errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (50, 6, 5, 3)).astype(np.float32)
CHUNKS = [IMAGES[:20], IMAGES[20:45], IMAGES[45:]]
EXACT = IMAGES.astype(np.float64)


def test_lenets_scale_is_the_printed_one():
    values = normalize.lenet(jnp.array([0.0, 255.0]))
    np.testing.assert_allclose(values, [-0.1, 1.175], rtol=1e-6)


def test_scale_is_zero_to_one():
    values = normalize.scale(jnp.array([0.0, 51.0, 255.0]))
    np.testing.assert_allclose(values, [0.0, 0.2, 1.0], rtol=1e-6)


def test_means_and_sd():
    (mean,) = normalize.fit_per_pixel_mean(CHUNKS)
    np.testing.assert_allclose(mean, EXACT.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(
        normalize.per_pixel_mean(jnp.asarray(IMAGES), mean).mean(axis=0), 0.0, atol=1e-4
    )
    (mean,) = normalize.fit_channel_mean(CHUNKS)
    np.testing.assert_allclose(mean, EXACT.mean(axis=(0, 1, 2)), rtol=1e-6)
    shifted = normalize.channel_mean(jnp.asarray(IMAGES), mean)
    np.testing.assert_allclose(shifted, EXACT - EXACT.mean(axis=(0, 1, 2)), atol=1e-4)
    mean, sd = normalize.fit_mean_sd(CHUNKS)
    np.testing.assert_allclose(sd, EXACT.std(axis=(0, 1, 2)), rtol=1e-6)
    whitened = np.asarray(normalize.mean_sd(jnp.asarray(IMAGES), mean, sd))
    np.testing.assert_allclose(whitened.mean(axis=(0, 1, 2)), 0.0, atol=1e-5)
    np.testing.assert_allclose(whitened.std(axis=(0, 1, 2)), 1.0, atol=1e-5)


def test_a_constant_channel_is_not_divided_by_zero():
    flat = np.full((4, 2, 2, 1), 9.0, np.float32)
    mean, sd = normalize.fit_mean_sd([flat])
    np.testing.assert_array_equal(normalize.mean_sd(jnp.asarray(flat), mean, sd), 0 * flat)


def test_gcn_gives_every_image_mean_0_and_norm_55():
    images = np.concatenate([IMAGES, np.full((1, 6, 5, 3), 200, np.float32)])
    contrast = np.asarray(normalize.gcn(jnp.asarray(images), norm=55.0), np.float64)
    np.testing.assert_allclose(contrast.mean(axis=(1, 2, 3)), 0.0, atol=1e-5)
    norms = np.sqrt(np.square(contrast).sum(axis=(1, 2, 3)))
    np.testing.assert_allclose(norms[:-1], 55.0, rtol=1e-5)
    assert norms[-1] == 0.0  # one colour only: nothing to scale


@pytest.mark.parametrize("eps", [0.1, 1e-6])
def test_zca_is_the_symmetric_root_and_whitens(eps):
    rng = np.random.default_rng(1)
    mix = rng.normal(size=(12, 12))
    rows = (rng.normal(size=(400, 12)) @ mix).astype(np.float32)
    images = rows.reshape(400, 2, 2, 3)
    mean, whiten = normalize.fit_zca([images[:150], images[150:]], eps=eps)
    covariance = np.cov(rows.astype(np.float64).T, bias=True)
    root = scipy.linalg.inv(scipy.linalg.sqrtm(covariance + eps * np.eye(12)))
    np.testing.assert_allclose(whiten, root, atol=2e-4 * abs(root).max())
    whitened = np.asarray(normalize.zca(jnp.asarray(images), mean, whiten)).reshape(400, 12)
    expected = root @ covariance @ root
    np.testing.assert_allclose(np.cov(whitened.T, bias=True), expected, atol=5e-3)
    if eps < 1e-3:
        np.testing.assert_allclose(expected, np.eye(12), atol=1e-2)


def test_each_normalisation_sees_what_those_before_it_leave():
    data = ConfigDict(
        {
            "augment": (),
            "normalize": ("scale()", "mean_sd()"),
            "size": 0,
            "short_side": 0,
            "channels": 0,
        }
    )
    statistics = recipe.read(data, (6, 5, 3)).fit(lambda samples: CHUNKS)
    mean, sd = statistics["mean_sd"]
    np.testing.assert_allclose(mean, EXACT.mean(axis=(0, 1, 2)) / 255, rtol=1e-5)
    np.testing.assert_allclose(sd, EXACT.std(axis=(0, 1, 2)) / 255, rtol=1e-5)


# --- call strings ---------------------------------------------------------------------------------


def test_defaults_and_given_keywords():
    pad, flip = parse("f", ("pad_crop(pixels=2, fill=127.5)", " flip() "), AUGMENTATIONS)
    assert pad.applying == {"pixels": 2, "fill": 127.5}
    assert flip.applying == {"probability": 0.5}
    (zca,) = parse("f", ("zca(eps=1, samples=50)",), NORMALIZATIONS)
    assert (zca.fitting, zca.applying, zca.samples) == ({"eps": 1}, {}, 50)


def test_random_streams_are_distinct_and_fixed():
    streams = {name: operation.stream for name, operation in AUGMENTATIONS.items()}
    assert streams == {
        "random_crop": 1, "scale_jitter": 2, "area_crop": 3, "pad_crop": 4,
        "flip": 5, "affine": 6, "photometric": 7, "pca_colour": 8,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("calls", "words"),
    [
        (("flop()",), ["'flop'", "pad_crop", "flip", "area_crop"]),
        (("flip",), ["'flip' is not a call"]),
        (("flip(",), ["'flip(' is not a call"]),
        (("flip()()",), ["not a call"]),
        (("flip(0.5)",), ["keywords only", "probability=0.5"]),
        (("flip(p=0.5)",), ["no keyword 'p'", "probability=0.5"]),
        (("flip(**{})",), ["no keyword None"]),
        (("flip(probability=2)",), ["probability=2", "at most 1"]),
        (("flip(probability='x')",), ["probability='x'", "a number"]),
        (("flip(probability=open('x'))",), ["probability=open('x')", "a number"]),
        (("flip(probability=True)",), ["a number"]),
        (("pad_crop(pixels=1.5)",), ["pixels=1.5", "a whole number"]),
        (("pad_crop(pixels=0)",), ["at least 1"]),
        (("pad_crop(pixels=-1)",), ["pixels=-1", "at least 1"]),
        (("pca_colour(constants='mine')",), ["one of data, imagenet"]),
        (("scale_jitter(low=9, high=8)",), ["low=9 is greater than high=8"]),
        (("flip()", "flip()"), ["flip is given twice"]),
        ("flip()", ["expected a tuple"]),
        ((3,), ["expected a tuple"]),
    ],
)
def test_bad_call_strings_get_one_line(calls, words):
    with pytest.raises(UserError) as caught:
        parse("config.data.augment", calls, AUGMENTATIONS)
    message = str(caught.value)
    assert message.startswith("config.data.augment: ")
    assert "\n" not in message
    for word in words:
        assert word in message


GREY, COLOUR = (8, 8, 1), (32, 32, 3)


@pytest.mark.parametrize(
    ("shape", "fields", "words"),
    [
        (GREY, {"augment": ("pca_colour()",)}, ["config.data.augment", "3 channels", "have 1"]),
        (GREY, {"channels": 2}, ["config.data.channels=2", "0 (as stored), 1, 3"]),
        (GREY, {"size": -1}, ["config.data.size=-1"]),
        (
            GREY,
            {"size": 32, "short_side": 16},
            ["config.data.short_side=16", "config.data.size=32"],
        ),
        (COLOUR, {"augment": ("random_crop()", "area_crop()")}, ["random_crop, area_crop"]),
        (COLOUR, {"augment": ("random_crop(side=24)",)}, ["32 pixels", "side of 24"]),
        (COLOUR, {"augment": ("scale_jitter(low=24)",)}, ["32 pixels", "side of 24"]),
        (COLOUR, {"normalize": ("gcn()", "scale()")}, ["config.data.normalize", "first"]),
        (COLOUR, {"normalize": ("flip()",)}, ["config.data.normalize", "'flip'", "zca"]),
        ((8, 9, 1), {"augment": ("area_crop()",)}, ["config.data.size=0", "not square"]),
        (None, {}, ["config.data.size=0", "vary in size"]),
    ],
)
def test_bad_recipes_get_one_line(shape, fields, words):
    data = {"augment": (), "normalize": (), "size": 0, "short_side": 0, "channels": 0, **fields}
    with pytest.raises(UserError) as caught:
        recipe.read(data, shape)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)
