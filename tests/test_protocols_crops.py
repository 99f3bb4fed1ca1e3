"""The views of every protocol against offsets counted by hand; sizes are (height, width)."""

import dataclasses

import numpy as np
import pytest

from augmentations import boxes
from errors import UserError
from protocols import crops, registry
from protocols.crops import View

IMAGENET = registry.InputSize(224, 224)
SMALL = registry.InputSize(32, 32)


def offsets(views: list[View]) -> list[tuple[int, int]]:
    return [view.cut[:2] for view in views]


def protocol_views(text: str, stored: tuple[int, int], trained=IMAGENET) -> list[View]:
    return [view for view, _ in registry.create(text, trained).views(stored)]


def test_a_short_side_keeps_the_aspect_ratio():
    # 640 · 256/480 = 341.33, 500 · 256/333 = 384.4, 375 · 384/500 is the short side of a portrait.
    assert crops.rescaled((480, 640), 256) == (256, 341)
    assert crops.rescaled((333, 500), 256) == (256, 384)
    assert crops.rescaled((500, 375), 384) == (512, 384)
    assert crops.rescaled((257, 257), 256) == (256, 256)


@pytest.mark.parametrize(
    ("stored", "tops", "lefts"),
    [
        # Crops of 224 in a square of 256 stand at 0, 16 and 32 of it.
        ((256, 256), (0, 16, 32), (0, 16, 32)),
        # The central square of 341 columns begins at (341 − 256)/2 = 42.5, upward.
        ((256, 341), (0, 16, 32), (43, 59, 75)),
        ((341, 256), (43, 59, 75), (0, 16, 32)),
        ((480, 640), (0, 16, 32), (43, 59, 75)),
        # 333×500 becomes 256×384: its square begins at 64.
        ((333, 500), (0, 16, 32), (64, 80, 96)),
    ],
)
def test_ten_crops_are_four_corners_the_centre_and_their_mirrors(stored, tops, lefts):
    views = protocol_views("ten_crop", stored)
    top, middle, bottom = tops
    left, center, right = lefts
    corners = [(top, left), (top, right), (bottom, left), (bottom, right)]
    assert offsets(views) == [*corners, (middle, center)] * 2
    assert [view.mirrored for view in views] == [False] * 5 + [True] * 5
    assert {view.cut[2:] for view in views} == {view.size for view in views} == {(224, 224)}


def test_neighbouring_corner_crops_share_192_of_224_pixels():
    first, second = protocol_views("ten_crop", (256, 256))[:2]
    assert first.cut[1] + 224 - second.cut[1] == 192


def test_a_view_is_a_box_of_the_stored_image():
    # 480×640 at a short side of 256 is 256×341: a row is 480/256 = 1.875 stored pixels.
    view = protocol_views("ten_crop", (480, 640))[3]
    assert view.cut == (32, 75, 224, 224)
    expected = (60.0, 75 * 640 / 341, 420.0, 224 * 640 / 341)
    np.testing.assert_allclose(view.box((480, 640)), expected)


@pytest.mark.parametrize("stored", [(256, 256), (341, 256), (480, 640), (375, 501), (77, 1001)])
@pytest.mark.parametrize("side", [256, 288, 319])
def test_the_central_crop_is_that_of_training_and_of_the_middle_of_ten_and_of_the_grid(
    stored, side
):
    (center,) = crops.center(stored, side, 224)
    np.testing.assert_allclose(
        center.box(stored), boxes.centre(np, stored[0], stored[1], 224, side)
    )
    assert crops.grid_crop(stored, side, 224)[12] == center
    square = crops.ten_crop(stored, side, 224)[4]
    # The square's own offset is rounded too, so that the two may be a pixel apart.
    assert np.abs(np.subtract(square.cut, center.cut)).max() <= 1


def test_the_grid_is_five_by_five_over_the_whole_image():
    views = protocol_views("grid_crop:sides=256", (480, 640))
    assert len(views) == 50
    # 341 − 224 = 117 columns in four gaps: 29.25, 58.5, 87.75, halves upward.
    tops, lefts = (0, 8, 16, 24, 32), (0, 29, 59, 88, 117)
    assert offsets(views) == [(top, left) for top in tops for left in lefts] * 2
    assert [view.mirrored for view in views] == [False] * 25 + [True] * 25
    # At 512 neighbours are 72 pixels apart and share 152.
    assert offsets(protocol_views("grid_crop:sides=512", (512, 512)))[1] == (0, 72)


def test_dense_shows_the_whole_image_and_its_mirror():
    views = protocol_views("dense", (480, 640))
    assert views == [
        View((256, 341), (0, 0, 256, 341), (256, 341), mirrored=mirrored, dense=True)
        for mirrored in (False, True)
    ]


def test_multi_scale_shows_the_five_scales_of_resnet():
    views = protocol_views("multi_scale", (500, 500))
    assert [view.size[0] for view in views] == [
        side for side in (224, 256, 384, 480, 640) for _ in range(2)
    ]


def test_the_144_views_are_three_squares_of_four_scales():
    views = protocol_views("crop_144", (480, 640))
    assert len(views) == 144
    scales = [view.rescaled for view in views[::36]]
    # 640/480 of 256, 288, 320 and 352.
    assert scales == [(256, 341), (288, 384), (320, 427), (352, 469)]
    first = views[:36]
    assert [view.mirrored for view in first] == [False] * 18 + [True] * 18
    assert first[18:] == [dataclasses.replace(view, mirrored=True) for view in first[:18]]
    # Left, centre and right square of 256 out of 341 columns.
    for square, left in enumerate((0, 43, 85)):
        six = first[6 * square : 6 * square + 6]
        assert offsets(six[:5]) == [
            *((0, left), (0, left + 32), (32, left), (32, left + 32), (16, left + 16))
        ]
        assert six[5].cut == (0, left, 256, 256)
        assert six[5].size == (224, 224)
    # The last square of the largest scale: 469 − 352 = 117, its corner 352 − 224 = 128 further.
    assert views[-1].cut == (0, 117, 352, 352)
    assert views[-3].cut[:2] == (128, 117 + 128)


def test_the_squares_of_a_portrait_are_top_centre_and_bottom():
    views = protocol_views("crop_144", (640, 480))
    assert [views[place].cut for place in (5, 11, 17)] == [
        (top, 0, 256, 256) for top in (0, 43, 85)
    ]


@pytest.mark.parametrize("stored", [(256, 256), (341, 256), (480, 640), (99, 301), (28, 28)])
@pytest.mark.parametrize("trained", [IMAGENET, SMALL])
@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("plain", 1),
        ("flip", 2),
        ("center", 1),
        ("ten_crop", 10),
        ("grid_crop:sides=256", 50),
        ("grid_crop", 150),
        ("dense", 2),
        ("dense:flip=0", 1),
        ("multi_scale", 10),
        ("multi_crop_and_dense", 156),
        ("crop_144", 144),
        ("ten_crop:flip=0", 5),
        ("grid_crop:flip=0", 75),
        ("multi_crop_and_dense:flip=0", 78),
        ("crop_144:flip=0", 72),
    ],
)
def test_every_image_has_the_same_number_of_views_inside_it(stored, trained, text, count):
    weighted = registry.create(text, trained).views(stored)
    assert len(weighted) == count
    assert sum(weight for _, weight in weighted) == pytest.approx(1)
    for view, _ in weighted:
        top, left, height, width = view.cut
        assert 0 <= top <= view.rescaled[0] - height
        assert 0 <= left <= view.rescaled[1] - width


def test_a_third_of_googlenets_views_of_a_square_image_are_distinct():
    """Its three squares are one: 4 scales × (4 corners, the centre, the square) × 2 = 48 of 144."""
    protocol = registry.create("crop_144", IMAGENET)
    distinct = protocol.distinct((300, 300))
    assert len(distinct) == 48
    assert len({view for view, _ in distinct}) == 48
    np.testing.assert_allclose([weight for _, weight in distinct], [1 / 48] * 48)
    assert len(protocol.distinct((480, 640))) == 144
    assert len(registry.create("multi_crop_and_dense", SMALL).distinct((28, 28))) == 156


def test_crops_and_dense_count_one_half_each():
    weights = [
        weight for _, weight in registry.create("multi_crop_and_dense", SMALL).views((28, 28))
    ]
    np.testing.assert_allclose(weights, [1 / 300] * 150 + [1 / 12] * 6)


def test_small_networks_see_the_papers_sides_in_proportion():
    # 32/224 of 256, 384 and 512 are 36.6, 54.9 and 73.1.
    assert [SMALL.pixels(side) for side in (224, 256, 384, 512)] == [32, 37, 55, 73]
    views = protocol_views("ten_crop", (28, 28), SMALL)
    assert views[0].rescaled == (37, 37)
    assert offsets(views)[:5] == [(0, 0), (0, 5), (5, 0), (5, 5), (3, 3)]
    # AlexNet's 227 stands for the paper's 224; the squares stay 256.
    assert registry.InputSize(227, 227).pixels(256) == 256
    assert registry.InputSize(227, 227).pixels(224) == 227


def test_plain_is_the_view_of_the_run_itself():
    assert protocol_views("plain", (28, 28), SMALL) == [View((32, 32), (0, 0, 32, 32), (32, 32))]
    short = registry.InputSize(224, 224, short_side=256)
    assert protocol_views("plain", (480, 640), short) == crops.center((480, 640), 256, 224)


def test_a_central_crop_of_another_size_is_shown_to_the_dense_form():
    (view,) = protocol_views("center:side=320,crop=320", (480, 640))
    assert (view.size, view.dense) == ((320, 320), True)
    assert not protocol_views("center", (480, 640))[0].dense


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ten_crops", "did you mean ten_crop"),
        ("ten_crop:side=200", "a crop of 224×224 pixels does not fit"),
        ("grid_crop:sides=256+200", "whose short side is 200"),
        ("center:side=256,crop=320", "a crop of 320×320 pixels does not fit"),
        ("ten_crop:sides=256", "valid: side=256"),
        ("crop_144:side=256", "valid: flip=1"),
        ("plain:side=256", "valid: none"),
        ("dense:sides=256+x", "expected 256+384"),
        ("dense:flip=2", "expected 0 or 1"),
        ("multi_scale:average=logits", "expected posteriors or scores"),
        ("center:side=-1", "expected pixels"),
        ("center:side=99999999", "side='99999999': expected pixels up to 4096"),
        ("dense:sides=256+5000", "expected 256+384, pixels up to 4096"),
        ("center:side=²", "expected pixels"),
    ],
)
def test_what_is_wrong_with_a_protocol_is_one_line(text, words):
    with pytest.raises(UserError) as caught:
        registry.create(text, IMAGENET)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_crops_of_oblong_networks_are_refused():
    with pytest.raises(UserError, match="28×40"):
        registry.create("ten_crop", registry.InputSize(28, 40))


def test_labels_hold_the_options_that_differ_from_the_papers():
    assert registry.create("ten_crop:side=256", IMAGENET).label == "ten_crop"
    label = registry.create("dense:sides=256+384,flip=0", IMAGENET).label
    assert label == "dense:sides=256+384,flip=0"
