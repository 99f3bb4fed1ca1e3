"""Optimizers by name, built on optax; each takes the step's learning rate as an argument.

The rate comes from outside (`update(..., learning_rate=...)`), because a schedule may depend on
the run so far and because the papers differ in whether the rate is inside the velocity.
What goes by parameter name ("conv1/kernel") is the same for all of them: `Rules`. A parameter with
a rate of 0 is frozen: it is not updated or decayed, its gradient is not part of the norm, and no
optimizer has state for it.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

import jax
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from configs.fields import Bounds, check_value
from errors import UserError
from training import parts
from training.levenberg_marquardt import scale_by_curvature

Factors = tuple[tuple[str, float], ...]  # (shell pattern of parameter names, factor)
Optimizer: TypeAlias = optax.GradientTransformationExtraArgs

KERNELS: Factors = (("*kernel", 1.0),)


def names(params: Any) -> Any:
    """A tree like `params` with each parameter's name: "inception_4a/3x3/kernel"."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: "/".join(entry.key for entry in path), params
    )


def factor_of(name: str, factors: Sequence[tuple[str, float]], default: float) -> float:
    """The factor of the first pattern that matches `name`; `default` if none does."""
    return next((factor for pattern, factor in factors if fnmatchcase(name, pattern)), default)


@dataclasses.dataclass(frozen=True)
class Rules:
    """What every optimizer does to gradients and rates, by parameter name.

    rates: factors on the learning rate, 1 if no pattern matches (NiN's last layer at a tenth); 0
    freezes.
    decay: factors on the weight decay, 0 if none does (only kernels decay, as in the papers).
    clip_norm: the greatest L2 norm of the whole gradient; 0: as it is.
    """

    rates: Factors = ()
    decay: Factors = KERNELS
    clip_norm: float = 0.0

    def trainable(self, tree: Any) -> Any:
        """A tree like the parameters without the frozen ones."""
        kept = {
            name: leaf
            for name, leaf in flatten_dict(tree, sep="/").items()
            if factor_of(name, self.rates, 1.0)
        }
        return unflatten_dict(kept, sep="/")

    def of_trainable(self, optimizer: Optimizer) -> Optimizer:
        """`optimizer` of only the parameters that are not frozen; None is the update of the others.

        Nothing reads the gradients of frozen parameters, so that the compiled step does not compute
        them.
        """
        if all(factor for _, factor in self.rates):
            return optimizer

        def update(updates: Any, state: Any, params: Any = None, **given: Any) -> tuple[Any, Any]:
            found, state = optimizer.update(
                self.trainable(updates), state, self.trainable(params), **given
            )
            moved = flatten_dict(found, sep="/")
            every = {name: moved.get(name) for name in flatten_dict(updates, sep="/")}
            return unflatten_dict(every, sep="/"), state

        return optax.GradientTransformationExtraArgs(
            lambda params: optimizer.init(self.trainable(params)), update
        )

    def gradient(self, weight_decay: float) -> optax.GradientTransformation:
        """Clips the loss's gradient, then adds weight_decay·w, the papers' L2 regularization."""

        def decayed(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
            def add(name: str, gradient: jax.Array, weight: jax.Array) -> jax.Array:
                factor = weight_decay * factor_of(name, self.decay, 0.0)
                return gradient + factor * weight if factor else gradient

            return jax.tree.map(add, names(params), updates, params), state

        return optax.chain(
            optax.clip_by_global_norm(self.clip_norm) if self.clip_norm else optax.identity(),
            optax.GradientTransformation(lambda params: optax.EmptyState(), decayed),
        )

    def times_learning_rate(self) -> Optimizer:
        """Multiplies by the learning rate given to `update`, times the parameter's factor."""

        def update(
            updates: Any, state: Any, params: Any = None, *, learning_rate: jax.Array, **_: Any
        ) -> tuple[Any, Any]:
            def scale(name: str, u: jax.Array) -> jax.Array:
                return learning_rate.astype(u.dtype) * factor_of(name, self.rates, 1.0) * u

            return jax.tree.map(scale, names(updates), updates), state

        return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def applied(params: Any, updates: Any) -> Any:
    """The parameters after the updates; one without an update, a frozen one, keeps its bits."""
    return jax.tree.map(
        lambda update, weight: weight if update is None else optax.apply_updates(weight, update),
        updates,
        params,
        is_leaf=lambda update: update is None,
    )


def sgd(rules: Rules, *, momentum: float, weight_decay: float) -> Optimizer:
    """v ← momentum·v + g + weight_decay·w;  w ← w − rate·v: the rate is outside the velocity."""
    return optax.chain(
        rules.gradient(weight_decay),
        optax.trace(momentum) if momentum else optax.identity(),
        rules.times_learning_rate(),
        optax.scale(-1.0),
    )


def caffe_sgd(rules: Rules, *, momentum: float, weight_decay: float) -> Optimizer:
    """v ← momentum·v + rate·(g + weight_decay·w);  w ← w − v: the rate is inside the velocity.

    Krizhevsky et al. 2012, section 5, cuda-convnet and Caffe. Differs from `sgd` for about
    1/(1 − momentum) steps after each change of the rate.
    """
    return optax.chain(
        rules.gradient(weight_decay),
        rules.times_learning_rate(),
        optax.trace(momentum) if momentum else optax.identity(),
        optax.scale(-1.0),
    )


def adam(rules: Rules, *, b1: float, b2: float, epsilon: float, weight_decay: float) -> Optimizer:
    """Kingma and Ba 2015. The weight decay is part of the gradient, as in the other optimizers."""
    return optax.chain(
        rules.gradient(weight_decay),
        optax.scale_by_adam(b1, b2, epsilon),
        rules.times_learning_rate(),
        optax.scale(-1.0),
    )


def levenberg_marquardt(
    rules: Rules, *, mu: float, patterns: int, weight_decay: float
) -> Optimizer:
    """w ← w − rate/(mu + h)·g with h the curvature of each weight: LeCun et al. 1998, eq. 21.

    h is estimated on `patterns` images before each pass and frozen in it. Only for LeNet-5,
    whose layers the estimate is written for; the rate is the paper's η.
    """
    return optax.chain(
        rules.gradient(weight_decay),
        scale_by_curvature(mu),
        rules.times_learning_rate(),
        optax.scale(-1.0),
    )


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": sgd,
    "caffe_sgd": caffe_sgd,
    "adam": adam,
    "levenberg_marquardt": levenberg_marquardt,
}
OF_CURVATURE = ("levenberg_marquardt",)  # optimizers that divide by estimated curvatures


def create(config: Mapping, rules: Rules | None = None) -> Optimizer:
    """The optimizer of `config.optimizer`.

    Raises UserError for an unknown name, or fields that the optimizer does not have.
    """
    rules = rules or Rules()
    return rules.of_trainable(parts.build("optimizer", config, OPTIMIZERS, rules))


def rules(config: Mapping, params: Any) -> Rules:
    """The rules of `config.parameters` for a network with these parameters (or their shapes).

    A factor of None is 0. Raises UserError for a factor below 0, a pattern that matches no
    parameter, or rates that freeze every parameter.
    """
    known = jax.tree.leaves(names(params))
    read: dict[str, Factors] = {}
    for field in ("rates", "decay"):
        pairs = []
        for entry in config[field]:
            pair = isinstance(entry, tuple | list) and len(entry) == 2
            if not pair or not isinstance(entry[0], str):
                raise UserError(
                    f"config.parameters.{field}: {entry!r} is not a pair (pattern, number)"
                )
            pattern, factor = entry[0], 0.0 if entry[1] is None else entry[1]
            check_value(f"parameters.{field}", factor, float, bounds=Bounds(least=0))
            if not any(fnmatchcase(name, pattern) for name in known):
                raise UserError(
                    f"config.parameters.{field}: {pattern!r} matches no parameter; "
                    f"the parameters are {', '.join(known[:4])} ..."
                )
            pairs.append((pattern, float(factor)))
        read[field] = tuple(pairs)
    if not any(factor_of(name, read["rates"], 1.0) for name in known):
        raise UserError("config.parameters.rates: freeze every parameter; nothing is left to train")
    return Rules(read["rates"], read["decay"], float(config["clip_norm"]))
