"""What a job of a queue does: it trains one run in a process of its own, and notes how it ended.

submitit stores a `Training` with pickle in the study's folder and loads it on the node, so this
file imports little, and a `Training` holds text and numbers alone. Without submitit it can be
imported all the same.
"""

import contextlib
import json
import os
import pathlib
from typing import Any

from reproduction import tasks

NOTE = "job.json"  # in a workdir: the job that it was given to, and how that ended


class Training:
    """Trains a run when called; returns the exit status of the run's process.

    task: see `tasks.Task.text`. cores: how many the run gets; 0: all. slot: which of those that
    are allowed, for jobs that share a machine whose queue does not bind them to cores.
    """

    def __init__(self, task: str, workdir: str, cores: int, slot: int):
        self.task, self.workdir, self.cores, self.slot = task, workdir, cores, slot

    def __call__(self) -> int:
        """Trains, from where the run was cut off."""
        workdir = pathlib.Path(self.workdir)
        self.process = tasks.start(self.task, workdir, self._cores(), os.environ)
        # A queue's signal calls `checkpoint` within this wait.
        os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        status = self.process.wait()
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        note(workdir, status=status)
        return status

    def checkpoint(self) -> Any:
        """Ends the run after it has saved; what is to be queued again.

        Called by submitit when the time limit is near (SIGUSR2).
        """
        from submitit.helpers import DelayedSubmission

        self.process.terminate()
        os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(Training(self.task, self.workdir, self.cores, self.slot))

    def _cores(self) -> set[int]:
        if not self.cores or not hasattr(os, "sched_getaffinity"):
            return set()
        allowed = sorted(os.sched_getaffinity(0))
        first = self.slot * self.cores
        return {allowed[(first + k) % len(allowed)] for k in range(self.cores)}


def note(workdir: pathlib.Path, **parts: Any) -> None:
    """Adds to what is known of a workdir's job; completely or not at all."""
    path = workdir / NOTE
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps({**noted(workdir), **parts}) + "\n")
    partial.replace(path)


def noted(workdir: pathlib.Path) -> dict[str, Any]:
    """What is known of a workdir's job: "launcher", "id", "rows" before it, "status" after it."""
    try:
        known = json.loads((workdir / NOTE).read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
