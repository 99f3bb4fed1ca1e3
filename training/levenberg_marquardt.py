"""The diagonal Levenberg-Marquardt step sizes of LeNet-5: LeCun et al. 1998,
section III.C and eq. 21-27.

The curvature h of a weight is the mean over patterns of Σ H_i·x_j² over the connections that share
it, where H_i = ∂²E/∂a_i² is propagated back by H_k = f′(a_k)²·Σ_i u_ik²·H_i: Gauss-Newton without
the couplings between units. A layer a = U·x propagates H like the gradient of the layer with
squared weights and squared inputs, so that vjp of that layer computes it.

The networks between LeNet-5 and its modern form (`models.lenet.LeNet5`) have the same rule: the
function after each layer gives f′, pooling is a layer of fixed weights, and softmax with
cross-entropy has ∂²E/∂a_i² = p_i·(1 − p_i) at its logits.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from models import Network

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
    functions = network.curvature_layers
    layers: dict[str, tuple[nn.Module, jax.Array, jax.Array]] = {}

    def record(call: Any, args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        out = call(*args, **kwargs)
        name = context.module.name
        if context.method_name == "__call__" and name is not None and name in functions:
            # Unbound from its scope, the layer can be applied to other weights.
            layers[name] = (context.module.clone(parent=None), args[0], out)
        return out

    with nn.intercept_methods(record):
        outputs: Any = network.apply({"params": params}, images, train=False)

    if network.gives_distances:
        back = jnp.full(layers[list(functions)[-1]][2].shape, CURVATURE_OF_DISTANCE)
    else:
        likely = jax.nn.softmax(outputs.logits)
        back = likely * (1 - likely)
    estimates = {}
    for name, function in reversed(list(functions.items())):
        layer, x, a = layers[name]
        _, slope = jax.jvp(function, (a,), (jnp.ones_like(a),))
        back = back * slope**2
        if name in params:
            squared = jax.tree.map(jnp.square, params[name])
            _, carry = jax.vjp(
                lambda p, x, layer=layer: layer.apply({"params": p}, x), squared, x**2
            )
            shared, back = carry(back)
            estimates[name] = jax.tree.map(lambda h: h / len(images), shared)
        else:
            # Pooling: each unit has one connection, of weight u, which is the gradient of ones.
            _, carry = jax.vjp(lambda x, layer=layer: layer.apply({}, x), x)
            (weight,), (once,) = carry(jnp.ones_like(a)), carry(back)
            back = weight * once
    return estimates
