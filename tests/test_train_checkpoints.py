"""Checkpoints against damage: flipped bits, lost files, another network, a full disk."""

import errno
import pathlib
import threading
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from errors import UserError
from startup import command_line
from training.checkpoints import AnotherNetwork, Checkpoints, DamagedCheckpoint
from training.workdirs import FOLDER


def state(seed: int) -> dict[str, jax.Array]:
    """One array too large to be stored inline, and a scalar."""
    return {"w": jax.random.normal(jax.random.key(seed), (256, 256)), "step": jnp.asarray(seed)}


def save(
    workdir: pathlib.Path, steps: list[int], keep: int = 2, errors: dict | None = None
) -> None:
    with Checkpoints(workdir, keep=keep) as checkpoints:
        for step in steps:
            checkpoints.save(step, state(step), validation_error=(errors or {}).get(step))


def flip_one_bit(workdir: pathlib.Path, step: int) -> None:
    files = [path for path in (workdir / FOLDER / str(step)).rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)


def restore(workdir: pathlib.Path) -> dict[str, jax.Array] | None:
    with Checkpoints(workdir, keep=2) as checkpoints:
        return checkpoints.restore_newest(state(0))


def test_the_newest_is_restored_to_the_bit(tmp_path: pathlib.Path) -> None:
    save(tmp_path, [1, 2])
    restored = restore(tmp_path)
    assert restored is not None
    np.testing.assert_array_equal(restored["w"], state(2)["w"])
    assert restored["step"] == 2


def test_nothing_saved_restores_nothing(tmp_path: pathlib.Path) -> None:
    assert restore(tmp_path) is None


def test_a_flipped_bit_is_noticed_and_the_older_one_used(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, [1, 2])
    flip_one_bit(tmp_path, 2)
    restored = restore(tmp_path)
    assert restored is not None
    assert restored["step"] == 1
    assert "damaged checkpoint, in ['w']; trying the one before it" in caplog.text


def test_a_lost_file_is_noticed_and_the_older_one_used(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, [1, 2])
    for path in (tmp_path / FOLDER / "2" / "state").rglob("*"):
        if path.is_file():
            path.unlink()
    restored = restore(tmp_path)
    assert restored is not None
    assert restored["step"] == 1
    assert "unreadable checkpoint" in caplog.text


def test_errors_of_abandoned_reads_are_not_shown() -> None:
    """TensorStore may print an error per array of a damaged checkpoint after a read has failed."""
    shown: list[Any] = []
    for error in (RuntimeError("Event loop is closed"), RuntimeError("another"), None):
        command_line._not_of_abandoned_reads(shown.append, SimpleNamespace(exc_value=error))
    assert [str(unraisable.exc_value) for unraisable in shown] == ["another", "None"]


def test_without_an_intact_checkpoint_there_is_one_line(tmp_path: pathlib.Path) -> None:
    save(tmp_path, [1, 2])
    flip_one_bit(tmp_path, 1)
    flip_one_bit(tmp_path, 2)
    with pytest.raises(UserError, match=r"every checkpoint is damaged \(steps 1, 2\)") as raised:
        restore(tmp_path)
    assert "\n" not in str(raised.value)


def test_keeps_the_newest_and_the_best_by_validation(tmp_path: pathlib.Path) -> None:
    save(tmp_path, [1, 2, 3, 4, 5], keep=2, errors={1: 0.5, 2: 0.1, 3: 0.2, 4: 0.3})
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.steps == [2, 4, 5]


def test_another_network_is_named(tmp_path: pathlib.Path) -> None:
    save(tmp_path, [1])
    for like, words in (
        (
            {"w": jnp.zeros((256, 3)), "step": jnp.asarray(0)},
            r"w is \(256, 256\) in it, \(256, 3\)",
        ),
        (
            {"v": jnp.zeros(3), "step": jnp.asarray(0)},
            r"v is missing in it, \(3,\) in the config's",
        ),
    ):
        with Checkpoints(tmp_path, keep=2) as checkpoints:
            with pytest.raises(
                AnotherNetwork, match=f"1: a checkpoint of another network: {words}"
            ):
                checkpoints.restore_newest(like)
            assert checkpoints.steps == [1]
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == ["1"]


def test_only_what_is_asked_for_is_read(tmp_path: pathlib.Path) -> None:
    save(tmp_path, [1])
    flip_one_bit(tmp_path, 1)
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.restore(1, {"w": None, "step": jnp.asarray(0)}) == {"step": 1}
        with pytest.raises(DamagedCheckpoint, match=r"1: damaged checkpoint, in \['w'\]$"):
            checkpoints.restore(1, state(0))


def test_a_failed_save_raises_at_the_next_one_and_at_the_wait(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(1, state(1), validation_error=None)
        checkpoints.wait()
        original = checkpoints.manager.save

        def failing(step: int, **options: Any) -> Any:
            if step == 2:
                raise OSError(errno.ENOSPC, "No space left on device")
            return original(step, **options)

        monkeypatch.setattr(checkpoints.manager, "save", failing)
        for told in (
            checkpoints.wait,
            lambda: checkpoints.save(3, state(3), validation_error=None),
        ):
            checkpoints.save(2, state(2), validation_error=None)
            with pytest.raises(UserError, match=r"could not be saved: the disk is full; .*: 1$"):
                told()


def test_the_loop_goes_on_while_a_checkpoint_is_written(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write waits for the loop's next step: if the loop waited too, neither would end."""
    gone_on = threading.Event()
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        original = checkpoints.manager.save

        def waiting(step: int, **options: Any) -> Any:
            assert gone_on.wait(60)
            return original(step, **options)

        monkeypatch.setattr(checkpoints.manager, "save", waiting)
        checkpoints.save(1, state(1), validation_error=None)
        gone_on.set()
    assert restore(tmp_path) is not None


def test_a_damaged_checkpoint_is_moved_aside_and_its_step_saved_again(
    tmp_path: pathlib.Path,
) -> None:
    save(tmp_path, [1, 2])
    for aside in ("damaged-2", "damaged-2-1"):  # also when the new one is damaged again
        flip_one_bit(tmp_path, 2)
        with Checkpoints(tmp_path, keep=2) as checkpoints:
            restored = checkpoints.restore_newest(state(0))
            assert restored is not None
            assert restored["step"] == 1
            assert checkpoints.steps == [1]
            checkpoints.save(2, state(2), validation_error=None)
        assert (tmp_path / FOLDER / aside).is_dir()
        restored = restore(tmp_path)
        assert restored is not None
        np.testing.assert_array_equal(restored["w"], state(2)["w"])


def test_a_renamed_checkpoint_is_refused(tmp_path: pathlib.Path) -> None:
    save(tmp_path, [50])
    (tmp_path / FOLDER / "50").rename(tmp_path / FOLDER / "60")
    with (
        Checkpoints(tmp_path, keep=2) as checkpoints,
        pytest.raises(DamagedCheckpoint, match=r"60: damaged checkpoint, it holds step 50$"),
    ):
        checkpoints.restore(60, state(0))


@pytest.mark.parametrize(
    "passing",
    [
        MemoryError(),
        OSError(errno.EMFILE, "Too many open files"),
        PermissionError(errno.EACCES, "Permission denied"),
        ValueError("RESOURCE_EXHAUSTED: Error opening local file [OS error 24: EMFILE]"),
    ],
)
def test_a_temporary_error_rolls_nothing_back(
    passing: Exception, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, [1, 2])
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        original = checkpoints.manager.restore

        def failing(step: int, **options: Any) -> Any:
            if step == 2:
                raise passing
            return original(step, **options)

        monkeypatch.setattr(checkpoints.manager, "restore", failing)
        with pytest.raises(UserError, match="2: cannot be read just now") as raised:
            checkpoints.restore_newest(state(0))
        assert "\n" not in str(raised.value)
        assert checkpoints.steps == [1, 2]
