"""Reads the records of one part of a split and handles damaged ones.

Used by both engines and the test protocols.
"""

import dataclasses
from typing import Any

from data.damage import Damaged
from data.prepared import Source

Example = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Loader:
    """Reads records of one part of a split.

    start, count: the part in source order. skip: whether damaged records are skipped or raise
    Damaged. `read_intact` replaces one by the next intact record of the part.
    """

    source: Source
    start: int
    count: int
    skip: bool

    def read(self, index: int) -> Example | None:
        """The record at an index of the part; None if it is damaged and `skip` is set."""
        try:
            return self.source[self.start + index]
        except Damaged:
            if not self.skip:
                raise
            return None

    def read_intact(self, index: int) -> tuple[Example, int]:
        """The first intact record from an index on, and how many damaged ones were skipped."""
        for passed in range(self.count):
            example = self.read((index + passed) % self.count)
            if example is not None:
                return example, passed
        file, _ = self.source.place(self.start)
        raise Damaged(file, None, f"all {self.count} records of the training part are damaged")
