"""Lin et al. 2014, Table 5: global average pooling against a dense head, dropout on and off."""

from matplotlib.figure import Figure

from papers import results
from reproduction import drawing
from reproduction.study import Claim, Column, Records, Run, Scale, Study, less_error

POOLED, POOLED_DROPOUT = "average pooling", "average pooling, dropout"
DENSE, DENSE_DROPOUT = "dense", "dense, dropout"
HEADS = {
    POOLED: ("gap", "off"),
    POOLED_DROPOUT: ("gap", "on"),
    DENSE: ("dense", "off"),
    DENSE_DROPOUT: ("dense", "on"),
}


PUBLISHED = {
    POOLED: results.row("nin_cifar10", remark="without dropout"),
    POOLED_DROPOUT: results.row("nin_cifar10"),
    DENSE: results.row("nin_cifar10_fc_head", remark="without dropout"),
    DENSE_DROPOUT: results.row("nin_cifar10_fc_head"),
}


def _runs(data: str, scale: str, seconds: float, **overrides: object) -> tuple[Run, ...]:
    return tuple(
        Run(
            label,
            f"configs/nin.py:head={head},dropout={dropout},data={data},scale={scale}",
            seconds,
            overrides,
        )
        for label, (head, dropout) in HEADS.items()
    )


def _less(better: str, worse: str, source: str) -> Claim:
    printed = (PUBLISHED[better].value, PUBLISHED[worse].value)
    return less_error(better, worse, source=source, printed=printed)


def draw(study: Study, data: str, records: Records) -> Figure:
    """Draws test error against the step, final test errors, and the paper's."""
    return drawing.beside_paper(
        records,
        title="Network in Network: global average pooling against a dense head",
        note=study.scales[data].note,
        published=(
            "Published: CIFAR-10 (Table 5)",
            {label: row.value for label, row in PUBLISHED.items()},
        ),
        digits=2,
        group="test",
    )


STUDY = Study(
    name="nin_head",
    title="Network in Network's head",
    paper="Lin et al. 2014",
    figure="Table 5",
    question="Can global average pooling replace dense layers?",
    scales={
        "digits": Scale(
            # At the small config's learning rate, nets with dropout do not learn.
            _runs("digits", "small", 100, **{"duration": "60 epochs", "schedule.rate": 0.005}),
            seeds=3,
            note="A quarter of the width, 1,437 images at 16×16, 60 epochs.",
        ),
        "fashion_mnist": Scale(
            _runs(
                "fashion_mnist",
                "small",
                700,
                **{"schedule.rate": 0.005, "data.train_images": 10_000},
            ),
            seeds=3,
            note="A quarter of the width, 10,000 of the 60,000 images, 20 epochs.",
        ),
        "cifar10": Scale(
            _runs("cifar10", "paper", 3 * 3600),
            seeds=3,
            note="The authors' recipe, 260 epochs; the estimates are for one GPU.",
            papers_data=True,
        ),
    },
    claims=(
        _less(POOLED_DROPOUT, DENSE_DROPOUT, "Table 5"),
        _less(POOLED_DROPOUT, DENSE, "Table 5"),
        _less(DENSE_DROPOUT, DENSE, "Table 5"),
        _less(POOLED_DROPOUT, POOLED, "Fig. 3"),
    ),
    columns=(Column("parameters", lambda r: r.result["params"], digits=0, spread=False),),
    published={label: row.text for label, row in PUBLISHED.items()},
    published_heading="published: CIFAR-10 test error (%)",
    draw=draw,
)
