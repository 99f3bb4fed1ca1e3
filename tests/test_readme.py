"""The commands, links and the map of files in the README and docs/ name what is there."""

import fnmatch
import functools
import importlib.util
import pathlib
import re
import shlex

import pytest

import describe
import studies
from configs import files
from conversion.sources import SOURCES
from data import prepare
from protocols import registry
from reference import pages
from reproduction import sweep

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = PAGES[0].read_text()
TEXTS = [page.read_text().replace("\\\n", "") for page in PAGES]
# In blocks: whole commands. In sentences: parts of them, whose flags are checked.
LINES = dict.fromkeys(
    line for text in TEXTS for line in re.findall(r"^(?:    |srun )(python .*)$", text, re.M)
)
COMMANDS = [shlex.split(line, comments=True)[1:] for line in LINES]
NAMED = [words for text in TEXTS for words in re.findall(r"`(?:python )?(\w+\.py [^`]*)`", text)]


def of(program: str) -> list[list[str]]:
    found = [words[1:] for words in COMMANDS if words[0] == program]
    assert found, f"no page has a command of {program}"
    return found


def flags(words: list[str]) -> dict[str, str]:
    return dict(word.removeprefix("--").partition("=")[::2] for word in words)


@pytest.mark.parametrize("words", of("describe.py"), ids=" ".join)
def test_networks_can_be_looked_at(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    # --all takes half a minute: test_counts.py has every network. --show draws into this folder:
    # test_input_pipeline.py does it elsewhere.
    if words != ["--all"] and not any(word.startswith("--show") for word in words):
        describe.main(words)
        assert capsys.readouterr().out


@pytest.mark.parametrize("words", of("train.py"), ids=" ".join)
def test_experiments_resolve(words: list[str]) -> None:
    given = flags(words)
    trains_nothing = {"dry_run", "on", "help_config"} & given.keys()
    assert trains_nothing or given.pop("workdir")
    for name in trains_nothing | ({"data_dir", "track"} & given.keys()):
        del given[name]
    config = given.pop("config")
    fields = {name.removeprefix("config."): files.literal(value) for name, value in given.items()}
    assert files.resolve(config, fields, ROOT).is_locked  # UserError for a field that is not there


@pytest.mark.parametrize("words", of("reproduce.py"), ids=" ".join)
def test_studies_are_there(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    given = flags([word for word in words if word.startswith("-")])
    names = [word for word in words if not word.startswith("-")]
    if {"curves", "compare"} & given.keys():
        return  # of workdirs
    if "config" in given:
        _, _, wanted = sweep.create(given["config"], {})
        assert wanted
    for name in names:
        study = studies.study(name)
        data = given.get("data", next(iter(study.scales)))
        labels = [run.label for run in study.scale(data).runs]
        assert fnmatch.filter(labels, given.get("runs", "*"))


@pytest.mark.parametrize("words", of("convert.py"), ids=" ".join)
def test_conversions_are_supported(words: list[str]) -> None:
    given = flags(words)
    if "list" not in given:
        networks = SOURCES[given["format"]].networks
        assert ("to" in given) != (given.get("network") in networks)


@functools.cache
def flags_of(command: str) -> set[str]:
    return set(re.findall(r"^ +--(?:\[no\])?(\w+)", pages.help_of(command), re.M))


@pytest.mark.parametrize("command", pages.COMMANDS)
def test_flags_are_there(command: str) -> None:
    start = command.split()
    of_blocks = [words[len(start) :] for words in COMMANDS if words[: len(start)] == start]
    of_sentences = [words.split()[1:] for words in NAMED if words.startswith(f"{start[-1]} ")]
    assert of_blocks, f"no page has a command of {command}"
    for words in [*of_blocks, *of_sentences]:
        for word in words:
            flag = re.match(r"--(?!config\.)(no)?(\w+)", word)
            if flag and flag[2] not in {"help"}:
                assert {flag[2], f"{flag[1]}{flag[2]}"} & {"config", *flags_of(command)}, word


@pytest.mark.parametrize("words", of("evaluate.py"), ids=" ".join)
def test_protocols_are_there(words: list[str]) -> None:
    assert any(word.startswith("--workdir=") for word in words)
    for word in words:
        if word.startswith("--protocol=") and word != "--protocol=all":
            registry.create(word.partition("=")[2], registry.InputSize(224, 224, 0))


@pytest.mark.parametrize("words", of("-m"), ids=" ".join)
def test_modules_are_there(words: list[str]) -> None:
    assert importlib.util.find_spec(words[0])
    if words[0] == "data.prepare":
        assert words[1].startswith("folder:") or words[1] in prepare.PREPARATIONS


def test_the_map_names_what_is_there() -> None:
    section = README.split("## Where things are\n")[1].split("\n\n")[0]
    named = {word for line in section.splitlines() for word in re.findall(r"^    (\S+)", line)}
    named |= set(re.findall(r"(\w+/)", section))
    assert all((ROOT / name).exists() for name in named)
    tracked = {path.name for path in ROOT.glob("*.py")} - {
        "display.py",
        "errors.py",
        "randomness.py",
        "sharding.py",
    }
    assert tracked <= named


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: pathlib.Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        made = page.stem == "index" and link.startswith("reference/")  # `make docs` checks those
        assert made or link.startswith("http") or (page.parent / link).exists(), link


def test_every_page_is_in_the_sites_menu() -> None:
    menu = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    written = [page.name for page in PAGES[1:]]
    assert sorted(name for name in menu if not name.startswith("reference/")) == sorted(written)


def test_the_table_of_faults_names_tests_and_scripts_that_are_there() -> None:
    rows = re.findall(r"^\|.*\|$", (ROOT / "docs" / "faults.md").read_text(), re.M)[2:]
    assert rows
    for row in rows:
        named = re.findall(r"`(\w+\.py)`", row.split("|")[-2])
        assert named, row
        for name in named:
            assert (ROOT / ("tests" if name.startswith("test_") else "benchmarks") / name).exists()


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < 120
