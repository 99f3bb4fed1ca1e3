"""How scores become one posterior: the order matters, and each paper states its own.

Within one image shown to the fully convolutional form, class scores are averaged over positions
and only then go through the softmax (Simonyan and Zisserman 2015, section 3.2). Over crops, flips,
scales and networks it is posteriors, after the softmax, that are averaged (Krizhevsky et al. 2012,
section 4.1; Simonyan and Zisserman 2015, sections 3.2 and 4.3; Szegedy et al. 2015, section 7).
"""

import jax
import numpy as np
from scipy.special import softmax


def scores(logits: jax.Array) -> jax.Array:
    """Logits [N, classes], or of every position [N, h, w, classes], as one score a class [N, c]."""
    return logits.mean(tuple(range(1, logits.ndim - 1)))


def posteriors(logits: jax.Array) -> jax.Array:
    """The softmax of the scores, [N, classes]."""
    return jax.nn.softmax(scores(logits), axis=-1)


def of_scores(scores: np.ndarray) -> np.ndarray:
    """The softmax of scores that were averaged over all views, [N, classes]."""
    return softmax(scores, axis=-1)


# What is averaged over views, by the protocol's `average`.
AVERAGED = {"posteriors": posteriors, "scores": scores}


def over_models(members: list[np.ndarray]) -> np.ndarray:
    """The mean of the members' posteriors [N, classes]: of one member, its own."""
    return np.mean(np.stack(members), axis=0)
