"""He et al. 2016a, section 4.1: whether signals vanish or explode on their way through deep nets.

The paper says of its plain nets that batch norm keeps the responses from vanishing and that the
gradients have "healthy norms", so that vanishing gradients do not explain their errors. Here the
norms of responses and gradients are measured at every 3×3 layer of nets of 20 to 110 layers, at the
start and along training, with and without shortcuts, with and without batch norm. Gradients are
those of the loss by a layer's response, which is what is propagated backward, and by its kernel.

Maps of digits shrink to 2×2, where five of the nine taps of a 3×3 kernel see only padding: without
batch norm the signal of He's weights shrinks there for that reason, too.
"""

import math
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from matplotlib.figure import Figure

import sharding
from reproduction import drawing
from reproduction.inference import LEVEL, MORE, NO_WORSE
from reproduction.records import Record
from reproduction.study import OURS, Claim, Column, Records, Run, Scale, Study
from studies import degradation, responses
from training import experiment, trained

DEPTHS = (20, 56, 110)
BARE_DEPTHS = (20, 110)  # without batch norm
STEPS = 66
MEASURED = (0, 11, 44, STEPS)  # updates done; 11 are an epoch of digits, 44 the warm-up
SECTION = "section 4.1"
WITHOUT = "no batch norm"
SMALLEST = float(np.finfo(np.float32).tiny)
ENDS = 4  # layers, two units, that are averaged at either end of a net


def label(kind: str, depth: int, *, batch_norm: bool = True) -> str:
    """ "plain-56", "plain-56, no batch norm"."""
    name = degradation.label(kind, depth)
    return name if batch_norm else f"{name}, {WITHOUT}"


_HOW = (
    f"{STEPS} steps of 128 without drops of the rate; without batch norm at a tenth of the rates "
    "and gradients clipped to norm 1."
)


def _runs(data: str, seconds: Mapping[int, float]) -> tuple[Run, ...]:
    shared = {
        "duration": f"{STEPS} steps",
        "schedule.drops": (),
        "checkpoint.every": "11 steps",
        "checkpoint.keep": STEPS // 11,
        "eval.every": f"{STEPS} steps",
    }
    # Without batch norm a ResNet's responses and gradients are too large for these rates.
    slower = {
        "model.batch_norm": False,
        "schedule.rate": 0.01,
        "schedule.warmup_rate": 0.001,
        "parameters.clip_norm": 1.0,
    }
    return tuple(
        Run(
            label(kind, depth, batch_norm=batch_norm),
            degradation.config(depth, shortcut, data, "small"),
            seconds[depth],
            shared if batch_norm else {**shared, **slower},
        )
        for batch_norm in (True, False)
        for kind, shortcut in degradation.KINDS.items()
        for depth in (DEPTHS if batch_norm else BARE_DEPTHS)
    )


class Signals:
    """Measures the size of each layer's signals on training batches; compiles once.

    layers: names of convolutions, in the order of the results.
    """

    def __init__(self, network: Any, loss: Any, layers: Sequence[str]) -> None:
        self.network, self.loss, self.layers = network, loss, tuple(layers)
        self._gradients = jax.jit(jax.grad(self._objective, argnums=(0, 1), has_aux=True))

    def __call__(self, variables: Mapping[str, Any], batch: Any) -> dict[str, list[float]]:
        """Sizes by kind of signal, one for each layer.

        "response": root mean square of the output, after batch norm and before the nonlinearity.
        "gradient": L2 norm, over the batch, of the gradient of its loss by that output. "kernel":
        of the gradient by the layer's kernel.
        """
        params, batch_stats = variables["params"], variables.get("batch_stats", {})
        shapes = jax.eval_shape(self._objective, params, {}, batch_stats, batch)[1]
        zeros = {name: jnp.zeros(shape.shape, shape.dtype) for name, shape in shapes.items()}
        found = self._gradients(params, zeros, batch_stats, batch)
        (by_params, by_output), seen = sharding.to_host(found)
        by_name = flatten_dict(by_params, sep="/")
        return {
            "response": [_norm(seen[name]) / math.sqrt(seen[name].size) for name in self.layers],
            "gradient": [_norm(by_output[name]) for name in self.layers],
            "kernel": [_norm(by_name[f"{name}/kernel"]) for name in self.layers],
        }

    def _objective(
        self, params: Any, added: Mapping[str, jax.Array], batch_stats: Any, batch: Any
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The loss with `added` on the layers' outputs, and those outputs."""
        seen: dict[str, jax.Array] = {}

        def add(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            out = call(*args, **kwargs)
            name = "/".join(context.module.path)
            if name in self.layers and context.method_name == "__call__":
                seen[name] = out
                out = out + added.get(name, 0)
            return out

        with nn.intercept_methods(add):
            outputs, _ = self.network.apply(
                {"params": params, "batch_stats": batch_stats},
                batch["image"],
                train=True,
                mutable=["batch_stats"],
            )
        return self.loss(outputs, batch)["loss"], seen


def _norm(array: np.ndarray) -> float:
    # In float64: the squares of small gradients are 0 in float32, those of large ones infinite.
    return float(np.linalg.norm(array.astype(np.float64)))


def probe(workdir: pathlib.Path, data_dir: str | None) -> dict[str, Any]:
    """The `Signals` after each of MEASURED updates, on the batch of the next one.

    Returns {"0": {"response": [...], "gradient": [...], "kernel": [...]}, ...}, four digits each.
    """
    config = trained.load(workdir).config
    run = experiment.create(config, sharding.create_mesh(), data_dir)
    measure = Signals(run.network, run.loss, responses.layers_of(run.network))
    found = {}
    with closing(run.pipeline) as pipeline:
        for step in MEASURED:
            net = trained.load(workdir, step=step) if step else run.create_state()
            found[str(step)] = {
                what: [float(f"{value:.4g}") for value in values]
                for what, values in measure(net.variables, pipeline.batch(step)).items()
            }
    return found


def growth(record: Record, what: str = "gradient", step: int = 0) -> float:
    """log10 of a size at the first layers over that at the last ones: above 0 where it is larger
    at the first. Geometric means over ENDS layers after conv1, and before the classifier.
    """
    logs = [math.log10(max(size, SMALLEST)) for size in record.probe[str(step)][what]]
    return statistics.mean(logs[1 : 1 + ENDS]) - statistics.mean(logs[-ENDS:])


def _claim(
    text: str, gap: Any, *runs: str, source: str = OURS, kind: str = MORE, margin: float = 1.0
) -> Claim:
    # These are about gradients: a net that has not learned yet counts.
    return Claim(text, gap, runs, source, margin, kind=kind, unit="decades", without_stalls=False)


def _alive(depth: int, step: int) -> Claim:
    """The paper's: with batch norm the gradients of plain nets do not vanish."""
    name = label("plain", depth)
    when = f"after {step} steps" if step else "at the start"
    return _claim(
        f"{name}, {when}: the gradient at the first layers is at least a tenth of that at the last",
        lambda seed: growth(seed[name], step=step),
        name,
        source=SECTION,
        kind=NO_WORSE,
    )


def _flatter(depth: int, step: int) -> Claim:
    """The lecture's: with depth the gradients of plain nets vanish or explode, of ResNets not."""
    plain, residual = label("plain", depth), label("ResNet", depth)
    when = f"after {step} steps" if step else "at the start"

    def gap(seed: Mapping[str, Record]) -> float:
        return abs(growth(seed[plain], step=step)) - abs(growth(seed[residual], step=step))

    text = f"{when} the gradient changes more over the depth of {plain} than of {residual}"
    return _claim(text, gap, plain, residual)


_BARE = {kind: label(kind, 110, batch_norm=False) for kind in degradation.KINDS}
CLAIMS = (
    *(_alive(depth, 0) for depth in DEPTHS),
    _alive(56, STEPS),
    _claim(
        "plain-56, at the start: healthy norms, those at the first and last layers within ×10",
        lambda seed: growth(seed[label("plain", 56)]),
        label("plain", 56),
        source=SECTION,
        kind=LEVEL,
    ),
    *(_flatter(depth, 0) for depth in (56, 110)),
    _flatter(110, STEPS),
    _claim(
        f"{_BARE['plain']}, at the start: the gradient at the first layers is below a tenth of "
        "that at the last",
        lambda seed: -1 - growth(seed[_BARE["plain"]]),
        _BARE["plain"],
    ),
    _claim(
        f"{_BARE['ResNet']}, at the start: the responses of the last layers are over ten times "
        "those of the first",
        lambda seed: -1 - growth(seed[_BARE["ResNet"]], "response"),
        _BARE["ResNet"],
    ),
)


def draw(study: Study, data: str, records: Records) -> Figure:
    """Draws gradients, relative to the last layer's, and responses by layer."""
    figure, axes = drawing.new(
        2,
        3,
        title="Do gradients vanish or explode? By layer, from the classifier back to the first",
        subtitle=f"{study.scales[data].note} Geometric mean over seeds; bands: smallest to largest."
        " Plain nets red, ResNets blue, darker with depth.",
        size=(14, 8.5),
    )
    columns = (
        (True, 0, "batch norm, at the start"),
        (True, STEPS, f"batch norm, after {STEPS} steps"),
        (False, 0, "no batch norm, at the start"),
    )
    for column, (batch_norm, step, text) in enumerate(columns):
        for row, (what, name, unit) in enumerate(
            (
                ("gradient", "Gradient", "norm over that of the last layer"),
                ("response", "Response", "root mean square"),
            )
        ):
            panel = axes[row][column]
            for kind in degradation.KINDS:
                for depth in DEPTHS:
                    seeds = records.get(label(kind, depth, batch_norm=batch_norm))
                    if seeds:
                        colour = degradation.SHADES[kind][depth]
                        _by_layer(panel, seeds.values(), what, step, colour, f"{kind}-{depth}")
            panel.set_yscale("log")
            drawing.heading(panel, f"{name}: {text}", "layers before the classifier", unit)
            panel.set_xlim(max(DEPTHS) * 1.42, 0)  # first layers and labels at the left
            panel.set_xticks([1, 19, 55, 109])
            panel.minorticks_off()
    return figure


def _by_layer(axes: Any, seeds: Any, what: str, step: int, colour: str, text: str) -> None:
    """One curve, and its name at the first layer."""
    sizes = [np.maximum(record.probe[str(step)][what], SMALLEST) for record in seeds]
    if what == "gradient":
        sizes = [size / size[-1] for size in sizes]
    logs = np.log10(sizes)
    back = np.arange(len(logs[0]), 0, -1)
    mean = 10 ** logs.mean(0)
    axes.plot(back, mean, color=colour, lw=1.6)
    low, high = 10 ** logs.min(0), 10 ** logs.max(0)
    axes.fill_between(back, low, high, color=colour, alpha=0.12, linewidth=0)
    axes.annotate(
        text,
        (back[0], mean[0]),
        xytext=(-4, 0),
        textcoords="offset points",
        color=colour,
        fontsize=9,
        ha="right",
        va="center",
    )


def _column(what: str, step: int) -> Column:
    name = {"gradient": "gradient", "kernel": "kernel's gradient", "response": "response"}[what]
    when = f"after {step} steps" if step else "at the start"
    return Column(
        f"{name}, {when}: first over last layers (decades)",
        lambda record: growth(record, what, step),
        digits=2,
    )


STUDY = Study(
    name="gradients",
    title="Gradients and responses by layer: plain and residual, with and without batch norm",
    paper="He et al. 2016a",
    figure="section 4.1 and the lecture's claim",
    question="Do the gradients of deep plain nets vanish or explode, and what prevents that: "
    "shortcuts or batch norm?",
    scales={
        "digits": Scale(
            _runs("digits", {20: 15, 56: 40, 110: 80}),
            seeds=3,
            note=f"1,437 training images of 8×8 pixels, {_HOW}",
        ),
        "fashion_mnist": Scale(
            _runs("fashion_mnist", {20: 20, 56: 60, 110: 120}),
            seeds=3,
            note=f"60,000 training images of 14×14 pixels, {_HOW}",
        ),
        "cifar10": Scale(
            _runs("cifar10", {20: 10, 56: 20, 110: 40}),
            seeds=5,
            note=f"The paper's data, {_HOW}",
            papers_data=True,
        ),
    },
    claims=CLAIMS,
    columns=(
        *(_column("gradient", step) for step in MEASURED),
        _column("kernel", 0),
        _column("response", 0),
    ),
    draw=draw,
    probe=probe,
)
