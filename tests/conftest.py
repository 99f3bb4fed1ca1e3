"""A strict session: eight CPU devices, no silent rank promotion, warnings are errors."""

import tempfile

import jax
import pytest

from startup import xla_settings

xla_settings.apply()

# Set before any device is touched.
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_numpy_rank_promotion", "raise")

jax.config.update("jax_disable_most_optimizations", True)

# Runs of the same tiny network compile once a session, not once a test.
COMPILED = tempfile.TemporaryDirectory(prefix="compiled")
jax.config.update("jax_compilation_cache_dir", COMPILED.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One folder of prepared data for the whole session."""
    return str(tmp_path_factory.mktemp("data"))
