"""A strict session: eight CPU devices, no silent rank promotion, warnings are errors."""

import json
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
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


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data_dir: str) -> pathlib.Path:
    """A run of LeNet on synthetic 16 × 16 grey images, saved before its first step."""
    # Imported here: after the settings above, and by few tests.
    import sharding
    from tests.toy import lenet_config
    from training import data_record, experiment
    from training.checkpoints import Checkpoints

    workdir = tmp_path_factory.mktemp("run")
    config = lenet_config()
    (workdir / "config.json").write_text(json.dumps(config.to_dict()))
    made = experiment.create(config, sharding.create_mesh(jax.devices()[:1]), data_dir)
    data_record.keep(workdir, data_record.of(made.pipeline))
    with Checkpoints(workdir, keep=1) as checkpoints:
        state = made.create_state().replace(step=jnp.asarray(1, np.int32))
        checkpoints.save(1, state, validation_error=None)
        checkpoints.wait()
    return workdir


@pytest.fixture(params=["formulated", "native"])
def form(request: pytest.FixtureRequest) -> str:
    """A form by name; the native one is built first, and skipped if there is no compiler."""
    from models import native

    if request.param == "native" and not native.load():
        failed = native.build()
        if failed:
            pytest.skip(failed)
        native.load.cache_clear()
    return request.param
