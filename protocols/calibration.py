"""Whether a network is as sure as it is right. Pure NumPy."""

from typing import Any

import numpy as np

BINS = 15  # as in Guo et al. 2017, Table 1


def calibration(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> dict[str, Any]:
    """The expected calibration error of Guo et al. 2017, eq. 3, and the bins it is made of.

        ECE = Σ_m |B_m| / n · |acc(B_m) − conf(B_m)|

    over M bins of equal width; B_m holds the images whose confidence is in ((m − 1)/M, m/M],
    acc(B_m) is the fraction of them that is right, conf(B_m) their mean confidence.

    confidence: float [N], the posterior of the answer. right: bool [N]. Returns {"ece", "bins"}; a
    bin is {"low", "high", "images", "confidence", "accuracy"}, the last two None without images.
    """
    edges = np.linspace(0, 1, bins + 1)
    # A bin holds its upper edge; 0 goes into the first, rounding above 1 into the last.
    places = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    total, listed, error = len(confidence), [], 0.0
    for place in range(bins):
        mine = places == place
        images = int(mine.sum())
        entry: dict[str, Any] = {
            "low": float(edges[place]),
            "high": float(edges[place + 1]),
            "images": images,
            "confidence": None,
            "accuracy": None,
        }
        if images:
            entry["confidence"] = float(confidence[mine].mean(dtype=np.float64))
            entry["accuracy"] = float(right[mine].mean())
            error += images / total * abs(entry["accuracy"] - entry["confidence"])
        listed.append(entry)
    return {"ece": error, "bins": listed}
