"""The one exception that entry scripts show to a user as a single line, and what such lines share.

Anything else that is raised is a defect of ours and keeps its traceback.
"""

import difflib
from collections.abc import Iterable

SUGGESTIONS = 5


class UserError(Exception):
    """Bad input: the message is one line that names the field or file and the valid values."""


def did_you_mean(word: str, valid: Iterable[str]) -> str:
    """ "; did you mean A or B?" with the nearest valid words, five at most; "" if none is near."""
    near = difflib.get_close_matches(word, list(valid), n=SUGGESTIONS)
    return f"; did you mean {' or '.join(near)}?" if near else ""
