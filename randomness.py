"""Every random draw of a run, as a pure function of (seed, purpose, step).

No generator object lives anywhere in the project: whoever needs randomness asks `key` for it.
That is what lets a run resume to the same bits from only its step number, and one device agree
with eight. This file imports nothing of the project.
"""

import enum

import jax
import numpy as np


class Purpose(enum.IntEnum):
    """What a draw is for. Results depend on the numbers: never change one, never reuse 4 and 5."""

    INIT = 0
    ORDER = 1
    AUGMENT = 2
    DROPOUT = 3


def key(seed: int, purpose: Purpose, step: int | jax.Array = 0) -> jax.Array:
    """The key of one purpose at one step (or epoch, where the purpose counts epochs)."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), int(purpose)), step)


def host_draws(seed: int, purpose: Purpose, *counters: int) -> np.random.RandomState:
    """Draws for code that runs on the host, as a function of only the arguments (each >= 0).

    Made where it is used and dropped there: nothing of it is kept between draws. `counters` say
    what the draw belongs to (an epoch; a stream, a step and a position). RandomState, because
    NumPy freezes its streams, while those of Generator may change between versions.
    """
    bits = np.random.Philox(np.random.SeedSequence([seed, int(purpose), *counters]))
    return np.random.RandomState(bits)


def epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The permutation (int32) of `count` training images in one epoch, for every engine."""
    return host_draws(seed, Purpose.ORDER, epoch).permutation(count).astype(np.int32)
