"""The diagonal Levenberg-Marquardt step sizes of LeNet-5: LeCun et al. 1998,
section III.C and eq. 21-27.

The curvature h of a weight is the mean over patterns of Σ H_i·x_j² over the connections that share
it, where H_i = ∂²E/∂a_i² is propagated back by H_k = f′(a_k)²·Σ_i u_ik²·H_i: Gauss-Newton without
the couplings between units. A layer a = U·x propagates H like the gradient of the layer with
squared weights and squared inputs, so that vjp of that layer computes it.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from models import Network
from models.lenet import squash

# ∂²E/∂x_j² of eq. 8, E = Σ_j (x_j − w_j)², at the output of F6. Eq. 9's second term is ignored.
CURVATURE_OF_DISTANCE = 2.0


class CurvatureState(NamedTuple):
    """h of every parameter, in the parameters' own tree."""

    curvature: Any


def scale_by_curvature(mu: float) -> optax.GradientTransformation:
    """Divides each gradient by mu + h. h is 0 until `with_curvature` sets it."""

    def update(updates: Any, state: CurvatureState, params: Any = None) -> tuple[Any, Any]:
        scaled = jax.tree.map(lambda u, h: u / (mu + h), updates, state.curvature)
        return scaled, state

    return optax.GradientTransformation(
        lambda params: CurvatureState(jax.tree.map(jnp.zeros_like, params)), update
    )


def with_curvature(opt_state: Any, curvature: Any) -> Any:
    """The optimizer's state with new estimates for the parameters it has: not for frozen ones."""
    kept = flatten_dict(optax.tree_utils.tree_get(opt_state, "curvature"), sep="/")
    new = {name: leaf for name, leaf in flatten_dict(curvature, sep="/").items() if name in kept}
    return optax.tree_utils.tree_set(opt_state, curvature=unflatten_dict(new, sep="/"))


def curvature(network: Network, params: Any, images: jax.Array) -> Any:
    """h of every parameter, the mean over `images` [N, H, W, C]; a tree like `params`."""
    names = network.curvature_layers
    layers: dict[str, tuple[nn.Module, jax.Array, jax.Array]] = {}

    def record(call: Any, args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        out = call(*args, **kwargs)
        if context.method_name == "__call__" and context.module.name in names:
            # Unbound from its scope, the layer can be applied to other weights.
            layers[context.module.name] = (context.module.clone(parent=None), args[0], out)
        return out

    with nn.intercept_methods(record):
        network.apply({"params": params}, images, train=False)

    estimates = {}
    back = jnp.full(layers[names[-1]][2].shape, CURVATURE_OF_DISTANCE)
    for name in reversed(names):
        layer, x, a = layers[name]
        _, slope = jax.jvp(squash, (a,), (jnp.ones_like(a),))
        squared = jax.tree.map(jnp.square, params[name])
        _, carry = jax.vjp(lambda p, x, layer=layer: layer.apply({"params": p}, x), squared, x**2)
        shared, back_of_x = carry(back * slope**2)
        estimates[name] = jax.tree.map(lambda h: h / len(images), shared)
        back = back_of_x
    return estimates
