"""What the figures of studies leave out, cut, and put a band around."""

import dataclasses
from typing import Any

import pytest

from reproduction import drawing


@dataclasses.dataclass
class Ended:
    """A run as far as a figure looks at it: its errors at steps 1, 2, ..., as fractions."""

    errors: tuple[float, ...]
    stalled: bool = False

    @property
    def result(self) -> dict[str, Any]:
        return {"last": {"test_error": self.errors[-1]}}

    def last(self, metric: str) -> float:
        return self.result["last"][metric]

    def curve(self, group: str, metric: str) -> tuple[list[int], list[float]]:
        return list(range(1, len(self.errors) + 1)), list(self.errors)


RUNS: Any = {
    "one of two stalled": {0: Ended((0.5, 0.125)), 1: Ended((0.9, 0.9), stalled=True)},
    "all stalled": {0: Ended((0.9, 0.9), stalled=True)},
    "none": {0: Ended((0.5, 0.25)), 1: Ended((0.25, 0.125))},
}


def panel() -> Any:
    return drawing.new(1, 1, title="", subtitle="", size=(4, 3))[1][0][0]


def test_stalled_seeds_are_left_out_of_means_and_counted():
    assert drawing.finals(RUNS, "test_error") == {
        "one of two stalled": [12.5],
        "all stalled": [90.0],
        "none": [25.0, 12.5],
    }
    assert list(drawing.stalls(RUNS).values()) == [1, 1, 0]


def test_a_curve_is_the_mean_and_has_a_band_from_the_smallest_to_the_largest_seed():
    axes = panel()
    assert drawing.curve(axes, RUNS["none"], "test", "black", per=2) == (1.0, 18.75)
    (line,) = axes.get_lines()
    assert list(line.get_xdata()) == [0.5, 1.0]
    assert list(line.get_ydata()) == [37.5, 18.75]
    (band,) = axes.collections
    assert {tuple(point) for point in band.get_paths()[0].vertices.tolist()} == {
        (0.5, 25.0),
        (0.5, 50.0),
        (1.0, 12.5),
        (1.0, 25.0),
    }
    alone = panel()
    drawing.curve(alone, RUNS["all stalled"], "test", "black")
    assert not alone.collections
    assert drawing.curve(alone, {}, "test", "black") is None


@pytest.mark.parametrize(
    ("values", "largest"),
    [
        ([2.0, 2.0, 3.0, 90.0], 3.0),  # 90 is 36 times the median of 2.5
        ([2.0, 2.0, 3.0, 9.0], 9.0),  # 9 is less than 4 times
        ([1.0, 1.0, 40.0, 40.0], 40.0),  # half of them are large: none is an exception
        ([0.0, 0.0, 0.0, 5.0], 5.0),
        ([0.0], 0.0),
    ],
)
def test_a_value_far_above_most_does_not_squeeze_the_others(values: list[float], largest: float):
    edge, cut = drawing._edge(values)
    assert cut == largest
    assert edge > cut


def test_a_bar_that_goes_on_is_cut_and_has_its_mean_written():
    axes = panel()
    drawing.bars(axes, {"a": [1.0, 1.0], "b": [2.0, 1.0], "c": [1.0, 90.0]}, stalled={"a": 1})
    assert [text.get_text() for text in axes.texts] == ["1.0%, 1 stalled", "1.5%", "45.5%"]
    edge = axes.get_xlim()[1]
    assert edge < 3
    assert [bar.get_width() for bar in axes.patches] == [1.0, 1.5, edge]
