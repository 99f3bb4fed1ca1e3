"""The training step of five nets against a loop written in torch: float64, same weights, batches.

The nets below are written down from their papers and know nothing of `models`: NCHW, torch's own
layers and gradients, and the update spelled out. Dropout is off, since its masks are drawn
differently.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import drawn

import models
from training import losses, optimizers, schedules
from training.step import TrainState, empty_metric_sums, train_step

torch = pytest.importorskip("torch", reason="torch is not installed")
F = torch.nn.functional

STEPS = 3
RATES = (0.01, 0.01, 0.001)  # falls once: the optimizers differ after that
MOMENTUM, DECAY = 0.9, 1e-3


class Weights(dict):
    """Tensors by name ("conv1/kernel"), the layers that use them, and the running statistics."""

    def __init__(self, params: Any, batch_stats: Any, *, training: bool = True):
        self.training = training
        super().__init__(
            (name, torch.tensor(value, requires_grad=True)) for name, value in flat(params).items()
        )
        self.stats = {name: torch.tensor(value) for name, value in flat(batch_stats).items()}

    def conv(self, x: Any, name: str, stride: int = 1, norm: bool = False) -> Any:
        """A convolution that keeps the size at stride 1, with its batch norm where it has one."""
        kernel = self[f"{name}/kernel"].permute(3, 2, 0, 1)
        x = F.conv2d(x, kernel, self.get(f"{name}/bias"), stride, kernel.shape[-1] // 2)
        return self.norm(x, f"{name}/bn") if norm else x

    def norm(self, x: Any, name: str) -> Any:
        """Batch norm over the whole batch; running statistics move by a tenth.

        In evaluation, by the running statistics.
        """
        if not self.training:
            kept = (self.stats[f"{name}/{kind}"] for kind in ("mean", "var"))
            scale, shift = self[f"{name}/scale"], self[f"{name}/bias"]
            return F.batch_norm(x, *kept, scale, shift, training=False, eps=1e-5)
        found = {"mean": x.mean((0, 2, 3)), "var": x.var((0, 2, 3), unbiased=False)}
        for kind, value in found.items():
            key = f"{name}/{kind}"
            self.stats[key] = 0.9 * self.stats[key] + 0.1 * value.detach()
        scale, shift = self[f"{name}/scale"], self[f"{name}/bias"]
        return F.batch_norm(x, None, None, scale, shift, training=True, eps=1e-5)

    def dense(self, x: Any, name: str) -> Any:
        if x.ndim == 4:
            x = x.permute(0, 2, 3, 1).flatten(1)  # weights are in the order of NHWC
        return x @ self[f"{name}/kernel"] + self[f"{name}/bias"]


def pool(x: Any, window: int, stride: int, pad: int = 0) -> Any:
    return F.max_pool2d(x, window, stride, pad, ceil_mode=True)


def lenet(w: Weights, x: Any) -> dict[str, Any]:
    for name in ("conv1", "conv2"):
        kernel = w[f"{name}/kernel"].permute(3, 2, 0, 1)
        x = pool(F.relu(F.conv2d(x, kernel, w[f"{name}/bias"])), 2, 2)
    return {"main": w.dense(F.relu(w.dense(F.relu(w.dense(x, "fc3")), "fc4")), "fc5")}


def nin(w: Weights, x: Any) -> dict[str, Any]:
    for block in (1, 2, 3):
        for name in (f"conv{block}", f"cccp{2 * block - 1}", f"cccp{2 * block}"):
            x = F.relu(w.conv(x, name))
        if block < 3:
            x = pool(x, 3, 2)
    return {"main": x.mean((2, 3))}


def resnet20(w: Weights, x: Any, *, residual: bool) -> dict[str, Any]:
    x = F.relu(w.conv(x, "conv1", norm=True))
    for stage in (2, 3, 4):
        for unit in (1, 2, 3):
            stride = 2 if stage > 2 and unit == 1 else 1
            name = f"conv{stage}_{unit}"
            y = F.relu(w.conv(x, f"{name}/a", stride, norm=True))
            y = w.conv(y, f"{name}/b", norm=True)
            if residual:  # option A: every other pixel, zeros for the new maps
                kept = x[:, :, ::stride, ::stride]
                y = y + F.pad(kept, (0, 0, 0, 0, 0, y.shape[1] - kept.shape[1]))
            x = F.relu(y)
    return {"main": w.dense(x.mean((2, 3)), "fc")}


def googlenet(w: Weights, x: Any) -> dict[str, Any]:
    """Table 1 behind the stem for small images, with both side heads."""
    lrn = partial(F.local_response_norm, size=5, alpha=1e-4, beta=0.75, k=1.0)
    x = lrn(pool(F.relu(w.conv(x, "conv1")), 3, 2))
    x = lrn(F.relu(w.conv(F.relu(w.conv(x, "conv2_reduce")), "conv2")))
    side = {}
    for name in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        if name in ("4a", "5a"):
            x = pool(x, 3, 2)
        part = f"inception_{name}"
        branches = (
            w.conv(x, f"{part}/1x1"),
            w.conv(F.relu(w.conv(x, f"{part}/3x3_reduce")), f"{part}/3x3"),
            w.conv(F.relu(w.conv(x, f"{part}/5x5_reduce")), f"{part}/5x5"),
            w.conv(F.max_pool2d(x, 3, 1, 1), f"{part}/pool_proj"),
        )
        x = F.relu(torch.cat(branches, 1))
        if name in ("4a", "4d"):
            head = {"4a": "aux1", "4d": "aux2"}[name]
            y = F.relu(w.conv(F.avg_pool2d(x, 2, 2), f"{head}/conv"))
            side[head] = w.dense(F.relu(w.dense(y, f"{head}/fc")), f"{head}/linear")
    return {"main": w.dense(x.mean((2, 3)), "linear"), **side}


def resnet50_v1(w: Weights, x: Any) -> Any:
    """The authors' net of 2015: strides in the 1×1 layers, Caffe's pool without padding."""
    x = pool(F.relu(w.conv(x, "conv1", 2, norm=True)), 3, 2)
    for stage, units in zip((2, 3, 4, 5), (3, 4, 6, 3), strict=True):
        for unit in range(1, units + 1):
            name, stride = f"conv{stage}_{unit}", 2 if stage > 2 and unit == 1 else 1
            y = F.relu(w.conv(x, f"{name}/a", stride, norm=True))
            y = w.conv(F.relu(w.conv(y, f"{name}/b", norm=True)), f"{name}/c", norm=True)
            x = F.relu(y + (w.conv(x, f"{name}/projection", stride, norm=True) if unit == 1 else x))
    return w.dense(x.mean((2, 3)), "fc")


HEADS = {"main": 1.0, "aux1": 0.3, "aux2": 0.3}
TENTH = (("cccp6/kernel", 0.1), ("cccp6/bias", 0.2), ("*bias", 2.0))
NETS: dict[str, tuple[dict[str, Any], Callable[[Weights, Any], dict[str, Any]], dict[str, Any]]] = {
    "lenet5_modern": ({"input": (16, 16, 1)}, lenet, {}),
    "resnet20_cifar10_A": ({"input": (8, 8, 3)}, partial(resnet20, residual=True), {}),
    "plain20_cifar10": ({"input": (8, 8, 3)}, partial(resnet20, residual=False), {}),
    # The rates of the authors' file, and their kind of momentum.
    "nin_cifar10": (
        {"input": (16, 16, 3), "width": 0.125, "dropout": 0.0},
        nin,
        {"inside": True, "rates": TENTH},
    ),
    "googlenet_small": (
        {"input": (16, 16, 3), "width": 0.125, "dropout": 0.0, "head_dropout": 0.0,
         "heads": ("aux1", "aux2")},
        googlenet,
        {"weights": HEADS},
    ),
}  # fmt: skip


def flat(tree: Any) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {"/".join(key.key for key in path): np.asarray(leaf) for path, leaf in leaves}


def factor(name: str, rates: tuple[tuple[str, float], ...]) -> float:
    """The factor on a parameter's rate: the first pattern that ends as its name does."""
    return next((f for pattern, f in rates if name.endswith(pattern.lstrip("*"))), 1.0)


def by_torch(
    forward: Callable[[Weights, Any], dict[str, Any]],
    variables: Any,
    batches: list[dict[str, np.ndarray]],
    *,
    weights: dict[str, float],
    inside: bool,
    rates: tuple[tuple[str, float], ...],
) -> tuple[Weights, list[float]]:
    """The weights after a step on each batch, and the loss of each step."""
    w = Weights(variables["params"], variables.get("batch_stats", {}))
    velocity = {name: torch.zeros_like(value) for name, value in w.items()}
    seen = []
    for batch, rate in zip(batches, RATES, strict=True):
        logits = forward(w, torch.tensor(batch["image"]).permute(0, 3, 1, 2))
        labels = torch.tensor(batch["label"], dtype=torch.int64)
        loss = sum(
            weight * F.cross_entropy(logits[head], labels) for head, weight in weights.items()
        )
        seen.append(loss.item())
        found = torch.autograd.grad(loss, list(w.values()))
        with torch.no_grad():
            for (name, value), gradient in zip(w.items(), found, strict=True):
                slope = gradient + (DECAY * value if name.endswith("kernel") else 0)
                own = rate * factor(name, rates)
                velocity[name] = MOMENTUM * velocity[name] + (own * slope if inside else slope)
                value -= velocity[name] if inside else own * velocity[name]
    return w, seen


@pytest.fixture
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", NETS)
def test_the_step_agrees_with_torch_to_1e_12(name: str) -> None:
    fields, forward, how = NETS[name]
    weights, rates = how.get("weights", {"main": 1.0}), how.get("rates", ())
    inside = how.get("inside", False)
    types = {"dtype": "float64", "param_dtype": "float64"}
    network = models.create({"name": name, **fields, **types})
    variables = jax.tree.map(lambda x: np.asarray(x, np.float64), drawn(network))
    draw = np.random.default_rng(7)
    batches = [
        {
            "image": draw.standard_normal((8, *network.input)),
            "label": draw.integers(0, network.num_classes, 8),
            "mask": np.ones(8),
        }
        for _ in range(STEPS)
    ]
    expected, expected_losses = by_torch(
        forward, variables, batches, weights=weights, inside=inside, rates=rates
    )

    kind = {"kind": "cross_entropy", "label_smoothing": 0.0}
    loss = losses.create({**kind, "weights": weights}, network.heads)
    optimizer = optimizers.create(
        {
            "name": "caffe_sgd" if inside else "sgd",
            "momentum": MOMENTUM,
            "weight_decay": DECAY,
        },
        optimizers.Rules(rates=rates),
    )
    step = partial(
        train_step,
        network=network,
        loss=loss,
        optimizer=optimizer,
        schedule=schedules.of_step(lambda step: jnp.asarray(RATES)[step]),
        seed=0,
    )
    update, got = jax.jit(step), []
    params = jax.tree.map(jnp.asarray, variables["params"])
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=jax.tree.map(jnp.asarray, variables.get("batch_stats", {})),
        opt_state=optimizer.init(params),
        metric_sums=empty_metric_sums(loss),
        schedule_state={},
        averages={},
    )
    for batch in batches:
        state, metrics = update(state, batch)
        got.append(float(metrics["loss"]))

    np.testing.assert_allclose(got, expected_losses, rtol=1e-12)
    ours = flat(state.params)
    assert ours.keys() == expected.keys()
    for parameter, value in ours.items():
        other = expected[parameter].detach().numpy()
        assert value.dtype == np.float64
        assert np.abs(value - other).max() <= 1e-12 * np.abs(other).max(), parameter
    statistics = flat(state.batch_stats)
    assert statistics.keys() == expected.stats.keys()
    for place, value in statistics.items():  # relative to the largest: means may cancel to near 0
        other = expected.stats[place].numpy()
        assert np.abs(value - other).max() <= 1e-12 * np.abs(other).max(), place


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("side", [64, 70])  # conv1 gives maps of 32 and 35 pixels
def test_resnet50_v1_agrees_with_torch_to_1e_12(side: int) -> None:
    types = {"dtype": "float64", "param_dtype": "float64"}
    spec = {"name": "resnet50_v1", "input": (side, side, 3), "width": 0.125, **types}
    network = models.create(spec)
    variables = jax.tree.map(lambda x: np.asarray(x, np.float64), drawn(network))
    images = np.random.default_rng(7).standard_normal((2, side, side, 3))
    w = Weights(variables["params"], variables["batch_stats"], training=False)
    expected = resnet50_v1(w, torch.tensor(images).permute(0, 3, 1, 2)).detach().numpy()
    got = np.asarray(jax.jit(network.apply)(variables, images).logits)
    assert np.abs(got - expected).max() <= 1e-12 * np.abs(expected).max()
