"""The process of a contestant, seen from benchmarks/run.py."""

import json
import os
import pathlib
import subprocess
import tempfile
from collections.abc import Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
BURST = 0.1  # seconds of steps in a row, at least one: no waiting between them, as in training


class Contestant:
    """A process that takes steps on request; see benchmarks/worker.py."""

    def __init__(self, python: str, name: str, words: Sequence[str], **variables: str):
        self.name, self.burst = name, 1
        self.seconds, self.processor = list[float](), list[float]()
        # A file, since an unread pipe would fill up.
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [python, "-m", "benchmarks.worker", name, *words],
            cwd=ROOT,
            env=os.environ | variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )

    def start(self) -> dict[str, Any]:
        """What it says after its first step; {} if it cannot run."""
        said = self.answer()
        if said:
            self.step(counted=False)  # the first may still have been slow
            self.burst = max(1, round(BURST / self.step(counted=False)))
        return said

    def answer(self) -> dict[str, Any]:
        """The next answer of the process; {} if it has ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else {}

    def complaint(self) -> str:
        """The last line of its standard error."""
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "no output")

    def step(self, *, counted: bool = True) -> float:
        """Takes a burst of steps; the seconds of one."""
        assert self.process.stdin is not None
        print(self.burst, file=self.process.stdin, flush=True)
        answer = self.answer()
        if not answer:
            raise SystemExit(f"{self.name} failed in a step: {self.complaint()}")
        seconds = answer["seconds"] / answer["steps"]
        if counted:
            self.seconds.append(seconds)
            self.processor.append(answer["processor"] / answer["steps"])
        return seconds

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
