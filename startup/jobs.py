"""Jobs of several processes: joins them at the start and ends them together.

Without `end`, a process that fails leaves the others waiting in a collective until a heartbeat is
missed; they then print dozens of lines about it. A process that dies or is stopped, so that it
cannot call `end`, is missed: if it died, where a collective finds its connection closed; if it was
stopped, by process 0 after `peer_seconds`. Either ends the others with status 75. If process 0
itself is lost, jax ends the others: at once if it died, JAX_SECONDS later if it was stopped.
"""

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import jax
from jax._src import distributed  # the key-value store of a job has no public name

from errors import UserError
from startup import shell

# What the launchers that jax.distributed detects set for each of their processes.
CLUSTER_VARIABLES = ("SLURM_STEP_NODELIST", "OMPI_MCA_orte_hnp_uri")
# What the job files in launch/ set where there is no such launcher; jax reads only the first.
COORDINATOR, COUNT, NUMBER = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
TPU_HOSTS = "TPU_WORKER_HOSTNAMES"  # of a slice on Google's Kubernetes, separated by commas
PEER_SECONDS = "CONVNETS_PEER_SECONDS"

# Keys in the job's key-value store.
ENDED = "convnet_case_studies/ended"  # the exit status for all processes
LEFT = "convnet_case_studies/left/"  # plus a process id: that process is exiting
ALIVE = "convnet_case_studies/alive/"  # plus a process id: a number that it keeps increasing
# In errors of collectives over a connection that the other end has closed: Gloo's, NCCL's, gRPC's.
OF_PEERS = [
    *("Connection reset", "Connection closed", "Broken pipe", "Socket closed"),
    *("remote process exited", "unhandled system error", "stopped sending heartbeats"),
]
POLL_SECONDS = 0.3
GRACE_SECONDS = 5.0
JAX_SECONDS = 15  # that jax waits longer for a sign of life than this file does


def join() -> None:
    """Joins the other processes of a job that srun or mpirun started, or that names a coordinator.

    Does nothing for a single process: jax.distributed would raise. Raises UserError if the
    variables of a job are incomplete.
    """
    given = _given()
    launched = any(os.environ.get(name) for name in CLUSTER_VARIABLES)
    if launched or given or "," in os.environ.get(TPU_HOSTS, ""):
        seconds = peer_seconds()
        # jax ends a process with dozens of lines: only if none is left to do it in one.
        jax.distributed.initialize(heartbeat_timeout_seconds=seconds + JAX_SECONDS, **given)
        _take_back_sigterm()
        threading.Thread(
            target=_end_with_the_others, args=(Peers(seconds),), name="job", daemon=True
        ).start()


def peer_seconds() -> int:
    """After how many seconds without a sign of life a process counts as lost: 60 by default."""
    text = os.environ.get(PEER_SECONDS, "60")
    if not text.isdecimal() or int(text) < 2:
        raise UserError(f"{PEER_SECONDS}={text}: expected a whole number of seconds, at least 2")
    return int(text)


def _given() -> dict[str, Any]:
    """What the environment says about a job that no launcher describes, for jax.distributed."""
    count, number = (os.environ.get(name) for name in (COUNT, NUMBER))
    if not count and not number:
        if COORDINATOR in os.environ and not any(map(os.environ.get, CLUSTER_VARIABLES)):
            raise UserError(f"{COORDINATOR}: needs {COUNT} and {NUMBER} besides")
        return {}
    numeric = all(text and text.isdecimal() for text in (count, number))
    if not numeric or not int(number or 0) < int(count or 0) or COORDINATOR not in os.environ:
        raise UserError(
            f"{COUNT}={count}, {NUMBER}={number}: expected a number of processes and one below it, "
            f"and {COORDINATOR}"
        )
    return {
        "num_processes": int(count or 0),
        "process_id": int(number or 0),
        "cluster_detection_method": "deactivate",
    }


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
    except jax.errors.JaxRuntimeError:  # another process was first, or process 0 has exited
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            status = int(client.key_value_try_get(ENDED))
    else:
        print(f"process {distributed.global_state.process_id}: {line}", file=sys.stderr)
    _leave(status)


def lost_peer(error: Exception) -> str | None:
    """A line for an error of a collective whose other end has gone; None for other errors."""
    text = str(error)
    if alone() or not any(word in text for word in OF_PEERS):
        return None
    return f"the connection to another process was lost: stopped; {shell.AGAIN}"


class Peers:
    """Signs of life of the processes of a job. Process 0 looks for them, all give them."""

    def __init__(self, seconds: int):
        self.seconds = seconds
        self.given = 0
        self.seen: dict[str, tuple[str, float]] = {}  # number of a process -> its sign, and when

    def give(self, client: Any, process: int) -> None:
        """Shows the others that this process lives."""
        self.given += 1
        client.key_value_set(f"{ALIVE}{process}", str(self.given), allow_overwrite=True)

    def lost(self, signs: Iterable[tuple[str, str]], now: float) -> list[str]:
        """The processes whose sign has not changed for `seconds`.

        signs: (number of a process, its sign now). now: in seconds, from any origin.
        """
        for process, sign in signs:
            if self.seen.get(process, ("", now))[0] != sign:
                self.seen[process] = (sign, now)
        return sorted(name for name, (_, at) in self.seen.items() if now - at >= self.seconds)


def _end_with_the_others(peers: Peers) -> None:
    """Ends this process when another one ends or, in process 0, is lost."""
    while (client := distributed.global_state.client) is not None:
        try:
            peers.give(client, distributed.global_state.process_id)
            if distributed.global_state.process_id == 0:
                found = [(key.removeprefix(ALIVE), n) for key, n in client.key_value_dir_get(ALIVE)]
                if lost := peers.lost(found, time.monotonic()):
                    end(
                        f"nothing was heard of process {', '.join(lost)} for {peers.seconds} s: "
                        f"stopped; {shell.AGAIN}",
                        shell.TRY_AGAIN,
                    )
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
