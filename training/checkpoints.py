"""Checkpoints: written by Orbax in the background, guarded by a sha256 per leaf beside the arrays.

Orbax does not detect bit flips in arrays. Every leaf is compared with its digest on restore. If
one differs, the next older checkpoint is used, with a warning, and the damaged one is moved aside,
so that its step is saved again.
"""

import contextlib
import errno
import hashlib
import itertools
import pathlib
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils
from orbax.checkpoint.checkpoint_managers import preservation_policy

import sharding
from errors import UserError
from training.workdirs import FOLDER, MADE_OF

METRIC = "validation_error"
STATE = "state"
METADATA = "made_of"
ASIDE = "damaged-{}"  # by step: Orbax lists only names that are numbers

# What says nothing about the files: another attempt may succeed. TensorStore raises ValueError for
# everything, with one of these words in its text.
PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM, errno.ESTALE)
PASSING_WORDS = ("RESOURCE_EXHAUSTED", "PERMISSION_DENIED", "UNAVAILABLE", "Too many open files")


class DamagedCheckpoint(UserError):
    """A checkpoint that cannot be what was saved."""


class AnotherNetwork(UserError):
    """An intact checkpoint whose arrays are not the requested ones."""


def digests(state: Any) -> dict[str, str]:
    """sha256 of each leaf's bytes, by its path in the tree."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {
        jax.tree_util.keystr(path): hashlib.sha256(np.ascontiguousarray(leaf).data).hexdigest()
        for path, leaf in leaves
    }


class Checkpoints:
    """The checkpoints of one workdir. Use as a context manager: leaving it waits for the last save.

    keep: how many of the newest are kept, in addition to the one with the least validation error if
    saves have one. read_only: changes nothing in the folder, where a run may be writing.
    """

    def __init__(self, workdir: pathlib.Path, *, keep: int, read_only: bool = False):
        self.folder = workdir.absolute() / FOLDER
        policies: list[preservation_policy.PreservationPolicy] = [
            preservation_policy.LatestN(keep),
            # Orbax's own max_to_keep with best_fn would delete the newest.
            preservation_policy.BestN(
                get_metric_fn=lambda metrics: -metrics[METRIC],  # BestN keeps the highest
                n=1,
                keep_checkpoints_without_metrics=False,
            ),
        ]
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._saving: Future[None] | None = None
        self.manager = ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                # Orbax's own read_only would warn about each of its defaults.
                cleanup_tmp_directories=not read_only,
                preservation_policy=preservation_policy.AnyPreservationPolicy(policies),
            ),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is not None:  # it says why; Orbax would raise the same once more, in other words
            with contextlib.suppress(Exception):
                self.wait()
            with contextlib.suppress(Exception):
                self._close()
            return
        try:
            self.wait()
        except UserError:  # as above: the last save of a run failed
            with contextlib.suppress(Exception):
                self._close()
            raise
        self._close()

    def _close(self) -> None:
        self._thread.shutdown()
        self.manager.close()

    @property
    def steps(self) -> list[int]:
        """The steps that can be restored, oldest first."""
        return sorted(self.manager.all_steps())

    def save(
        self,
        step: int,
        state: Any,
        *,
        validation_error: float | None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Starts to save `state` in the background; step is the number of updates so far.

        metadata: JSON that is kept beside the arrays.
        validation_error: of this state; None if it was not evaluated.
        Copying to the host, hashing and writing happen in a thread: no step may take the memory of
        `state` for its result until `wait`. One save runs at a time. Raises UserError if the
        previous save could not be written.
        """
        self.wait()
        self._saving = self._thread.submit(
            self._write, step, state, validation_error, dict(metadata or {})
        )
        if jax.process_count() > 1:  # all take part in a save, in the order of their steps
            self.wait()

    def _write(
        self, step: int, state: Any, validation_error: float | None, metadata: dict[str, Any]
    ) -> None:
        """Writes a checkpoint and returns when it is complete."""
        self.manager.save(
            step,
            args=ocp.args.Composite(
                digests=ocp.args.JsonSave(digests(sharding.to_host(state))),
                **{
                    STATE: ocp.args.StandardSave(state),
                    METADATA: ocp.args.JsonSave(metadata),
                },
            ),
            metrics=None if validation_error is None else {METRIC: validation_error},
            force=True,
        )
        self.manager.wait_until_finished()

    def wait(self) -> None:
        """Returns when everything saved so far is on disk. Raises UserError if it is not."""
        saving, self._saving = self._saving, None
        try:
            if saving is not None:
                saving.result()
        except Exception as error:
            raise self._not_written(error) from error

    def _not_written(self, error: BaseException) -> UserError:
        reasons = {errno.ENOSPC: "the disk is full", errno.EROFS: "the disk is read-only"}
        text = str(error)
        reason = reasons.get(getattr(error, "errno", None) or 0)
        if reason is None and ("ENOSPC" in text or "No space left" in text):
            reason = reasons[errno.ENOSPC]
        whole = ", ".join(map(str, self.steps)) or "none"
        return UserError(
            f"{self.folder}: a checkpoint could not be saved: "
            f"{reason or first_line(error)}; whole checkpoints of steps: {whole}"
        )

    def restore_newest(self, like: Any) -> Any | None:
        """The newest intact checkpoint, in the shapes and shardings of `like`; None: there is none.

        Newer, damaged ones are moved aside. Raises UserError, and moves nothing, if all checkpoints
        are damaged or if one cannot be read now.
        """
        damaged = []
        for step in reversed(self.steps):
            try:
                restored = self.restore(step, like)
            except DamagedCheckpoint as error:
                damaged.append(step)
                logging.warning("%s; trying the one before it", error)
            else:
                if damaged:
                    self._move_aside(damaged)
                return restored
        if damaged:
            raise UserError(
                f"{self.folder}: every checkpoint is damaged "
                f"(steps {', '.join(map(str, sorted(damaged)))}); move them away to start again"
            )
        return None

    def metadata(self, step: int) -> dict[str, Any]:
        """The JSON saved beside the arrays of `step`; {} if there is none."""
        if not (self.folder / str(step) / METADATA).exists():
            return {}
        try:
            args = ocp.args.Composite(**{METADATA: ocp.args.JsonRestore()})
            return self.manager.restore(step, args=args)[METADATA]
        except Exception as error:  # JSON and file errors have no common ancestor
            raise UserError(
                f"{self.folder / str(step) / METADATA}: cannot be read ({first_line(error)})"
            ) from error

    def require_made_of(self, step: int, made_of: Mapping[str, str]) -> None:
        """Raises UserError if the checkpoint of `step` was saved with other metadata.

        made_of: "config" or "data" -> digest. Digests that a checkpoint lacks are not checked.
        """
        stored = self.metadata(step)
        for name, digest in made_of.items():
            if stored.get(name) not in (None, digest):
                raise UserError(
                    f"{self.folder / str(step)}: a checkpoint of another {name} than the workdir's "
                    f"{MADE_OF[name]}; put the right file back, or choose another folder"
                )

    def _move_aside(self, steps: list[int]) -> None:
        """Renames the checkpoints of `steps`, so that they can be saved again; deletes nothing."""
        if jax.process_index() == 0:
            for step in steps:
                names = (ASIDE.format(step) + (f"-{n}" if n else "") for n in itertools.count())
                target = next(
                    path for path in map(self.folder.joinpath, names) if not path.exists()
                )
                try:
                    (self.folder / str(step)).rename(target)
                except OSError as error:
                    raise UserError(
                        f"{self.folder / str(step)}: is damaged and cannot be moved aside "
                        f"({error.strerror})"
                    ) from None
                logging.warning("%s: moved to %s", self.folder / str(step), target.name)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("damaged checkpoints are moved aside")
        self.manager.reload()

    def restore(self, step: int, like: Any) -> Any:
        """The checkpoint of `step`, in the shapes and shardings of `like`: a state with a "step".

        Parts that are None in `like` are not read. Raises DamagedCheckpoint if it is damaged or of
        another step, UserError if it is of another network or cannot be read for another reason
        (memory, permission).
        """
        where = self.folder / str(step)
        fields = like if isinstance(like, dict) else vars(like)
        wanted = {name: part for name, part in fields.items() if part is not None}
        wanted = jax.tree.map(abstract, wanted)
        try:
            self._require_same_network(where, wanted)
            read = self._read(where, wanted)
            stored_digests = self.manager.restore(
                step, args=ocp.args.Composite(digests=ocp.args.JsonRestore())
            ).digests
        except AnotherNetwork:
            raise
        except Exception as error:  # TensorStore, JSON and file errors have no common ancestor
            if is_passing(error):
                raise UserError(
                    f"{where}: cannot be read just now ({first_line(error)}); nothing is changed, "
                    "run the same command again"
                ) from error
            raise DamagedCheckpoint(
                f"{where}: unreadable checkpoint ({first_line(error)})"
            ) from error
        restored = read if isinstance(like, dict) else like.replace(**read)
        found = digests(sharding.to_host(restored))
        wrong = [name for name, digest in found.items() if stored_digests.get(name) != digest]
        if wrong:
            raise DamagedCheckpoint(f"{where}: damaged checkpoint, in {wrong[0]}")
        inside = int(read["step"])
        if inside != step:
            raise DamagedCheckpoint(f"{where}: damaged checkpoint, it holds step {inside}")
        return restored

    def _require_same_network(self, where: pathlib.Path, wanted: Mapping[str, Any]) -> None:
        """Raises AnotherNetwork if `where` does not hold arrays named and shaped like `wanted`.

        Orbax's own error has many lines.
        """
        handler = ocp.PyTreeCheckpointHandler()
        try:
            tree = handler.metadata(where / STATE).tree
        finally:
            handler.close()
        there, here = shapes({name: tree.get(name) for name in wanted}), shapes(wanted)
        for name in sorted(there.keys() | here.keys()):
            stored, given = there.get(name, "missing"), here.get(name, "missing")
            if stored != given:
                raise AnotherNetwork(
                    f"{where}: a checkpoint of another network: {name} is {stored} in it, "
                    f"{given} in the config's"
                )

    def _read(self, where: pathlib.Path, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """The arrays of `wanted`, no others."""
        handler = ocp.PyTreeCheckpointHandler()
        try:
            return handler.restore(
                where / STATE,
                args=ocp.args.PyTreeRestore(
                    item=wanted,
                    restore_args=ocp.checkpoint_utils.construct_restore_args(wanted),
                    partial_restore=True,
                ),
            )
        finally:
            handler.close()


def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """The shape of each array, by a name such as params/conv1/kernel."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape)
        for path, leaf in leaves
    }


def is_passing(error: BaseException | None) -> bool:
    """Whether an error, or its cause, does not concern the files themselves."""
    while error is not None:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) in PASSING:
            return True
        if any(word in str(error) for word in PASSING_WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False


def abstract(leaf: jax.Array) -> jax.ShapeDtypeStruct:
    """Shape, type and sharding of an array, without its values."""
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def first_line(error: BaseException) -> str:
    """An error's own words, cut to one readable line."""
    text = (str(error).strip().splitlines() or [""])[0]
    text = text.split(" See full TensorStore details")[0]  # a method's address follows
    return f"{type(error).__name__}: {text if len(text) <= 160 else text[:160] + '...'}"
