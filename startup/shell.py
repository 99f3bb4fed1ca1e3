"""Handles signals (SIGTERM, Ctrl-C, a closed terminal) and closed or broken standard streams.

Imports only fast parts of the standard library: a command calls `attach` before its other imports,
so that Ctrl-C during those prints one line, not a traceback. Imports nothing of the project.
"""

import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h: the same command, run again, resumes
AGAIN = "run the same command again to continue"
STOPPED = 130  # the status shells give to a command ended by Ctrl-C
SIGNALS = (signal.SIGTERM, signal.SIGINT)

Answer = Callable[[], None]


def attach(answer: Answer | None = None) -> None:
    """Calls `answer` on each signal, and keeps this process running if its streams break.

    By default a signal ends the process at once. Call in the main thread.
    """
    global _answer
    _answer = answer or _answer
    _open_streams()
    # Python runs signal handlers between two bytecodes of the main thread, which a compilation can
    # block for minutes. So a thread calls `answer`: it reads signal numbers from a pipe.
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in SIGNALS:
        signal.signal(number, _left_to_thread)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it ignored
        signal.signal(signal.SIGHUP, _left_to_thread)
    threading.Thread(target=_answer_all, args=(read,), name="signals", daemon=True).start()
    # A forked child must not write to this process's pipe.
    os.register_at_fork(after_in_child=_detach)


@contextlib.contextmanager
def answering(answer: Answer) -> Iterator[None]:
    """Calls `answer` for each signal that arrives during the block.

    In a process that is not attached (a notebook, a test) a signal handler calls it. Python allows
    handlers only in the main thread; in other threads signals keep their default effect.
    """
    global _answer
    if attached():
        before, _answer = _answer, answer
        try:
            yield
        finally:
            _answer = before
    elif threading.current_thread() is threading.main_thread():
        handlers = {number: signal.signal(number, lambda *_: answer()) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    else:
        yield


def attached() -> bool:
    """Whether `attach` was called in this process and its handlers are still installed."""
    return all(signal.getsignal(number) is _left_to_thread for number in SIGNALS)


def leave(line: str, status: int) -> NoReturn:
    """Prints one line and ends the process at once; may be called from any thread."""
    under = "\n" if os.isatty(2) else ""  # below a progress bar, or the ^C that a terminal shows
    with contextlib.suppress(OSError):  # standard error may be closed
        os.write(2, f"{under}{line}\n".encode())  # sys.stderr may be held by another thread
    os._exit(status)


def _leave_at_once() -> None:
    leave("stopped", STOPPED)


_answer: Answer = _leave_at_once


def _left_to_thread(number: int, frame: FrameType | None) -> None:
    pass


def _answer_all(pipe: int) -> None:
    answered = False
    while numbers := os.read(pipe, 1):
        # A terminal that closes can send its signal twice, and a second request ends the process
        # at once: it is none.
        if numbers[0] == signal.SIGHUP and answered:
            continue
        # If a library has installed its own handler, Python calls that one instead.
        if signal.getsignal(numbers[0]) is _left_to_thread:
            answered = True
            _answer()


def _detach() -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if signal.getsignal(signal.SIGHUP) is _left_to_thread:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C


def _open_streams() -> None:
    """Opens standard streams that are closed, and makes writes to output and error never fail.

    If one stayed closed, the next file opened would get its number, and text that a library writes
    to standard error would go into that file.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
    for number, name in ((1, "stdout"), (2, "stderr")):
        old = getattr(sys, name)
        stream = io.TextIOWrapper(
            io.BufferedWriter(_Lasting(number)),
            encoding=old.encoding if old else "utf-8",
            errors=old.errors if old else "backslashreplace",
            line_buffering=True,  # `leave` does not flush
        )
        setattr(sys, name, stream)


class _Lasting(io.FileIO):
    """A stream that drops its output if the reader has gone or the disk is full."""

    def __init__(self, number: int):
        super().__init__(number, "w", closefd=False)

    def write(self, content: Any) -> int:
        try:
            return super().write(content) or 0
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())  # also for libraries that write to the descriptor
            os.close(nowhere)
            if self.fileno() == 1:
                print(f"standard output: {error.strerror}; continuing without it", file=sys.stderr)
            return len(content)
