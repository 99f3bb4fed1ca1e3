"""The exception for data that is damaged on disk.

A class of its own, so that code which skips damaged records catches no other UserError.
"""

import os
from pathlib import Path

from errors import UserError


class Damaged(UserError):
    """A file, or one of its records, is damaged.

    `file` is the path, `record` an index or a member's name in it (None for the whole file), `what`
    the finding. The message is one line with all three.
    """

    def __init__(self, file: str | Path, record: int | str | None, what: str) -> None:
        # Passing all arguments on makes the error picklable, for worker processes.
        super().__init__(str(file), record, what)
        self.file = str(file)
        self.record = record
        self.what = " ".join(what.split())

    def __str__(self) -> str:
        place = self.file if self.record is None else f"{self.file}, record {self.record}"
        return f"{place}: {self.what}"


def size_of(file: str | Path) -> int:
    """Returns a file's size in bytes; -1 if it cannot be read (reading it raises the error)."""
    try:
        return os.stat(file).st_size
    except OSError:
        return -1
