"""The folder of a run: one run at a time may use it, and it belongs to one config.

Files: config.json, data.npz, init.json (if the run starts from other weights), environment.json,
metrics.jsonl, result.json, curves.png, checkpoints/.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import pathlib
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flax.traverse_util import flatten_dict

from configs import fields
from errors import UserError
from startup import environment
from training.layout import CONFIG, DATA, ENVIRONMENT, FOLDER, INIT, RESULT

LOCK = ".lock"  # held by the run that writes here, and naming it
MOMENT = 0.1  # seconds
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)  # from flock, on some file systems

# The files whose digests each checkpoint holds.
MADE_OF = {"config": CONFIG, "data": DATA, "init": INIT}


@contextlib.contextmanager
def writing(path: pathlib.Path) -> Iterator[None]:
    """Raises UserError, one line that names `path`, if the block cannot write."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UserError(f"{path}: cannot be written ({reason})") from None


def write_whole(path: pathlib.Path, content: str | bytes) -> None:
    """Writes `content` completely or not at all, also if the process ends or others read the file.

    Raises UserError if it cannot be written; the old file is kept.
    """
    partial = path.with_name(path.name + ".partial")
    with writing(path):
        try:
            with partial.open("wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except OSError:
            with contextlib.suppress(OSError):  # the first error is the one to tell
                partial.unlink(missing_ok=True)
            raise


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes `content` as JSON, completely or not at all. Raises UserError if it cannot."""
    write_whole(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def require_writable(folder: pathlib.Path) -> None:
    """Makes a folder. Raises UserError if no file can be written in it."""
    with writing(folder):
        folder.mkdir(exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


def read_object(path: pathlib.Path) -> dict[str, Any]:
    """The JSON object in a file. Raises UserError if there is none."""
    try:
        content = json.loads(path.read_bytes().decode())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise UserError(f"{path}: is damaged, it holds no JSON object")
    return content


@contextlib.contextmanager
def claim(workdir: pathlib.Path) -> Iterator[None]:
    """Holds the workdir until the end of the block; the lock dies with the process.

    The file system carries the lock to other hosts that share it, unless it is mounted without
    locks: `require_held` notices a second run there. Raises UserError if the folder cannot be
    written or another run holds it.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = (workdir / LOCK).open("a+")
    except OSError as error:
        raise UserError(f"--workdir: {workdir} cannot be written ({error.strerror})") from None
    with lock:
        for waits in (MOMENT, MOMENT, 0):  # `holder` may hold it for a moment
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(waits)
            except OSError as error:
                if error.errno not in WITHOUT_LOCKS:
                    raise
                break  # `require_held` is what is left
        else:
            raise UserError(
                f"--workdir: {workdir} is held by another run ({_named(workdir)}); choose another "
                "folder"
            )
        lock.truncate(0)
        lock.write(_this_process())
        lock.flush()
        yield


def holder(workdir: pathlib.Path) -> str | None:
    """The process that holds a workdir, as its lock names it; None if none does."""
    try:
        lock = (workdir / LOCK).open()
    except OSError:
        return None
    with lock:
        try:
            # A shared lock, let go at once: `claim` waits for such a moment.
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return lock.read().strip() or "another process"
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
    return None


def require_held(workdir: pathlib.Path) -> None:
    """Raises UserError if another run has claimed the workdir since this process did.

    Two runs can claim it where the file system does not carry locks between hosts: the first one
    stops here, before it saves again, and the second goes on alone.
    """
    if (named := _named(workdir)) != _this_process():
        raise UserError(
            f"--workdir: {workdir} was taken by another run ({named}) while this one used it: "
            "stopped; its file system does not carry locks between hosts"
        )


def _named(workdir: pathlib.Path) -> str:
    try:
        return (workdir / LOCK).read_text().strip() or "another process"
    except OSError as error:
        return f"{LOCK} cannot be read: {error.strerror}"


def _this_process() -> str:
    return f"process {os.getpid()} on {platform.node()}"


def adopt_config(
    workdir: pathlib.Path,
    config: dict[str, Any],
    *,
    extend: bool,
    steps: Callable[[str], int],
    schedule_of_total: bool = False,
) -> None:
    """Writes config.json into a new workdir, or checks that the one there is the same.

    extend: allow a longer `duration`. steps: a duration -> the number of steps it means.
    schedule_of_total: whether the rate of a step depends on how many steps there are. Raises
    UserError that names the fields that differ, or if a longer run would not end like one that
    was started with that duration.
    """
    path = workdir / CONFIG
    if not path.exists():
        saved = sorted(path.name for path in (workdir / FOLDER).glob("[0-9]*"))
        if saved:
            raise UserError(
                f"--workdir: {workdir} has checkpoints (of steps {', '.join(saved)}) and no "
                f"{CONFIG}: of which config they are is not known; put it back, or choose another "
                "folder"
            )
        write_json(path, config)
        return
    stored = flatten_dict(fields.essential(read_object(path)), sep=".")
    given = flatten_dict(fields.essential(config), sep=".")
    differing = [
        name
        for name in sorted(stored.keys() | given.keys())
        if stored.get(name) != given.get(name) and not (extend and name == "duration")
    ]
    if differing:
        shown = "; ".join(
            f"{name} {stored.get(name)!r} there, {given.get(name)!r} here" for name in differing[:4]
        )
        hint = " (--extend continues it)" if differing == ["duration"] else ""
        raise UserError(f"--workdir: {workdir} holds a run of another config: {shown}{hint}")
    if stored == given:
        return
    before, now = steps(stored["duration"]), steps(given["duration"])
    if now < before:
        raise UserError(
            f"--extend: {workdir} is a run of {before} steps; config.duration="
            f"{given['duration']!r} is {now}, and a run cannot be made shorter"
        )
    if now > before and schedule_of_total:
        raise UserError(
            f"--extend: the rates of config.schedule={given['schedule.name']} depend on the "
            f"number of steps: {workdir} was begun for {before}, and would not end as a run of "
            f"{now} does; train that in another workdir"
        )
    if config["bn_recompute_batches"] and (workdir / RESULT).exists():
        raise UserError(
            f"--extend: {workdir} is finished, and config.bn_recompute_batches has replaced its "
            "running statistics: training cannot continue from there"
        )
    write_json(path, config)


def read_only_result(workdir: pathlib.Path, config: dict[str, Any]) -> dict[str, Any] | None:
    """result.json of a finished run in a folder that cannot be written; None for other folders.

    Raises UserError if it is of another config.
    """
    if os.access(workdir, os.W_OK) or not (workdir / RESULT).exists():
        return None
    adopt_config(workdir, config, extend=False, steps=len)
    result = read_object(workdir / RESULT)
    if not {"last", "validation_best", "test_best"} <= result.keys():
        raise UserError(f"{workdir / RESULT}: is damaged, it is no result of a run")
    return result


def config_digest(config: dict[str, Any]) -> str:
    """sha256 of a config without its duration, which --extend may change."""
    kept = {name: value for name, value in fields.essential(config).items() if name != "duration"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def record_environment(workdir: pathlib.Path, *, resumed: bool) -> list[str]:
    """Writes environment.json. Returns differences from the earlier steps that change bits.

    If there are any, the environment of those steps is kept in the file, under "earlier". The file
    also has the command, if it is train.py's.
    """
    path, now = workdir / ENVIRONMENT, environment.describe()
    if started := environment.command():
        now["command"] = started
    before = read_object(path) if resumed and path.exists() else {}
    changes = [
        f"{name} {was} -> {now_is}"
        for (name, was), now_is in zip(
            _bits_depend_on(before).items(), _bits_depend_on(now).values(), strict=True
        )
        if before and was != now_is
    ]
    earlier = before.pop("earlier", [])
    if changes:
        earlier.append(before)
    write_json(path, now | ({"earlier": earlier} if earlier else {}))
    return changes


def _bits_depend_on(described: Mapping[str, Any]) -> dict[str, Any]:
    """What the bits of a curve depend on."""
    packages = described.get("packages", {})
    on_cpu = described.get("device_kind") == "cpu"
    return {
        "jax": packages.get("jax"),
        "jaxlib": packages.get("jaxlib"),
        "device kind": described.get("device_kind"),
        "devices": described.get("devices"),
        "processes": described.get("processes"),
        "processor cores": described.get("processor_cores") if on_cpu else None,
        "convolution": described.get("convolution", "xla"),
    }
