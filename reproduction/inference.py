"""The statistics behind verdicts: t tests on paired gaps, Holm's correction, power, bootstrap.

Works on plain numbers. The distributions are those of `scipy.stats`.
"""

import functools
from collections.abc import Sequence

import numpy as np
from scipy import stats

ALPHA = 0.05  # family-wise, over the claims of one study on one data set
POWER = 0.8
LEAST_SEEDS = 3
MOST_SEEDS = 1000  # the largest number that seeds_needed returns

MORE, NO_WORSE, LEVEL = "more", "no worse", "level"


def standard_error(gaps: Sequence[float], wrong: np.ndarray | None = None) -> float:
    """The standard error of the mean gap: sd / √n, the sd with n − 1 in its denominator.

    wrong: [seeds, images], the difference between the two runs' mistakes (-1, 0 or 1) in the unit
    of the gaps. Seeds share their test images, so the larger of the error over seeds and the
    bootstrap error over seeds and images is returned.
    """
    of_seeds = float(np.std(gaps, ddof=1) / np.sqrt(len(gaps)))
    return of_seeds if wrong is None else max(of_seeds, bootstrap_error(wrong))


def bootstrap_error(gaps: np.ndarray, draws: int = 1000) -> float:
    """The standard error of the mean of gaps [seeds, images], both drawn with replacement."""
    return _bootstrap_error(gaps.astype(float).tobytes(), gaps.shape, draws)


@functools.lru_cache(maxsize=64)  # the tables of a page judge the same claims several times
def _bootstrap_error(packed: bytes, shape: tuple[int, int], draws: int) -> float:
    gaps = np.frombuffer(packed).reshape(shape)
    seeds, images = shape
    rng = np.random.default_rng(0)
    of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), draws)
    of_images = rng.multinomial(images, np.full(images, 1 / images), draws)
    means = np.einsum("ds,si,di->d", of_seeds, gaps, of_images, optimize=True) / (seeds * images)
    return float(np.std(means, ddof=1))


def interval(mean: float, error: float, seeds: int) -> tuple[float, float]:
    """The two-sided 95% confidence interval by Student's t with n − 1 degrees of freedom."""
    reach = float(stats.t.ppf(1 - ALPHA / 2, seeds - 1)) * error
    return mean - reach, mean + reach


def above(mean: np.ndarray, error: np.ndarray, seeds: int) -> np.ndarray:
    """The one-sided p-value for a mean above zero. If error is 0, it is 0, 0.5 or 1."""
    mean, error = np.asarray(mean, float), np.asarray(error, float)
    without = np.where(mean > 0, np.inf, np.where(mean < 0, -np.inf, 0.0))
    t = np.where(error > 0, mean / np.where(error > 0, error, 1), without)
    return stats.t.sf(t, seeds - 1)


def difference(
    mean: np.ndarray, error: np.ndarray, seeds: int, kind: str, margin: float
) -> np.ndarray:
    """The p-value for a gap other than zero (MORE), or outside the margin (other kinds).

    Two-sided; for NO_WORSE one-sided, for a gap below -margin.
    """
    below = above(-(mean + (margin if kind != MORE else 0)), error, seeds)
    if kind == NO_WORSE:
        return below
    beyond = above(mean - (margin if kind != MORE else 0), error, seeds)
    return np.minimum(1, 2 * np.minimum(below, beyond))


def equivalence(
    mean: np.ndarray, error: np.ndarray, seeds: int, kind: str, margin: float
) -> np.ndarray:
    """The p-value for a gap within the margin: two one-sided tests; NO_WORSE has only the lower."""
    lower = above(mean + margin, error, seeds)
    return lower if kind == NO_WORSE else np.maximum(lower, above(margin - mean, error, seeds))


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's correction of p-values [..., tests], over the last axis."""
    p = np.asarray(p, float)
    order = np.argsort(p, axis=-1)
    count = p.shape[-1]
    raised = np.take_along_axis(p, order, -1) * np.arange(count, 0, -1)
    kept = np.minimum(1, np.maximum.accumulate(raised, axis=-1))
    corrected = np.empty_like(kept)
    np.put_along_axis(corrected, order, kept, -1)
    return corrected


def power(kind: str, margin: float, sd: float, seeds: int, tests: int = 1) -> float:
    """The probability that `seeds` seeds show a claim that is true.

    True means a gap of `margin` for MORE, and a gap of 0 for NO_WORSE and LEVEL. sd: standard
    deviation of the gap over seeds. tests: number of tests in Holm's correction; the smallest
    level, ALPHA / tests, is assumed.
    """
    alpha, freedom = ALPHA / tests, seeds - 1
    if sd == 0:
        return 1.0
    shift = margin * np.sqrt(seeds) / sd
    if kind == MORE:
        return float(stats.nct.sf(stats.t.isf(alpha / 2, freedom), freedom, shift))
    limit = stats.t.isf(alpha, freedom)
    if kind == NO_WORSE:
        return float(stats.nct.sf(limit, freedom, shift))
    # Two one-sided tests: the probability for a given sample sd, averaged over sample sds.
    seen = np.sqrt(stats.chi2.ppf((np.arange(2000) + 0.5) / 2000, freedom) / freedom)
    return float(np.maximum(0, 2 * stats.norm.cdf(shift - limit * seen) - 1).mean())


def seeds_needed(kind: str, margin: float, sd: float, tests: int = 1) -> int | None:
    """The smallest number of seeds with 80% power; None if it is above MOST_SEEDS."""
    if power(kind, margin, sd, MOST_SEEDS, tests) < POWER:
        return None
    low, high = LEAST_SEEDS, MOST_SEEDS
    while low < high:
        middle = (low + high) // 2
        if power(kind, margin, sd, middle, tests) >= POWER:
            high = middle
        else:
            low = middle + 1
    return low


def more_often(first: tuple[int, int], second: tuple[int, int]) -> float:
    """Fisher's exact two-sided p-value for two groups of (events, trials)."""
    table = [[events, trials - events] for events, trials in (first, second)]
    return float(stats.fisher_exact(table).pvalue)


def trials_needed(first: float, second: float, tests: int = 1) -> int | None:
    """Trials per group to tell two rates apart with 80% power, by the arcsine approximation."""
    effect = abs(2 * np.arcsin(np.sqrt(first)) - 2 * np.arcsin(np.sqrt(second)))
    if effect == 0:
        return None
    z = stats.norm.isf(ALPHA / tests / 2) + stats.norm.ppf(POWER)
    needed = int(np.ceil(2 * (z / effect) ** 2))
    return max(needed, LEAST_SEEDS) if needed <= MOST_SEEDS else None
