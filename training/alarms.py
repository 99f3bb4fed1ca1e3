"""Alarms for the ways in which training these networks goes wrong.

The loss may never leave ln(classes) (a bad start: VGG's and NiN's printed weights), a side head may
be stuck while the trunk learns, and the devices may wait for images.
"""

import contextlib
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

from training.losses import MAIN

CHANCE = 0.98  # a head with a loss above this fraction of ln(classes) has not learned
LEARNS = 0.8  # a trunk with a loss below this fraction of ln(classes) learns
WAITING = 0.5  # the fraction of time spent waiting for images above which there is an alarm


class Alarms:
    """Checks the logged rows; each kind of alarm is printed once a process.

    chance: the loss of a blind guess, ln(classes); None if the loss has no such value (RBF).
    after: the step from which the loss must have left it; 0: never looked at.
    """

    def __init__(self, *, chance: float | None, after: int):
        self.chance, self.after = chance, after
        self.said: set[str] = set()
        self.waited, self.since = 0.0, time.monotonic()

    @contextlib.contextmanager
    def fetching(self) -> Iterator[None]:
        """Counts the time of the block as waiting for images."""
        began = time.monotonic()
        yield
        self.waited += time.monotonic() - began

    def waiting(self) -> float:
        """The fraction of the time since the last call spent waiting for images."""
        now = time.monotonic()
        share = self.waited / max(now - self.since, 1e-9)
        self.waited, self.since = 0.0, now
        return share

    def of_row(self, row: Mapping[str, Any]) -> list[str]:
        """The alarms of a row's training losses: a function of the row only."""
        train = row.get("train")
        if train is None or self.chance is None or not self.after or row["step"] < self.after:
            return []
        terms = {
            name.removeprefix("loss_"): value
            for name, value in train.items()
            if name.startswith("loss_")
        }
        main = terms.pop(MAIN, train["loss"])
        if main > CHANCE * self.chance:
            return [
                f"the loss has not left chance, ln(classes) = {self.chance:.3f}, after "
                f"{self.after} steps"
            ]
        if main > LEARNS * self.chance:
            return []
        return [
            f"the side head {head} is stuck at chance, {self.chance:.3f}, while the trunk learns"
            for head, value in terms.items()
            if value > CHANCE * self.chance
        ]

    def unsaid(self, row: Mapping[str, Any]) -> list[str]:
        """The alarms of a complete row not printed yet, as lines for the terminal."""
        lines = list(row.get("alarms", ()))
        share = row.get("clock", {}).get("waiting", 0.0)
        if share > WAITING:
            lines.append(
                f"training waits for images: {100 * share:.0f}% of the time; more "
                "config.data.workers may help"
            )
        new = [line for line in lines if line.split(":")[0] not in self.said]
        self.said |= {line.split(":")[0] for line in new}
        return [f"step {row['step']}: {line}" for line in new]


def chance_of(kind: str, classes: int) -> float | None:
    """The loss at chance among `classes`; None for kinds of loss without such a value."""
    return math.log(classes) if kind == "cross_entropy" else None
