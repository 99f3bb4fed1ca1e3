"""XLA settings that must be applied before jax first uses a device: flags and memory.

jaxlib before 0.12 computes some float32 reductions wrong under `jit` on CPU, without an error: with
i = arange(32769), x = stack((i, 0i, 0i), axis=1) and m = eye(3), the last value of
vmap(lambda r: sum((m @ r)**2))(x) is 1,073,741,824 eager and 1,065,369,600 jitted in 0.10.2. The
cause is the "reduce" type of its YNNPACK fusions; convolutions are as fast without it.

XLA on CPU allocates the arrays of each step anew. By default glibc returns such large blocks to
the system, which then has to zero every page again: a fifth of the time of a ResNet-20 step. Does
not import jax or anything of the project.
"""

import ctypes
import os
import platform
import re
import warnings
from importlib import metadata

WRONG_BEFORE = (0, 12)  # jaxlib, major and minor version
FUSIONS = "--xla_cpu_experimental_ynn_fusion_type"


# The parameters of glibc's mallopt, by their numbers in malloc.h, and their values: all blocks from
# the heap, which never shrinks, grows by 256 MiB, and is one for all threads.
MALLOC = {"MMAP_MAX": (-4, 0), "TRIM_THRESHOLD": (-1, -1), "TOP_PAD": (-2, 2**28)}
MALLOC |= {"ARENA_MAX": (-8, 1)}


def apply() -> None:
    """Adds the flags this jaxlib needs to $XLA_FLAGS, and makes malloc keep freed memory.

    Keeps a value of a flag that the user has set.
    """
    given = os.environ.get("XLA_FLAGS", "")
    if needed() and FUSIONS not in given:
        os.environ["XLA_FLAGS"] = f"{given} {FUSIONS}=-reduce".strip()
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for parameter, value in MALLOC.values():
            libc.mallopt(parameter, value)


def compile_only() -> None:
    """Lets libtpu compile beside another process that uses it, without looking for TPUs.

    Call before jax is imported, in a program that opens no TPU (`--on`).
    """
    settings = {
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        # Any valid values: without them libtpu complains that it finds none on this machine.
        "TPU_ACCELERATOR_TYPE": "v5litepod-1",
        "TPU_WORKER_HOSTNAMES": "localhost",
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)


def needed() -> bool:
    """Whether the installed jaxlib computes the reductions above wrong."""
    version = re.match(r"(\d+)\.(\d+)", metadata.version("jaxlib"))
    return version is not None and (int(version[1]), int(version[2])) < WRONG_BEFORE


def check() -> None:
    """Warns if jax started without the flags, e.g. if a notebook used a device before `apply`."""
    if needed():
        computed, right = jitted_sum()
        if computed != right:
            warnings.warn(
                "this jaxlib computes some sums wrong on CPU, and jax started before the fix could "
                f"be applied: set XLA_FLAGS={FUSIONS}=-reduce and start again",
                stacklevel=3,
            )


def jitted_sum() -> tuple[float, float]:
    """The last value of the sums above as `jit` computes it, and the right value."""
    import jax
    import jax.numpy as jnp

    i = jnp.arange(32_769, dtype=jnp.float32)
    x = jnp.stack((i, 0 * i, 0 * i), axis=1)
    identity = jnp.eye(3)
    sums = jax.jit(jax.vmap(lambda row: jnp.sum((identity @ row) ** 2)))(x)
    return float(sums[-1]), 32_768.0**2
