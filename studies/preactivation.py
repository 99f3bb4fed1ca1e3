"""He et al. 2016b, Tables 1 and 2: the positions of batch norm and ReLU, and scaled shortcuts.

The paper compares them at 110 and 164 layers. On digits they have 56, which train in a minute on
two cores, on scenes 44, with the paper's recipe and fewer steps. In the paper's every CIFAR run the
rate starts at 0.01 for 400 steps.
"""

from typing import Any

from matplotlib.figure import Figure

from papers import results
from reproduction import drawing
from reproduction.study import Claim, Records, Scale, Study, less_error, variants
from reproduction.tables import steps_to
from studies import degradation

STEPS = 2_345  # on scenes; 44 layers then cost what ResNet-20 costs with 5,000 steps

ORIGINAL, FULL, HALF = "original", "full pre-activation", "shortcut scaled by 0.5"
UNITS: dict[str, dict[str, Any]] = {
    ORIGINAL: {},
    "BN after addition": {"model.unit": "bn_after_addition"},
    "ReLU before addition": {"model.unit": "relu_before_addition"},
    "ReLU-only pre-activation": {"model.unit": "relu_only_preact"},
    FULL: {"model.unit": "preact"},
    HALF: {"model.shortcut_scale": 0.5},
}
_NET = "resnet110_cifar10_A"
PUBLISHED = {
    ORIGINAL: results.row(_NET),
    **{
        label: results.row(f"{_NET}:unit={fields['model.unit']}")
        for label, fields in UNITS.items()
        if label not in (ORIGINAL, FULL, HALF)
    },
    FULL: results.row("resnet110_cifar10_preact"),
}


def _less(better: str, worse: str, metric: str = "test_error", source: str = "Table 2") -> Claim:
    errors = {label: row.value for label, row in PUBLISHED.items()}
    errors[HALF] = results.row(f"{_NET}:shortcut_scale=0.5").value
    printed = (errors[better], errors[worse])
    return less_error(better, worse, metric, source=source, printed=printed)


def draw(study: Study, data: str, records: Records) -> Figure:
    """Draws training error against the step, final errors, and the paper's."""
    return drawing.beside_paper(
        records,
        title="Residual units: positions of batch norm and ReLU, and a scaled shortcut",
        note=study.scales[data].note,
        published=(
            "Published: 110 layers, CIFAR-10",
            {label: row.value for label, row in PUBLISHED.items()},
        ),
        digits=2,
    )


STUDY = Study(
    name="preactivation",
    title="Pre-activation and its alternatives",
    paper="He et al. 2016b",
    figure="Tables 1 and 2",
    question="Must the shortcut be the identity, and where do batch norm and ReLU belong?",
    scales={
        "digits": Scale(
            variants("configs/resnet_cifar.py:depth=56,shortcut=A,data=digits", 50, UNITS),
            seeds=3,
            note="56 layers, 1,437 training images of 8×8 pixels, 330 steps of 128.",
        ),
        "fashion_mnist_scenes": Scale(
            variants(
                degradation.config(44, "A", "fashion_mnist_scenes", "paper"),
                25,
                UNITS,
                **degradation.lasting(STEPS),
                **{"schedule.warmup": "400 steps"},
            ),
            seeds=3,
            note="44 layers, 60,000 training images of 32×32 pixels, the paper's recipe with "
            f"{STEPS:,} of its 64,000 steps.",
            gpu=True,
        ),
        "cifar10": Scale(
            variants(
                # unit=preact for the second paper's warm-up; each run sets its own unit.
                "configs/resnet_cifar.py:depth=110,unit=preact,data=cifar10,scale=paper",
                12_000,
                {label: {"model.unit": "original", **fields} for label, fields in UNITS.items()},
            ),
            seeds=5,
            note="The paper's recipe, 110 layers; the estimates are for one GPU.",
            papers_data=True,
        ),
    },
    claims=(
        _less(FULL, ORIGINAL),
        _less(ORIGINAL, "BN after addition"),
        _less(ORIGINAL, "ReLU before addition"),
        _less(ORIGINAL, HALF, "train_error", "Table 1"),
        _less(ORIGINAL, HALF, source="Table 1"),
    ),
    columns=(steps_to(0.1),),
    published={
        **{label: row.text for label, row in PUBLISHED.items()},
        HALF: f"fails ({results.row(f'{_NET}:shortcut_scale=0.5').text})",
    },
    published_heading="published: 110 layers, CIFAR-10 test error (%)",
    draw=draw,
)
