"""The verdicts on claims from paired seeds: one rule for all studies, fixed before any was run.

Student's t on the gaps of at least three paired seeds; Holm's correction over the claims of a study
on a data set, separately for tests of difference and of equivalence, each at 5%.
"""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from reproduction import inference
from reproduction.inference import ALPHA, LEAST_SEEDS, MORE
from reproduction.records import Record
from reproduction.study import STALLS, Claim, Records, of_seed, seeds_of

REPRODUCED = "reproduced"
CONTRADICTED = "contradicted"
EQUIVALENT = "equivalent"
UNDECIDED = "undecided"
NOT_RUN = "not run"  # no seed has all runs of the claim
OUTCOMES = (REPRODUCED, CONTRADICTED, EQUIVALENT, UNDECIDED)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The outcome of a claim.

    seeds: the number of paired seeds. stalled: the number of seeds left out because a run of the
    claim stalled. mean, interval: of the gaps; for STALLS the difference of the rates of stalls in
    percentage points, without an interval. p: of the decisive test, after Holm's correction.
    power: the power with these seeds. needed: the seeds for 80% power, None if above MOST_SEEDS.
    Both assume the measured spread and a claim that is true as in `inference.power`, and are None
    if the claim is decided.
    """

    claim: Claim
    outcome: str
    seeds: int = 0
    stalled: int = 0
    mean: float | None = None
    interval: tuple[float, float] | None = None
    margin: float = 0.0
    p: float | None = None
    power: float | None = None
    needed: int | None = None

    @property
    def holds(self) -> bool | None:
        """True if the claim was shown, False if its opposite was, None otherwise."""
        if self.outcome == EQUIVALENT:
            return self.claim.kind in (inference.LEVEL, inference.NO_WORSE)
        return {REPRODUCED: True, CONTRADICTED: False}.get(self.outcome)


@dataclasses.dataclass(frozen=True)
class _Tested:
    """A claim's numbers before the correction: p-values of the two families of tests, if any."""

    verdict: Verdict
    difference: float | None = None
    equivalence: float | None = None
    spread: float = 0.0  # sd of the gap over seeds


def judge(claims: Sequence[Claim], records: Records, data: str) -> list[Verdict]:
    """The verdicts on the claims for a data set; seeds without all runs of a claim are left out."""
    tested = [_tested(claim, records) for claim in claims if not claim.on or data in claim.on]
    differences = _corrected([one.difference for one in tested])
    equivalences = _corrected([one.equivalence for one in tested])
    return [
        _decided(one, different, equal, sum(p is not None for p in _family(one, tested)))
        for one, different, equal in zip(tested, differences, equivalences, strict=True)
    ]


def _family(one: _Tested, tested: Sequence[_Tested]) -> list[float | None]:
    """The p-values of the tests that can show this claim."""
    if one.verdict.claim.kind in (MORE, STALLS):
        return [other.difference for other in tested]
    return [other.equivalence for other in tested]


def _tested(claim: Claim, records: Records) -> _Tested:
    whole = [of_seed(records, seed) for seed in seeds_of(records)]
    whole = [seed for seed in whole if seed.keys() >= set(claim.runs)]
    if not whole:
        return _Tested(Verdict(claim, NOT_RUN))
    if claim.kind == STALLS:
        return _stalls(claim, whole)
    moving = [
        seed
        for seed in whole
        if not (claim.without_stalls and any(seed[label].stalled for label in claim.runs))
    ]
    stalled = len(whole) - len(moving)
    found = [(seed, claim.gap(seed)) for seed in moving]
    kept = [(seed, gap) for seed, gap in found if gap is not None]
    # Errors are counts of images; rounding removes float error between equal counts.
    gaps = [round(gap, 9) for _, gap in kept]
    margin = claim.margin_on(moving) if moving else 0.0
    verdict = Verdict(claim, UNDECIDED, len(gaps), stalled, margin=margin)
    if not gaps:
        return _Tested(verdict)
    mean = statistics.mean(gaps)
    if len(gaps) < 2:
        return _Tested(dataclasses.replace(verdict, mean=mean))
    error = inference.standard_error(gaps, _by_image(claim, [seed for seed, _ in kept]))
    between = inference.interval(mean, error, len(gaps))
    verdict = dataclasses.replace(verdict, mean=mean, interval=between)
    if len(gaps) < LEAST_SEEDS:
        return _Tested(verdict)
    numbers = (np.asarray(mean), np.asarray(error), len(gaps), claim.kind, margin)
    return _Tested(
        verdict,
        float(inference.difference(*numbers)),
        float(inference.equivalence(*numbers)) if margin > 0 else None,
        error * len(gaps) ** 0.5,
    )


def _by_image(claim: Claim, seeds: Sequence[Mapping[str, Record]]) -> np.ndarray | None:
    """[seeds, images], whose mean is the claim's gap; None if a log has no list of mistakes."""
    rows = []
    for seed in seeds:
        wrong = claim.wrong(seed)
        if wrong is None:
            return None
        better, worse = wrong
        rows.append(100.0 * (worse.astype(float) - better.astype(float)))
    return np.stack(rows)


def _stalls(claim: Claim, seeds: Sequence[Mapping[str, Record]]) -> _Tested:
    """Tests the claim that its first run stalls more often than the second."""
    often, seldom = (sum(seed[label].stalled for seed in seeds) for label in claim.runs)
    count = len(seeds)
    p = inference.more_often((often, count), (seldom, count)) if count >= LEAST_SEEDS else None
    verdict = Verdict(claim, UNDECIDED, count, often + seldom, mean=100 * (often - seldom) / count)
    return _Tested(verdict, p)


def _decided(
    tested: _Tested, difference: float | None, equivalence: float | None, tests: int
) -> Verdict:
    verdict = tested.verdict
    kind, mean = verdict.claim.kind, verdict.mean
    if difference is None or mean is None:
        return verdict
    if difference < ALPHA:
        outcome = REPRODUCED if kind in (MORE, STALLS) and mean > 0 else CONTRADICTED
        return dataclasses.replace(verdict, outcome=outcome, p=difference)
    if equivalence is not None and equivalence < ALPHA:
        return dataclasses.replace(verdict, outcome=EQUIVALENT, p=equivalence)
    shown = difference if kind in (MORE, STALLS) or equivalence is None else equivalence
    if kind == STALLS:
        apart = abs(mean) / 100
        most = min(1.0, verdict.stalled / verdict.seeds / 2 + apart / 2)
        needed = inference.trials_needed(most, most - apart, tests)
        return dataclasses.replace(verdict, p=shown, needed=needed)
    if verdict.margin <= 0:
        return dataclasses.replace(verdict, p=shown)
    about = (kind, verdict.margin, tested.spread)
    return dataclasses.replace(
        verdict,
        p=shown,
        power=inference.power(*about, verdict.seeds, tests),
        needed=inference.seeds_needed(*about, tests),
    )


def _corrected(p: Sequence[float | None]) -> list[float | None]:
    have = [value for value in p if value is not None]
    corrected = iter(inference.holm(np.array(have)).tolist()) if have else iter(())
    return [None if value is None else next(corrected) for value in p]
