"""The learning rate of every recipe against points computed by hand, and schedules with a state.

Milestones are the papers', or those of the files that their authors released.
"""

from functools import partial
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import configs.googlenet
import configs.lenet5
import configs.nin
import configs.resnet_cifar
import configs.resnet_imagenet
import input_pipeline
import sharding
from errors import UserError
from training import schedules
from training.durations import in_steps


def steps_of(field: str, duration: str) -> int:
    return in_steps(field, duration, steps_per_epoch=10, batch_size=32)


def made(total: int = 100, **config: object) -> schedules.Schedule:
    return schedules.create(config, total, steps_of)


def rates(schedule: schedules.Schedule, *steps: int) -> list[float]:
    state = schedule.init()
    return [float(schedule.rate(state, jnp.int32(step))) for step in steps]


def recipe(family: ModuleType, argument: str) -> schedules.Schedule:
    """The schedule of a config, with the steps an epoch that its data and batch give."""
    config = family.get_config(argument)
    declared = input_pipeline.declare(config, sharding.create_mesh(jax.devices()[:1]))
    steps = partial(
        in_steps, steps_per_epoch=declared.steps_per_epoch, batch_size=config.batch_size
    )
    total = steps("config.duration", config.duration)
    return schedules.create(config.schedule, total, steps)


def test_lenet_1998_by_pass() -> None:
    """0.0005 in passes 1-2, 0.0002 in 3-5, 0.0001 in 6-8, 0.00005 in 9-12, then 0.00001."""
    schedule = recipe(configs.lenet5, "net=1998,data=mnist,scale=paper")
    of_pass = [rates(schedule, 60_000 * p, 60_000 * (p + 1) - 1) for p in range(20)]
    expected = [5e-4] * 2 + [2e-4] * 3 + [1e-4] * 3 + [5e-5] * 4 + [1e-5] * 8
    np.testing.assert_allclose(of_pass, [[rate, rate] for rate in expected], rtol=1e-6)


def test_resnet_cifar_drops_at_32k_and_48k() -> None:
    schedule = recipe(configs.resnet_cifar, "depth=20,data=cifar10,scale=paper")
    got = rates(schedule, 0, 31_999, 32_000, 47_999, 48_000, 63_999)
    np.testing.assert_allclose(got, [0.1, 0.1, 0.01, 0.01, 0.001, 0.001], rtol=1e-6)


def test_preactivation_nets_start_at_a_hundredth_for_400_steps() -> None:
    schedule = recipe(configs.resnet_cifar, "depth=164,unit=preact,data=cifar10,scale=paper")
    got = rates(schedule, 0, 399, 400, 32_000)
    np.testing.assert_allclose(got, [0.01, 0.01, 0.1, 0.01], rtol=1e-6)


def test_googlenet_and_its_quick_solver() -> None:
    """×0.96 every 8 epochs: 0.74 of the rate after 60; 250 epochs: 0.28. Quick: √(1 − t/T)."""
    argument = "data=imagenet2012,scale=paper,aux=off"
    epoch = 1_281_167 // 32
    got = rates(recipe(configs.googlenet, argument), 0, 8 * epoch - 1, 8 * epoch, 249 * epoch)
    np.testing.assert_allclose(got, [0.01, 0.01, 0.0096, 0.01 * 0.96**31], rtol=1e-5)
    assert abs(0.96**31 - 0.28) < 0.005
    quick = recipe(configs.googlenet, f"{argument},solver=quick")
    total = 60 * epoch
    np.testing.assert_allclose(
        rates(quick, 0, total // 4, 3 * total // 4), [0.01, 0.01 * 0.75**0.5, 0.005], rtol=1e-5
    )


def test_nin_cifar10_by_the_authors_files() -> None:
    schedule = recipe(configs.nin, "data=cifar10,scale=paper")
    epoch = 50_000 // 128
    got = rates(schedule, 0, 200 * epoch - 1, 200 * epoch, 230 * epoch, 260 * epoch - 1)
    np.testing.assert_allclose(got, [0.1, 0.1, 0.01, 0.001, 0.001], rtol=1e-6)


def test_resnet200_drops_at_epochs_30_and_60() -> None:
    schedule = recipe(configs.resnet_imagenet, "depth=200,data=imagenet2012,scale=paper")
    epoch = 1_281_167 // 256
    got = rates(schedule, 0, 30 * epoch - 1, 30 * epoch, 60 * epoch)
    np.testing.assert_allclose(got, [0.1, 0.1, 0.01, 0.001], rtol=1e-6)


def test_cosine_climbs_and_falls() -> None:
    schedule = made(110, name="cosine", rate=1.0, warmup="1 epochs")
    np.testing.assert_allclose(rates(schedule, 0, 9, 10, 60, 110), [0.1, 1, 1, 0.5, 0], atol=1e-6)


def plateau(**fields: Any) -> schedules.Schedule:
    default = {"rate": 1.0, "factor": 10.0, "of": "validation", "patience": 2, "least": 0.0}
    return made(name="plateau", drops=2, **{**default, **fields})


def test_plateau_drops_where_the_validation_error_stalls() -> None:
    schedule = plateau()
    state, seen = schedule.init(), []
    for error in (0.5, 0.4, 0.45, 0.4, 0.3, 0.35, 0.31, 0.3, 0.3, 0.3, 0.3):
        state = schedule.after_evaluation(state, jnp.float32(error))
        seen.append(float(schedule.rate(state, jnp.int32(0))))
    # Stalls twice in a row at the 4th, 7th and 9th value; at most two drops.
    expected = [1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01, 0.01]
    np.testing.assert_allclose(seen, expected, rtol=1e-6)


def test_plateau_of_the_training_error_takes_its_mean_between_evaluations() -> None:
    schedule = plateau(of="training", patience=1)
    state = schedule.init()
    for pair, expected in (((0.5, 0.3), 1.0), ((0.2, 0.4), 1.0), ((0.1, 0.5), 0.1)):
        for error in pair:
            state = schedule.after_step(state, jnp.float32(error))
        state = schedule.after_evaluation(state, jnp.zeros(()))
        np.testing.assert_allclose(schedule.rate(state, jnp.int32(0)), expected, rtol=1e-6)


def test_110_layers_warm_up_until_the_training_error_is_below_80_percent() -> None:
    schedule = made(
        name="steps_after_error",
        rate=0.1,
        drops=("9 steps",),
        factor=10.0,
        warmup_rate=0.01,
        below=0.8,
        over="2 steps",
    )
    state, seen = schedule.init(), []
    # Means over two steps: 0.9, 0.825, 0.75; then 0.9 again, which changes nothing.
    for step, error in enumerate((0.9, 0.9, 0.75, 0.9, 0.8, 0.7, 0.9, 0.9, 0.9, 0.9)):
        seen.append(float(schedule.rate(state, jnp.int32(step))))
        state = schedule.after_step(state, jnp.float32(error))
    np.testing.assert_allclose(seen, [0.01] * 6 + [0.1] * 3 + [0.01], rtol=1e-6)
    assert recipe(configs.resnet_cifar, "depth=110,data=cifar10,scale=paper").start["warming"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "constant", "rat": 1.0}, "constant has no field 'rat'; fields: rate"),
        ({"name": "constant"}, "constant needs the field 'rate'"),
        (
            {"name": "piecewise", "rates": (1.0, 2.0), "changes": ()},
            "config.schedule.rates: 0 changes need 1 rates, not 2",
        ),
        (
            {"name": "piecewise", "rates": (1.0, 2.0, 3.0), "changes": ("2 epochs", "1 epochs")},
            r"config.schedule.changes: \(20, 10\) steps are not in ascending order",
        ),
    ],
)
def test_bad_fields_are_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        made(**config)


def test_bad_plateaus_are_named() -> None:
    with pytest.raises(UserError, match=r"config.schedule.of: 'test' is none of validation"):
        plateau(of="test")
    with pytest.raises(UserError, match="patience: must be a whole number from 1, not 0"):
        plateau(patience=0)
