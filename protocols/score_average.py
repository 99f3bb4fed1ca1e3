"""Averages scores or posteriors; the result depends on whether the softmax comes before or after.

Within one image in the fully convolutional form, class scores are averaged over positions before
the softmax (Simonyan and Zisserman 2015, section 3.2). Over crops, flips, scales and networks,
posteriors are averaged, after the softmax (Krizhevsky et al. 2012, section 4.1; Simonyan and
Zisserman 2015, sections 3.2 and 4.3; Szegedy et al. 2015, section 7).
"""

import jax
import numpy as np
from scipy.special import softmax


def scores(logits: jax.Array) -> jax.Array:
    """Logits [N, classes] or [N, h, w, classes], averaged over positions: [N, classes]."""
    return logits.mean(tuple(range(1, logits.ndim - 1)))


def posteriors(logits: jax.Array) -> jax.Array:
    """The softmax of the scores, [N, classes]."""
    return jax.nn.softmax(scores(logits), axis=-1)


def of_scores(scores: np.ndarray) -> np.ndarray:
    """The softmax of scores averaged over all views, [N, classes]."""
    return softmax(scores, axis=-1)


# The function whose values are averaged over views, by the protocol's `average`.
AVERAGED = {"posteriors": posteriors, "scores": scores}


def over_models(members: list[np.ndarray]) -> np.ndarray:
    """The mean of the members' posteriors, [N, classes]."""
    return np.mean(np.stack(members), axis=0)
