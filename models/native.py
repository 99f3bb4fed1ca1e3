"""The native handlers (kernels/): built once by `make`, loaded when first used.

As a script, builds the library, or prints one line if there is no C++ compiler. The
library is kept with the Python environment, under a name that holds what it depends on: the source,
the compiler's options, jaxlib's version and the processor's features. Imports nothing of the
project, and jax only to load.
"""

import ctypes
import functools
import hashlib
import importlib.util
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import metadata
from typing import Any

KERNELS = pathlib.Path(__file__).with_name("kernels")
# -march=native: this processor's widest vectors. Both compilers fuse a product with its sum.
OPTIONS = ("-std=c++20", "-O3", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC")
SYMBOLS = (
    *("Convolution", "ConvolutionInputGradient", "ConvolutionFilterGradient"),
    *("BatchNormMoments", "BatchNormGradientSums"),
)


def library() -> pathlib.Path:
    """The path of the library for this source, jaxlib and processor, built or not."""
    sources = [source.read_text() for source in sorted(KERNELS.glob("*.*"))]
    made_of = (sources, OPTIONS, metadata.version("jaxlib"), _processor())
    name = hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]
    return pathlib.Path(sys.prefix) / "lib" / "convnets" / f"native-{name}.so"


def _processor() -> str:
    """Text that differs between processors for which -march=native compiles differently."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    features = [line for line in lines if line.lower().startswith(("flags", "features"))]
    return f"{platform.machine()} {features[0] if features else platform.processor()}"


def compiler() -> str | None:
    """The C++ compiler: $CXX, or the first of c++, g++ and clang++; None if there is none."""
    names = (os.environ.get("CXX"), "c++", "g++", "clang++")
    return next((found for name in names if name and (found := shutil.which(name))), None)


def build() -> str | None:
    """Builds the library unless it exists. Returns the reason if that fails, in one line."""
    made = library()
    if made.exists():
        return None
    found = compiler()
    if found is None:
        return "there is no C++ compiler"
    package = importlib.util.find_spec("jaxlib")
    assert package is not None
    assert package.submodule_search_locations
    headers = pathlib.Path(package.submodule_search_locations[0]) / "include"
    try:
        made.parent.mkdir(parents=True, exist_ok=True)
        # Another process may be building it too, so the file is moved into place complete.
        with tempfile.TemporaryDirectory(dir=made.parent) as folder:
            fresh = pathlib.Path(folder) / made.name
            sources = [str(source) for source in sorted(KERNELS.glob("*.cc"))]
            command = [found, *OPTIONS, "-isystem", str(headers), *sources, "-o", str(fresh)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                return f"{found} failed: {(done.stderr.strip().splitlines() or ['?'])[0]}"
            fresh.replace(made)
    except OSError as error:
        return str(error)
    return None


@functools.cache
def load() -> bool:
    """Registers the handlers with jax under the names of SYMBOLS; False if they are not built."""
    import jax

    made = library()
    if not made.exists():
        return False
    handlers = ctypes.CDLL(str(made))
    for symbol in SYMBOLS:
        jax.ffi.register_ffi_target(
            symbol, jax.ffi.pycapsule(getattr(handlers, symbol)), platform="cpu"
        )
    return True


def handler(symbol: str, result: Any) -> Callable[..., Any]:
    """The handler `symbol` as a function of its operands and attributes.

    result: the shapes and types that it returns. Under vmap it runs once for each element.
    """
    import jax

    load()
    return jax.ffi.ffi_call(symbol, result, vmap_method="sequential")


if __name__ == "__main__":
    failed = build()
    if failed:
        print(f"the native handlers were not built, training on CPU will be slower: {failed}")
