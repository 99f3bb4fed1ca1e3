"""The commands, links and the map of files in the README and docs/ name what is there."""

import fnmatch
import pathlib
import re
import shlex

import pytest

import describe
import studies
from configs import files
from conversion.sources import SOURCES
from reproduction import sweep

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = PAGES[0].read_text()
LINES = dict.fromkeys(
    line for page in PAGES for line in re.findall(r"^    (python .*)$", page.read_text(), re.M)
)
COMMANDS = [shlex.split(line, comments=True)[1:] for line in LINES]


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
    for name in trains_nothing:
        del given[name]
    config = given.pop("config")
    fields = {name.removeprefix("config."): files.literal(value) for name, value in given.items()}
    assert files.resolve(config, fields, ROOT).is_locked  # UserError for a field that is not there


@pytest.mark.parametrize("words", of("reproduce.py"), ids=" ".join)
def test_studies_are_there(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    given = flags([word for word in words if word.startswith("-")])
    names = [word for word in words if not word.startswith("-")]
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


def test_the_map_names_what_is_there() -> None:
    section = README.split("## Where things are\n")[1].split("\n\n")[0]
    named = {word for line in section.splitlines() for word in re.findall(r"^    (\S+)", line)}
    named |= set(re.findall(r"(\w+/)", section))
    assert all((ROOT / name).exists() for name in named)
    tracked = {path.name for path in ROOT.glob("*.py")} - {
        "errors.py",
        "randomness.py",
        "sharding.py",
    }
    assert tracked <= named


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: pathlib.Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert link.startswith("http") or (page.parent / link).exists(), link


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < 120
