"""Runs of a study that start from the weights of another run of it: order, names, failures."""

import dataclasses
import json
import pathlib
import shutil

import pytest
from matplotlib.figure import Figure

from reproduction import planning, records, runner, tasks
from reproduction.study import Records, Run, Scale, Study
from tests import toy

CONFIG = '''
from tests.toy import lenet_config


def get_config(argument):
    """A step of LeNet on 64 synthetic images."""
    return lenet_config(duration="1 steps")
'''
TRUNK, HEAD, ALONE = "a trunk", "head", "alone"


def draw(study: Study, data: str, found: Records) -> Figure:
    return Figure()


@pytest.fixture
def study(tmp_path: pathlib.Path) -> Study:
    config = tmp_path / "tiny.py"
    config.write_text(CONFIG)
    runs = (
        Run(TRUNK, str(config), 2),
        Run(HEAD, str(config), 2, {"init.skip": ("fc5/*",)}, starts_from=TRUNK),
        Run(ALONE, str(config), 2, {"schedule.rate": 0.02}),
    )
    return Study(
        name="study",
        title="A tiny study",
        paper="no paper",
        figure="none",
        question="?",
        scales={"synthetic": Scale(runs, seeds=1, note="")},
        claims=(),
        draw=draw,
    )


def test_a_run_waits_for_the_one_it_starts_from(
    study: Study, tmp_path: pathlib.Path, data_dir: str
) -> None:
    folder = tmp_path / "study" / "synthetic"
    jobs = planning.jobs(study, "synthetic", [0], folder)
    head = jobs[1]
    assert head.source == jobs[0]
    # Chosen alone and first, it still comes after its source.
    chosen = planning.with_needed([head])
    assert [job.run.label for job in chosen] == [TRUNK, HEAD]
    assert runner.run_all(chosen[::-1], data_dir, 2) == {}
    provenance = json.loads((head.workdir / "result.json").read_text())["init"]
    assert provenance["from"] == str(jobs[0].workdir.absolute())

    # The record has the source by its name and fingerprint, not by its path.
    record = head.record()
    name = f"a_trunk/{jobs[0].workdir.name}"
    assert record.config["init"]["from"] == record.result["init"]["from"] == name
    assert str(tmp_path) not in record.text().replace(str(head.run.config), "")
    assert record.fingerprint == records.fingerprint(record.config)
    assert head.workdir.name == f"seed0-{record.fingerprint}"
    assert "--config.init.from=runs/a_trunk_0" in record.command
    assert jobs[0].run.command(0, "runs/a_trunk_0").endswith("--workdir=runs/a_trunk_0")

    # For another data set the fingerprints are the same; the trunk is taken over, the head made.
    other = planning.jobs(study, "synthetic", [0], tmp_path / "study" / "other_data")
    assert [job.workdir.name for job in other] == [job.workdir.name for job in jobs]
    assert (other[0].elsewhere, other[1].elsewhere) == (jobs[0].workdir, None)
    assert runner.run_all(other[:2], data_dir, 1) == {}
    assert "finished already" in (other[0].workdir / tasks.LOG).read_text()
    assert other[1].record() == record


def test_networks_of_one_seed_are_measured_together(
    study: Study, tmp_path: pathlib.Path, data_dir: str
) -> None:
    config = study.scales["synthetic"].runs[0].config
    nets = (
        Run("first", config, 2),
        Run("second", config, 2, offset=1000, beside=("first",)),
        Run("third", config, 2, offset=2000, beside=("first", "second")),
    )
    scales = {"synthetic": Scale(nets, seeds=1, note="")}
    together = dataclasses.replace(study, scales=scales, probe=toy.probe_beside)
    jobs = planning.jobs(together, "synthetic", [3], tmp_path)
    assert [job.seed for job in jobs] == [3, 3, 3]
    chosen = planning.with_needed([jobs[2]])
    assert [job.run.label for job in chosen] == ["first", "second", "third"]
    # In any order and side by side, each waits for those that its probe reads.
    assert runner.run_all(chosen[::-1], data_dir, 2) == {}
    assert [job.record().probe["seeds"] for job in jobs] == [[3], [3, 1003], [3, 1003, 2003]]
    assert "--config.seed=2003 " in jobs[2].record().command


def test_another_source_is_another_run(study: Study, tmp_path: pathlib.Path) -> None:
    trunk, head, alone = study.scales["synthetic"].runs
    other = Run(TRUNK, trunk.config, 2, {"schedule.rate": 0.03})
    made = [
        [job.workdir.name for job in planning.jobs(each, "synthetic", [0], tmp_path)]
        for each in (
            study,
            Study(
                **{
                    **vars(study),
                    "scales": {"synthetic": Scale((other, head, alone), seeds=1, note="")},
                }
            ),
        )
    ]
    assert [one == two for one, two in zip(*made, strict=True)] == [False, False, True]


def test_a_run_whose_source_fails_fails_by_name_and_the_others_go_on(
    study: Study, tmp_path: pathlib.Path, data_dir: str
) -> None:
    trunk, head, alone = study.scales["synthetic"].runs
    broken = Run(TRUNK, trunk.config, 2, {"data.name": "folder:/nowhere"})
    scales = {"synthetic": Scale((broken, head, alone), seeds=1, note="")}
    jobs = planning.jobs(Study(**{**vars(study), "scales": scales}), "synthetic", [0], tmp_path)
    failed = runner.run_all(jobs, data_dir, 1)
    assert list(failed) == ["a trunk, seed 0", "head, seed 0"]
    assert failed["head, seed 0"] == "a trunk, seed 0, which it needs, has failed"
    assert jobs[2].finished


def test_weights_from_outside_are_part_of_the_fingerprint(
    study: Study, tmp_path: pathlib.Path, data_dir: str
) -> None:
    """By their digest: the same path with other weights is another run."""
    [trunk] = planning.jobs(study, "synthetic", [0], tmp_path / "one")[:1]
    [other] = planning.jobs(study, "synthetic", [1], tmp_path / "one")[:1]
    assert runner.run_all([trunk, other], data_dir, 2) == {}
    place, marks = tmp_path / "weights", []
    fields = {"init.from": str(place)}
    scales = {"synthetic": Scale((Run(HEAD, trunk.run.config, 2, fields),), seeds=1, note="")}
    for source in (trunk, other, trunk):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(source.workdir, place)
        planning.digest_of.cache_clear()
        made = planning.jobs(Study(**{**vars(study), "scales": scales}), "synthetic", [0], tmp_path)
        marks.append(made[0].workdir.name)
    assert marks[0] == marks[2] != marks[1]
