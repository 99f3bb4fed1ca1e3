"""What XLA compiled is kept on disk: a second start of a program does not compile it again.

The folder is `convnet-case-studies` in the user's cache (`$XDG_CACHE_HOME`, else `~/.cache`), or
the one that `$CONVNETS_CACHE` names; CONVNETS_CACHE=off compiles every time. Any number of
processes may share it: of an entry that is still being written, or that a kill cut short, jax warns
that it cannot be read, and compiles. It may be deleted at any time. On NVIDIA GPUs jax keeps the
results of autotuning in it too (jax's own default; not run here).
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
    """Where compiled programs of this machine are kept; None if they are not."""
    chosen = os.environ.get(VARIABLE, "")
    if chosen == OFF:
        return None
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    root = pathlib.Path(chosen or pathlib.Path(caches, "convnet-case-studies")).expanduser()
    return root.absolute() / _machine()


def use() -> None:
    """Makes jax keep what it compiles; $JAX_COMPILATION_CACHE_DIR, where it is set, goes first.

    To be called before the first compilation. A folder that cannot be written is one line of
    warning: everything works without it.
    """
    import jax  # half a second: a mistyped flag is answered before

    path = folder()
    if path is None or os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(
            f"warning: compiled programs are not kept: {path} cannot be written "
            f"({error.strerror}); ${VARIABLE} names another folder, or is {OFF}",
            file=sys.stderr,
        )
        return
    jax.config.update("jax_compilation_cache_dir", str(path))
    # By default jax keeps what took a second; the small programs of a start take seconds together.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def describe() -> str:
    """The folder and its size, in one line."""
    path = folder()
    if path is None:
        return f"off (${VARIABLE}={OFF})"
    sizes = [file.stat().st_size for file in path.rglob("*") if file.is_file()]
    return f"{path}, {sum(sizes) / 1e6:.1f} MB in {len(sizes)} files"


def _machine() -> str:
    """A folder name by what compiled code depends on and jax does not tell apart.

    The instructions of the processor (a home folder may be shared by many machines) and the number
    of its cores, by which XLA divides the work on CPU.
    """
    instructions = platform.processor()
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        instructions = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    digest = hashlib.sha256(instructions.encode()).hexdigest()[:8]
    return f"{platform.machine()}-{digest}-{environment.usable_cores()}-cores"
