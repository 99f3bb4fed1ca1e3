"""Averages, intervals and counts by hand, and the published tables' own consistency."""

import jax.numpy as jnp
import numpy as np
import pytest

from protocols import score_average, scoring
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


def test_a_report_counts_classes_pairs_and_top_five():
    label = np.asarray([0, 0, 0, 1, 1, 2])
    predicted = np.asarray([0, 1, 1, 1, 0, 2])
    rank = np.asarray([0, 1, 5, 0, 4, 0])
    answers = Answers(label, predicted, rank, np.asarray([1.0, 2, 3, 4, 5, 6]))
    report = scoring.report(answers, ["a", "b", "c", "d", "e", "f"])
    assert report["images"] == 6
    assert report["top1"]["errors"] == 3
    assert report["top1"]["error"] == 0.5
    assert report["top5"]["errors"] == 1
    assert report["loss"] == 3.5
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
