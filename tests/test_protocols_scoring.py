"""Averages, intervals and counts by hand, and the published tables' own consistency."""

import jax.numpy as jnp
import numpy as np
import pytest

from protocols import mistakes_page, score_average, scoring
from protocols.calibration import calibration
from protocols.scoring import Answers


def softmax(*scores: float) -> np.ndarray:
    powers = np.exp(np.asarray(scores))
    return powers / powers.sum()


def test_positions_are_averaged_before_the_softmax_and_views_after_it():
    # Two positions of one image, two classes: the order shows in the second decimal.
    logits = jnp.asarray([[[[4.0, 0.0], [0.0, 0.0]]]])
    dense = score_average.posteriors(logits)
    np.testing.assert_allclose(dense, [softmax(2, 0)], rtol=1e-6)
    after = (softmax(4, 0) + softmax(0, 0)) / 2
    assert abs(float(dense[0, 0]) - after[0]) > 0.13
    np.testing.assert_allclose(score_average.of_scores(np.asarray([[2.0, 0.0]])), [softmax(2, 0)])


def test_models_are_averaged_by_their_posteriors():
    first, second = softmax(4, 0)[None], softmax(0, 0)[None]
    np.testing.assert_allclose(score_average.over_models([first]), first)
    mean = score_average.over_models([first, second])
    np.testing.assert_allclose(mean, [(softmax(4, 0) + softmax(0, 0)) / 2])


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [
        # Newcombe 1998, Statistics in Medicine 17, Table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_intervals_are_wilsons(count, total, low, high):
    assert scoring.wilson(count, total) == pytest.approx((low, high), abs=5e-5)


def test_answers_count_rank_and_loss():
    posteriors = np.asarray([[0.1, 0.6, 0.3], [0.5, 0.25, 0.25], [0.0, 0.0, 1.0]])
    answers = Answers.of(posteriors, np.asarray([2, 2, 0]))
    assert answers.predicted.tolist() == [1, 0, 2]
    # Of equal posteriors the first class comes first: class 2 is third of the second image, and
    # class 0 second of the third.
    assert answers.rank.tolist() == [1, 2, 1]
    # A posterior of 0 costs what the smallest float32 does: 126 · ln 2.
    np.testing.assert_allclose(answers.loss, [-np.log(0.3), np.log(4), 126 * np.log(2)])
    np.testing.assert_array_equal(answers.confidence, [0.6, 0.5, 1.0])


def test_a_report_counts_classes_pairs_and_top_five():
    label = np.asarray([0, 0, 0, 1, 1, 2])
    predicted = np.asarray([0, 1, 1, 1, 0, 2])
    rank = np.asarray([0, 1, 5, 0, 4, 0])
    answers = Answers(label, predicted, rank, np.asarray([1.0, 2, 3, 4, 5, 6]), np.full(6, 0.75))
    report = scoring.report(answers, ["a", "b", "c", "d", "e", "f"])
    assert report["images"] == 6
    assert report["top1"]["errors"] == 3
    assert report["top1"]["error"] == 0.5
    assert report["top5"]["errors"] == 1
    assert report["loss"] == 3.5
    assert report["calibration"]["ece"] == 0.25  # half are right, all are 0.75 sure
    np.testing.assert_array_equal(scoring.confusion(answers, 3), [[1, 2, 0], [1, 1, 0], [0, 0, 1]])
    assert [entry["errors"] for entry in report["classes"]] == [2, 1, 0, 0, 0, 0]
    assert [entry["images"] for entry in report["classes"]] == [3, 2, 1, 0, 0, 0]
    assert report["confused"] == [
        {"true": "a", "predicted": "b", "images": 2},
        {"true": "b", "predicted": "a", "images": 1},
    ]


def test_top_five_of_five_classes_says_nothing():
    answers = Answers.of(np.full((2, 5), 0.2), np.asarray([4, 0]))
    assert scoring.report(answers, "abcde")["top5"] is None


def test_batches_join_in_order():
    posteriors = np.asarray([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    labels = np.asarray([0, 0, 1])
    whole = Answers.of(posteriors, labels)
    parts = [Answers.of(posteriors[rows], labels[rows]) for rows in (slice(1), slice(1, 3))]
    joined = Answers.joined(parts)
    np.testing.assert_array_equal(joined.loss, whole.loss)
    np.testing.assert_array_equal(joined.predicted, whole.predicted)


def test_calibration_is_the_gap_between_confidence_and_accuracy():
    """Four bins, (0, ¼] to (¾, 1]: gaps ¼, ½, ¼ of one image each, and 0.95 − ½ of two images."""
    confidence = np.asarray([0.25, 0.5, 0.75, 1.0, 0.9])
    found = calibration(confidence, np.asarray([False, True, True, True, False]), bins=4)
    assert found["ece"] == pytest.approx((0.25 + 0.5 + 0.25 + 2 * 0.45) / 5)
    assert [entry["images"] for entry in found["bins"]] == [1, 1, 1, 2]
    assert [entry["accuracy"] for entry in found["bins"]] == [0, 1, 1, 0.5]
    assert found["bins"][3]["confidence"] == pytest.approx(0.95)


def test_as_sure_as_right_is_no_calibration_error():
    confidence = np.asarray([0.5, 0.5, 0.75, 0.75, 0.75, 0.75])
    right = np.asarray([True, False, True, True, True, False])
    assert calibration(confidence, right)["ece"] == 0
    assert calibration(np.asarray([0.0, 1 + 1e-12]), np.asarray([False, True]))["ece"] < 1e-11


def page_of(posteriors: np.ndarray, labels: np.ndarray) -> tuple[str, list[int]]:
    """The section of evaluate.py --report, and the images it read, in their order."""
    answers = Answers.of(posteriors, labels)
    names = [f"<{name}>" for name in range(posteriors.shape[1])]
    read: list[int] = []

    def image(place: int) -> np.ndarray:
        read.append(place)
        return np.zeros((8, 8, 1), np.uint8)

    report = {
        **{"networks": [], "protocol": "plain", "data": "some", "split": "test", "damaged": 0},
        "environment": {"commit": None},
        **scoring.report(answers, names),
    }
    return mistakes_page.section(report, answers, names, image), read


def test_the_worst_mistake_comes_first():
    posteriors = np.asarray([[0.4, 0.6, 0], [0.9, 0.1, 0], [0.01, 0.99, 0], [0.3, 0.3, 0.4]])
    page, read = page_of(posteriors, np.asarray([0, 0, 0, 1]))
    assert read == [2, 3, 0]  # posteriors of the true class 0.01, 0.3, 0.4; image 1 is right
    assert page.count("<figure>") == 3
    assert "<b>&lt;0&gt;</b> taken for <b>&lt;1&gt;</b><br>99.0% sure; &lt;0&gt;: 1%" in page
    assert "3 of 3 mistakes" in page


def test_without_mistakes_no_image_is_read():
    page, read = page_of(np.eye(3), np.arange(3))
    assert (read, page.count("<figure>")) == ([], 0)
    assert "No image was taken for another class." in page


def test_many_classes_are_a_picture_with_a_pixel_for_each_pair():
    count = mistakes_page.LARGEST + 1
    page, _ = page_of(np.roll(np.eye(count), 1, axis=1), np.arange(count))
    assert f'width="{count}" height="{count}"' in page
    assert 'class="confusion"' not in page
    assert page_of(np.eye(3), np.arange(3))[0].count('class="diagonal"') == 3
