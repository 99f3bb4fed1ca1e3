"""Pages: what scripts get, what needs no script, and colours for every kind of colour vision."""

import itertools
import json
import re

import numpy as np
import pytest

from webpages import charts, curves, document

# Machado et al. 2009, A Physiologically-based Model for Simulation of Color Vision Deficiency,
# Table 1, severity 1.0: on linear RGB.
VISIONS = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
# sRGB to XYZ (IEC 61966-2-1) and its white, D65.
XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
WHITE = np.array([0.95047, 1.0, 1.08883])


def linear(colour: str) -> np.ndarray:
    """#rrggbb as linear RGB."""
    stored = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB of linear RGB."""
    ratio = XYZ @ np.clip(rgb, 0, 1) / WHITE
    x, y, z = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISIONS)
def test_curves_can_be_told_apart(vision: str) -> None:
    seen = [lab(np.asarray(VISIONS[vision]) @ linear(colour)) for colour in curves.COLOURS]
    apart = [np.linalg.norm(one - other) for one, other in itertools.combinations(seen, 2)]
    assert min(apart) > 14


def test_lab_of_known_colours() -> None:
    """CIE 15: white is (100, 0, 0); of sRGB's red the usual tables have (53.24, 80.09, 67.20)."""
    np.testing.assert_allclose(lab(linear("#ffffff")), [100, 0, 0], atol=0.01)
    np.testing.assert_allclose(lab(linear("#ff0000")), [53.24, 80.09, 67.20], atol=0.01)


ROWS = [
    {"step": 10, "epoch": 0.5, "learning_rate": 0.1, "train": {"error": 0.5, "loss": 1.234567}},
    {
        **{"step": 20, "epoch": 1.0, "learning_rate": 0.01, "train": {"error": 0.25, "loss": 0.5}},
        "test": {"error": 1 / 3, "loss": 0.75},
    },
]


def test_scripts_get_percent_and_five_digits_once_a_grid() -> None:
    packed = curves.packed([curves.Run("a", 0, ROWS, "t0"), curves.Run("b", 3, ROWS[:1], "t1")])
    assert packed["grids"] == [
        {"step": (20,), "epoch": (1.0,)},
        {"step": (10, 20), "epoch": (0.5, 1.0)},
        {"step": (10,), "epoch": (0.5,)},
    ]
    found = {(c["run"], c["part"], c["metric"]): (c["grid"], c["values"]) for c in packed["curves"]}
    assert found == {
        (0, "test", "error"): (0, [33.333]),
        (0, "test", "loss"): (0, [0.75]),
        (0, "train", "error"): (1, [50.0, 25.0]),
        (0, "train", "loss"): (1, [1.2346, 0.5]),
        (0, "train", "learning rate"): (1, [0.1, 0.01]),
        (1, "train", "error"): (2, [50.0]),
        (1, "train", "loss"): (2, [1.2346]),
        (1, "train", "learning rate"): (2, [0.1]),
    }
    assert [run["colour"] for run in packed["runs"]] == list(curves.COLOURS[:2])


def test_a_ninth_label_has_the_first_colour_with_points() -> None:
    runs = [curves.Run(str(place), 0, ROWS, "t") for place in range(9)]
    last = curves.packed(runs)["runs"][8]
    assert (last["colour"], last["round"]) == (curves.COLOURS[0], 1)
    assert curves.panel(runs, "nine").count("data-round") == 1


def test_means_are_offered_where_a_label_has_several_seeds() -> None:
    one, two = curves.Run("a", 0, ROWS, "t"), curves.Run("a", 1, ROWS, "t")
    assert 'class="drawn"' not in curves.panel([one], "one")
    assert 'class="drawn"' in curves.panel([one, two], "two")


def test_words_cannot_end_what_they_stand_in() -> None:
    words = '</script><b a="1">&'
    made = document.embedded({"words": words}, "data")
    assert "</script><b" not in made
    assert json.loads(re.sub(r"<.*?>", "", made)) == {"words": words}
    assert document.text(words) == "&lt;/script&gt;&lt;b a=&quot;1&quot;&gt;&amp;"


def test_a_page_asks_for_nothing() -> None:
    page = document.page("A & B", "<p>body</p>")
    assert "<title>A &amp; B</title>" in page
    assert "default-src 'none'" in page
    assert re.findall(r"(?:src|href)=\S+", page) == ['href="data:,">']
    assert "url(" not in page
    assert "uPlot=function" in page


def test_a_bar_is_as_tall_as_its_share() -> None:
    drawn = charts.against_diagonal(
        [(0, 0.5, None, 0), (0.5, 1, 0.25, 1)], x="sure", y="right", description="of"
    )
    assert "sure 0.00 to 0.50: no image" in drawn
    assert "sure 0.50 to 1.00: right 25.0%, 100.0% of images" in drawn
    heights = [float(height) for height in re.findall(r'height="([\d.]+)" fill', drawn)]
    assert heights[0] == charts.SIDE / 4
    assert len(heights) == 2  # with the bar of counts; the empty bin has none


def test_pictures_keep_their_size_up_to_the_longest_side() -> None:
    pixels = np.zeros((10, 40, 3), np.uint8)
    assert 'width="40" height="10"' in document.picture(charts.png(pixels), "black")
    small = document.picture(charts.png(pixels, longest=20), 'a "black" one')
    assert 'alt="a &quot;black&quot; one" width="20" height="5"' in small
