"""The exception for bad input, which commands print as one line, and "did you mean" hints.

Any other exception is a bug of ours and keeps its traceback.
"""

import difflib
from collections.abc import Iterable

SUGGESTIONS = 5


class UserError(Exception):
    """Bad input: the message is one line that names the field or file and the valid values."""


def did_you_mean(word: str, valid: Iterable[str]) -> str:
    """ "; did you mean A or B?" with up to five similar valid words; "" if none is similar."""
    near = difflib.get_close_matches(word, list(valid), n=SUGGESTIONS)
    return f"; did you mean {' or '.join(near)}?" if near else ""
