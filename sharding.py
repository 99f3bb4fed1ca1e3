"""Places arrays on devices: the batch is sharded over the one axis of a mesh, the state replicated.

Only this file names the axis. `jax.jit` over the mesh is the default and runs unchanged on any
number of devices and hosts; `pmapped` runs the same step under `jax.pmap`. Imports nothing of the
project.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "batch"

Batch = Mapping[str, jax.Array]  # "image" [N, H, W, C], "label" [N], "mask" [N]


def create_mesh(devices: list[jax.Device] | None = None) -> Mesh:
    """A one-axis mesh over `devices`, by default all devices of all hosts."""
    devices = devices or jax.devices()
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of the state: a whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def sharded(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch: its rows over all devices."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def shard(mesh: Mesh, array: np.ndarray) -> jax.Array:
    """A whole batch on the devices; each process puts its own rows on its own devices."""
    return jax.make_array_from_callback(array.shape, sharded(mesh), lambda index: array[index])


def replicate(mesh: Mesh, array: np.ndarray) -> jax.Array:
    """A whole copy on every device."""
    return jax.make_array_from_callback(array.shape, replicated(mesh), lambda index: array[index])


def to_host(tree: Any) -> Any:
    """The values of a tree of arrays as NumPy, once they are computed; raises what went wrong.

    jax.device_get alone does not: if a computation runs out of memory on CPU before its results
    have their own, jaxlib 0.10.2 waits forever for a result that is read, or aborts.
    """
    return jax.device_get(jax.block_until_ready(tree))  # noqa: TID251


def pmapped(step: Callable[..., Any], mesh: Mesh) -> Callable[[Any, Any], Any]:
    """`step(state, batch, axis_name=...)` under jax.pmap: the state is not mapped, the batch is.

    The step must average what it computes from its part of the batch over the axis, so that every
    device computes the same new state. One process only.
    """
    mapped = jax.pmap(
        partial(step, axis_name=AXIS),
        axis_name=AXIS,
        in_axes=(None, 0),
        out_axes=None,
        devices=list(mesh.devices.flat),
    )

    def call(state: Any, batch: Any) -> Any:
        parts = jax.tree.map(lambda x: x.reshape(mesh.size, -1, *x.shape[1:]), batch)
        return jax.device_put(mapped(state, parts), replicated(mesh))

    return call
