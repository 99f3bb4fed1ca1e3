"""Transfer learning, as lectures teach it: keep a trained network, train what the labels allow.

A trunk learns eight classes of Fashion-MNIST. From its weights a run learns digits, or the two
classes that the trunk has never seen (pullover and coat, which are easily confused), with 10 to 300
labels a class: the head alone, the last dense layers, or all layers at a tenth of the head's rate;
beside it the same network from scratch. All runs make the same number of updates, and a seed's
runs see the same labels.
"""

import dataclasses
from typing import Any

from matplotlib.figure import Figure

import models
from configs.finetune import rates
from reproduction import drawing
from reproduction.inference import MORE, NO_WORSE
from reproduction.study import OURS, Claim, Records, Run, Scale, Study, less_error

TRUNK = "trunk, 8 classes"
SEEN, HELD_OUT = "fashion_mnist:0-1+3+5-9", "fashion_mnist:2+4"
HEAD, LAST, ALL, SCRATCH = "head alone", "last layers", "all layers", "from scratch"
TRAINED = {HEAD: "head", LAST: "last_stage", ALL: "all"}
LABELS = {"digits": (10, 30, 100), "held_out": (10, 30, 100, 300)}
CLASSIFIER = ("fc5/*",)
LAST_LAYERS = models.create({"name": "lenet5_modern"}).last_stage  # fc4 and fc5


def _label(how: str, count: int) -> str:
    return f"{how}, {count} labels"


def _runs(data: str, name: str, counts: tuple[int, ...], seconds: float) -> tuple[Run, ...]:
    trunk = {
        "data.name": SEEN,
        "duration": "5 epochs",
        "schedule.warmup": "100 steps",
        "checkpoint.every": "5 epochs",
    }
    runs = [Run(TRUNK, "configs/lenet5.py:data=fashion_mnist", 60, trunk)]
    for count in counts:
        for how in (HEAD, LAST, ALL, SCRATCH):
            fields: dict[str, Any] = {
                "data.name": name,
                "data.labels_a_class": count,
                "data.augment": (),
                "batch_size": 20,
                "duration": "500 steps",
                "schedule.rate": 0.01,
                "schedule.warmup": "",
                "log_every": "100 steps",
                "eval.every": "100 steps",
                "checkpoint.every": "500 steps",
            }
            if how != SCRATCH:
                fields["init.skip"] = CLASSIFIER
                fields["init.statistics"] = True
                fields["parameters.rates"] = rates(TRAINED[how], CLASSIFIER, LAST_LAYERS)
            source = TRUNK if how != SCRATCH else ""
            config = f"configs/lenet5.py:data={data}"
            runs.append(Run(_label(how, count), config, seconds, fields, starts_from=source))
    return tuple(runs)


def _claim(
    data: str, better: tuple[str, int], worse: tuple[str, int], text: str, margin: float, kind: str
) -> Claim:
    claim = less_error(
        _label(*better), _label(*worse), text=text, source=OURS, margin=margin, kind=kind
    )
    return dataclasses.replace(claim, on=(data,))


def _claims(data: str) -> tuple[Claim, ...]:
    """The lecture's advice: the more labels there are, the more layers are worth training."""
    many = LABELS[data][-1]
    return (
        _claim(
            data,
            (HEAD, 10),
            (SCRATCH, 10),
            "10 labels a class: a new head on the trunk has less error than a net from scratch",
            2.0,
            MORE,
        ),
        _claim(
            data,
            (LAST, 30),
            (SCRATCH, 30),
            "30 labels a class: new last layers on the trunk have less than a net from scratch",
            2.0,
            MORE,
        ),
        _claim(
            data,
            (ALL, many),
            (SCRATCH, many),
            f"{many} labels a class: all layers, from the trunk, have less than from scratch",
            1.0,
            MORE,
        ),
        _claim(
            data,
            (HEAD, 10),
            (SCRATCH, 30),
            "a new head with 10 labels a class is at most 2 points worse than 30 from scratch",
            2.0,
            NO_WORSE,
        ),
        _claim(
            data,
            (HEAD, 10),
            (ALL, 10),
            "10 labels a class: the head alone is at most 2 points worse than all layers",
            2.0,
            NO_WORSE,
        ),
        _claim(
            data,
            (ALL, many),
            (HEAD, many),
            f"{many} labels a class: all layers have less test error than the head alone",
            1.0,
            MORE,
        ),
    )


def draw(study: Study, data: str, records: Records) -> Figure:
    """Draws the test error by labels a class, and by step with the fewest labels."""
    figure, axes = drawing.new(
        1,
        2,
        title="Transfer from eight classes of Fashion-MNIST to "
        + ("digits" if data == "digits" else "the two classes held out"),
        subtitle=f"{study.scales[data].note} Mean over seeds; dots: single seeds.",
        size=(13, 5),
    )
    colours = dict(zip((HEAD, LAST, ALL, SCRATCH), drawing.SERIES, strict=False))
    panel, labels = axes[0][0], []
    finals = drawing.finals(records, "test_error")
    for how, colour in colours.items():
        counts = [count for count in LABELS[data] if _label(how, count) in finals]
        errors = [finals[_label(how, count)] for count in counts]
        if counts:
            drawing.scatter(panel, counts, errors, colour, dashed=how == SCRATCH)
            labels.append((counts[-1], sum(errors[-1]) / len(errors[-1]), how, colour))
    panel.set_xscale("log")
    panel.set_xticks(LABELS[data], [str(count) for count in LABELS[data]])
    panel.minorticks_off()
    panel.set_ylim(bottom=0)
    panel.set_xlim(LABELS[data][0] * 0.85, LABELS[data][-1] * 2.4)
    drawing.percent(panel)
    drawing.heading(panel, "Final test error by labels", "labels a class", "error")
    drawing.ends(panel, labels)

    few = LABELS[data][0]
    shown = {how: records[_label(how, few)] for how in colours if _label(how, few) in records}
    drawing.curves(axes[0][1], shown, colours=colours, room=0.5)
    drawing.heading(axes[0][1], f"Test error by step, {few} labels a class", "step", "error")
    return figure


STUDY = Study(
    name="transfer",
    title="Transfer learning: head, last layers, all, from scratch",
    paper="no paper",
    figure="the lecture's claim",
    question="Is a network trained on one task a start for another, and how much of it is to be "
    "trained anew?",
    scales={
        "digits": Scale(
            _runs("digits", "digits", LABELS["digits"], 10),
            seeds=5,
            note="LeNet-5, 500 updates of 20 images; 360 test images.",
        ),
        "held_out": Scale(
            _runs("fashion_mnist", HELD_OUT, LABELS["held_out"], 12),
            seeds=5,
            note="LeNet-5, 500 updates of 20 images; pullover against coat, 2,000 test images.",
            data_set="fashion_mnist",
        ),
    },
    claims=(*_claims("digits"), *_claims("held_out")),
    draw=draw,
)
