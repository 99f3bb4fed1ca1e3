"""SIGTERM (a scheduler wants the machine) and Ctrl-C: finish the step, save, leave with status 75.

75 is EX_TEMPFAIL of sysexits.h: run the same command again and it goes on from the saved step.
"""

import signal
import threading
from types import FrameType

import jax
from jax.experimental import multihost_utils

EXIT_STATUS = 75


class Preempted(Exception):
    """The run was asked to stop, and stopped whole; `step` is saved."""

    def __init__(self, step: int):
        super().__init__(f"stopped at step {step}, saved; run the same command again to go on")
        self.step = step


class Preemption:
    """Notices a request to stop. Use as a context manager around the training loop.

    In a job of several processes jax.distributed notices SIGTERM itself and lets all processes
    agree on the step to stop after; alone, a signal handler does.
    """

    def __enter__(self) -> "Preemption":
        self._asked = False
        self._previous = {}
        # Python allows handlers in the main thread only; elsewhere (a notebook's worker) the
        # signals keep their meaning.
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._notice)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _notice(self, number: int, frame: FrameType | None) -> None:
        if self._asked:  # asked twice: the user does not want to wait for the save
            raise KeyboardInterrupt
        self._asked = True

    def requested(self, step: int) -> bool:
        """Whether to stop after `step`; the same answer on every process of a job."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._asked
