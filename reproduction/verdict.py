"""The verdict on a claim: reproduced, not reproduced or inconclusive, from paired seeds.

One rule for all studies, so that nobody chooses it after seeing the numbers: the mean gap over
seeds must lie more than two standard errors from zero. One seed is always inconclusive.
"""

import contextlib
import dataclasses
import math
import statistics
from collections.abc import Sequence

from reproduction.study import Claim, Records, of_seed, seeds_of

REPRODUCED = "reproduced"
NOT_REPRODUCED = "not reproduced"
INCONCLUSIVE = "inconclusive"
NOT_RUN = "not run"  # no seed has the runs that the claim is about: no verdict


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The outcome of a claim: mean gap and its standard error over `seeds` paired seeds."""

    claim: Claim
    outcome: str
    mean: float | None
    standard_error: float | None
    seeds: int


def outcome(gaps: Sequence[float]) -> str:
    """The rule on the gaps of paired seeds, positive where the claim holds."""
    if len(gaps) < 2:
        return INCONCLUSIVE
    mean, error = statistics.mean(gaps), standard_error(gaps)
    if mean > 2 * error:
        return REPRODUCED
    return NOT_REPRODUCED if -mean > 2 * error else INCONCLUSIVE


def standard_error(values: Sequence[float]) -> float:
    """sd / √n, sd with n − 1."""
    return statistics.stdev(values) / math.sqrt(len(values))


def judge(claims: Sequence[Claim], records: Records, data: str) -> list[Verdict]:
    """The verdicts on the claims made for a data set; seeds that lack a run are left out."""
    verdicts = []
    for claim in claims:
        if claim.on and data not in claim.on:
            continue
        found = []
        for seed in seeds_of(records):
            with contextlib.suppress(KeyError):
                found.append(claim.gap(of_seed(records, seed)))
        gaps = [gap for gap in found if gap is not None]
        verdicts.append(
            Verdict(
                claim,
                outcome(gaps) if found else NOT_RUN,
                statistics.mean(gaps) if gaps else None,
                standard_error(gaps) if len(gaps) > 1 else None,
                len(gaps),
            )
        )
    return verdicts
