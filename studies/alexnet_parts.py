"""Krizhevsky et al. 2012, sections 3.3, 3.4, 4.2 and 7: the effect of each part of AlexNet.

Removes local response normalisation, overlapping pooling or a middle layer, or adds dropout, one at
a time. AlexNet needs images of at least 67 pixels. Small images use cuda-convnet's net, as the
paper does in section 3.3; it has all these parts except the middle layer.

Its normalisation, (1 + 2e-4 Σa²)^-0.75, is the identity where activations are near 1. So pixels are
in 0..255 less their mean, as released, and each run reports how far its layers are from it.
"""

import itertools
import pathlib
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from matplotlib.figure import Figure

from papers import results
from reproduction import drawing
from reproduction.drawing import SERIES
from reproduction.records import Record
from reproduction.study import Claim, Column, Records, Scale, Study, less_error, variants
from training import trained

WHOLE, DROPOUT = "all parts", "with dropout 0.5"
NO_LRN, POOL2 = "without LRN", "pooling 2×2, no overlap"
NO_CONV4 = "without conv4"

REMOVED: dict[str, dict[str, Any]] = {
    WHOLE: {},
    NO_LRN: {"model.lrn": False},
    POOL2: {"model.pool_window": 2},
}
SMALL = {**REMOVED, DROPOUT: {"model.dropout": 0.5}}
LARGE = {**REMOVED, NO_CONV4: {"model.removed": ("conv4",)}}

_CIFAR10 = {
    label: results.row("cuda_convnet_cifar10_conv_local", remark=remark)
    for label, remark in ((WHOLE, "with LRN"), (NO_LRN, "without LRN"))
}


def _gap(remark: str) -> str:
    """The loss of top-1 accuracy by a change of AlexNet, as printed: "≈ 2 points"."""
    return f"{results.row('alexnet_2012', '', 'top1_gap', remark).text} points"


def _top1(remark: str) -> tuple[float, float]:
    """The printed top-1 errors of AlexNet and of AlexNet with a change."""
    whole = results.row("alexnet_2012", "ten_crop").value
    return whole, whole + results.row("alexnet_2012", "", "top1_gap", remark).value


def _worse(changed: str, source: str, printed: tuple[float, float]) -> Claim:
    text = f"more test error “{changed}” than with all parts"
    return less_error(WHOLE, changed, text=text, source=source, printed=printed)


TRAINING_IMAGES = 10_000  # the first, on which the trained net's training error is measured
LRN_AFTER = {"lrn1": "conv1", "lrn2": "conv2"}


def over_input(
    net: trained.Trained, images: jax.Array, after: Mapping[str, str] = LRN_AFTER
) -> dict[str, float]:
    """The sum of each normalisation's output divided by that of its input, over all positions.

    1 is the identity for a constant k of 1; a layer that only scales by k^-β has that value.
    images: preprocessed. after: by normalisation, the convolution whose ReLU it follows.
    """
    captured = net.apply(images, capture=(*after, *after.values())).captured
    return {
        lrn: float(captured[lrn].sum() / nn.relu(captured[conv]).sum())
        for lrn, conv in after.items()
    }


def trained_error(net: trained.Trained, pipeline: Any) -> float:
    """The training error of a trained net, without dropout or augmentation: a fraction.

    On the first TRAINING_IMAGES training images.
    """
    wrong = count = 0.0
    most = max(1, TRAINING_IMAGES // net.config.eval.batch_size)
    for batch in itertools.islice(pipeline.evaluation("train"), most):
        missed = net.apply(batch["image"]).logits.argmax(-1) != batch["label"]
        wrong += float(jnp.sum(missed * batch["mask"]))
        count += float(jnp.sum(batch["mask"]))
    return wrong / count


def probe(workdir: pathlib.Path, data_dir: str | None) -> dict[str, Any]:
    """Measures the trained net: {"train_error": see trained_error, "over_input": by LRN layer}."""
    net = trained.load(workdir)
    with closing(net.pipeline(data_dir)) as pipeline:
        error = trained_error(net, pipeline)
        test = next(iter(pipeline.evaluation("test")))
    shares = over_input(net, test["image"]) if net.network.lrn else {}
    return {"train_error": error, "over_input": shares}


def overfit(record: Record) -> float:
    """Points of test error above the training error of the trained net, without dropout."""
    return 100 * (record.last("test_error") - record.probe["train_error"])


def _trained_error(record: Record) -> float | None:
    return record.probe.get("train_error")


def _share(layer: str) -> Column:
    return Column(
        f"{layer}: output over input",
        lambda record: record.probe.get("over_input", {}).get(layer),
        digits=2,
    )


def draw(study: Study, data: str, records: Records) -> Figure:
    """Draws training error against the step, that of the trained nets, and test error."""
    figure, axes = drawing.new(
        1,
        3,
        title="AlexNet's parts, one at a time",
        subtitle=f"{study.scales[data].note} {drawing.LEGEND}",
        size=(16, 5.2),
    )
    colours = {label: SERIES[i] for i, label in enumerate(records)}
    drawing.curves(axes[0][0], records, group="train", colours=colours, room=1.0)
    drawing.heading(axes[0][0], "Training error", "step", "error")
    trained_errors = {
        label: [100 * record.probe["train_error"] for record in seeds.values()]
        for label, seeds in records.items()
    }
    for panel, values, title in (
        (axes[0][1], trained_errors, "Training error of the trained net, without dropout"),
        (axes[0][2], drawing.finals(records, "test_error"), "Final test error"),
    ):
        drawing.bars(panel, values, colours)
        drawing.heading(panel, title, "error (%)")
    return figure


STUDY = Study(
    name="alexnet_parts",
    title="AlexNet's parts, one at a time",
    paper="Krizhevsky et al. 2012",
    figure="sections 3.3, 3.4, 4.2 and 7",
    question="How much do response normalisation, overlapping pooling and dropout lower the error?",
    scales={
        "fashion_mnist_scenes": Scale(
            variants(
                "configs/cuda_convnet.py:data=fashion_mnist_scenes,scale=paper",
                2400,
                SMALL,
                **{
                    "duration": "20 epochs",
                    "schedule.drops": ("18 epochs", "19 epochs"),
                },
            ),
            seeds=5,
            note="cuda-convnet's net and recipe on 60,000 images of 32×32 in colour, 20 epochs in "
            "place of 470, centre crop.",
        ),
        "cifar10": Scale(
            variants("configs/cuda_convnet.py:data=cifar10,scale=paper", 5400, SMALL),
            seeds=3,
            note="cuda-convnet's net and recipe, centre crop; the estimates are for one GPU.",
            papers_data=True,
        ),
        "imagenet2012": Scale(
            variants("configs/alexnet.py:data=imagenet2012,scale=paper", 4 * 24 * 3600, LARGE),
            seeds=1,
            note="AlexNet by the paper's recipe with dropout, one crop; the estimates are for one "
            "GPU.",
            papers_data=True,
        ),
    },
    claims=(
        _worse(NO_LRN, "section 3.3", (_CIFAR10[WHOLE].value, _CIFAR10[NO_LRN].value)),
        _worse(POOL2, "section 3.4", _top1(POOL2)),
        less_error(DROPOUT, WHOLE, text="dropout lowers the test error", source="section 4.2"),
        Claim(
            "dropout reduces overfitting: less test error above the training error",
            lambda seed: overfit(seed[WHOLE]) - overfit(seed[DROPOUT]),
            runs=(WHOLE, DROPOUT),
            source="section 4.2",
            margin=1.0,
        ),
        _worse(NO_CONV4, "section 7", _top1("without a middle convolution")),
    ),
    columns=(
        Column("parameters", lambda r: r.result["params"], digits=0, spread=False),
        Column("training error of the trained net (%)", _trained_error, digits=2, factor=100),
        *map(_share, LRN_AFTER),
    ),
    published={
        WHOLE: f"{_CIFAR10[WHOLE].text}% on CIFAR-10",
        NO_LRN: f"{_gap(NO_LRN)}, {_CIFAR10[NO_LRN].text}% on CIFAR-10",
        POOL2: _gap(POOL2),
        NO_CONV4: _gap("without a middle convolution"),
    },
    published_heading="published: loss of top-1 on ImageNet; test error on CIFAR-10",
    draw=draw,
    probe=probe,
)
