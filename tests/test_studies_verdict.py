"""The verdict's rule on numbers worked out by hand, and how seeds are paired."""

from typing import Any

import pytest

from reproduction import verdict
from reproduction.study import Claim
from reproduction.verdict import INCONCLUSIVE, NOT_REPRODUCED, NOT_RUN, REPRODUCED


@pytest.mark.parametrize(
    ("gaps", "expected"),
    [
        # Mean 2, sd 1, standard error 1/√3 = 0.577: 2 > 1.155.
        ([1.0, 2.0, 3.0], REPRODUCED),
        ([-1.0, -2.0, -3.0], NOT_REPRODUCED),
        # Mean 1, sd 2, standard error 2/√3 = 1.155: 1 < 2.309.
        ([-1.0, 1.0, 3.0], INCONCLUSIVE),
        # Two seeds: sd of 1 and 3 is √2, standard error 1, mean 2: not *more* than two.
        ([1.0, 3.0], INCONCLUSIVE),
        ([1.01, 3.0], REPRODUCED),
        ([50.0], INCONCLUSIVE),  # one seed always is
        ([], INCONCLUSIVE),
        ([0.0, 0.0], INCONCLUSIVE),
        ([2.0, 2.0], REPRODUCED),
    ],
)
def test_more_than_two_standard_errors(gaps: list[float], expected: str) -> None:
    assert verdict.outcome(gaps) == expected


def test_seeds_are_paired_and_a_seed_that_lacks_a_run_is_left_out() -> None:
    """Gaps 2 and 4, of seeds 0 and 2: mean 3, standard error √2/√2 = 1."""
    records: Any = {"a": {0: 1.0, 1: 5.0, 2: 1.0}, "b": {0: 3.0, 2: 5.0}}

    def gap(seed: Any) -> float:  # of plain numbers instead of records
        return seed["b"] - seed["a"]

    claim = Claim("b is above a", gap)
    [found] = verdict.judge([claim], records, "digits")
    assert (found.seeds, found.mean, found.standard_error) == (2, 3.0, pytest.approx(1.0))
    assert found.outcome == REPRODUCED


def test_no_verdict_without_the_runs_is_no_inconclusive_one() -> None:
    records: Any = {"a": {0: 1.0, 1: 2.0}}

    def gap(seed: Any) -> float:
        return seed["b"] - seed["a"]

    lacks = Claim("b is above a", gap)
    never = Claim("a gets there", lambda seed: None)  # the run is there, what it asks for is not
    outcomes = [found.outcome for found in verdict.judge([lacks, never], records, "digits")]
    assert outcomes == [NOT_RUN, INCONCLUSIVE]


def test_a_claim_is_judged_on_its_own_data_alone() -> None:
    records: Any = {"a": {0: 1.0}}
    claim = Claim("only there", lambda seed: 1.0, on=("cifar10",))
    assert verdict.judge([claim], records, "digits") == []
    assert len(verdict.judge([claim], records, "cifar10")) == 1
