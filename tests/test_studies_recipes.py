"""What single studies read off their runs, on numbers worked out by hand."""

import itertools
import shlex
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import models
import studies
from configs import files
from inspection import cost
from reproduction.study import ROOT
from studies import (
    alexnet_parts,
    augmentation,
    ensembles,
    lenet_steps,
    nin_head,
    relu_vs_tanh,
    two_gpus,
)


def of_errors(*errors: float, rows_a_pass: int = 2) -> Any:
    """A run that logged these training errors, one row every ten steps."""
    rows = [{"step": 10 * i, "epoch": i / rows_a_pass} for i in range(1, len(errors) + 1)]
    curve = ([row["step"] for row in rows], list(errors))
    return SimpleNamespace(rows=rows, curve=lambda group: curve)


def test_an_error_is_reached_by_the_mean_over_a_pass() -> None:
    run = of_errors(0.5, 0.3, 0.1, 0.3, 0.1)
    # Means over two rows: 0.4, 0.2, 0.2, 0.2 at steps 20 to 50; the row of 0.1 alone is noise.
    assert relu_vs_tanh.over_passes(run)[0] == [20, 30, 40, 50]
    np.testing.assert_allclose(relu_vs_tanh.over_passes(run)[1], [0.4, 0.2, 0.2, 0.2])
    assert relu_vs_tanh.updates(run, 0.1) is None
    # A straight line from 0.4 at step 20 to 0.2 at step 30 passes 0.25 three quarters of the way.
    assert relu_vs_tanh.updates(run, 0.25) == pytest.approx(27.5)
    assert relu_vs_tanh.updates(run, 0.45) == 20.0


def of_seed(relu: Any, tanh: Any) -> dict[str, Any]:
    """One seed's runs: at every rate the same."""
    return {
        relu_vs_tanh.label(activation, rate): run
        for activation, run in (("relu", relu), ("tanh", tanh))
        for rate in relu_vs_tanh.RATES["fashion_mnist"][activation]
    }


@pytest.mark.parametrize(
    ("relu", "tanh", "factor", "gap"),
    [
        # Reached at 20 and at 40 updates.
        ((0.1, 0.1, 0.1, 0.1), (0.5, 0.5, 0.1, 0.1), 1, 20.0),
        ((0.1, 0.1, 0.1, 0.1), (0.5, 0.5, 0.1, 0.1), 3, -20.0),
        # tanh never: at least 40 of 40 updates, which shows more than 20 and not less than 60.
        ((0.1, 0.1, 0.1, 0.1), (0.5, 0.5, 0.5, 0.5), 1, 20.0),
        ((0.1, 0.1, 0.1, 0.1), (0.5, 0.5, 0.5, 0.5), 3, None),
        # ReLU never: tanh is ahead by at least 20.
        ((0.5, 0.5, 0.5, 0.5), (0.1, 0.1, 0.1, 0.1), 1, -20.0),
        ((0.5, 0.5, 0.5, 0.5), (0.5, 0.5, 0.5, 0.5), 1, None),
    ],
)
def test_what_is_never_reached_is_a_bound(
    relu: tuple[float, ...], tanh: tuple[float, ...], factor: int, gap: float | None
) -> None:
    seed = of_seed(of_errors(*relu), of_errors(*tanh))
    found = relu_vs_tanh.advantage(seed, "fashion_mnist", 0.1, factor)
    assert found == (None if gap is None else pytest.approx(gap))


def test_normalisation_of_one_activation_is_known() -> None:
    """Five channels of 100: (1 + 2e-4 · 3 · 100²)^-0.75 at the ends of the channels."""
    inputs: Any = np.full((1, 1, 1, 5), 100.0)
    sums = np.array([3, 4, 5, 4, 3]) * 100.0**2
    outputs = inputs * (1 + 2e-4 * sums) ** -0.75
    net: Any = SimpleNamespace(
        apply=lambda images, capture: SimpleNamespace(captured={"lrn1": outputs, "conv1": inputs})
    )
    [(layer, share)] = alexnet_parts.over_input(net, inputs, {"lrn1": "conv1"}).items()
    assert layer == "lrn1"
    # Sums of 30,000, 40,000 and 50,000: 0.2323, 0.1925 and 0.1655.
    assert share == pytest.approx((2 * 0.2323 + 2 * 0.1925 + 0.1655) / 5, abs=1e-4)


def test_the_nets_of_table_5_differ_in_their_head_alone() -> None:
    """Lin et al. 2014, section 4.6: dropout before the dense layer; the rest is the same."""
    runs = {run.label: run for run in studies.study("nin_head").scales["cifar10"].runs}
    assert list(runs) == list(nin_head.PUBLISHED)
    fields = {
        label: {
            name: value
            for name, value in run.resolve(0).model.items()
            if name in ("head", "head_dropout", "dropout")
        }
        for label, run in runs.items()
    }
    assert fields == {
        nin_head.POOLED: {"head": "gap", "head_dropout": 0.0, "dropout": 0.5},
        nin_head.DENSE: {"head": "dense", "head_dropout": 0.0, "dropout": 0.5},
        nin_head.DENSE_DROPOUT: {"head": "dense", "head_dropout": 0.5, "dropout": 0.5},
        nin_head.UNDROPPED: {"head": "gap", "head_dropout": 0.0, "dropout": 0.0},
    }


def flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """The fields of a config by dotted name."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        section = isinstance(value, dict)
        found |= flat(value, f"{prefix}{name}.") if section else {prefix + name: value}
    return found


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """The names of the fields that differ, or that only one has."""
    return {name for name in before | after if before.get(name) != after.get(name)}


@pytest.mark.parametrize("data", ["fashion_mnist", "mnist"])
def test_every_step_from_1998_to_today_changes_what_it_names(data: str) -> None:
    runs = studies.study("lenet_steps").scales[data].runs
    configs = {run.label: flat(run.resolve(0).to_dict()) for run in runs}
    steps = {
        after: changed(configs[before], configs[after])
        for before, after in itertools.pairwise(configs)
    }
    of_optimizer = {f"optimizer.{name}" for name in ("name", "mu", "patterns", "momentum")}
    assert steps == {
        lenet_steps.FULL: {"model.c3"},
        lenet_steps.AVERAGE: {"model.subsampling"},
        lenet_steps.MAX: {"model.subsampling"},
        lenet_steps.SOFTMAX: {"model.output", "loss.kind", "loss.label_smoothing"},
        lenet_steps.RELU: {"model.activation"},
        lenet_steps.MOMENTUM: {*of_optimizer, "schedule.rates"},
        lenet_steps.BATCHES: {"batch_size", "schedule.rates"},
    }


def test_networks_of_an_ensemble_differ_in_their_seed_alone() -> None:
    for scale in studies.study("ensembles").scales.values():
        configs = [[flat(run.resolve(s).to_dict()) for run in scale.runs] for s in range(5)]
        seeds = [config["seed"] for of_seed in configs for config in of_seed]
        assert len(set(seeds)) == 5 * ensembles.MOST
        for of_seed in configs:
            assert all(changed(of_seed[0], other) == {"seed"} for other in of_seed[1:])


def averaged(**errors: tuple[float, float]) -> dict[str, Any]:
    """One seed's records by label, with the errors of one view and of ten crops in percent."""
    return {
        ensembles.label(int(count.removeprefix("of"))): SimpleNamespace(
            probe={"plain": {"error": one / 100}, "ten_crop": {"error": ten / 100}}
        )
        for count, (one, ten) in errors.items()
    }


def test_claims_on_ensembles_are_about_the_printed_pairs() -> None:
    seed = averaged(of1=(10, 9), of3=(8.5, 8.0), of5=(8.25, 7.5), of7=(8, 7))
    claims = studies.study("ensembles").claims
    gaps = [1.5, 2.0, 1.0, 1.0, 1.0, 0.5]
    assert [claim.gap(seed) for claim in claims] == [pytest.approx(gap) for gap in gaps]
    # Half of the printed relative gap, times the error of the worse one here.
    shares = [2.6 / 40.7, 1.98 / 10.07, 0.92 / 10.07, 0.47 / 8.09, 1.06 / 9.15]
    worse = [9, 10, 10, 8, 9]
    margins = [claim.margin_on([seed]) for claim in claims[:5]]
    np.testing.assert_allclose(margins, [s * w / 2 for s, w in zip(shares, worse, strict=True)])


def test_augmentations_differ_alone_and_the_test_view_is_the_same() -> None:
    sides_of = {"fashion_mnist": (32, 37), "fashion_mnist_scenes": (32, 37)}
    for data, sides in {**sides_of, "imagenet2012": (227, 256)}.items():
        runs = studies.study("augmentation").scales[data].runs
        assert (augmentation.ALL in {run.label for run in runs}) == (data != "fashion_mnist")
        configs = {run.label: flat(run.resolve(0).to_dict()) for run in runs}
        plain = configs[augmentation.NONE]
        assert (plain["data.size"], plain["data.short_side"]) == sides
        assert plain["data.augment"] == ()
        for label, config in configs.items():
            assert changed(plain, config) <= {"data.augment"}
            names = {call.partition("(")[0] for call in config["data.augment"]}
            assert names == {
                name
                for name, parts in {
                    "flip": (augmentation.MIRROR, augmentation.BOTH, augmentation.ALL),
                    "random_crop": (augmentation.CROPS, augmentation.BOTH, augmentation.ALL),
                    "pca_colour": (augmentation.COLOUR, augmentation.ALL),
                }.items()
                if label in parts
            }


@pytest.mark.parametrize("data", ["fashion_mnist", "fashion_mnist_scenes", "imagenet2012"])
def test_towers_and_column_have_the_same_parameters(data: str) -> None:
    """In conv2 to conv5: 25·48·256 + 9·256·384 + 9·192·384 + 9·192·256 weights in the towers,
    25·96·188 + 9·188·282 + 9·282·282 + 9·282·256 in the column; 256 + 384 + 384 + 256 and 188 + 282
    + 282 + 256 biases.
    """
    found = {}
    for run in studies.study("two_gpus").scales[data].runs:
        config = run.resolve(0)
        side, classes = config.data.size, 1000 if data == "imagenet2012" else 10
        given = {"input": (side, side, 3), "num_classes": classes}
        network = models.create({**config.model.to_dict(), **given})
        found[run.label] = cost.measure(network)
    towers, column = found[two_gpus.TOWERS], found[two_gpus.COLUMN]
    assert column.params == pytest.approx(towers.params, rel=1e-2)
    if data == "imagenet2012":
        assert towers.params == 60_965_224
        assert towers.params - column.params == 2_299_136 - 2_294_796
        assert found[two_gpus.ONE_GPU].params == 59_798_312  # alexnet_2012_one_gpu


def test_colour_of_a_kernel_is_what_is_not_grey() -> None:
    """Grey (1, 1, 1): none. Red less green (1, -1, 0): all. Red (1, 0, 0): 1 - 3 · (1/3)² of 1."""
    kernels = np.array([[1, 1, 1], [1, -1, 0], [1, 0, 0]], float).T.reshape(1, 1, 3, 3)
    np.testing.assert_allclose(two_gpus.colour_share(kernels), [0, 1, 2 / 3])
    record: Any = SimpleNamespace(probe={"colour": [20.0, 65.0]})
    assert two_gpus.apart(record) == 45.0


@pytest.mark.parametrize("name", studies.STUDIES)
def test_the_command_of_a_run_is_read_back_as_its_config(name: str) -> None:
    """A shell splits it, train.py reads its literals: the same overrides, tuples of text too."""
    for scale in studies.STUDIES[name].scales.values():
        for run in scale.runs:
            words = shlex.split(run.command(3, "somewhere"))[2:]
            given = dict(word.removeprefix("--").split("=", 1) for word in words)
            assert given.pop("workdir") == "somewhere"
            if run.starts_from:  # the runner fills it in
                assert given.pop("config.init.from") == run.place(run.starts_from, 3)
            config = given.pop("config")
            fields = {key.removeprefix("config."): files.literal(v) for key, v in given.items()}
            assert files.resolve(config, fields, ROOT).to_dict() == run.resolve(3).to_dict()


@pytest.mark.parametrize("name", studies.STUDIES)
def test_no_two_runs_of_a_study_are_the_same(name: str) -> None:
    for scale in studies.STUDIES[name].scales.values():
        resolved = [str(run.resolve(0)) for run in scale.runs]
        assert len(set(resolved)) == len(resolved)
