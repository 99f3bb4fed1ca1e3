"""The fully convolutional form of a network: Simonyan and Zisserman 2015, section 3.2.

A network that averages its last map before a linear classifier needs no change: averaging the
scores of all positions is the same. A network with dense layers needs a field `dense_form` that
turns them into convolutions.
"""

import flax.linen as nn

import models
from models.layers import Dense, LocalConv
from models.network import Network


def fully_convolutional(network: Network) -> Network:
    """The form of `network` that accepts larger images, with the same variables.

    Raises ValueError that names the first layer that depends on the image size.
    """
    if hasattr(network, "dense_form"):
        return network.clone(dense_form=True)
    obstacle = _obstacle(network)
    if obstacle:
        raise ValueError(f"the network cannot be dense: {obstacle}")
    return network


def _obstacle(network: Network) -> str | None:
    """A description of the first layer that depends on the size of its map; None if none does."""
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
