"""Counts errors and computes their confidence intervals. Pure NumPy.

Errors are fractions. Intervals are Wilson's at 95%, which are valid also at 0 errors.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from protocols.calibration import calibration

# The normal quantile of 97.5%.
Z = 1.959963984540054
# Posteriors are float32: smaller ones underflow to 0, and their loss is clipped to this one's.
SMALLEST = float(np.finfo(np.float32).tiny)
MOST_CONFUSED = 20


def wilson(count: int, total: int, z: float = Z) -> tuple[float, float]:
    """The interval of a proportion, given `count` out of `total` (Wilson 1927)."""
    if not total:
        return 0.0, 1.0
    share = count / total
    middle = share + z * z / (2 * total)
    half = z * np.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, float((middle - half) / scale)), min(1.0, float((middle + half) / scale))


def proportion(count: int, total: int) -> dict[str, float]:
    """The count of errors, their fraction and its interval."""
    low, high = wilson(count, total)
    return {"errors": count, "error": count / total if total else 0.0, "low": low, "high": high}


@dataclasses.dataclass(frozen=True)
class Answers:
    """The results of a test, one entry per image.

    label, predicted: classes. rank: how many classes are ranked before the true one (0: correct).
    loss: −log of the true class's posterior. confidence: the posterior of the answer.
    """

    label: np.ndarray
    predicted: np.ndarray
    rank: np.ndarray
    loss: np.ndarray
    confidence: np.ndarray

    @staticmethod
    def of(posteriors: np.ndarray, labels: np.ndarray) -> "Answers":
        """From posteriors [N, classes] and labels [N]; ties go to the lower class number."""
        right = np.take_along_axis(posteriors, labels[:, None], axis=1)
        classes = np.arange(posteriors.shape[1])
        before = (posteriors > right) | ((posteriors == right) & (classes < labels[:, None]))
        return Answers(
            label=labels,
            predicted=posteriors.argmax(axis=1),
            rank=before.sum(axis=1),
            loss=-np.log(np.maximum(right[:, 0], SMALLEST)),
            confidence=posteriors.max(axis=1),
        )

    @staticmethod
    def joined(parts: Sequence["Answers"]) -> "Answers":
        """Concatenates batches."""
        names = [field.name for field in dataclasses.fields(Answers)]
        return Answers(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def report(answers: Answers, class_names: Sequence[str]) -> dict[str, Any]:
    """Top-1 and top-5 error, loss, calibration, error by class and the most confused pairs.

    Top-5 is None for five classes or fewer.
    """
    total, wrong = len(answers.label), answers.rank > 0
    top5 = proportion(int((answers.rank >= 5).sum()), total) if len(class_names) > 5 else None
    by_class = []
    for index, name in enumerate(class_names):
        mine = answers.label == index
        by_class.append(
            {"name": name, "images": int(mine.sum())}
            | proportion(int((wrong & mine).sum()), int(mine.sum()))
        )
    return {
        "images": total,
        "top1": proportion(int(wrong.sum()), total),
        "top5": top5,
        "loss": float(answers.loss.mean(dtype=np.float64)),
        "calibration": calibration(answers.confidence, ~wrong),
        "classes": by_class,
        "confused": confused(answers, class_names),
    }


def confusion(answers: Answers, classes: int) -> np.ndarray:
    """int64 [true, predicted]: how many images of a class were taken for each class."""
    codes = answers.label.astype(np.int64) * classes + answers.predicted
    return np.bincount(codes, minlength=classes * classes).reshape(classes, classes)


def confused(answers: Answers, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """The most frequent (true, predicted) pairs of different classes."""
    count = len(class_names)
    wrong = answers.label != answers.predicted
    codes = answers.label[wrong].astype(np.int64) * count + answers.predicted[wrong]
    pairs, times = np.unique(codes, return_counts=True)
    order = np.argsort(-times, kind="stable")[:MOST_CONFUSED]
    return [
        {
            "true": class_names[pairs[place] // count],
            "predicted": class_names[pairs[place] % count],
            "images": int(times[place]),
        }
        for place in order
    ]
