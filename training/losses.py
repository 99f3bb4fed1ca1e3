"""Named, weighted loss terms, one per head; training minimises their weighted sum.

A side branch (GoogLeNet's aux1, aux2) is one more name in `config.loss.weights`.
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import optax

from errors import UserError
from models import Outputs
from sharding import Batch
from training import parts

PerExample = Callable[[jax.Array, jax.Array], jax.Array]  # logits [N, C], labels [N] -> [N]

MAIN = "main"  # the name of the trunk's own head


def cross_entropy(*, label_smoothing: float) -> PerExample:
    """−log softmax of the right class; smoothing mixes in the uniform distribution."""

    def per_example(logits: jax.Array, labels: jax.Array) -> jax.Array:
        targets = jax.nn.one_hot(labels, logits.shape[-1])
        return optax.softmax_cross_entropy(logits, optax.smooth_labels(targets, label_smoothing))

    return per_example


def distance_of_class(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """y_D, the radial-basis output of the right class, [N]. logits are −y."""
    return -jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]


def rbf_mse() -> PerExample:
    """LeCun et al. 1998, eq. 8: y_D itself."""
    return distance_of_class


def rbf_map(*, j: float) -> PerExample:
    """LeCun et al. 1998, eq. 9: y_D + log(e^−j + Σ_i e^−y_i), with j > 0."""

    def per_example(logits: jax.Array, labels: jax.Array) -> jax.Array:
        rubbish = jnp.full((logits.shape[0], 1), -j, logits.dtype)
        competition = jax.nn.logsumexp(jnp.concatenate([logits, rubbish], axis=1), axis=1)
        return distance_of_class(logits, labels) + competition

    return per_example


KINDS: dict[str, Callable[..., PerExample]] = {
    "cross_entropy": cross_entropy,
    "rbf_mse": rbf_mse,
    "rbf_map": rbf_map,
}
OF_DISTANCES = ("rbf_mse", "rbf_map")  # kinds for networks whose logits are minus distances


class Loss:
    """The weighted sum of the terms of all heads: loss(outputs, batch) -> metrics.

    The metrics are means over the unmasked images: "loss" (the weighted sum), "loss_<head>" and
    "error_<head>" for each side head, "loss_main" if there are side heads, "error".
    """

    def __init__(self, per_example: PerExample, weights: Mapping[str, float]):
        self.per_example = per_example
        self.weights = dict(weights)

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics' names in order."""
        side = tuple(name for name in self.weights if name != MAIN)
        terms = (f"loss_{name}" for name in self.weights) if side else ()
        return ("loss", "error", *terms, *(f"error_{name}" for name in side))

    def only(self, heads: Sequence[str]) -> "Loss":
        """The same loss of only the main head and `heads`, as evaluation reports it."""
        return Loss(self.per_example, {name: self.weights[name] for name in (MAIN, *heads)})

    def __call__(self, outputs: Outputs, batch: Batch) -> dict[str, jax.Array]:
        """Metrics by name, scalars, float32."""
        mask, labels = batch["mask"], batch["label"]
        count = jnp.maximum(mask.sum(), 1)
        metrics = {"loss": jnp.zeros(())}
        for name, weight in self.weights.items():
            logits = outputs.logits if name == MAIN else outputs.side_logits[name]
            term = (self.per_example(logits, labels) * mask).sum() / count
            wrong = ((jnp.argmax(logits, -1) != labels) * mask).sum() / count
            metrics["loss"] += weight * term
            metrics[f"loss_{name}"] = term
            metrics["error" if name == MAIN else f"error_{name}"] = wrong
        return {name: metrics[name] for name in self.names}


def create(config: Mapping, heads: Sequence[str]) -> Loss:
    """The loss of `config.loss` for a network with the side heads `heads`.

    Raises UserError for an unknown kind, a weight for a head the network does not have, or a head
    without a weight.
    """
    part = {"name": config["kind"]}
    part |= {key: value for key, value in config.items() if key not in ("kind", "weights")}
    per_example = parts.build("loss", part, KINDS)
    valid = (MAIN, *heads)
    weights = dict(config["weights"])
    for name in weights:
        if name not in valid:
            raise UserError(
                f"config.loss.weights: the network has no head {name!r}; heads: {', '.join(valid)}"
            )
    for name in valid:
        if name not in weights:
            raise UserError(f"config.loss.weights: no weight for the network's head {name!r}")
    return Loss(per_example, {name: weights[name] for name in valid})
