"""Keeps compiled programs on disk, so that a second start does not compile them again.

The folder is `convnet-case-studies` in the user's cache (`$XDG_CACHE_HOME`, else `~/.cache`), or
the one that `$CONVNETS_CACHE` names; CONVNETS_CACHE=off turns the cache off. Any number of
processes may share it: if an entry is incomplete (still being written, or cut short by a kill), jax
warns and compiles. It may be deleted at any time. On NVIDIA GPUs jax also keeps autotuning results
in it (jax's default; not tested here).
"""

import hashlib
import os
import pathlib
import platform
import sys

from startup import environment

VARIABLE = "CONVNETS_CACHE"
OFF = "off"


def folder() -> pathlib.Path | None:
    """Where compiled programs of this machine are kept; None if the cache is off."""
    chosen = os.environ.get(VARIABLE, "")
    if chosen == OFF:
        return None
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    root = pathlib.Path(chosen or pathlib.Path(caches, "convnet-case-studies")).expanduser()
    return root.absolute() / _machine()


def use() -> None:
    """Makes jax keep what it compiles; $JAX_COMPILATION_CACHE_DIR takes precedence if it is set.

    Call before the first compilation. If the folder cannot be written, prints a warning and goes on
    without a cache.
    """
    import jax  # takes half a second; flags are checked before that

    path = folder()
    if path is None or os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(
            f"warning: compiled programs are not kept: {path} cannot be written "
            f"({error.strerror}); set ${VARIABLE} to another folder, or to {OFF}",
            file=sys.stderr,
        )
        return
    jax.config.update("jax_compilation_cache_dir", str(path))
    # By default jax keeps only programs that took a second to compile; a start has many small ones,
    # which take seconds together.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def describe() -> str:
    """The folder and its size, in one line."""
    path = folder()
    if path is None:
        return f"off (${VARIABLE}={OFF})"
    sizes = [file.stat().st_size for file in path.rglob("*") if file.is_file()]
    return f"{path}, {sum(sizes) / 1e6:.1f} MB in {len(sizes)} files"


def _machine() -> str:
    """A folder name made of what compiled code depends on but jax's cache key leaves out.

    That is the processor's instruction set (machines may share a home folder) and the number of
    cores, by which XLA divides work on CPU.
    """
    instructions = platform.processor()
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        instructions = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    digest = hashlib.sha256(instructions.encode()).hexdigest()[:8]
    return f"{platform.machine()}-{digest}-{environment.usable_cores()}-cores"
