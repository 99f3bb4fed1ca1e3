"""Veit et al. 2016, Fig. 3: the error of a trained net when one block is deleted.

Also how large a block's residual is beside the input it is added to. A part of `identity`.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import sharding


def deletable(network: Any, image: jax.Array) -> tuple[str, ...]:
    """The blocks of a net that can be deleted, first to last.

    All units of a residual net, since their shortcuts stay. Of a plain net those units, and of VGG
    those convolutions, whose output has the shape of their input.
    """
    if _residual(network):
        return tuple(network.units)
    blocks = getattr(network, "units", ())
    kept: list[str] = []

    def see(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        out = call(*args, **kwargs)
        name = "/".join(context.module.path)
        is_block = name in blocks if blocks else name.startswith("conv") and "/" not in name
        if is_block and context.method_name == "__call__" and args[0].shape == out.shape:
            kept.append(name)
        return out

    with nn.intercept_methods(see):
        jax.eval_shape(lambda key: network.init_with_output(key, image), jax.random.key(0))
    return tuple(kept)


def errors_without(network: Any, variables: Any, batch: Any) -> dict[str, float]:
    """The error on a batch, a fraction of its unmasked images, by the block that is deleted.

    A residual block is deleted with its shortcut left in place; any other passes its input on.
    """
    blocks = deletable(network, batch["image"][:1])
    residual = _residual(network)
    # A deleted residual is 0, so the sum is what the shortcut gives.
    places = {f"{name}/b" if residual else name: place for place, name in enumerate(blocks)}

    @jax.jit
    def error(variables: Any, keep: jax.Array) -> jax.Array:
        def delete(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            out = call(*args, **kwargs)
            place = places.get("/".join(context.module.path))
            if place is None or context.method_name != "__call__":
                return out
            return jnp.where(keep[place], out, jnp.zeros_like(out) if residual else args[0])

        with nn.intercept_methods(delete):
            logits = network.apply(variables, batch["image"], train=False).logits
        wrong = (logits.argmax(-1) != batch["label"]) * batch["mask"]
        return wrong.sum() / batch["mask"].sum()

    keeps = ~np.eye(len(blocks), dtype=bool)
    return {name: float(error(variables, keep)) for name, keep in zip(blocks, keeps, strict=True)}


def residual_shares(network: Any, variables: Any, batch: Any) -> dict[str, float]:
    """‖F(x)‖/‖x‖ of each residual block, the mean over a batch's unmasked images; {} if plain.

    F(x) is what the block adds, x what its shortcut passes on.
    """
    if not _residual(network):
        return {}

    @jax.jit
    def shares(variables: Any, images: jax.Array, mask: jax.Array) -> dict[str, jax.Array]:
        inputs: dict[str, jax.Array] = {}
        found: dict[str, jax.Array] = {}

        def see(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            name = "/".join(context.module.path)
            if context.method_name != "__call__":
                return call(*args, **kwargs)
            if name in network.units:
                inputs[name] = args[0]
            out = call(*args, **kwargs)
            unit = name.removesuffix("/b")
            if unit in inputs and unit != name:
                stride = -(-inputs[unit].shape[1] // out.shape[1])
                passed = inputs[unit][:, ::stride, ::stride]
                found[unit] = (mask * _norms(out) / _norms(passed)).sum() / mask.sum()
            return out

        with nn.intercept_methods(see):
            network.apply(variables, images, train=False)
        return found

    measured: Mapping[str, Any] = sharding.to_host(shares(variables, batch["image"], batch["mask"]))
    return {name: float(measured[name]) for name in network.units}


def _residual(network: Any) -> bool:
    return getattr(network, "shortcut", "none") != "none"


def _norms(x: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.square(x).sum((1, 2, 3)))
