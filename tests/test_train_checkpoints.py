"""Checkpoints against damage: flipped bits, lost files, another network, a full disk."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from errors import UserError
from training.checkpoints import Checkpoints
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


def test_none_intact_is_one_line(tmp_path: pathlib.Path) -> None:
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
    with Checkpoints(tmp_path, keep=2) as checkpoints, pytest.raises(UserError, match="checkpoint"):
        checkpoints.restore(1, {"v": jnp.zeros(3), "step": jnp.asarray(0)})
