"""One mesh of all devices: the batch is sharded over its axis "batch", the state replicated.

This is what `jax.pmap` was used for; `jax.jit` over a mesh runs unchanged on 1 to n devices and
hosts and gives the same metrics on all of them.
"""

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "batch"


def create_mesh(devices: list[jax.Device] | None = None) -> Mesh:
    """A one-axis mesh over `devices` (all devices of all hosts where none are given)."""
    devices = devices or jax.devices()
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of the state: a whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())
