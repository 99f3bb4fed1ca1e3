"""What a claim of the lecture is, and the three ways to see whether it is true."""

import dataclasses
import fnmatch
from collections.abc import Callable
from typing import NamedTuple


class Count(NamedTuple):
    """What was counted: whether the claim holds, and the numbers."""

    holds: bool
    numbers: str


@dataclasses.dataclass(frozen=True)
class Studied:
    """Seen by a study: the verdict on one of its claims, wherever that is published.

    study: its name. text: how only this claim of the study begins, a shell pattern; "": all claims.
    """

    study: str
    text: str = ""

    def names(self, claim: str) -> bool:
        """Whether it is about a claim of the study with this text."""
        return fnmatch.fnmatchcase(claim, f"{self.text}*")


@dataclasses.dataclass(frozen=True)
class Counted:
    """Seen by a command that counts; `count` counts the same, so that the verdict is not typed."""

    command: str
    count: Callable[[], Count]


@dataclasses.dataclass(frozen=True)
class Held:
    """Seen by a test of `make test`, which fails if the claim is false; its name is pytest's."""

    test: str


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim, in our words, under the lecture's section that makes it."""

    section: str
    text: str
    seen_by: Studied | Counted | Held
