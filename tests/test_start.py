"""Before the first step: fast flag errors, the cache of compiled programs, a single trace."""

import os
import pathlib
import subprocess
import sys
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sharding
from models.layers import Conv
from protocols import registry
from randomness import Purpose, key
from reference import pages
from startup import compilation_cache, environment
from tests.toy import lenet_config
from training import experiment, plan

ROOT = pathlib.Path(__file__).parent.parent
HEAVY = {"jax", "flax", "optax", "orbax", "grain", "matplotlib", "tensorflow_datasets", "numpy"}


@pytest.mark.parametrize("word", ["--help", "--mistyped"])
@pytest.mark.parametrize("command", ["train.py", "evaluate.py", "reproduce.py", "describe.py"])
def test_help_and_a_mistyped_flag_need_no_slow_import(command: str, word: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", command, word],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stderr.splitlines()
    imported = {line.split("|")[-1].strip().split(".")[0] for line in lines if "|" in line}
    assert "argparse" in imported or "absl" in imported
    assert not imported & HEAVY
    if word == "--mistyped":
        assert done.returncode == 2
        assert [line for line in lines if "|" not in line and word[2:] in line]
    elif command == "evaluate.py":
        help_text = " ".join(done.stdout.split())
        assert f"{', '.join(registry.KINDS)}, or all" in help_text


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"CONVNETS_CACHE": "off"}, None),
        ({"CONVNETS_CACHE": "/a"}, "/a"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/convnet-case-studies"),
        ({"HOME": "/c"}, "/c/.cache/convnet-case-studies"),
    ],
)
def test_the_cache_is_where_the_user_says(
    variables: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CONVNETS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = compilation_cache.folder()
    assert (found and str(found.parent)) == expected
    assert found is None or found.name.endswith(f"-{environment.usable_cores()}-cores")


PROGRAM = """
from startup import compilation_cache
compilation_cache.use()
import jax, jax.numpy as jnp
print(jax.jit(lambda x: jnp.sin(x) @ jnp.cos(x).T)(jnp.arange(6.0).reshape(2, 3)).tolist())
"""


def test_two_processes_share_the_cache_and_a_cut_entry_is_compiled_again(
    tmp_path: pathlib.Path,
) -> None:
    def start() -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            env=os.environ | {"CONVNETS_CACHE": str(tmp_path), "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(process: subprocess.Popen) -> str:
        out, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        return out

    both = [start(), start()]
    first, second = map(finish, both)
    assert first == second
    entries = sorted(tmp_path.glob("*/*-cache"))
    assert entries
    for entry in entries:
        entry.write_bytes(entry.read_bytes()[:100])
    assert finish(start()) == first


def test_a_cache_that_cannot_be_written_is_one_line(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CONVNETS_CACHE", str(tmp_path / "file" / "below"))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    before = jax.config.values["jax_compilation_cache_dir"]
    compilation_cache.use()
    assert jax.config.values["jax_compilation_cache_dir"] == before
    assert capsys.readouterr().err.count("\n") == 1


def version(command: str, cache: pathlib.Path) -> str:
    done = subprocess.run(
        [sys.executable, *command.split(), "--version"],
        cwd=ROOT,
        env=os.environ | {"CONVNETS_CACHE": str(cache), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_version_says_what_a_report_needs(tmp_path: pathlib.Path) -> None:
    lines = dict(line.split(maxsplit=1) for line in version("train.py", tmp_path).splitlines())
    assert set(lines) == {"commit", "versions", "machine", "devices", "cache"}
    assert str(tmp_path) in lines["cache"]
    assert lines["cache"].endswith(" files")


def test_every_command_says_the_same_version(tmp_path: pathlib.Path) -> None:
    assert len({version(command, tmp_path) for command in pages.COMMANDS}) == 1


def test_a_network_is_traced_once_before_the_first_step(data_dir: str) -> None:
    """Checks, the plan and the initial weights share one trace."""
    calls = []

    def count(call: Any, args: tuple, kwargs: dict, context: Any) -> Any:
        if isinstance(context.module, Conv) and context.method_name == "__call__":
            calls.append(context.module.name)
        return call(*args, **kwargs)

    config = lenet_config()
    with nn.intercept_methods(count):
        run = experiment.create(config, sharding.create_mesh(jax.devices()[:1]), data_dir)
        plan.describe(run)
        state = run.create_state()
    assert len(calls) == len(set(calls)) == 2  # LeNet-5's conv1 and conv2, each once

    images = jnp.zeros((1, *run.network.input))
    expected = run.network.init(key(config.seed, Purpose.INIT), images)
    assert jax.tree.all(jax.tree.map(np.array_equal, state.params, expected["params"]))
