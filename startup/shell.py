"""How a command lives with the shell that started it: SIGTERM, Ctrl-C, closed and broken streams.

Imports only fast parts of the standard library: a command calls `attach` before its other
imports, so that Ctrl-C during those is one line, too. Imports nothing of the project.
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

TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h: the same command continues
STOPPED = 130  # the status shells give a command that Ctrl-C ended
SIGNALS = (signal.SIGTERM, signal.SIGINT)

Answer = Callable[[], None]


def attach(answer: Answer | None = None) -> None:
    """Has this process answer the signals by `answer`, and outlive its streams.

    By default it leaves at once. To be called in the main thread.
    """
    global _answer
    _answer = answer or _answer
    _open_streams()
    # Python runs handlers between two bytecodes of the main thread, which a compilation holds for
    # minutes. So a thread answers: it reads from a pipe what signals have come.
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in SIGNALS:
        signal.signal(number, _left_to_thread)
    threading.Thread(target=_answer_all, args=(read,), name="signals", daemon=True).start()
    # A forked child must not write into this process's pipe.
    os.register_at_fork(after_in_child=_detach)


@contextlib.contextmanager
def answering(answer: Answer) -> Iterator[None]:
    """`answer` is called for each signal that comes during the block.

    In a process that is not attached (a notebook, a test) a handler calls it; Python allows those
    only in the main thread; elsewhere the signals keep their meaning.
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
    """Whether this process's signals are answered here."""
    return all(signal.getsignal(number) is _left_to_thread for number in SIGNALS)


def leave(line: str, status: int) -> NoReturn:
    """Prints one line and ends the process at once, from any thread."""
    under = "\n" if os.isatty(2) else ""  # a bar, or the ^C that a terminal shows
    with contextlib.suppress(OSError):  # nobody may be there to read it
        os.write(2, f"{under}{line}\n".encode())  # sys.stderr may be held by another thread
    os._exit(status)


def _leave_at_once() -> None:
    leave("stopped", STOPPED)


_answer: Answer = _leave_at_once


def _left_to_thread(number: int, frame: FrameType | None) -> None:
    pass


def _answer_all(pipe: int) -> None:
    while numbers := os.read(pipe, 1):
        # Where a library or a study has a handler of its own, that is the answer.
        if signal.getsignal(numbers[0]) is _left_to_thread:
            _answer()


def _detach() -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer


def _open_streams() -> None:
    """Has the three streams open, and standard output and error never fail.

    A closed one would be what the next file opened gets for its number, and whatever a library
    writes to standard error would go into that file.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for number, name in ((1, "stdout"), (2, "stderr")):
        old = getattr(sys, name)
        stream = io.TextIOWrapper(
            io.BufferedWriter(_Lasting(number)),
            encoding=old.encoding if old else "utf-8",
            errors=old.errors if old else "backslashreplace",
            line_buffering=True,  # `leave` flushes nothing
        )
        setattr(sys, name, stream)


class _Lasting(io.FileIO):
    """A stream whose reader may close, or whose disk may be full: the output is then lost."""

    def __init__(self, number: int):
        super().__init__(number, "w", closefd=False)

    def write(self, content: Any) -> int:
        try:
            return super().write(content) or 0
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())  # for libraries that write to it by its number, too
            os.close(nowhere)
            if self.fileno() == 1:
                print(f"standard output: {error.strerror}; going on without it", file=sys.stderr)
            return len(content)
