"""Jobs of several processes: joins them at the start and ends them together.

Without `end`, a process that fails leaves the others waiting in a collective until a heartbeat is
missed; they then print dozens of lines about it.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

import jax
from jax._src import distributed  # the key-value store of a job has no public name

from startup import shell

# What the launchers that jax.distributed detects set for each of their processes.
CLUSTER_VARIABLES = ("SLURM_STEP_NODELIST", "OMPI_MCA_orte_hnp_uri", "JAX_COORDINATOR_ADDRESS")

# Keys in the job's key-value store.
ENDED = "convnet_case_studies/ended"  # the exit status for all processes
LEFT = "convnet_case_studies/left/"  # plus a process id: that process is exiting
POLL_SECONDS = 0.3
GRACE_SECONDS = 5.0


def join() -> None:
    """Joins the other processes of a job that srun or mpirun started, or that names a coordinator.

    Does nothing for a single process: jax.distributed would raise.
    """
    if any(os.environ.get(name) for name in CLUSTER_VARIABLES):
        jax.distributed.initialize()
        _take_back_sigterm()
        threading.Thread(target=_end_with_the_others, name="job", daemon=True).start()


def tell_to_stop() -> None:
    """Makes all processes of this job agree on a step to stop after, as SIGTERM does by default."""
    _told(signal.SIGTERM)


_told: Callable[[int], object] = signal.raise_signal


def _take_back_sigterm() -> None:
    """Makes `shell` answer SIGTERM again, instead of the handler that jax has just installed.

    jax's handler, in C++, only notes that a signal came: it would take every SIGTERM, also the
    second, which must end the process. `tell_to_stop` calls it.
    """
    global _told
    if not shell.attached():
        return
    c_signal = ctypes.CDLL(None).signal
    c_signal.restype, c_signal.argtypes = ctypes.c_void_p, (ctypes.c_int, ctypes.c_void_p)
    handler = c_signal(signal.SIGTERM, None)
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
    if handler:
        _told = ctypes.CFUNCTYPE(None, ctypes.c_int)(handler)


def alone() -> bool:
    """Whether this process is not part of a multi-process job."""
    return distributed.global_state.client is None


def end(line: str, status: int) -> NoReturn:
    """Ends all processes of this job with `status`; only the first to call this prints `line`."""
    client = distributed.global_state.client
    if client is None:
        print(line, file=sys.stderr)
        _quit(status)
    try:
        client.key_value_set(ENDED, str(status))
        first = True
    except jax.errors.JaxRuntimeError:  # another process was first
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
            time.sleep(POLL_SECONDS)
        else:
            _leave(int(status))


def _leave(status: int) -> NoReturn:
    """Exits without jax's shutdown barrier, since the other processes exit too."""
    state = distributed.global_state
    client, count = state.client, state.num_processes
    assert client is not None
    try:
        client.key_value_set(f"{LEFT}{state.process_id}", "", allow_overwrite=True)
        if state.process_id == 0:  # hosts the store, so it exits last
            until = time.monotonic() + GRACE_SECONDS
            while len(client.key_value_dir_get(LEFT)) < count and time.monotonic() < until:
                time.sleep(0.05)
    except jax.errors.JaxRuntimeError:
        pass  # process 0, which hosts the store, has exited
    _quit(status)


def _quit(status: int) -> NoReturn:
    """Exits at once: Orbax's threads can wait minutes for a save that has failed."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)
