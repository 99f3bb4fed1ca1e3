"""Each network's cost, traced once for all tests of a session."""

import functools
import gc

import models
from models import cost


@functools.cache
def measured(name: str) -> cost.Cost:
    # Looking for garbage takes a fifth of a trace's time, and there is none before it ends.
    gc.disable()
    try:
        return cost.measure(models.create({"name": name}))
    finally:
        gc.enable()
