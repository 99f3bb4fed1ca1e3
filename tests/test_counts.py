"""Every network has exactly the parameters and multiply-adds that arithmetic gives it, by layer."""

import fnmatch
import json
import math
import pathlib
from typing import Any

import pytest
from measured import measured
from sheet_names_classics import EXTRA_COUNTS as CLASSIC_COUNTS
from sheet_names_classics import SHEET_NAMES
from sheet_names_resnet import EXTRA_COUNTS as RESNET_COUNTS
from sheet_names_resnet import layers_of

import models
from inspection import cost

HERE = pathlib.Path(__file__).parent
SHEET = json.loads((HERE / "paper_counts.json").read_text())
ROWS: dict[str, list[dict[str, Any]]] = {
    name: [dict(zip(SHEET["columns"], row, strict=True)) for row in network["rows"]]
    for name, network in SHEET["networks"].items()
}
# Of networks that the sheet's table does not hold: once from its text, once by arithmetic.
COMPUTED = {**CLASSIC_COUNTS, **RESNET_COUNTS}
BESIDE = json.loads((HERE / "counts_beside_sheet.json").read_text())
TABLED: dict[str, tuple[int, int]] = {
    name: (counts["params"], counts["multiply_adds"])
    for name, counts in (*BESIDE.items(), *SHEET["networks"].items())
}
EXPECTED = {**COMPUTED, **TABLED}


def test_every_registered_network_has_an_expected_count():
    assert sorted(set(models.NETWORKS) - set(EXPECTED)) == []


def test_every_network_of_the_sheet_is_registered():
    assert len(SHEET["networks"]) == 62
    assert sorted(set(EXPECTED) - set(models.NETWORKS)) == []


@pytest.mark.parametrize("name", [name for name in COMPUTED if name in TABLED])
def test_two_sources_of_a_count_agree(name: str):
    assert COMPUTED[name] == TABLED[name]


@pytest.mark.parametrize("name", models.NETWORKS)
def test_totals(name: str):
    found = measured(name)
    assert (found.params, found.multiply_adds) == EXPECTED[name]
    assert sum(layer.params for layer in found.layers) == found.params
    if name in SHEET["networks"]:
        assert list(found.input_shape) == SHEET["networks"][name]["input_shape"]


def layers_in(name: str, row: str) -> list[cost.Layer]:
    """The layers of a network that a row of the sheet counts."""
    ours = {sheets: layer for layer, sheets in SHEET_NAMES.get(name, {}).items()}
    prefixes = (ours[row],) if row in ours else layers_of(row)
    return [
        layer
        for layer in measured(name).layers
        if any(layer.name == prefix or layer.name.startswith(f"{prefix}/") for prefix in prefixes)
    ]


@pytest.mark.parametrize("name", [name for name in ROWS if name in models.NETWORKS])
def test_layers_are_those_of_the_sheet(name: str):
    found = measured(name)
    claimed = []
    for row in ROWS[name]:
        if row["kind"] == "reference":
            continue
        layers = layers_in(name, row["name"])
        counts = sum(layer.params for layer in layers), sum(x.multiply_adds for x in layers)
        assert counts == (row["params"], row["multiply_adds"]), row["name"]
        # Only a layer that costs nothing may be missing: some nets pool without a layer.
        assert layers or row["params"] == row["multiply_adds"] == 0, row["name"]
        sides = {tuple(side for side in layer.output if side > 1) for layer in layers}
        assert not layers or tuple(side for side in row["output"] if side > 1) in sides, row["name"]
        if row["kind"] == "conv" and row["kernel"]:
            window = layers[0].window
            assert window is not None
            assert list(window.kernel) == row["kernel"], row["name"]
            assert window.stride == (row["stride"], row["stride"]), row["name"]
            assert window.pad == tuple((pad, pad) for pad in row["pad"]), row["name"]
        claimed += [layer.name for layer in layers]
    # No layer is counted in two rows, and layers that are in no row have no cost.
    assert len(claimed) == len(set(claimed))
    if all(row["kind"] != "reference" for row in ROWS[name]):
        unclaimed = [layer for layer in found.layers if layer.name not in claimed]
        assert [layer.name for layer in unclaimed if layer.params or layer.multiply_adds] == []


@pytest.mark.parametrize("name", [n for n in ROWS if fnmatch.fnmatch(n, "*cifar100_*")])
def test_a_cifar100_net_is_its_cifar10_twin_but_for_the_last_layer(name: str):
    hundred, ten = measured(name), measured(name.replace("cifar100", "cifar10"))
    assert hundred.layers[:-1] == ten.layers[:-1]
    features = math.prod(hundred.layers[-2].output)
    assert hundred.layers[-1].params == 100 * (features + 1)
    assert hundred.layers[-1].multiply_adds == 100 * features


# LeCun et al. 1998, section II.B, and arithmetic: 1 + Σ (kernel − 1) · product of strides before.
RECEPTIVE_FIELDS = {
    "lenet5_1998": {"C1": 5, "S2": 6, "C3": 14, "S4": 16, "C5": 32, "OUTPUT": 32},
    "alexnet_2012": {"conv1": 11, "pool1": 19, "conv2": 51, "conv5": 163, "pool5": 195},
    "vgg_D": {"conv1_2": 5, "pool1": 6, "conv3_3": 40, "conv5_3": 196, "pool5": 212},
    # The widest branch decides: 3×3 after the pool of 3×3, then twice as far by the 5×5.
    "googlenet_2014": {"conv1": 7, "pool1": 11, "conv2": 19, "pool2": 27, "inception_3a/5x5": 59},
    "plain34": {"conv1": 7, "pool1": 11, "conv2_3/b": 59, "conv3_1/a": 67},
    "resnet34_B": {"conv2_3/b": 59, "conv3_1/a": 67, "conv3_1/projection": 59, "conv3_1/b": 83},
}


@pytest.mark.parametrize("name", RECEPTIVE_FIELDS)
def test_receptive_fields(name: str):
    sees = {layer.name: layer.receptive_field for layer in measured(name).layers}
    for layer, side in RECEPTIVE_FIELDS[name].items():
        assert sees[layer] == (side, side), layer
