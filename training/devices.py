"""One mesh of all devices: the batch is sharded over its axis "batch", the state replicated.

This is what `jax.pmap` was used for; `jax.jit` over a mesh runs unchanged on 1 to n devices and
hosts and gives the same metrics on all of them.
"""

import os

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "batch"

# What the launchers that jax.distributed detects set for each of their processes.
CLUSTER_VARIABLES = ("SLURM_STEP_NODELIST", "OMPI_MCA_orte_hnp_uri", "JAX_COORDINATOR_ADDRESS")


def join_cluster() -> None:
    """Joins the other processes of a job that srun or mpirun started, or that names a coordinator.

    Alone on a machine there is nothing to join: jax.distributed would raise.
    """
    if any(os.environ.get(name) for name in CLUSTER_VARIABLES):
        jax.distributed.initialize()


def create_mesh(devices: list[jax.Device] | None = None) -> Mesh:
    """A one-axis mesh over `devices` (all devices of all hosts where none are given)."""
    devices = devices or jax.devices()
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of the state: a whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())
