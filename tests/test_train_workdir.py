"""Files of a workdir that are damaged, lost, or of another config or machine: one line each."""

import builtins
import errno
import fcntl
import io
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import train
from errors import UserError
from startup import command_line, environment
from tests.toy import lenet_config
from training import metrics, trained, workdirs
from training.workdirs import FOLDER

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, data_dir: str) -> pathlib.Path:
    """The workdir of a run of eight steps: rows of steps 2, 4, 6 and 8."""
    workdir = tmp_path_factory.mktemp("finished")
    train.train_and_evaluate(lenet_config(), workdir, data_dir=data_dir)
    return workdir


@pytest.fixture
def workdir(finished: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of that workdir, to damage."""
    return shutil.copytree(finished, tmp_path / "run")


def lines(workdir: pathlib.Path) -> list[bytes]:
    return (workdir / metrics.FILE).read_bytes().splitlines(keepends=True)


DAMAGE: dict[str, tuple[Callable[[list[bytes]], bytes], str]] = {
    "empty": (lambda rows: b"", "4 of 4 rows are missing or incomplete, first at step 2"),
    "cut": (lambda rows: b"".join(rows)[:-9], "1 of 4 rows are missing .* at step 8"),
    "a row lost": (lambda rows: b"".join(rows[:1] + rows[2:]), "1 of 4 rows .* at step 4"),
    "a row twice": (
        lambda rows: b"".join(rows + rows[3:]),
        "line 5 is not a row of a step after 8",
    ),
    "a list": (lambda rows: b"[1, 2]\n", "line 1 is not a row of a step after 0"),
    "a number": (lambda rows: b"".join(rows) + b"1\n", "line 5 is not a row of a step after 8"),
    "binary": (lambda rows: bytes(range(256)), "cannot be read .it is not text"),
    "a blank line": (
        lambda rows: rows[0] + b"\n" + rows[1],
        "line 2 is not a row of a step after 2",
    ),
    "no step": (lambda rows: b'{"epoch": 1}\n', "line 1 is not a row of a step after 0"),
    "no test group": (
        lambda rows: b"".join(rows).replace(b'"test"', b'"tset"'),
        "2 of 4 rows are missing or incomplete, first at step 4",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_rows_that_are_not_whole_are_refused(damage: str, workdir: pathlib.Path) -> None:
    change, complaint = DAMAGE[damage]
    (workdir / metrics.FILE).write_bytes(change(lines(workdir)))
    due = {2: ["train"], 4: ["train", "test"], 6: ["train"], 8: ["train", "test"]}
    with pytest.raises(UserError, match=complaint) as raised:
        metrics.check_whole(workdir, due)
    assert "\n" not in str(raised.value)


def test_whole_rows_pass_also_with_the_last_line_half_written(workdir: pathlib.Path) -> None:
    due = {2: ["train"], 4: ["train", "test"]}
    (workdir / metrics.FILE).write_bytes(b"".join(lines(workdir))[:-9])
    metrics.check_whole(workdir, due)
    assert [row["step"] for row in metrics.read(workdir)] == [2, 4, 6]


def test_a_result_is_not_rewritten_from_fewer_rows(workdir: pathlib.Path, data_dir: str) -> None:
    result = (workdir / "result.json").read_bytes()
    kept = b"".join(lines(workdir)[:3])
    (workdir / metrics.FILE).write_bytes(kept)
    with pytest.raises(UserError, match=r"metrics.jsonl: 1 of 4 rows are missing .* at step 8"):
        train.train_and_evaluate(lenet_config(), workdir, data_dir=data_dir)
    assert (workdir / "result.json").read_bytes() == result
    assert (workdir / metrics.FILE).read_bytes() == kept


def test_loading_refuses_weights_trained_with_another_config(
    workdir: pathlib.Path,
) -> None:
    trained.load(workdir)
    workdirs.write_json(workdir / "config.json", lenet_config(seed=1).to_dict())
    with pytest.raises(UserError, match=r"a checkpoint of another config than .* config\.json"):
        trained.load(workdir)
    workdirs.write_json(workdir / "config.json", {"seed": 1})
    with pytest.raises(UserError, match=r"config\.json: config\.\w+: is missing"):
        trained.load(workdir)


def test_a_finished_run_in_a_read_only_folder_gives_its_result(
    workdir: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = lenet_config().to_dict()
    assert workdirs.read_only_result(workdir, config) is None
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    before = {path.name: path.stat().st_mtime_ns for path in workdir.iterdir()}
    result = workdirs.read_only_result(workdir, config)
    assert result == json.loads((workdir / "result.json").read_text())
    assert before == {path.name: path.stat().st_mtime_ns for path in workdir.iterdir()}
    with pytest.raises(UserError, match="another config: seed 0 there, 1 here"):
        workdirs.read_only_result(workdir, lenet_config(seed=1).to_dict())
    (workdir / "result.json").unlink()
    assert workdirs.read_only_result(workdir, config) is None


def test_a_value_edited_in_a_row_is_noticed(workdir: pathlib.Path, data_dir: str) -> None:
    result = (workdir / "result.json").read_bytes()
    rows = metrics.read(workdir)
    rows[1]["test"]["error"] /= 2
    (workdir / metrics.FILE).write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"metrics.jsonl: its rows up to step 8 are not those"):
        train.train_and_evaluate(lenet_config(), workdir, data_dir=data_dir)
    assert (workdir / "result.json").read_bytes() == result


def test_a_row_of_the_very_step_that_was_saved_is_part_of_the_digest(
    tmp_path: pathlib.Path,
) -> None:
    """Also if only some groups are due at that step, or if the run stopped between two rows."""
    path = tmp_path / metrics.FILE
    path.write_text('{"step": 2, "train": 1}\n{"step": 4, "train": 1}\n')
    for step in (2, 3, 4):
        metrics.check_unchanged(tmp_path, step, metrics.digests(tmp_path, step))
    at_3, at_4 = metrics.digests(tmp_path, 3), metrics.digests(tmp_path, 4)
    path.write_text('{"step": 2, "train": 1}\n{"step": 4, "train": 2}\n')
    metrics.check_unchanged(tmp_path, 3, at_3)
    with pytest.raises(UserError, match="its rows up to step 4 are not those"):
        metrics.check_unchanged(tmp_path, 4, at_4)
    path.write_text('{"step": 2, "train": 1}\n{"step": 3, "train": 1}\n')
    with pytest.raises(UserError, match="its rows up to step 3 are not those"):
        metrics.check_unchanged(tmp_path, 3, at_3)
    path.write_text('{"step": 2, "train": 1}\n')  # the end was at 4, until --extend moved it
    metrics.check_unchanged(tmp_path, 4, at_4)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "holds no JSON object"),
        (b'{"seed": 0,', "holds no JSON object"),
        (b"[]", "holds no JSON object"),
        (b"\xff\xfe", "holds no JSON object"),
        (None, "cannot be read .Is a directory"),
    ],
)
def test_a_damaged_config_is_one_line(
    content: bytes | None, complaint: str, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "config.json"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"config.json: .*{complaint}") as raised:
        workdirs.adopt_config(tmp_path, {"seed": 0}, extend=False, steps=len)
    assert "\n" not in str(raised.value)


def test_checkpoints_without_their_config_are_not_adopted(tmp_path: pathlib.Path) -> None:
    (tmp_path / FOLDER / "40").mkdir(parents=True)
    with pytest.raises(UserError, match=r"checkpoints \(of steps 40\) and no config.json"):
        workdirs.adopt_config(tmp_path, {"seed": 0}, extend=False, steps=len)
    assert not (tmp_path / "config.json").exists()


def test_checkpoints_of_another_config_are_refused(workdir: pathlib.Path, data_dir: str) -> None:
    """config.json was put there by hand: that of the same network with another seed."""
    config = lenet_config(seed=1)
    workdirs.write_json(workdir / "config.json", config.to_dict())
    with pytest.raises(UserError, match=r"a checkpoint of another config than .* config\.json"):
        train.train_and_evaluate(config, workdir, data_dir=data_dir)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"commit": "another"}, []),
        ({"device_kind": "abacus", "devices": 3},
         ["device kind abacus -> cpu", "devices 3 -> 8"]),
        ({"packages": {"jax": "0.1", "jaxlib": None}}, ["jax 0.1 -> "]),
    ],
)  # fmt: skip
def test_a_resume_on_another_machine_is_reported(
    change: dict[str, Any], said: list[str], tmp_path: pathlib.Path
) -> None:
    before = environment.describe()
    before = before | change
    workdirs.write_json(tmp_path / workdirs.ENVIRONMENT, before)
    changes = workdirs.record_environment(tmp_path, resumed=True)
    for part in said:
        assert any(text.startswith(part) for text in changes), changes
    assert bool(changes) == bool(said)
    stored = json.loads((tmp_path / workdirs.ENVIRONMENT).read_text())
    assert stored.pop("earlier", None) == ([before] if said else None)
    assert stored == environment.describe()


def fill_disk(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Makes opening a file for writing fail if its path contains `name`."""
    opened = io.open

    def refuse(file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if name in str(file) and set(mode) & set("wax+"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
        return opened(file, mode, *rest, **options)

    monkeypatch.setattr(io, "open", refuse)
    monkeypatch.setattr(builtins, "open", refuse)


@pytest.mark.parametrize("name", ["config.json", "environment.json", "metrics.jsonl"])
def test_a_full_disk_is_one_line_that_names_the_file(
    name: str, tmp_path: pathlib.Path, data_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk(monkeypatch, name)
    with pytest.raises(UserError, match=f"{name}: cannot be written .No space left") as raised:
        train.train_and_evaluate(lenet_config(), tmp_path, data_dir=data_dir)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.glob("*.partial"))


def test_a_file_that_cannot_be_written_keeps_its_contents(
    workdir: pathlib.Path, data_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (workdir / "result.json").read_bytes()
    fill_disk(monkeypatch, "result.json")
    with pytest.raises(UserError, match=r"result.json: cannot be written"):
        train.train_and_evaluate(lenet_config(), workdir, data_dir=data_dir)
    assert (workdir / "result.json").read_bytes() == before


@pytest.mark.slow
def test_one_damaged_byte_of_a_checkpoint_is_noticed_or_harmless() -> None:
    """A sample of 28; the whole of 240 is in benchmarks/logs/. Status 0: none was silent."""
    done = subprocess.run(
        [sys.executable, "benchmarks/damage_checkpoints.py", "--samples=28", "--seed=1"],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    name, noticed, harmless, silent = done.stdout.splitlines()[-1].split()
    assert name == "all"
    assert int(noticed) + int(harmless) == 28
    assert int(noticed) > 0
    assert silent == "0"


def test_a_second_run_on_a_host_that_sees_no_lock_ends_the_first(
    tmp_path: pathlib.Path, data_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a file system that does not carry locks between hosts: flock succeeds on both."""
    monkeypatch.setattr(fcntl, "flock", lambda file, how: None)
    write = metrics.MetricsLog.write

    def taken(self: metrics.MetricsLog, row: dict[str, Any]) -> None:
        write(self, row)
        if row["step"] == 4:
            with monkeypatch.context() as patched:
                patched.setattr(platform, "node", lambda: "host2")
                workdirs.claim(tmp_path).__enter__()

    monkeypatch.setattr(metrics.MetricsLog, "write", taken)
    with pytest.raises(UserError, match=r"taken by another run \(process \d+ on host2\)"):
        train.train_and_evaluate(lenet_config(), tmp_path, data_dir=data_dir)
    assert [row["step"] for row in metrics.read(tmp_path)] == [2, 4]
    assert (tmp_path / "checkpoints" / "4").exists()
    monkeypatch.undo()
    _, result = train.train_and_evaluate(lenet_config(), tmp_path, data_dir=data_dir)
    assert result["last"]["step"] == 8


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_is_used_all_the_same(
    number: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: Any, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with workdirs.claim(tmp_path):
        workdirs.require_held(tmp_path)
        (tmp_path / workdirs.LOCK).unlink()
        with pytest.raises(UserError, match=r"was taken by another run \(.lock cannot be read"):
            workdirs.require_held(tmp_path)


def test_an_evaluation_whose_folder_cannot_be_written_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "evaluations").touch()
    with pytest.raises(UserError, match=r"evaluations: cannot be written .File exists"):
        workdirs.require_writable(tmp_path / "evaluations")


# A program whose results cannot be allocated: 4 GB within an address space that has 0.3 GB left.
SHORT_OF_MEMORY = """
import resource
import jax, jax.numpy as jnp
import sharding
x = jnp.arange(1000.0)
large = jax.jit(lambda x: (x.sum(), jnp.broadcast_to(x[:, None], (1000, 1000, 1000)) + x))
large.lower(x).compile()
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 3 * 10**8,) * 2)
total, _ = large(x)
try:
    sharding.to_host({read})
except Exception as error:
    print(error)
"""


@pytest.mark.skipif(not pathlib.Path("/proc/self/statm").exists(), reason="not on this system")
@pytest.mark.parametrize("read", ["total", "jax.jit(jnp.sin)(total)"])
def test_a_result_that_memory_is_too_small_for_is_an_error(read: str) -> None:
    """In jaxlib 0.10.2 the process waits forever if it reads the result without waiting first."""
    done = subprocess.run(
        [sys.executable, "-c", SHORT_OF_MEMORY.replace("{read}", read)],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    line = command_line.machine_error(RuntimeError(done.stdout))
    assert line is not None
    assert line.startswith("out of memory")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nMore lines"),
        RuntimeError("INTERNAL: Error dispatching computation: Out of memory allocating 9 bytes."),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_exhausted_memory_names_the_fields_that_save_it(error: Exception) -> None:
    line = command_line.machine_error(error)
    assert line is not None
    assert {"config.batch_size", "config.gradient_accumulation", "config.model.remat"} <= set(
        re.findall(r"config\.[\w.]+", line)
    )
    assert command_line.machine_error(RuntimeError("another")) is None
