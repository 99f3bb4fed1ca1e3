"""Converts durations ("60 epochs", "64000 steps", "600000 examples") to steps.

The only place where that is done. One epoch is n // batch steps.
"""

import re

from errors import UserError

MOST = 2**31 - 1  # the state counts steps in int32
FORM = '"N steps", "N epochs" or "N examples"'


def in_steps(field: str, duration: str, *, steps_per_epoch: int, batch_size: int) -> int:
    """The number of steps in `duration`, rounded to the nearest.

    Raises UserError, with the name of the config `field`, if it has another form, is less than one
    step or more than MOST.
    """
    match = re.fullmatch(r"([0-9]*\.?[0-9]+(?:e[0-9]+)?) *(step|epoch|example)s?", duration.strip())
    if match is None:
        raise UserError(f"{field}: {duration!r} is not of the form {FORM}")
    number, unit = float(match[1]), match[2]
    per_unit = {"step": 1.0, "epoch": float(steps_per_epoch), "example": 1 / batch_size}[unit]
    if not number * per_unit <= MOST:
        raise UserError(f"{field}: {duration!r} is more than {MOST:,} steps")
    steps = round(number * per_unit)
    if steps < 1:
        raise UserError(f"{field}: {duration!r} is less than one step")
    return steps
