"""A job of several processes: joined to each other at the start, and ended all at once.

Without `end` a process that met an error leaves the others waiting in a collective until a
heartbeat is missed, and each then prints dozens of lines.
"""

import os
import sys
import threading
import time
from typing import NoReturn

import jax
from jax._src import distributed  # the key-value store of a job has no public name

# What the launchers that jax.distributed detects set for each of their processes.
CLUSTER_VARIABLES = ("SLURM_STEP_NODELIST", "OMPI_MCA_orte_hnp_uri", "JAX_COORDINATOR_ADDRESS")

ENDED = "convnet_case_studies/ended"  # the status that all processes leave with
LEFT = "convnet_case_studies/left/"  # set by each process that has noticed
LOOK_SECONDS = 0.3
GRACE_SECONDS = 5.0


def join() -> None:
    """Joins the other processes of a job that srun or mpirun started, or that names a coordinator.

    Alone on a machine there is nothing to join: jax.distributed would raise.
    """
    if any(os.environ.get(name) for name in CLUSTER_VARIABLES):
        jax.distributed.initialize()
        threading.Thread(target=_end_with_the_others, name="job", daemon=True).start()


def alone() -> bool:
    """Whether this process has joined no other."""
    return distributed.global_state.client is None


def end(line: str, status: int) -> NoReturn:
    """Ends this process, and every other process of its job; the first to end prints `line`."""
    client = distributed.global_state.client
    if client is None:
        print(line, file=sys.stderr)
        _quit(status)
    try:
        client.key_value_set(ENDED, str(status))
        first = True
    except jax.errors.JaxRuntimeError:  # another was the first
        first = False
    if first:
        print(f"process {distributed.global_state.process_id}: {line}", file=sys.stderr)
    _leave(status)


def _end_with_the_others() -> None:
    while (client := distributed.global_state.client) is not None:
        try:
            status = client.key_value_try_get(ENDED)
        except jax.errors.JaxRuntimeError as error:
            if "NOT_FOUND" not in str(error):
                return  # the job is over
            time.sleep(LOOK_SECONDS)
        else:
            _leave(int(status))


def _leave(status: int) -> NoReturn:
    """Leaves without jax's farewell to the others: they are on their way, too."""
    state = distributed.global_state
    client, count = state.client, state.num_processes
    assert client is not None
    try:
        client.key_value_set(f"{LEFT}{state.process_id}", "", allow_overwrite=True)
        if state.process_id == 0:  # it holds the store: the last to go
            until = time.monotonic() + GRACE_SECONDS
            while len(client.key_value_dir_get(LEFT)) < count and time.monotonic() < until:
                time.sleep(0.05)
    except jax.errors.JaxRuntimeError:
        pass  # the store is gone, and the process that held it
    _quit(status)


def _quit(status: int) -> NoReturn:
    """Leaves at once: Orbax has threads that wait for minutes for a save that has failed."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)
