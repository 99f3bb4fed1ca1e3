"""Optimizers by name, built on optax; each takes the step's learning rate as an argument.

The rate comes from outside (`update(..., learning_rate=...)`), because a schedule may depend on
the run's history and because the papers differ in whether the rate stands inside the velocity.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax

from training import parts


def times_learning_rate() -> optax.GradientTransformationExtraArgs:
    """Multiplies by −learning_rate, the step's own, given to `update`."""

    def update(updates: Any, state: Any, params: Any = None, *, learning_rate: jax.Array, **_: Any):
        del params
        return jax.tree.map(lambda u: -learning_rate.astype(u.dtype) * u, updates), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def is_kernel(params: Any) -> Any:
    """True for the weights that L2 decay acts on: kernels, not biases, scales and shifts."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def sgd(*, momentum: float, weight_decay: float) -> optax.GradientTransformationExtraArgs:
    """v ← momentum·v + g + weight_decay·w;  w ← w − rate·v. L2 stands in the gradient."""
    return optax.chain(
        optax.add_decayed_weights(weight_decay, mask=is_kernel)
        if weight_decay
        else optax.identity(),
        optax.trace(momentum) if momentum else optax.identity(),
        times_learning_rate(),
    )


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformationExtraArgs]] = {"sgd": sgd}


def create(config: Mapping) -> optax.GradientTransformationExtraArgs:
    """The optimizer of `config.optimizer`.

    Raises UserError for an unknown name, or fields that are not the optimizer's own.
    """
    return parts.build("optimizer", config, OPTIMIZERS)
