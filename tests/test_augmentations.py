"""Each augmentation against an independent calculation, or a property that must hold exactly."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from PIL import Image, ImageEnhance

from augmentations import boxes, colour, geometry
from engines.streaming import cut

COLOURS = np.random.default_rng(0).integers(0, 256, (9, 7, 3)).astype(np.float32)


def many(function, count, image, seed=0, **keywords):
    """The function applied to one image with `count` keys."""
    keys = jax.random.split(jax.random.key(seed), count)
    return np.asarray(
        jax.jit(jax.vmap(lambda key: function(key, jnp.asarray(image), **keywords)))(keys)
    )


def test_pad_crop_visits_all_81_offsets_and_only_those():
    image = np.arange(1, 26, dtype=np.float32).reshape(5, 5, 1)
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), constant_values=7.0)
    offsets = itertools.product(range(9), repeat=2)
    valid = {padded[y : y + 5, x : x + 5].tobytes() for y, x in offsets}
    seen = {one.tobytes() for one in many(geometry.pad_crop, 2000, image, pixels=4, fill=7.0)}
    # Each offset is missed with probability (80/81)^2000 < 2e-11.
    assert len(valid) == 81
    assert seen == valid


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_flip_mirrors_with_its_probability(probability):
    flipped = many(geometry.flip, 4000, COLOURS, probability=probability)
    mirrored = (flipped == COLOURS[:, ::-1]).all(axis=(1, 2, 3))
    assert ((flipped == COLOURS).all(axis=(1, 2, 3)) | mirrored).all()
    sd = np.sqrt(probability * (1 - probability) / 4000)
    assert abs(mirrored.mean() - probability) <= 5 * sd


@pytest.mark.parametrize(
    ("shift", "zoom", "squeeze", "shear"),
    [((1.5, -2.0), 1.0, 1.0, 0.0), ((0, 0), 1.3, 1.0, 0.0), ((0, 0), 1.0, 1.2, 0.0),
     ((0, 0), 1.0, 1.0, 0.4), ((0.5, 0.25), 0.9, 0.8, -0.3)],
)  # fmt: skip
def test_warp_agrees_with_scipy_on_the_forward_matrix(shift, zoom, squeeze, shear):
    # Forward, in (row, column) from the centre: shear, then squeeze, then zoom, then shift.
    forward = zoom * np.diag([1 / squeeze, squeeze]) @ np.array([[1, 0], [shear, 1]])
    backward = np.linalg.inv(forward)
    middle = (np.array(COLOURS.shape[:2]) - 1) / 2
    offset = middle - backward @ (middle + np.array(shift))
    expected = np.stack(
        [
            scipy.ndimage.affine_transform(
                COLOURS[..., c], backward, offset, order=1, mode="grid-constant", cval=9.0
            )
            for c in range(3)
        ],
        axis=-1,
    )
    warped = geometry.warp(jnp.asarray(COLOURS), jnp.array(shift), zoom, squeeze, shear, 9.0)
    np.testing.assert_allclose(warped, expected, atol=1e-3)


def test_affine_draws_stay_in_their_ranges_and_fill_them():
    """The moments of a smooth blob determine the transformation."""
    axis = np.arange(41) - 20.0
    blob = np.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / (2 * 3.0**2))
    image = (100 * blob).astype(np.float32)[:, :, None]
    off = {"translate": 0.0, "scale": 0.0, "squeeze": 0.0, "shear": 0.0, "fill": 0.0}

    def moments(**keywords):
        moved = many(geometry.affine, 200, image, **{**off, **keywords})[..., 0].astype(np.float64)
        mass = moved.sum(axis=(1, 2))
        rows, columns = moved.sum(axis=2) / mass[:, None], moved.sum(axis=1) / mass[:, None]
        across = np.einsum("nij,i,j->n", moved, axis, axis) / mass
        return {
            "mass": mass / image.sum(),
            "centre": np.stack([rows @ axis, columns @ axis], axis=1),
            "tall": np.sqrt(rows @ axis**2) / 3.0,
            "wide": np.sqrt(columns @ axis**2) / 3.0,
            "shear": across / (rows @ axis**2),
        }

    def fills(values, low, high, tolerance):
        assert values.min() == pytest.approx(low, abs=tolerance)
        assert values.max() == pytest.approx(high, abs=tolerance)

    np.testing.assert_allclose(many(geometry.affine, 2, image, **off), [image, image], atol=1e-3)
    moved = moments(translate=3.0)
    fills(moved["centre"][:, 0], -3.0, 3.0, 0.3)
    fills(moved["centre"][:, 1], -3.0, 3.0, 0.3)
    zoomed = moments(scale=0.2)
    fills(zoomed["wide"], 0.8, 1.2, 0.02)
    np.testing.assert_allclose(zoomed["wide"], zoomed["tall"], rtol=1e-2)
    squeezed = moments(squeeze=0.5)
    fills(squeezed["wide"], 1 / 1.5, 1.5, 0.03)
    np.testing.assert_allclose(squeezed["wide"] * squeezed["tall"], 1.0, atol=0.03)
    np.testing.assert_allclose(squeezed["mass"], 1.0, atol=1e-2)
    fills(moments(shear=0.4)["shear"], -0.4, 0.4, 0.02)


# --- the part of the image ------------------------------------------------------------------------


def triangle_resample(image, box, size):
    """The antialiased bilinear filter from its definition, one output pixel at a time."""
    for axis, (start, length) in enumerate(((box[0], box[2]), (box[1], box[3]))):
        scale = length / size
        support = max(scale, 1.0)
        rows = []
        for out in range(size):
            middle = start + (out + 0.5) * scale
            weights = 1 - abs(np.arange(image.shape[axis]) + 0.5 - middle) / support
            weights = np.maximum(weights, 0.0)
            rows.append(np.tensordot(weights / weights.sum(), image, (0, axis)))
        image = np.moveaxis(np.stack(rows), 0, axis)
    return image


BOX_CASES = [(0, 0, 40, 30), (3, 5, 20, 20), (2.5, 1.25, 33.3, 21.7), (10, 10, 6, 9)]


@pytest.mark.parametrize("box", BOX_CASES)
def test_both_engines_resample_with_the_same_filter(box):
    """The jitted step agrees up to float rounding, the workers up to rounding to integers."""
    image = np.random.default_rng(1).integers(0, 256, (40, 30, 3)).astype(np.uint8)
    expected = triangle_resample(image.astype(np.float64), box, 12)
    on_device = boxes.resample(jnp.asarray(image, jnp.float32), box, 12)
    np.testing.assert_allclose(on_device, expected, atol=2e-2)
    np.testing.assert_allclose(cut(image, box, 12), expected, atol=1.01)


def test_a_cut_at_the_stored_scale_is_a_plain_crop():
    image = np.random.default_rng(2).integers(0, 256, (12, 15, 3)).astype(np.uint8)
    box = boxes.random_crop(np, np.array([0.99, 0.0]), 12, 15, 8, side=12)
    assert tuple(map(float, box)) == (4.0, 0.0, 8.0, 8.0)
    np.testing.assert_array_equal(cut(image, box, 8), image[4:12, 0:8])
    resampled = boxes.resample(jnp.asarray(image, jnp.float32), box, 8)
    np.testing.assert_allclose(resampled, image[4:12, 0:8], atol=1e-3)


def test_alexnets_crop_has_33_by_33_places():
    draws = np.random.default_rng(3).random((3000, 2))
    found = [boxes.random_crop(np, draw, 256, 256, 224, side=256)[:2] for draw in draws]
    rows, columns = np.array(found).T
    assert set(rows) == set(columns) == set(range(33))
    edge = boxes.random_crop(np, np.array([np.nextafter(1, 0), 0.0]), 256, 256, 224, side=256)
    assert edge[0] == 32


def test_random_crop_brings_the_short_side_to_its_length_first():
    # 500 × 375 at short side 300 is 400 × 300; 224 of those pixels are 280 stored ones.
    top, left, tall, wide = boxes.random_crop(np, np.array([0.0, 0.5]), 500, 375, 224, side=300)
    assert (top, tall, wide) == (0, 280, 280)
    assert left == 38 * 375 / 300  # floor(0.5 · (300 − 224 + 1)) = 38


def test_scale_jitter_draws_every_side_in_its_range():
    draws = np.random.default_rng(4).random((4000, 3))
    sides = set()
    for draw in draws:
        top, left, tall, wide = boxes.scale_jitter(np, draw, 300, 400, 24, low=26, high=40)
        assert tall * round(300 / tall * 24) / 24 == pytest.approx(300)
        sides.add(round(300 / tall * 24))
        assert 0 <= top <= 300 - tall + 1e-9
        assert 0 <= left <= 400 - wide + 1e-9
    assert sides == set(range(26, 41))


def test_area_crop_keeps_area_and_aspect_and_stays_inside():
    draws = np.random.default_rng(5).random((3000, boxes.UNIFORMS["area_crop"]))
    keywords = {"low": 0.08, "high": 1.0, "aspect": 4 / 3}
    found = np.array(
        [boxes.area_crop(np, draw, 375, 500, 224, **keywords) for draw in draws], np.float64
    )
    top, left, tall, wide = found.T
    assert (np.minimum(top, left) >= 0).all()
    assert (top + tall <= 375).all()
    assert (left + wide <= 500).all()
    area, aspect = tall * wide / (375 * 500), wide / tall
    assert area.min() == pytest.approx(0.08, abs=0.01)
    assert area.max() > 0.97
    assert aspect.min() == pytest.approx(3 / 4, abs=0.02)
    assert aspect.max() == pytest.approx(4 / 3, abs=0.02)
    # Tall and wide are equally likely, where the area leaves room for both: 375² · 3/4 of it.
    room = area < 0.5
    assert np.median(np.log(aspect[room])) == pytest.approx(0.0, abs=0.03)


def test_area_crop_that_cannot_fit_takes_the_central_square():
    draws = np.random.default_rng(6).random(boxes.UNIFORMS["area_crop"])
    box = boxes.area_crop(np, draws, 20, 400, 8, low=0.9, high=1.0, aspect=4 / 3)
    assert tuple(map(float, box)) == (0, 190, 20, 20)


@pytest.mark.parametrize(
    ("name", "keywords"),
    [("random_crop", {"side": 40}), ("scale_jitter", {"low": 36, "high": 60}),
     ("area_crop", {"low": 0.08, "high": 1.0, "aspect": 4 / 3})],
)  # fmt: skip
def test_numpy_and_jax_choose_the_same_box(name, keywords):
    function = getattr(boxes, name)
    for draws in np.random.default_rng(7).random((20, boxes.UNIFORMS[name])).astype(np.float32):
        host = np.array(function(np, draws, 50, 64, 32, **keywords), np.float64)
        device = np.array(function(jnp, jnp.asarray(draws), 50, 64, 32, **keywords))
        np.testing.assert_allclose(device, host, rtol=1e-5)


def test_the_centre_is_the_papers_central_crop():
    assert boxes.centre(np, 256, 256, 224, 256) == (16, 16, 224, 224)
    assert boxes.centre(np, 512, 768, 224, 256) == (32, 160 * 1, 448, 448)


# --- colour ---------------------------------------------------------------------------------------


def test_pca_is_that_of_the_covariance_of_all_pixels():
    rng = np.random.default_rng(8)
    chunks = [rng.integers(0, 256, (n, 4, 5, 3)) * np.array([1.0, 0.5, 0.2]) for n in (3, 5, 1)]
    pixels = np.concatenate([chunk.reshape(-1, 3) for chunk in chunks]) / 255
    values, vectors = colour.fit_pca(chunks)
    assert (np.diff(values) <= 0).all()
    covariance = vectors @ np.diag(values) @ vectors.T
    np.testing.assert_allclose(covariance, np.cov(pixels.T, bias=True), atol=1e-6)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=1e-6)


def test_pca_colour_shifts_the_whole_image_by_alpha_times_lambda():
    """Krizhevsky et al. 2012 with the Torch port's constants: sd 0.022, 5.5 grey levels of 255."""
    values, vectors = colour.IMAGENET_PCA
    shifted = many(
        lambda key, image: colour.pca_colour(key, image, values, vectors, sd=0.1), 4000, COLOURS
    )
    shift = shifted - COLOURS
    assert np.ptp(shift, axis=(1, 2)).max() < 1e-3
    along = (shift[:, 0, 0] / 255) @ np.linalg.inv(vectors.T.astype(np.float64))
    assert along[:, 0].std() * 255 == pytest.approx(5.5, rel=0.05)
    np.testing.assert_allclose(along.std(axis=0), 0.1 * values, rtol=0.05)
    np.testing.assert_allclose(along.mean(axis=0) / (0.1 * values), 0.0, atol=0.08)


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.0, 1.5])
@pytest.mark.parametrize(
    ("ours", "pillows"),
    [(colour.brightness, ImageEnhance.Brightness), (colour.contrast, ImageEnhance.Contrast),
     (colour.saturation, ImageEnhance.Color)],
)  # fmt: skip
def test_photometric_parts_agree_with_pillow_to_its_rounding(ours, pillows, factor):
    reference = pillows(Image.fromarray(COLOURS.astype(np.uint8))).enhance(factor)
    np.testing.assert_allclose(ours(jnp.asarray(COLOURS), factor), np.asarray(reference), atol=1.6)


def test_photometric_applies_all_three_in_each_of_the_six_orders():
    parts = (colour.contrast, colour.brightness, colour.saturation)
    expected = []
    for order in itertools.permutations(parts):
        image = jnp.asarray(COLOURS)
        for part in order:
            image = part(image, 1.5)
        expected.append(np.asarray(image))
    distances = np.array(
        [
            [abs(one - other).max() for other in expected]
            for one in many(colour.photometric, 200, COLOURS, low=1.5, high=1.5)
        ]
    )
    assert distances.min(axis=1).max() < 1e-2
    assert set(distances.argmin(axis=1)) == set(range(6))
    same = many(colour.photometric, 5, COLOURS, low=1.0, high=1.0)
    np.testing.assert_allclose(same, COLOURS[None].repeat(5, axis=0), atol=1e-3)
