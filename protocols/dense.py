"""The fully convolutional form of a network: Simonyan and Zisserman 2015, section 3.2.

A network whose last map is averaged before a linear classifier is dense by nature: averaging the
scores of all positions is the same. One with dense layers has a field `dense_form` that turns them
into convolutions, or it cannot be dense; the error names the layer.
"""

import flax.linen as nn

import models
from models.layers import Dense, LocalConv
from models.network import Network


def fully_convolutional(network: Network) -> Network:
    """The form of `network` that takes larger images, with the same variables.

    Raises ValueError that names the layer that cannot.
    """
    if hasattr(network, "dense_form"):
        return network.clone(dense_form=True)
    obstacle = _obstacle(network)
    if obstacle:
        raise ValueError(f"the network cannot be dense: {obstacle}")
    return network


def _obstacle(network: Network) -> str | None:
    """The first layer that is bound to the size of its map, in words."""
    found: list[str] = []

    def look(call, args, kwargs, context: nn.module.InterceptorContext):
        layer = context.module
        shape: tuple[int, ...] = getattr(args[0], "shape", ()) if args else ()
        if context.method_name == "__call__" and len(shape) == 4:
            name, size = "/".join(layer.path), f"{shape[1]}×{shape[2]} map"
            if isinstance(layer, Dense) and layer.window is None:
                found.append(f"{name} takes its whole {size} as one vector")
            elif isinstance(layer, LocalConv):
                found.append(f"{name} has a kernel of its own at every position of its {size}")
        return call(*args, **kwargs)

    with nn.intercept_methods(look):
        models.variables_of(network)
    return found[0] if found else None
