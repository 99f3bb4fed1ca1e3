"""Each network's cost, traced once for all tests of a session."""

import functools

import models
from inspection import cost


@functools.cache
def measured(name: str) -> cost.Cost:
    return cost.measure(models.create({"name": name}))
