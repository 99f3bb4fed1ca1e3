"""A strict session: eight CPU devices, no silent rank promotion, warnings are errors."""

import os

import jax
import pytest

# Set before any device is touched.
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_numpy_rank_promotion", "raise")

# The compiled programs of one session serve the next tests that need the same ones.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One folder of prepared data for the whole session."""
    return str(tmp_path_factory.mktemp("data"))
