"""One exception for data that is broken on disk.

It stands apart from the readers so that whoever skips and counts damaged records (the streaming
engine, where the config asks for it) can catch it without catching any other user error.
"""

import os
from pathlib import Path

from errors import UserError


class Damaged(UserError):
    """A file, or one record of it, that cannot be what it claims to be.

    `file` is the path, `record` the image's place in it (an index or a member's name; None where
    the whole file is meant), `what` the finding. The message is one line that names all three.
    """

    def __init__(self, file: str | Path, record: int | str | None, what: str) -> None:
        # All arguments reach BaseException, so that worker processes can send the error home.
        super().__init__(str(file), record, what)
        self.file = str(file)
        self.record = record
        self.what = " ".join(what.split())

    def __str__(self) -> str:
        place = self.file if self.record is None else f"{self.file}, record {self.record}"
        return f"{place}: {self.what}"


def size_of(file: str | Path) -> int:
    """Returns a file's size in bytes; -1 if it cannot be read; reading it raises the error."""
    try:
        return os.stat(file).st_size
    except OSError:
        return -1
