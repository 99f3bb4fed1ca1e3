"""LeNet-5 and the CIFAR ResNets in plain Flax and optax, for comparison.

Correct and simple code that uses nothing of this project.
"""

from collections.abc import Callable
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from benchmarks.cases import CASES

DEPTH = {f"resnet{depth}": depth for depth in (20, 32, 44, 56, 110)}


class LeNet5(nn.Module):
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for features in (6, 16):
            x = nn.relu(nn.Conv(features, (5, 5), padding="VALID", dtype=self.dtype)(x))
            x = nn.max_pool(x, (2, 2), (2, 2))
        x = x.reshape(len(x), -1)
        for features in (120, 84):
            x = nn.relu(nn.Dense(features, dtype=self.dtype)(x))
        return nn.Dense(10, dtype=self.dtype)(x)


class ResNet(nn.Module):
    depth: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        def convolved(x: jax.Array, features: int, stride: int = 1) -> jax.Array:
            x = nn.Conv(
                features, (3, 3), (stride, stride), padding=1, use_bias=False, dtype=self.dtype
            )(x)
            return nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=self.dtype)(x)

        x = nn.relu(convolved(x, 16))
        for features in (16, 32, 64):
            for _ in range((self.depth - 2) // 6):
                stride = 1 if x.shape[-1] == features else 2
                branch = convolved(nn.relu(convolved(x, features, stride)), features)
                if stride == 2:
                    more = features - x.shape[-1]
                    x = jnp.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (0, more)))
                x = nn.relu(x + branch)
        return nn.Dense(10, dtype=self.dtype)(x.mean((1, 2)))


def versions() -> dict[str, str]:
    """What runs the steps."""
    return {"jax": jax.__version__, "flax": flax.__version__, "optax": optax.__version__}


def build(network: str, mode: str, dtype: str, batch: int, variant: str) -> Callable[[int], int]:
    """A function that takes so many steps of training or evaluation, and returns their number."""
    del variant
    case = CASES[network]
    kind = jnp.dtype(dtype)
    model = LeNet5(kind) if network == "lenet5" else ResNet(DEPTH[network], kind)
    keys = jax.random.split(jax.random.key(0), 3)
    images = jax.random.normal(keys[0], (batch, case.size, case.size, case.channels))
    labels = jax.random.randint(keys[1], (batch,), 0, case.classes)
    variables = model.init(keys[2], images, train=False)
    optimizer = optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(0.01, momentum=0.9))
    params, stats = variables["params"], variables.get("batch_stats", {})
    state = (params, stats, optimizer.init(params))

    @jax.jit
    def evaluate(state: Any) -> jax.Array:
        logits: Any = model.apply(
            {"params": state[0], "batch_stats": state[1]}, images, train=False
        )
        return (logits.argmax(-1) == labels).mean()

    @jax.jit
    def update(state: Any) -> Any:
        params, stats, momentum = state

        def objective(params: Any) -> Any:
            logits, changed = model.apply(
                {"params": params, "batch_stats": stats},
                images,
                train=True,
                mutable=["batch_stats"],
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), changed.get("batch_stats", {})

        gradients, stats_after = jax.grad(objective, has_aux=True)(params)
        updates, momentum = optimizer.update(gradients, momentum, params)
        return optax.apply_updates(params, updates), stats_after, momentum

    def run(count: int) -> int:
        nonlocal state
        for _ in range(count):
            if mode == "evaluate":
                found = evaluate(state)
            else:
                found = state = update(state)
        jax.block_until_ready(found)
        return count

    return run
