"""The step compiled for devices that are not here is the run's own step, and is read off right."""

from contextlib import closing
from typing import Any

import jax
import numpy as np
import pytest

import sharding
import train
from configs import files
from errors import UserError
from training import experiment, topology


def config_of(text: str, **fields: Any) -> Any:
    return files.resolve(text, fields, train.pathlib.Path(train.__file__).parent)


@pytest.mark.parametrize("engine", ["resident", "streaming"])
def test_compiled_without_data_it_is_the_step_of_the_run(engine: str, data_dir: str) -> None:
    config = config_of(
        "configs/resnet_cifar.py:scale=smoke",
        **{"data.name": "digits", "data.engine": engine, "data.augment": ("flip()",)},
    )
    mesh = sharding.create_mesh(jax.devices()[:2])
    declared = experiment.create(config, mesh, data=False)
    run = experiment.create(config, mesh, data_dir)
    with closing(run.pipeline):
        inputs = run.pipeline.fetch(3)
        here, loss = train.compiled(run)[0](run.create_state(), inputs)
        there, same = topology.compiled(declared)(run.create_state(), inputs)
    assert loss == same
    jax.tree.map(np.testing.assert_array_equal, here, there)


def test_needs_of_a_step_on_eight_devices() -> None:
    config = config_of("configs/lenet5.py:scale=smoke", batch_size=8)
    run = experiment.create(config, sharding.create_mesh(), data=False)
    needs = topology.needs(topology.compiled(run))
    # Without batch norm only gradients and metrics cross devices. LeNet-5 has 61,706 weights.
    assert set(needs.collectives) == {"all-reduce"}
    assert sum(needs.collectives["all-reduce"]) >= 4 * 61_706
    assert needs.arguments > 2 * 4 * 61_706  # weights and momentum


def test_collectives_are_counted_with_their_bytes() -> None:
    hlo = """
  %all-reduce.90 = (f32[64]{0:T(128)S(1)}, /*index=1*/bf16[3,3,2]{2,1,0}) all-reduce(%a, %b), x={}
  ROOT %r = f32[]{:T(128)} all-reduce(%c), to_apply=%region
  %s = (f32[8]{0}, f32[16]{0}) all-gather-start(%d), dimensions={0}
  %t = f32[16]{0} all-gather-done(%s)
  %u = pred[5]{0} collective-permute(%e)
  %fusion = f32[9]{0} fusion(%all-reduce.90), calls=%computation
"""
    assert topology.collectives(hlo) == {
        "all-reduce": [64 * 4 + 18 * 2, 4],
        "all-gather": [64],
        "collective-permute": [5],
    }


def test_too_little_memory_is_one_line_with_what_helps() -> None:
    error = (
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
        "temporaries (69.87G) exceeds available HBM (15.75G)."
    )
    line = topology.shortage(error)
    assert line is not None
    assert "69.87 GiB needed, 15.75 there" in line
    for field in ("batch_size", "gradient_accumulation", "remat"):
        assert field in line
    assert topology.shortage("RESOURCE_EXHAUSTED: in another form") is not None
    assert topology.shortage("INVALID_ARGUMENT: something else") is None


def test_a_slice_needs_libtpu_and_a_name_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise topology.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(topology.metadata, "version", missing)
    with pytest.raises(UserError, match=r"--on=v5e:4x4: needs the package libtpu"):
        topology.devices("v5e:4x4")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet_imagenet", "googlenet"])
def test_what_a_device_does_is_the_same_on_16_and_256(name: str) -> None:
    """GoogLeNet has no batch norm; ResNet-50's statistics are of the whole batch."""
    pytest.importorskip("libtpu")
    found = []
    for slice_name, count in (("v5e:4x4", 16), ("v5e:16x16", 256)):
        config = config_of(
            f"configs/{name}.py:data=imagenet2012,scale=paper",
            **{"batch_size": 64 * count, "model.dtype": "bfloat16"},
        )
        mesh = sharding.create_mesh(topology.devices(slice_name))
        run = experiment.create(config, mesh, data=False)
        found.append(topology.needs(topology.compiled(run)))
    small, large = found
    assert set(small.collectives) == set(large.collectives) == {"all-reduce"}
    assert small.collectives == large.collectives
    assert len(small.collectives["all-reduce"]) <= 3  # images counted, statistics, gradients
    for what in ("arguments", "temporaries", "results", "program"):
        assert getattr(large, what) <= 1.05 * getattr(small, what)
