"""A tiny study from run to committed log: skipped, resumed, failing, published, tampered with."""

import base64
import dataclasses
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from matplotlib.figure import Figure

import display
import models
import reproduce
import studies
from errors import UserError
from models import inception
from reproduction import (
    comparison,
    drawing,
    overlay,
    planning,
    publishing,
    records,
    runner,
    status,
    tables,
    tasks,
)
from reproduction.study import Column, Records, Run, Scale, Study, by_label, less_error
from startup import command_line, environment
from tests import toy
from training import workdirs

ROOT = pathlib.Path(__file__).parent.parent
CONFIG = '''
from tests.toy import lenet_config


def get_config(argument):
    """Two steps of LeNet on 64 synthetic images."""
    return lenet_config(duration="2 steps", **{"checkpoint.every": "1 steps"})
'''


def draw(study: Study, data: str, found: Records) -> Figure:
    figure, axes = drawing.new(1, 1, title=study.title, subtitle=data, size=(4, 3))
    for seeds in found.values():
        axes[0][0].plot(*drawing.mean_curve(seeds.values(), "test"))
    return figure


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Study:
    config = tmp_path_factory.mktemp("config") / "tiny.py"
    config.write_text(CONFIG)
    runs = (
        Run("one", str(config), seconds=2),
        Run("two (B)", str(config), 2, {"schedule.rate": 0.02}),
    )
    return Study(
        name="tiny",
        title="A tiny study",
        paper="Nobody 1900",
        figure="Fig. 0",
        question="Does it run?",
        scales={"synthetic": Scale(runs, seeds=1, note="Two steps.")},
        claims=(
            less_error("one", "two (B)", text="one ends within 100 points of two", margin=100),
        ),
        draw=draw,
        columns=(Column("steps to any error", lambda record: record.steps_to(1.0), digits=0),),
        published={"one": "1.00"},
        published_heading="published (%)",
        probe=toy.probe,
    )


@pytest.fixture(scope="module")
def folder(tiny: Study, tmp_path_factory: pytest.TempPathFactory, data_dir: str) -> pathlib.Path:
    """The working folder of the study, run whole."""
    folder = tmp_path_factory.mktemp("work")
    assert runner.run_all(planning.jobs(tiny, "synthetic", [0], folder), data_dir, 2) == {}
    return folder


@pytest.fixture
def results(
    tiny: Study, folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> pathlib.Path:
    """The study's results, published afresh."""
    monkeypatch.setitem(studies.STUDIES, "tiny", tiny)
    jobs = planning.jobs(tiny, "synthetic", [0], folder)
    publishing.publish(tiny, "synthetic", [job.record() for job in jobs], tmp_path)
    publishing.write_page(studies.STUDIES, tmp_path)
    return tmp_path


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def given(record: records.Record) -> dict[str, Any]:
    """All of a record that the run decides; the environment names the commit of the moment."""
    return {name: value for name, value in vars(record).items() if name != "environment"}


def test_finished_runs_are_skipped(tiny: Study, folder: pathlib.Path) -> None:
    jobs = planning.jobs(tiny, "synthetic", [0], folder)
    assert [job.name for job in jobs] == ["one, seed 0", "two (B), seed 0"]
    assert all(job.finished for job in jobs)
    assert "0 of 2 runs to do" in planning.plan([], jobs)
    other = planning.jobs(tiny, "synthetic", [1], folder)
    assert not any(job.finished for job in other)
    assert "2 of 2 runs to do, about 4 s" in planning.plan(other, other)


def test_a_record_is_the_same_from_its_log(tiny: Study, folder: pathlib.Path, tmp_path) -> None:
    record = planning.jobs(tiny, "synthetic", [0], folder)[1].record()
    assert record.config["schedule"]["rate"] == 0.02
    assert record.probe == {"files": True}
    assert [row["step"] for row in record.rows] == [2]
    assert record.result["last"]["test_error"] == record.rows[-1]["test"]["error"]
    assert record.file == "two_B_seed0.jsonl"
    path = tmp_path / record.file
    path.write_text(record.text())
    assert records.from_log(path) == record


def test_a_run_cut_off_goes_on_and_gives_the_same_record(
    tiny: Study, folder: pathlib.Path, tmp_path: pathlib.Path, data_dir: str
) -> None:
    [job, _] = planning.jobs(tiny, "synthetic", [0], tmp_path)

    def interrupt() -> None:
        while not (job.workdir / "config.json").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(runner.Stopped):
        runner.run_all([job], data_dir, 1)
    assert not job.finished
    assert runner.run_all([job], data_dir, 1) == {}
    whole = planning.jobs(tiny, "synthetic", [0], folder)[0].record()
    assert given(job.record()) == given(whole)


def test_a_run_that_fails_is_named_and_the_others_go_on(
    tiny: Study, folder: pathlib.Path, tmp_path: pathlib.Path, data_dir: str, capfd
) -> None:
    config = tiny.scale("synthetic").runs[0].config
    bad = Run("bad", config, 2, {"data.name": "folder:/nowhere"})
    scale = Scale((bad, *tiny.scale("synthetic").runs[:1]), seeds=1, note="")
    study = dataclasses.replace(tiny, scales={"synthetic": scale})
    jobs = planning.jobs(study, "synthetic", [0], tmp_path)
    shutil.copytree(next(folder.glob("one/*")), jobs[1].workdir)
    failed = runner.run_all(jobs, data_dir, 2)
    assert list(failed) == ["bad, seed 0"]
    assert "/nowhere" in failed["bad, seed 0"]
    assert [job.finished for job in jobs] == [False, True]
    assert "bad, seed 0 failed: " in capfd.readouterr().out
    assert [(one.state, one.why) for one in status.below(tmp_path)] == [
        ("failed", failed["bad, seed 0"]),
        ("done", ""),
    ]


def test_each_run_has_its_cores_and_the_same_number_however_many_run(
    tiny: Study, folder: pathlib.Path
) -> None:
    for job in planning.jobs(tiny, "synthetic", [0], folder):
        assert job.record().environment["processor_cores"] == records.CORES
    assert all(len(share) == records.CORES for share in runner._shares(5))


def test_runs_side_by_side_on_an_accelerator_share_its_memory(
    tiny: Study, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "XLA_PYTHON_CLIENT_PREALLOCATE"
    monkeypatch.delenv(name, raising=False)
    assert name not in runner._variables(8)
    monkeypatch.setattr(environment, "accelerated", lambda: True)
    assert runner._variables(8)[name] == "false"
    assert name not in runner._variables(1)
    monkeypatch.setenv(name, "true")
    assert runner._variables(8)[name] == "true"
    assert runner._shares(8) == [set()] * 8
    # What a CPU has made does not count there.
    jobs = planning.jobs(tiny, "synthetic", [0], folder)
    assert [job.state for job in jobs] == ["to run (left aside: 1 of another device)"] * 2


def test_a_run_may_have_fewer_seeds_than_its_study(tiny: Study, folder: pathlib.Path) -> None:
    one, two = tiny.scale("synthetic").runs
    scale = Scale((one, dataclasses.replace(two, seeds=1)), seeds=3, note="")
    study = dataclasses.replace(tiny, scales={"synthetic": scale})
    made = [job.name for job in planning.jobs(study, "synthetic", [0, 1, 2], folder)]
    assert made == ["one, seed 0", "two (B), seed 0", "one, seed 1", "one, seed 2"]


def test_results_of_two_kinds_of_device_are_not_published_together(
    tiny: Study, folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    one, two = [job.record() for job in planning.jobs(tiny, "synthetic", [0], folder)]
    moved = dataclasses.replace(two, environment={**two.environment, "device_kind": "abacus"})
    with pytest.raises(UserError, match="made on abacus and cpu"):
        publishing.publish(tiny, "synthetic", [one, moved], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_results_of_another_version_are_marked_and_not_mixed(
    tiny: Study, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "RESULTS_VERSION", 2)
    jobs = planning.jobs(tiny, "synthetic", [0], folder)
    assert [job.state for job in jobs] == ["to run (left aside: 1 of results version 1)"] * 2


def test_a_run_that_another_study_made_is_taken_over(
    tiny: Study, folder: pathlib.Path, tmp_path: pathlib.Path, data_dir: str
) -> None:
    shutil.copytree(folder, tmp_path / "other/synthetic")
    [job, _] = planning.jobs(tiny, "synthetic", [0], tmp_path / "tiny/synthetic")
    assert job.state == "done in other"
    assert runner.run_all([job], data_dir) == {}
    assert "finished already" in (job.workdir / tasks.LOG).read_text()
    whole = planning.jobs(tiny, "synthetic", [0], folder)[0].record()
    assert given(job.record()) == given(whole)


def test_fingerprint_is_of_config_jax_and_version() -> None:
    config = {"seed": 0, "data": {"name": "digits", "size": 8}}
    mark = records.fingerprint(config, "0.10.2", 1)
    reordered = {"data": {"size": 8, "name": "digits"}, "seed": 0}
    assert records.fingerprint(reordered, "0.10.9", 1) == mark
    assert records.fingerprint({**config, "seed": 1}, "0.10.2", 1) != mark
    assert records.fingerprint(config, "0.11.0", 1) != mark
    assert records.fingerprint(config, "0.10.2", 2) != mark


def test_published_results_agree_until_one_number_is_edited(
    results: pathlib.Path, tiny: Study
) -> None:
    readme = results / "README.md"
    assert publishing.check(studies.STUDIES, results, {readme: "results"}) == []
    log = results / "tiny/synthetic/logs/one_seed0.jsonl"
    head, row = log.read_text().splitlines()
    edited = json.loads(row)
    edited["train"]["loss"] += 1e-6  # in no table
    log.write_text(f"{head}\n{json.dumps(edited)}\n")
    wrong = publishing.check(studies.STUDIES, results, {readme: "results"})
    assert [line.split(": ")[1].split(";")[0] for line in wrong] == ["was drawn from other logs"]
    shown = json.loads(head)
    shown["result"]["last"]["test_error"] += 0.01
    log.write_text(f"{json.dumps(shown)}\n{row}\n")
    assert (
        len(publishing.check(studies.STUDIES, results, {readme: "results"})) == 3
    )  # table, figure and page


def test_redrawing_from_logs_alone_gives_the_same_table_and_page(
    results: pathlib.Path, tiny: Study
) -> None:
    before = contents(results)
    (results / "tiny/synthetic/table.md").unlink()
    (results / "tiny/synthetic/figure.png").unlink()
    publishing.redraw(tiny, "synthetic", results)
    publishing.write_page(studies.STUDIES, results)
    assert contents(results) == before


def test_readme_shows_the_table_of_the_logs(results: pathlib.Path) -> None:
    text = "Look:\n<!-- results/tiny/synthetic -->\nold\n<!-- end of results -->\nend\n"
    filled = publishing.fill(text, studies.STUDIES, results)
    assert "| one | 1 |" in filled
    assert "old" not in filled
    assert filled.endswith("<!-- end of results -->\nend\n")
    readme = results / "README.md"
    readme.write_text(text)
    assert [
        line
        for line in publishing.check(studies.STUDIES, results, {readme: "results"})
        if "README" in line
    ]
    with pytest.raises(UserError, match="results/tiny/mnist, which does not exist"):
        publishing.fill(text.replace("synthetic", "mnist"), studies.STUDIES, results)


def test_readme_counts_the_verdicts_of_all_that_is_published(
    results: pathlib.Path, tiny: Study
) -> None:
    text = "<!-- results -->\n<!-- end of results -->\n"
    lines = publishing.fill(text, studies.STUDIES, results).splitlines()
    assert lines[2] == "| paper | claims | reproduced | contradicted | equivalent | undecided |"
    assert "| Nobody 1900 | ours |  |  |  | 1 |" in lines
    assert "No claim was refuted." in lines
    rule, row = lines[-4:-2]
    assert rule == "| --- | --- | --- | --: | --: | --: | --: | --: |"
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[0] == f"[{tiny.title}](results/tiny/synthetic/table.md)"
    assert cells[2:4] == ["synthetic", "1"]
    assert sum(int(cell or 0) for cell in cells[4:]) == len(tiny.claims)


def test_logs_of_two_results_versions_are_refused(results: pathlib.Path, tiny: Study) -> None:
    log = results / "tiny/synthetic/logs/one_seed0.jsonl"
    log.write_text(log.read_text().replace('"results_version": 1', '"results_version": 7'))
    with pytest.raises(UserError, match="has results versions 1, 7"):
        publishing.committed(tiny, "synthetic", results)


def test_page_needs_no_network_and_holds_figure_verdict_config_and_command(
    results: pathlib.Path,
) -> None:
    page = (results / "index.html").read_text()
    assert not re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=\"(?!data:)", page)
    figure = base64.b64encode((results / "tiny/synthetic/figure.png").read_bytes()).decode()
    for part in (
        f'src="data:image/png;base64,{figure}"',
        '<span class="verdict undecided">undecided</span>',
        "python reproduce.py tiny --data=synthetic --seeds=0",
        "lenet5_modern",
        "--config.schedule.rate=0.02",
        'href="tiny/synthetic/logs/two_B_seed0.jsonl"',
        f"<td>{(environment.commit() or 'unknown')[:12]}",
    ):
        assert part in page


def test_every_number_leads_to_its_runs(results: pathlib.Path) -> None:
    page = (results / "index.html").read_text()
    ids = set(re.findall(r'\bid="([^"]+)"', page))
    led = set(re.findall(r'href="#([^"]+)"|data-trace="([^"]+)"', page))
    assert {"tiny-synthetic-one", "tiny-synthetic-two_B"} <= {one or other for one, other in led}
    assert {one or other for one, other in led} <= ids
    for log in re.findall(r'href="([^"#]+\.jsonl)"', page):
        assert (results / log).exists()


def test_a_page_without_its_figure_is_not_made(results: pathlib.Path) -> None:
    (results / "tiny/synthetic/figure.png").unlink()
    (complaint,) = publishing.check(studies.STUDIES, results, {})
    assert "figure.png: was drawn from other logs" in complaint


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_ended_it_leaves_no_run_behind(how: signal.Signals, tmp_path: pathlib.Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "reproduce.py", "degradation", "--seeds=0", f"--out={tmp_path / 'w'}"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "TFDS_DATA_DIR": str(tmp_path), "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (found := list((tmp_path / "w").glob("*/*/config.json"))):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(how)
    _, errors = process.communicate(timeout=120)
    if how == signal.SIGTERM:
        assert process.returncode == 75, errors
        assert errors.count("\n") == 1
        assert "run the same command again to continue" in errors
    until = time.monotonic() + 60
    for config in found:
        while True:
            try:
                with workdirs.claim(config.parent):
                    break
            except UserError:  # still held
                assert time.monotonic() < until
                time.sleep(0.1)


@pytest.mark.parametrize(
    ("given", "flags"),
    [
        (["degradation", "--data=digits"], ["--study=degradation", "--data=digits"]),
        (["--curves", "a", "b"], ["--curves=a", "--curves=b"]),
        (["--compare", "a", "b", "--html=c"], ["--compare=a", "--compare=b", "--html=c"]),
        (["--list"], ["--list"]),
        (["--curves"], ["--curves"]),
    ],
)
def test_names_and_workdirs_become_flags(given: list[str], flags: list[str]) -> None:
    assert command_line.flagged(given, bare="study", listed=("curves", "compare")) == flags


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: studies.study("degradatoin"), "did you mean degradation"),
        (lambda: studies.study("degradation").scale("mnist"), "no runs on 'mnist'; it has: digits"),
        (lambda: reproduce.chosen_seeds(["0", "x"], 2), "--seeds: '0,x' is not a list"),
        (lambda: reproduce.chosen_seeds(["1", "1"], 2), "--seeds: '1,1' is not a list"),
        (lambda: reproduce.chosen_labels(["a*", "b"], ["ab", "c"]), "'b' matches none of ab; c"),
    ],
)
def test_bad_input_is_one_clear_line(call: Callable, message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(40, "40 s"), (180, "3 min"), (9000, "2.5 h"), (28 * 24 * 3600, "28 days")],
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert display.duration(seconds) == text


def test_some_runs_of_a_study_are_named_by_patterns() -> None:
    labels = [run.label for run in studies.study("degradation").scale("digits").runs]
    chosen = reproduce.chosen_labels(["*-56*", "plain-20"], labels)
    assert chosen == ["plain-20", "plain-56", "ResNet-56", "plain-56 without warm-up"]


def test_an_override_the_config_lacks_is_refused(tiny: Study) -> None:
    run = tiny.scale("synthetic").runs[0]
    with pytest.raises(UserError, match=r"config.schedule.ratte: there is no such field"):
        Run("x", run.config, 1, {"schedule.ratte": 1.0}).resolve(0)


@pytest.mark.parametrize("name", studies.STUDIES)
def test_every_run_resolves_and_published_values_belong_to_runs(name: str) -> None:
    study = studies.STUDIES[name]
    labels = set()
    for data, scale in study.scales.items():
        files = [records.slug(run.label) for run in scale.runs]
        assert len(set(files)) == len(files), f"{data}: two runs share a file name"
        labels |= {run.label for run in scale.runs}
        for run in scale.runs:
            assert run.resolve(3).seed == 3 + run.offset
    assert set(study.published) <= labels


def test_claims_are_judged_where_their_runs_are() -> None:
    study = studies.study("alexnet_parts")
    on = {data: {claim.text for claim in study.claims_on(data)} for data in study.scales}
    assert "dropout lowers the test error" in on["fashion_mnist_scenes"] & on["cifar10"]
    only = on["imagenet2012"] - on["fashion_mnist_scenes"]
    assert [text for text in only if "without conv4" in text]
    assert "dropout lowers the test error" not in on["imagenet2012"]


@pytest.mark.parametrize(
    "name", [name for name, study in studies.STUDIES.items() if study.paper != "no paper"]
)
def test_every_study_of_a_paper_is_ready_for_its_data_too(name: str) -> None:
    scales = studies.STUDIES[name].scales
    assert {"fashion_mnist", "fashion_mnist_scenes"} & set(scales)
    # ImageNet's images do not fit the arrays that this study averages over; for them there is
    # evaluate.py --ensembles.
    if name != "ensembles":
        assert any(scale.papers_data for scale in scales.values())


def test_table_has_mean_sd_and_the_published_value(tiny: Study, folder: pathlib.Path) -> None:
    record = planning.jobs(tiny, "synthetic", [0], folder)[0].record()

    def with_error(seed: int, error: float) -> records.Record:
        fields = {**vars(record), "seed": seed}
        last = {**record.result["last"], "test_error": error}
        return records.Record(**{**fields, "result": {**record.result, "last": last}})

    found = by_label([with_error(0, 0.10), with_error(1, 0.14)], tiny.scale("synthetic").runs)
    heading, row = tables.cells(tiny, found)
    cell = dict(zip(heading, row, strict=True))
    # Mean of 10 and 14 is 12; their standard deviation is √((2² + 2²)/1) = 2.83.
    assert cell["final test error (%)"] == "12.00 ± 2.83"
    assert cell["seeds"] == "2"
    assert cell["published (%)"] == "1.00"
    assert "test error, step chosen on validation (%)" not in cell


def test_spread_says_how_many_seeds_got_there() -> None:
    assert tables.spread([3.0, None, 5.0], digits=0) == "4 ± 1 (2 of 3 seeds)"
    assert tables.spread([None, None]) == ""


def test_reductions_of_an_inception_module_are_swept_without_its_outputs() -> None:
    """Module 3a of Table 1 (192 maps in) with half its reductions: 48 and 8 maps, not 96 and 16."""
    network = models.create({"name": "googlenet_2014", "reduction": 0.5})
    params = models.variables_of(network)["params"]["inception_3a"]
    shapes = {name: layer["kernel"].shape for name, layer in params.items()}
    assert shapes == {
        "1x1": (1, 1, 192, 64),
        "3x3_reduce": (1, 1, 192, 48),
        "3x3": (3, 3, 48, 128),
        "5x5_reduce": (1, 1, 192, 8),
        "5x5": (5, 5, 8, 32),
        "pool_proj": (1, 1, 192, 32),
    }
    with pytest.raises(ValueError, match=r"reduction: must be above 0, not 0\.0"):
        models.create({"name": "googlenet_2014", "reduction": 0.0})
    in_one = models.create({"name": "googlenet_2014", "reduction": 0.5, "reduction_in": ("3a",)})
    assert in_one.module_features("3a") == network.module_features("3a")
    assert in_one.module_features("3b") == inception.MODULES["3b"]
    with pytest.raises(ValueError, match="reduction_in: '6a' is none of 3a, 3b"):
        models.create({"name": "googlenet_2014", "reduction_in": ("6a",)})


def test_an_unreduced_module_is_as_wide_as_a_reduced_one() -> None:
    """Module 3a of Table 1: 3×3 and 5×5 on all 192 maps, and 64 + 128 + 32 + 32 maps out."""
    network = models.create({"name": "googlenet_2014", "module": "unreduced"})
    params = models.variables_of(network)["params"]
    shapes = {name: layer["kernel"].shape for name, layer in params["inception_3a"].items()}
    assert shapes == {
        "1x1": (1, 1, 192, 64),
        "3x3": (3, 3, 192, 128),
        "5x5": (5, 5, 192, 32),
        "pool_proj": (1, 1, 192, 32),
    }
    assert params["inception_3b"]["1x1"]["kernel"].shape[2] == 256


def test_curves_of_any_runs(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    workdirs = sorted(path.parent for path in folder.glob("*/*/result.json"))
    assert overlay.names(workdirs) == ["one, seed 0", "two_B, seed 0"]
    assert overlay.names([tmp_path / "a/x", tmp_path / "b/x"])[0] == str(tmp_path / "a/x")
    drawn = overlay.draw(workdirs, tmp_path / "curves.png")
    assert drawn.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match=r"has no config\.json"):
        overlay.draw([tmp_path / "nowhere"], tmp_path / "none.png")


def test_a_page_of_any_runs(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    made = sorted(path.parent for path in folder.glob("*/*/result.json"))
    page = comparison.write(made, tmp_path / "page.html").read_text()
    assert page.count('<tr data-trace="') == 2
    (fields,) = re.findall(r'<table class="fields">.*?</table>', page, re.DOTALL)
    assert re.findall(r"<code>(.*?)</code></th><td>(.*?)</td><td>(.*?)</td>", fields) == [
        ("schedule.rate", "0.01", "0.02")
    ]
    for log in re.findall(r'href="([^"#]+\.jsonl)"', page):
        assert (tmp_path / log).exists()
    # A run under way has rows, and no result yet.
    shutil.copytree(made[0], tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    comparison.write([tmp_path / "run"], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "<td>no</td>" in page
    assert "None: the configs are the same." in page


def test_fields_that_differ() -> None:
    configs = [
        {"seed": 0, "data": {"name": "digits"}, "rates": {"a": 1}},
        {"seed": 0, "data": {"name": "mnist"}, "rates": {"a": 1, "b": 2}},
    ]
    assert comparison.differing(configs) == {
        "data.name": ["digits", "mnist"],
        "rates.b": [comparison.UNSET, 2],
    }


@pytest.mark.parametrize("content", ["{", "[]", '{"seed": 0, "data": 5}'])
def test_a_damaged_config_is_not_compared(
    folder: pathlib.Path, tmp_path: pathlib.Path, content: str
) -> None:
    made = next(path.parent for path in folder.glob("*/*/result.json"))
    shutil.copytree(made, tmp_path / "run")
    (tmp_path / "run" / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config\.json: is damaged"):
        comparison.write([tmp_path / "run"], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
