"""The folder of a run: one run at a time holds it, one config lives in it.

Files: config.json, environment.json, metrics.jsonl, result.json, curves.png, checkpoints/.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import platform
import subprocess
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import jax

from errors import UserError

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "numpy")


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes `content` whole or not at all: a reader never sees half a file."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    partial.replace(path)


@contextlib.contextmanager
def claim(workdir: pathlib.Path) -> Iterator[None]:
    """Holds the workdir until the end of the block; the lock dies with the process.

    Raises UserError where the folder cannot be written or another run holds it.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = (workdir / ".lock").open("a+")
    except OSError as error:
        raise UserError(f"--workdir: {workdir} cannot be written ({error.strerror})") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            raise UserError(
                f"--workdir: {workdir} is held by another run ({holder}); choose another folder"
            ) from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {platform.node()}")
        lock.flush()
        yield


def adopt_config(workdir: pathlib.Path, config: dict[str, Any], *, extend: bool) -> None:
    """Writes config.json into a new workdir, or checks that the one there is the same.

    extend: allow another `duration`. Raises UserError that names the fields that differ, and where
    the statistics that training would go on with are gone.
    """
    path = workdir / "config.json"
    if path.exists():
        stored = flat(json.loads(path.read_text()))
        given = flat(json.loads(json.dumps(config)))
        differing = [
            name
            for name in sorted(stored.keys() | given.keys())
            if stored.get(name) != given.get(name) and not (extend and name == "duration")
        ]
        if differing:
            shown = "; ".join(
                f"{name} {stored.get(name)!r} there, {given.get(name)!r} here"
                for name in differing[:4]
            )
            hint = " (--extend continues it)" if differing == ["duration"] else ""
            raise UserError(f"--workdir: {workdir} holds a run of another config: {shown}{hint}")
        finished = (workdir / "result.json").exists()
        if finished and config["batch_norm_batches"] and stored["duration"] != given["duration"]:
            raise UserError(
                f"--extend: {workdir} is finished, and config.batch_norm_batches has replaced its "
                "running statistics: training cannot go on from there"
            )
    write_json(path, config)


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, with dotted names."""
    out: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            out |= flat(value, f"{prefix}{name}.")
        else:
            out[prefix + name] = value
    return out


def environment() -> dict[str, Any]:
    """What a result depends on besides config and seed: versions, devices, commit of the code."""
    return {
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "processor_cores": usable_cores(),
        "device_kind": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
        "commit": commit(),
    }


def usable_cores() -> int:
    """Processor cores this process may run on: XLA's sums on CPU depend on their number."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def commit() -> str | None:
    """The commit of the code that runs, with "+changes" where files differ; None outside git."""
    here = pathlib.Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        changes = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return None
