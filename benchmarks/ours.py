"""This project's step, built as in train.py, on one batch that stays on the device."""

import tempfile
from collections import deque
from collections.abc import Callable
from typing import Any

import jax

import sharding
import train
from benchmarks.cases import CASES
from configs import files
from configs.base import synthetic
from startup import compilation_cache, xla_settings
from training import experiment
from training.step import evaluation_step

TOGETHER = 10  # steps in a dispatch of "ours_together"


def versions() -> dict[str, str]:
    """What runs the steps, besides what the report says of this Python."""
    return {"jax": jax.__version__}


def build(network: str, mode: str, dtype: str, batch: int, variant: str) -> Callable[[int], int]:
    """A function that takes so many steps of training or evaluation, and returns how many it took.

    variant: "together": TOGETHER steps in a dispatch, of which it takes whole ones; "": single.
    """
    xla_settings.apply()  # this and the cache as in the commands
    compilation_cache.use()
    case = CASES[network]
    overrides: dict[str, Any] = {
        "model.dtype": dtype,
        "data.name": synthetic((case.size, case.size, case.channels), case.classes, 2 * batch, 8),
        "data.size": case.size,
        "data.channels": 0,
        "data.validation": 0,
        "data.augment": (),
        "data.normalize": ("scale()",),
        "batch_size": batch,
        "eval.batch_size": batch,
        "duration": "4 steps",
        "averaging": {"name": "none"},
        "schedule": {"name": "constant", "rate": 0.01},
    }
    config = files.resolve(f"configs/{case.config}", {})
    if "batch_norm_group" in config.model:
        overrides["model.batch_norm_group"] = 0  # the whole batch, as in the other programs
    config = files.resolve(f"configs/{case.config}", overrides)
    with tempfile.TemporaryDirectory() as folder:
        run = experiment.create(config, sharding.create_mesh(jax.devices()[:1]), folder)
    state = run.create_state()
    if mode == "evaluate":
        ready = run.pipeline.batch(0)
        evaluate = jax.jit(
            lambda variables, images: evaluation_step(
                variables, images, network=run.evaluation_network, loss=run.evaluation_loss
            )
        )

        def evaluated(count: int) -> int:
            for _ in range(count):
                sums = evaluate(state.variables, ready)
            jax.block_until_ready(sums)
            return count

        return evaluated
    update, _, _ = train.compiled(run)
    inputs = run.pipeline.fetch(0)
    each = TOGETHER if variant == "together" else 1

    def trained(count: int) -> int:
        nonlocal state
        in_flight: deque[jax.Array] = deque()
        dispatches = -(-count // each)
        for _ in range(dispatches):
            state, loss = update(state, inputs, count=each)
            in_flight.append(loss)
            if len(in_flight) > train.IN_FLIGHT:
                in_flight.popleft().block_until_ready()
        jax.block_until_ready(state)
        return dispatches * each

    return trained
