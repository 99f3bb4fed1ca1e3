"""Szegedy et al. 2015, section 5: GoogLeNet's side heads, none, one or both, at three weights.

A head with weight 0 gives no gradient to the trunk. "aux1 alone" has both heads, aux2 with weight
0. On small data few images are seen many times, so that there is something to regularise, and the
trunk has no dropout, so that the training error is the net's own.
"""

import statistics

from matplotlib.figure import Figure

from reproduction import drawing
from reproduction.inference import LEVEL
from reproduction.records import Record
from reproduction.study import OURS, Claim, Column, Records, Run, Scale, Study, less_error

NONE, ONE = "no side branch", "aux1 alone, weight 0.3"
WEIGHT = 0.3  # of a side head's loss, as printed
HEADS = {"aux1, after 4a": "error_aux1", "aux2, after 4d": "error_aux2", "main, after 5b": "error"}
HEAD_COLOURS = (drawing.SERIES[6], drawing.SERIES[7], drawing.SERIES[3])  # the main line again
LOW, PAPER, HIGH = "both, weight 0.1", f"both, weight {WEIGHT}", "both, weight 1"


def _runs(data: str, scale: str, seconds: float, **overrides: object) -> tuple[Run, ...]:
    config = f"configs/googlenet.py:data={data},scale={scale}"
    on, off = f"{config},aux=on", f"{config},aux=off"

    def both(weight: float) -> dict[str, object]:
        weights = {"loss.weights.aux1": weight, "loss.weights.aux2": weight}
        return {**overrides, **(weights if weight != WEIGHT else {})}

    return (
        Run(NONE, off, 0.85 * seconds, overrides),
        Run(ONE, on, seconds, {**overrides, "loss.weights.aux2": 0.0}),
        Run(LOW, on, seconds, both(0.1)),
        Run(PAPER, on, seconds, both(WEIGHT)),
        Run(HIGH, on, seconds, both(1.0)),
    )


def _head(name: str) -> Column:
    def error(record: Record) -> float | None:
        # A head that gets no gradient is not trained.
        if not record.config["loss"]["weights"].get(name):
            return None
        return record.last(f"test_error_{name}")

    return Column(f"test error of {name} (%)", error, digits=2, factor=100)


def _gap(record: Record) -> float:
    return 100 * (record.last("test_error") - record.last("train_error"))


def draw(study: Study, data: str, records: Records) -> Figure:
    """Draws test error against the step, final test errors, and the test error of each head."""
    figure, axes = drawing.new(
        1,
        3,
        title="GoogLeNet's side branches: their effect, and the error of each head",
        subtitle=f"{study.scales[data].note} {drawing.LEGEND}",
        size=(16, 5.2),
    )
    settled = [100 * r.last("test_error") for seeds in records.values() for r in seeds.values()]
    drawing.curves(axes[0][0], records, room=0.8, top=max(10, 8 * statistics.median(settled)))
    drawing.heading(axes[0][0], "Test error of the main head", "step", "error")
    drawing.bars(
        axes[0][1],
        drawing.finals(records, "test_error"),
        {label: drawing.SERIES[i] for i, label in enumerate(records)},
    )
    drawing.heading(axes[0][1], "Final test error of the main head", "error (%)")
    panel, labels = axes[0][2], []
    for index, (name, metric) in enumerate(HEADS.items()):
        seeds, colour = drawing.moving(records).get(PAPER, {}), HEAD_COLOURS[index]
        end = drawing.curve(panel, seeds, "test", colour, metric=metric)
        if end is not None:
            labels.append((*end, f"{name}  {end[1]:.1f}%", colour))
    panel.set_ylim(0, axes[0][0].get_ylim()[1])
    drawing.percent(panel)
    drawing.room_right(panel, 0.6)
    drawing.ends(panel, labels)
    drawing.heading(panel, f"Test error of each head ({PAPER})", "step", "error")
    return figure


STUDY = Study(
    name="side_branches",
    title="GoogLeNet's side branches",
    paper="Szegedy et al. 2015",
    figure="section 5",
    question="What do side branches change, and how well does half of the net classify?",
    scales={
        "fashion_mnist": Scale(
            _runs(
                "fashion_mnist",
                "small",
                1800,
                **{
                    "data.size": 28,
                    "data.train_images": 3_000,
                    "duration": "100 epochs",
                    "eval.every": "4 epochs",
                    "checkpoint.every": "100 epochs",
                },
            ),
            seeds=5,
            note="GoogLeNet at a quarter of its width, 3,000 of the 60,000 images at 28×28, 100 "
            "epochs.",
        ),
        "imagenet2012": Scale(
            _runs("imagenet2012", "paper", 8 * 24 * 3600),
            seeds=1,
            note="Caffe's recipe over 250 epochs, one crop; the estimates are for one GPU.",
            papers_data=True,
        ),
    },
    claims=(
        less_error(PAPER, NONE, source="section 5", margin=0.5),
        less_error(ONE, NONE, source="section 5", margin=0.5),
        less_error(
            ONE,
            PAPER,
            text="one side branch is as good as both: within 0.5 points of each other",
            source="section 5",
            margin=0.5,
            kind=LEVEL,
        ),
        less_error(PAPER, LOW, margin=0.5),
        less_error(PAPER, HIGH, margin=0.5),
        Claim(
            "the gap between training and test error is smaller with both heads than with none",
            lambda seed: _gap(seed[NONE]) - _gap(seed[PAPER]),
            runs=(PAPER, NONE),
            source="section 5",
            margin=0.5,
        ),
        Claim(
            "aux2, the later head, has less test error than aux1",
            lambda seed: (
                100 * (seed[PAPER].last("test_error_aux1") - seed[PAPER].last("test_error_aux2"))
            ),
            runs=(PAPER,),
            source=OURS,
            margin=0.5,
        ),
        Claim(
            "the main head has less test error than aux1",
            lambda seed: (
                100 * (seed[PAPER].last("test_error_aux1") - seed[PAPER].last("test_error"))
            ),
            runs=(PAPER,),
            source=OURS,
            margin=0.5,
        ),
    ),
    columns=(
        _head("aux1"),
        _head("aux2"),
        Column("test minus training error (points)", _gap, digits=2),
    ),
    draw=draw,
)
