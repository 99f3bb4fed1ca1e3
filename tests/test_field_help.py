"""--help_config: every field that a config can set, with its meaning from where it is defined."""

import dataclasses

import pytest

import models
from configs import base, files
from training import field_help


def test_every_field_of_every_config_has_a_meaning() -> None:
    meanings = field_help.of_base()
    for name, _ in field_help.leaves(base.base().to_dict()):
        assert meanings.get(name), name
    assert meanings["batch_size"] == "images per step, over all devices"
    assert meanings["parameters.decay"].startswith("factors on the weight decay")


def test_a_networks_fields_have_its_presets_values() -> None:
    defaults, meanings = field_help.of_network("resnet34_B")
    assert defaults["shortcut"] == "B"
    assert defaults["stages"] == (3, 4, 6, 3)
    assert defaults["width"] == 1.0  # of the base class
    assert meanings["shortcut"] == '"none" makes the plain net'
    network = models.create({"name": "resnet34_B"})
    known = {field.name for field in dataclasses.fields(network)}  # what a config can set
    assert set(defaults) == known - {"parent", "name"}


@pytest.mark.parametrize("text", ["configs/vgg.py", "configs/lenet5.py:net=1998,scale=smoke"])
def test_the_page_shows_header_arguments_and_fields(text: str) -> None:
    config = files.read(text, {"seed": "7"})
    page = field_help.page(text, config)
    lines = {line.split()[0]: line for line in page.splitlines() if line.startswith("config.")}
    assert "deviates" in page
    assert "scale=small|paper|smoke" in page
    assert lines["config.seed"].split()[1:3] == ["7", "0"]  # here, and by default
    assert lines["config.batch_size"].split()[3:8] == ["a", "whole", "number", "from", "1"]
    for name, _ in field_help.leaves(config.to_dict()):
        assert f"config.{name}" in lines
    assert "config.model.input" not in lines
