"""--help_config: every field that a config can set, with its meaning from where it is defined."""

import dataclasses

import pytest

import models
from configs import base, files
from training import field_help

NETWORKS = list(models.NETWORKS.items())


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
    assert " a whole number from 1 " in lines["config.batch_size"]
    assert lines["config.init.statistics"].split()[1:3] == ["False", "False"]
    for name, _ in field_help.leaves(config.to_dict()):
        assert f"config.{name}" in lines
    assert "config.model.input" not in lines


@pytest.mark.parametrize("name", {preset.network: name for name, preset in NETWORKS}.values())
def test_every_field_of_every_network_has_a_meaning(name: str) -> None:
    defaults, meanings = field_help.of_network(name)
    known = set(defaults) - set(field_help.GIVEN_BY_DATA)
    assert [field for field in known if not meanings.get(field)] == []


def test_meanings_in_docstrings() -> None:
    docstring = """First line, a: no.

    side, kernel: both of them; stride: 1 or 2. unknown: left out. pad: 0
    for none.
    Raises ValueError for others.
    """
    expected = {
        "side": "both of them",
        "kernel": "both of them",
        "stride": "1 or 2",
        "pad": "0 for none",
    }
    assert field_help._of_docstring(docstring, {"a", "pad", *expected}) == expected


def test_the_papers_values_are_those_of_its_scale() -> None:
    # Simonyan and Zisserman 2015, section 3.1: 74 epochs, batches of 256, momentum 0.9.
    papers = field_help.of_paper("configs/vgg.py:net=vgg_D,data=imagenet2012")
    assert papers["duration"] == "74 epochs"
    assert papers["batch_size"] == "256"
    assert papers["schedule.factor"] == "10.0"  # the small scale's cosine has none
    assert "optimizer.momentum" not in papers
    lines = field_help.page("configs/vgg.py", files.read("configs/vgg.py", {})).splitlines()
    (line,) = [line for line in lines if line.startswith("config.duration")]
    assert "15 epochs" in line
    assert "74 epochs" in line


@pytest.mark.parametrize("text", ["configs/lenet5.py", "configs/vgg.py:net=vgg_A,scale=paper"])
def test_without_a_difference_there_is_no_column_of_the_papers(text: str) -> None:
    assert field_help.of_paper(text) == {}
    lines = field_help.page(text, files.read(text, {})).splitlines()
    (titles,) = [line for line in lines if line.startswith("field ")]
    assert titles.split()[:4] == ["field", "value", "here", "default"]
