"""What a result depends on in addition to config and seed: versions, devices, commit."""

import os
import pathlib
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from typing import Any

from errors import UserError

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "numpy")


def describe() -> dict[str, Any]:
    """Versions, devices, cores, form of convolution and commit; JSON-serializable.

    Raises UserError as `convolution_form` does.
    """
    import jax  # as in `convolution_form`

    return {
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "processor_cores": usable_cores(),
        "device_kind": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
        "convolution": convolution_form(),
        "commit": commit(),
    }


def command() -> str | None:
    """The command line of this process if it is train.py's, for the log of its run."""
    name = pathlib.Path(sys.argv[0]).name
    return shlex.join(["python", name, *sys.argv[1:]]) if name == "train.py" else None


def convolution_form() -> str:
    """The form that convolutions take here.

    Raises UserError if the environment names an unknown one, or one that is not built.
    """
    # Not at the top: takes half a second, and command_line imports this file before it reads flags.
    import jax

    from models import convolution

    try:
        return convolution.form() if jax.default_backend() == "cpu" else "xla"
    except ValueError as error:
        raise UserError(error) from None


def usable_cores() -> int:
    """Processor cores this process may run on; XLA's sums on CPU depend on their number."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def accelerated() -> bool:
    """Whether jax will use an accelerator. Does not start jax, which would take its memory."""
    plugins = metadata.entry_points(group="jax_plugins")
    return bool(plugins) and os.environ.get("JAX_PLATFORMS") != "cpu"


def commit() -> str | None:
    """The commit of this code, with "+changes" if tracked files differ; None outside git."""
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
