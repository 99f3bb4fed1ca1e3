"""Every random draw of a run, as a pure function of (seed, purpose, step).

The project keeps no generator objects: random draws start from `key` or `host_draws`. A run can
therefore resume bit-identically from its step number, and one device agrees with eight. Imports
nothing of the project.
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
    LABELS = 6


def key(seed: int, purpose: Purpose, step: int | jax.Array = 0) -> jax.Array:
    """The key of one purpose at one step (or epoch, for purposes that count epochs)."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), int(purpose)), step)


def host_draws(seed: int, purpose: Purpose, *counters: int) -> np.random.RandomState:
    """A generator for code on the host that depends only on the arguments (each >= 0).

    Use it once and drop it: no state is kept between draws. `counters` identify the draw (an epoch,
    or a stream, a step and a position). RandomState, because NumPy freezes its streams; those of
    Generator may change between versions.
    """
    bits = np.random.Philox(np.random.SeedSequence([seed, int(purpose), *counters]))
    return np.random.RandomState(bits)


def epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The permutation (int32) of `count` training images in one epoch, the same in all engines."""
    return host_draws(seed, Purpose.ORDER, epoch).permutation(count).astype(np.int32)
