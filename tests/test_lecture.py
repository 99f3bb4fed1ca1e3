"""The page of the lecture: its claims name what is there, and its verdicts come from the logs."""

import pathlib
import re
import shutil

import pytest
from PIL import Image

import models
import studies
from errors import UserError
from inspection import cost, network_picture
from lecture import counts, pictures, verdicts
from lecture.claim import Counted, Held, Studied
from lecture.claims import CLAIMS, SECTIONS
from reproduction import publishing
from reproduction.study import ROOT

STUDIED = [claim.seen_by for claim in CLAIMS if isinstance(claim.seen_by, Studied)]
COUNTED = [claim for claim in CLAIMS if isinstance(claim.seen_by, Counted)]
TESTED = [claim.seen_by for claim in CLAIMS if isinstance(claim.seen_by, Held)]
# Studies that the lecture asks for and that are not there yet.
AWAITED = ("inception_depth",)
# What lectures print and arithmetic does not: papers/misprints.py has the last two.
FALSE = (
    "Its channels grow from convolution to convolution, too",
    "Misprint: VGG-16, being simpler, has fewer parameters than AlexNet",
    "Misprint: 120 and 12.4 million are its parameters",
    "It has twelve times fewer parameters than AlexNet",
)


@pytest.mark.parametrize("studied", STUDIED, ids=lambda studied: studied.study)
def test_each_claim_names_one_claim_of_a_study_on_any_data(studied: Studied) -> None:
    if studied.study in AWAITED:
        assert studied.study not in studies.STUDIES, "it is there now: no longer awaited"
        return
    study = studies.study(studied.study)
    for data in study.scales:
        found = [
            claim.text
            for claim in study.claims_on(data)
            if studied.names(claim.text) and (not claim.on or data in claim.on)
        ]
        assert not studied.text or len(found) <= 1
    assert any(studied.names(claim.text) for claim in study.claims)


@pytest.mark.parametrize("claim", COUNTED, ids=lambda claim: claim.text)
def test_counts_are_as_they_are_known_to_be(claim) -> None:
    assert claim.seen_by.count().holds == (claim.text not in FALSE), claim.seen_by.count().numbers


def test_a_claim_that_is_false_of_another_network_does_not_hold() -> None:
    assert not counts.shrinking_and_growing("vgg_D", "alexnet_2012").holds
    assert not counts.about(60_000, models_params("lenet5_modern", width=2.0), "").holds


def models_params(name: str, **fields: float) -> int:
    return cost.measure(models.create({"name": name, **fields})).params


@pytest.mark.parametrize("tested", TESTED, ids=lambda tested: tested.test)
def test_tests_that_hold_a_claim_are_there_and_run_in_make_test(tested: Held) -> None:
    path, name = tested.test.split("::")
    before, found, _ = (ROOT / path).read_text().partition(f"\ndef {name}(")
    assert found
    decorators = before.rsplit("\n\n\n", 1)[-1]
    assert "slow" not in decorators and "skip" not in decorators  # noqa: PT018


def test_every_section_is_on_the_page_and_has_claims() -> None:
    page = verdicts.PAGE.read_text()
    assert re.findall(r"^## (.+)$", page, re.M) == [*SECTIONS, "All claims"]
    assert tuple(re.findall(r"^<!-- lecture: (.+) -->$", page, re.M)) == SECTIONS
    assert tuple(dict.fromkeys(claim.section for claim in CLAIMS)) == SECTIONS
    assert len({claim.text for claim in CLAIMS}) == len(CLAIMS)


def test_the_page_is_what_the_logs_give() -> None:
    assert verdicts.stale() == []


def test_every_row_is_filled() -> None:
    heading, *rows = verdicts.rows(publishing.RESULTS)
    assert heading == ["section", "claim", "seen by", "verdict"]
    assert len(rows) == len(CLAIMS)
    assert all(all(row) for row in rows)


def test_verdicts_follow_the_logs(tmp_path: pathlib.Path) -> None:
    (claim,) = (claim for claim in CLAIMS if claim.text == "ResNets do not get worse with depth")
    assert verdicts.words(claim, tmp_path) == ["not run"]
    assert verdicts.said(claim, tmp_path) == "**not run**"
    assert "--data=digits`" in verdicts.seen_by(claim, tmp_path)

    copied = tmp_path / "copied"
    shutil.copytree(publishing.RESULTS / "degradation/digits", copied / "degradation/digits")
    (word,) = verdicts.words(claim, copied)
    table = (copied / "degradation/digits/table.md").read_text()
    assert word == "equivalent: confirmed"  # no worse, to within a point
    assert "| Fig. 6 | equivalent |" in table
    assert "figure.png" in verdicts.seen_by(claim, copied)


def test_a_section_that_is_not_there_is_an_error() -> None:
    with pytest.raises(UserError, match="'MobileNet' is no section"):
        verdicts.fill("<!-- lecture: MobileNet -->\n<!-- end of lecture -->")


def test_pictures_are_those_of_the_claims_and_of_these_counts() -> None:
    kept = sorted(path.name for path in pictures.FOLDER.iterdir())
    assert kept == sorted(pictures.wanted())
    for name, networks in pictures.wanted().items():
        costs = [pictures.measured(text) for text in networks]
        with Image.open(pictures.FOLDER / name) as image:
            assert image.info["Comment"] == network_picture.digest(costs), f"{name}: make pictures"


@pytest.mark.parametrize("networks", [("lenet5_modern",), ("lenet5_modern", "lenet5_1998")])
def test_a_picture_is_drawn_again(networks: tuple[str, ...], tmp_path: pathlib.Path) -> None:
    pictures.draw(networks, tmp_path / "again.png")
    with Image.open(tmp_path / "again.png") as image:
        assert image.size[0] >= 900
        assert len(set(image.convert("L").tobytes())) > 20
