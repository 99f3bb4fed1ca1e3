"""Lin, Chen, Yan 2014, Table 5: global average pooling against a dense head, dropout on and off."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from studies import drawing, published
from studies.drawing import GREY, SERIES
from studies.records import Record
from studies.study import Claim, Column, Records, Run, Scale, Study

POOLED, POOLED_DROPOUT = "average pooling", "average pooling, dropout"
DENSE, DENSE_DROPOUT = "dense", "dense, dropout"
HEADS = {
    POOLED: ("gap", "off"),
    POOLED_DROPOUT: ("gap", "on"),
    DENSE: ("dense", "off"),
    DENSE_DROPOUT: ("dense", "on"),
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


def _less(better: str, worse: str) -> Claim:
    def gap(seed: Mapping[str, Record]) -> float:
        return 100 * (seed[worse].last("test_error") - seed[better].last("test_error"))

    return Claim(f"less test error with “{better}” than with “{worse}”", gap)


def draw(study: Study, data: str, records: Records) -> Figure:
    """Test error while it falls, at the end, and the paper's."""
    figure, axes = drawing.new(
        1,
        3,
        title="Network in Network: global average pooling against a dense head",
        subtitle=f"{study.scales[data].note} Mean over seeds; dots: single seeds.",
        size=(16, 5.2),
    )
    colours = {label: SERIES[i] for i, label in enumerate(HEADS)}
    drawing.curves(axes[0][0], records, colours=colours, room=0.7)
    drawing.heading(axes[0][0], "Test error", "step", "error")
    drawing.bars(axes[0][1], drawing.finals(records, "test_error"), colours)
    drawing.heading(axes[0][1], "Final test error, measured here", "error (%)")
    printed = {label: [value] for label, value in published.NIN_HEADS.items()}
    drawing.bars(axes[0][2], printed, dict.fromkeys(printed, GREY), digits=2)
    drawing.heading(axes[0][2], "Published: CIFAR-10 (Table 5)", "error (%)")
    return figure


STUDY = Study(
    name="nin_head",
    title="Network in Network's head",
    paper="Lin, Chen, Yan 2014",
    figure="Table 5",
    question="Can global average pooling stand in for dense layers?",
    scales={
        "digits": Scale(
            # At the small config's own rate, dropout keeps the net from learning at all.
            _runs("digits", "small", 100, **{"duration": "60 epochs", "schedule.rate": 0.005}),
            seeds=3,
            note="A quarter of the width, 1,437 images at 16×16, 60 epochs.",
        ),
        "cifar10": Scale(
            _runs("cifar10", "paper", 3 * 3600),
            seeds=3,
            note="The authors' recipe, 260 epochs; the estimates are for one GPU.",
            papers_data=True,
        ),
    },
    claims=(
        _less(POOLED_DROPOUT, DENSE_DROPOUT),
        _less(POOLED_DROPOUT, DENSE),
        _less(DENSE_DROPOUT, DENSE),
        _less(POOLED_DROPOUT, POOLED),
    ),
    columns=(Column("parameters", lambda r: r.result["params"], digits=0, spread=False),),
    published={
        label: f"{error} (recalled)" if label != POOLED_DROPOUT else f"{error}"
        for label, error in published.NIN_HEADS.items()
    },
    published_heading="published: CIFAR-10 test error (%)",
    draw=draw,
)
