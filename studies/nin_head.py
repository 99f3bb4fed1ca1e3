"""Lin et al. 2014, Table 5: global average pooling against a dense head; and Fig. 3: dropout.

The three nets of Table 5 have dropout between their mlpconv layers and differ only in the head:
pooling, a dense layer, or a dense layer with dropout before it. The fourth net is the first without
the dropout between its mlpconv layers.
"""

from matplotlib.figure import Figure

from papers import results
from reproduction import drawing
from reproduction.study import Claim, Column, Records, Run, Scale, Study, less_error

POOLED, DENSE, DENSE_DROPOUT = "average pooling", "dense", "dense, dropout before"
UNDROPPED = "pooling, no dropout"
ARMS = {
    POOLED: "head=gap,dropout=on",
    DENSE: "head=dense,dropout=on",
    DENSE_DROPOUT: "head=dense,dropout=on,head_dropout=on",
    UNDROPPED: "head=gap,dropout=off",
}
# The authors' recipe, shorter. With half the channels, weights of 0.05 · √2 keep the scale of the
# authors' signals. Biases of 1 in the last layer keep every class alive (models/nin.py). Images are
# few enough to be seen many times, as there is nothing to regularise otherwise.
SCENES: dict[str, object] = {
    "model.width": 0.5,
    "model.init_stds": ((0.07, 0.07, 0.07),) * 3,
    "model.last_bias": 1.0,
    "data.normalize": ("gcn(norm=55)",),
    "schedule.rate": 0.05,
    "schedule.drops": ("40 epochs", "44 epochs"),
    "duration": "48 epochs",
    "data.train_images": 20_000,
    "eval.every": "4 epochs",
}
PUBLISHED = {
    POOLED: results.row("nin_cifar10"),
    DENSE: results.row("nin_cifar10_fc_head", remark="without dropout before it"),
    DENSE_DROPOUT: results.row("nin_cifar10_fc_head"),
    UNDROPPED: results.row("nin_cifar10", remark="without dropout"),
}


def _runs(data: str, scale: str, seconds: float, **overrides: object) -> tuple[Run, ...]:
    return tuple(
        Run(label, f"configs/nin.py:data={data},scale={scale},{arm}", seconds, overrides)
        for label, arm in ARMS.items()
    )


def _less(better: str, worse: str, source: str) -> Claim:
    printed = (PUBLISHED[better].value, PUBLISHED[worse].value)
    return less_error(better, worse, source=source, printed=printed)


def draw(study: Study, data: str, records: Records) -> Figure:
    """Draws test error against the step, final test errors, and the paper's."""
    return drawing.beside_paper(
        records,
        title="Network in Network: its head, and dropout between its layers",
        note=study.scales[data].note,
        published=(
            "Published: CIFAR-10, Table 5",
            {label: row.value for label, row in PUBLISHED.items()},
        ),
        digits=2,
        group="test",
    )


STUDY = Study(
    name="nin_head",
    title="Network in Network's head",
    paper="Lin et al. 2014",
    figure="Table 5 and Fig. 3",
    question="Can global average pooling replace dense layers, and does dropout help?",
    scales={
        "fashion_mnist_scenes": Scale(
            _runs("fashion_mnist_scenes", "paper", 5400, **SCENES),
            seeds=5,
            note="Half the width, 20,000 of the 60,000 images of 32×32 in colour, 48 epochs of "
            "batches of 128.",
        ),
        "cifar10": Scale(
            _runs("cifar10", "paper", 3 * 3600),
            seeds=3,
            note="The authors' recipe, 260 epochs; the estimates are for one GPU.",
            papers_data=True,
        ),
    },
    claims=(
        _less(POOLED, DENSE, "Table 5"),
        _less(POOLED, DENSE_DROPOUT, "Table 5"),
        _less(DENSE_DROPOUT, DENSE, "Table 5"),
        _less(POOLED, UNDROPPED, "Fig. 3"),
    ),
    columns=(Column("parameters", lambda r: r.result["params"], digits=0, spread=False),),
    published={label: row.text for label, row in PUBLISHED.items()},
    published_heading="published: CIFAR-10 test error (%)",
    draw=draw,
)
