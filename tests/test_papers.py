"""The rows of papers/results.py are valid and unique, and the texts that quote them agree."""

import ast
import collections
import io
import pathlib
import re
import subprocess
import tokenize

import pytest

import describe
import models
from papers import misprints, references, results
from protocols import registry

ROOT = pathlib.Path(__file__).parent.parent
KEYS = {reference.key for reference in references.REFERENCES}
RELEASES = ("torchvision, ", "cuda-convnet, ", "the Torch port of ResNet")
# Krizhevsky 2014, LeCun et al. 1998, Simonyan and Zisserman 2015; also a list of all authors.
NAME = r"[A-Z][A-Za-zé]+"
CITATION = re.compile(
    rf"\b{NAME}(?: et al\.|(?:, {NAME})*,? and {NAME}|(?:, {NAME})+)? \d{{4}}[a-z]?\b"
)
NO_CITATIONS = re.compile(r"^(ImageNet|ILSVRC|NIPS|ICLR|RFC|Nobody|The|Net) \d{4}")


def tracked(*patterns: str) -> list[pathlib.Path]:
    command = ["git", "-C", str(ROOT), "ls-files", *patterns]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return [ROOT / name for name in found if (ROOT / name).exists()]


def prose(path: pathlib.Path) -> str:
    """Comments and strings of a Python file, or the whole of another; line breaks as spaces."""
    text = path.read_text()
    if path.suffix == ".py":
        kinds = (tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1))
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        text = " ".join(token.string.lstrip("#") for token in tokens if token.type in kinds)
    return re.sub(r"\s+", " ", text)


def test_citations_are_keys_of_the_references():
    paths = tracked(
        "*.py", "README.md", "CONTRIBUTING.md", "docs/*.md", "results/LOG.md", "Makefile"
    )
    paths.remove(ROOT / "papers" / "references.py")  # has titles and venues
    cited = {(text, path.name) for path in paths for text in CITATION.findall(prose(path))}
    assert {text for text, _ in cited} >= {"LeCun et al. 1998", "He et al. 2016b"}
    wrong = {pair for pair in cited if pair[0] not in KEYS and not NO_CITATIONS.search(pair[0])}
    assert not wrong


def test_keys_are_made_of_authors_and_year():
    assert len(KEYS) == len(references.REFERENCES)
    for reference in references.REFERENCES:
        surnames = [name.split()[-1] for name in reference.authors.split(", ")]
        several = len(surnames) > 2
        who = f"{surnames[0]} et al." if several else " and ".join(surnames)
        assert reference.key.rstrip("ab") == f"{who} {reference.key.rstrip('ab')[-4:]}"


def test_rows_name_networks_protocols_and_sources_that_exist():
    for row in results.ROWS:
        assert row.metric in results.METRICS
        assert row.sign in ("", "≈", "above")
        cited = CITATION.findall(row.source)
        assert cited or row.source.startswith(RELEASES), row
        for text in row.networks:
            spec = describe.parse(text)
            models.create(spec)  # its fields exist
        if row.protocol:
            side = models.NETWORKS[spec["name"]].fields["input"][0]
            protocol = registry.create(row.protocol, registry.InputSize(side, side))
            # Written as evaluate.py writes it, so that measured numbers find their place.
            assert protocol.label == row.protocol


def test_no_number_is_there_twice():
    places = collections.Counter(
        (row.networks, row.data, row.protocol, row.metric, row.remark, row.source.split(";")[0])
        for row in results.ROWS
    )
    assert max(places.values()) == 1
    # 25.03 stood in five files. Config headers quote, and are compared below.
    printed = {f"{row.value}" for row in results.ROWS if row.value > 5}
    printed = {text for text in printed if re.fullmatch(r"\d+\.\d\d+", text)}
    assert "25.03" in printed
    for path in tracked("*.py"):
        room = path.relative_to(ROOT).parts[0]
        if room not in ("papers", "tests"):
            source = path.read_text()
            if room == "configs":
                source = source.replace(ast.get_docstring(ast.parse(source), clean=False) or "", "")
            found = printed & set(re.findall(r"(?<![\d.])\d+\.\d+(?![\d.])", source))
            assert not found, path


@pytest.mark.parametrize("path", tracked("configs/*.py"), ids=lambda path: path.stem)
def test_config_headers_quote_what_the_papers_print(path: pathlib.Path):
    header = ast.get_docstring(ast.parse(path.read_text())) or ""
    said = re.search(r"^paper +(.*?)^\S", header, re.MULTILINE | re.DOTALL)
    if said is None:
        assert not re.search(r"^command ", header, re.MULTILINE)  # parts that configs share
        return
    text = re.sub(r"[Ss]ection [\d.]+", "", said[1])
    quoted = {float(number) for number in re.findall(r"\d+\.\d+|\d+(?=%)", text)}
    own = set(CITATION.findall(re.sub(r"\s+", " ", header)))
    printed = {row.value for row in results.ROWS if own & set(CITATION.findall(row.source))}
    if said[1].startswith("none;"):  # a recipe of no paper
        assert not quoted
        return
    assert quoted, "the header quotes no number"
    assert quoted <= printed


def test_rows_are_found_by_network_and_protocol():
    # Krizhevsky et al. 2012, Table 2; Simonyan and Zisserman 2015, Tables 3, 5 and 6.
    assert results.row("alexnet_2012", "ten_crop").value == 40.7
    both = results.rows("vgg_E", protocol="multi_crop_and_dense", metric="top1")
    assert [(len(row.networks), row.value) for row in both] == [(1, 24.4), (2, 23.7)]
    assert results.row("vgg_D", "dense", "top5", "S = 256").text == "8.8"
    # Szegedy et al. 2015, Table 3; He et al. 2016a, Tables 3 and 6, Fig. 6.
    googlenet = [row.value for row in results.rows("googlenet_2014")]
    assert googlenet == [10.07, 9.15, 7.89, 8.09, 7.62, 6.67]
    assert [row.value for row in results.plainest("resnet34_A")] == [25.03, 7.76]
    assert results.row("resnet20_cifar10_A").text == "8.75"
    assert results.row("plain110_cifar10").text == "above 60"
    assert results.rows("lecture_conv1x1") == ()
    with pytest.raises(LookupError, match="0 rows of vgg_D, dense"):
        results.row("vgg_D", "dense")


def test_misprints_concern_networks_that_exist():
    for entry in misprints.MISPRINTS:
        assert any(entry in misprints.misprints(name) for name in models.NETWORKS), entry.where
    assert len(misprints.MISPRINTS) == 22
