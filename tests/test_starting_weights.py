"""Runs that start from the weights of another run: what they take, keep, record and refuse."""

import json
import pathlib
import shutil
from typing import Any

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import sharding
import train
from errors import UserError
from tests.toy import lenet_config
from training import experiment, metrics, starting_weights, trained

OTHER_DATA = {"data.name": "synthetic:16x16x1:3:64:24", "seed": 1}
HEAD = ("fc5/*",)


@pytest.fixture(autouse=True)
def one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = sharding.create_mesh(jax.devices()[:1])
    monkeypatch.setattr(sharding, "create_mesh", lambda *devices: mesh)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, data_dir: str) -> pathlib.Path:
    """A trained run with a validation part, checkpoints of steps 4 and 8."""
    workdir = tmp_path_factory.mktemp("source")
    config = lenet_config(**{"data.validation": 16, "data.normalize": ("scale()", "mean_sd()")})
    train.train_and_evaluate(config, workdir, data_dir=data_dir)
    return workdir


def tuned(source: pathlib.Path, **more: Any) -> Any:
    """The config of a run on other classes that trains only the last layer."""
    fields = {"init.from": str(source), "init.skip": HEAD} | OTHER_DATA
    config = lenet_config(**fields, **more).unlock()
    config.parameters.rates = (("fc5/*", 1.0), ("*", None))
    return config.lock()


def bits(tree: Any) -> dict[str, bytes]:
    return {name: np.asarray(x).tobytes() for name, x in flatten_dict(tree, sep="/").items()}


def test_from_training_to_a_head_on_other_data(
    source: pathlib.Path, tmp_path: pathlib.Path, data_dir: str
) -> None:
    """Frozen bits, provenance, and a resume to the same bits, in the middle and at the start."""
    state, result = train.train_and_evaluate(tuned(source), tmp_path / "a", data_dir=data_dir)
    before, after = bits(trained.load(source).variables["params"]), bits(state.params)
    head = {"fc5/kernel", "fc5/bias"}
    assert {name for name in after if after[name] == before.get(name)} == before.keys() - head
    assert state.params["fc5"]["kernel"].shape[-1] == 3
    rows = metrics.read(tmp_path / "a")
    assert rows[-1]["train"]["loss"] < rows[0]["train"]["loss"]

    assert result["init"] == {
        "from": str(source),
        "step": 8,
        "sha256": starting_weights.sha256(trained.load(source).variables),
        "anew": ["fc5/bias", "fc5/kernel"],
    }
    assert json.loads((tmp_path / "a" / "init.json").read_text()) == result["init"]

    for step, left in ((8, "4"), (4, "none")):  # of the checkpoints of steps 4 and 8
        shutil.copytree(tmp_path / "a", tmp_path / left)
        for saved in range(step, 9, 4):
            shutil.rmtree(tmp_path / left / "checkpoints" / str(saved))
        (tmp_path / left / "result.json").unlink()
        again, _ = train.train_and_evaluate(tuned(source), tmp_path / left, data_dir=data_dir)
        assert bits(again.params) == after
        assert [_without_clock(row) for row in metrics.read(tmp_path / left)] == [
            _without_clock(row) for row in rows
        ]


def _without_clock(row: dict[str, Any]) -> dict[str, Any]:
    return {name: part for name, part in row.items() if name != "clock"}


def started(config: Any, data_dir: str) -> Any:
    """The state before the first step."""
    run = experiment.create(config, sharding.create_mesh(), data_dir)
    start = starting_weights.adopt(run)
    assert start is not None
    return starting_weights.applied(run, run.create_state(), start)


def test_what_is_skipped_starts_from_the_runs_own_seed(source: pathlib.Path, data_dir: str) -> None:
    config = tuned(source, **{"averaging": {"name": "polyak", "start": ""}})
    own = experiment.create(config, sharding.create_mesh(), data_dir).create_state()
    state = started(config, data_dir)
    before = bits(trained.load(source).variables["params"])
    for name, array in bits(state.params).items():
        expected = bits(own.params) if name.startswith("fc5/") else before
        assert array == expected[name]
    assert bits(state.averages["params"]) == bits(state.params)


def test_the_best_step_and_a_numbered_one(source: pathlib.Path, data_dir: str) -> None:
    rows = [row for row in metrics.read(source) if "validation" in row]
    best = min(rows, key=lambda row: row["validation"]["error"])["step"]
    for text, step in (("best", best), ("4", 4)):
        taken = bits(started(tuned(source, **{"init.step": text}), data_dir).params)
        expected = bits(trained.load(source, step=step).variables["params"])
        assert taken["conv1/kernel"] == expected["conv1/kernel"]


def test_running_statistics_come_with_the_weights(tmp_path: pathlib.Path, data_dir: str) -> None:
    fields = {
        "model": {"name": "resnet20_cifar10_A", "width": 0.25, "batch_norm_group": 8},
        "duration": "2 steps",
        "checkpoint.every": "2 steps",
        "eval.every": "2 steps",
    }
    state, _ = train.train_and_evaluate(lenet_config(**fields), tmp_path, data_dir=data_dir)
    config = lenet_config(**fields, seed=1, **{"init.from": str(tmp_path)})
    begun = started(config, data_dir)
    assert bits(begun.batch_stats) == bits(state.batch_stats)
    assert bits(begun.params) == bits(state.params)


def test_the_sources_statistics_of_the_data_are_used_if_asked_for(
    source: pathlib.Path, tmp_path: pathlib.Path, data_dir: str
) -> None:
    normalize = {"data.normalize": ("scale()", "mean_sd()"), "duration": "1 steps"}
    records = {}
    for name, asked in (("own", False), ("theirs", True)):
        config = tuned(source, **normalize, **{"init.statistics": asked})
        train.train_and_evaluate(config, tmp_path / name, data_dir=data_dir)
        records[name] = trained.load(tmp_path / name).record.statistics["mean_sd"]
    theirs = trained.load(source).record.statistics["mean_sd"]
    np.testing.assert_array_equal(records["theirs"], theirs)
    assert not np.array_equal(records["own"], theirs)
    with pytest.raises(UserError, match=r"config\.init\.statistics: .* normalises by scale\(\), m"):
        started(tuned(source, **{"init.statistics": True}), data_dir)


def test_changed_weights_are_one_line_and_lost_ones_a_note(
    source: pathlib.Path,
    tmp_path: pathlib.Path,
    data_dir: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    moved, workdir = tmp_path / "source", tmp_path / "tuned"
    shutil.copytree(source, moved)
    train.train_and_evaluate(tuned(moved), workdir, data_dir=data_dir)
    kept = (workdir / "init.json").read_bytes()

    shutil.rmtree(moved / "checkpoints" / "8")  # "last" is another step now
    with pytest.raises(UserError, match=r"started from weights \w{12} of step 8; .* of step 4 now"):
        train.train_and_evaluate(tuned(moved), workdir, data_dir=data_dir)

    shutil.rmtree(moved)
    capsys.readouterr()
    _, result = train.train_and_evaluate(tuned(moved), workdir, data_dir=data_dir)
    shown = capsys.readouterr()
    assert "source is gone; that its weights are those the run started from" in shown.err
    assert "finished already" in shown.out
    assert result["init"] == json.loads(kept)
    shutil.rmtree(workdir / "checkpoints")
    with pytest.raises(UserError, match="is gone, and the run has no checkpoint"):
        train.train_and_evaluate(tuned(moved), workdir, data_dir=data_dir)


def test_each_checkpoint_holds_the_digest_of_the_weights(
    source: pathlib.Path, tmp_path: pathlib.Path, data_dir: str
) -> None:
    train.train_and_evaluate(tuned(source), tmp_path / "a", data_dir=data_dir)
    provenance = json.loads((tmp_path / "a" / "init.json").read_text())
    (tmp_path / "a" / "init.json").write_text(json.dumps({**provenance, "sha256": "0" * 64}))
    with pytest.raises(UserError, match=r"started from weights 0{12} of step 8"):
        train.train_and_evaluate(tuned(source), tmp_path / "a", data_dir=data_dir)
    (tmp_path / "a" / "init.json").unlink()
    train.train_and_evaluate(tuned(source), tmp_path / "a", data_dir=data_dir)
    assert json.loads((tmp_path / "a" / "init.json").read_text()) == provenance


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "shape": ({"init.skip": ()}, r"fc5/bias is float32 10 in .*, float32 3 in lenet5_modern here"),
    "a layer of one network": (
        {"model.name": "lecture_lenet_rgb", "data.channels": 3},
        r"config\.init: \S+ is \S+.* in .*, .* in lecture_lenet_rgb here; .*skip leaves",
    ),
    "type": (
        {"model.param_dtype": "bfloat16"},
        r"conv1/bias is float32 6 in .*, bfloat16 6 in lenet5_modern here",
    ),
    "pattern": ({"init.skip": ("fc9/*",)}, r"config\.init\.skip: 'fc9/\*' matches no parameter"),
    "no pattern": ({"init.skip": (5,)}, r"config\.init\.skip: must hold text, not 5"),
    "everything": ({"init.skip": ("*",)}, r"config\.init\.skip: skips every parameter"),
    "step": ({"init.step": "6"}, r"config\.init: .*: no checkpoint of step 6; saved: 4, 8"),
    "word": ({"init.step": "newest"}, r"config\.init\.step: 'newest' is none of"),
    "folder": ({"init.from": "/nowhere"}, r"config\.init: /nowhere: no run here"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_one_line_and_nothing_is_written(
    name: str, source: pathlib.Path, tmp_path: pathlib.Path, data_dir: str
) -> None:
    fields, message = REFUSED[name]
    config = tuned(source)
    with config.unlocked():
        config.parameters.rates = ()
        config.update_from_flattened_dict(fields)
        config.model.update(
            {key[6:]: value for key, value in fields.items() if key.startswith("model.")}
        )
    with pytest.raises(UserError, match=message) as raised:
        train.train_and_evaluate(config, tmp_path / "a", data_dir=data_dir)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "a").exists()


def test_a_run_does_not_start_from_itself(tmp_path: pathlib.Path, data_dir: str) -> None:
    tmp_path.joinpath("a").mkdir()
    config = tuned(tmp_path / "a")
    with pytest.raises(UserError, match=r"config\.init\.from: .*a is the run's own workdir"):
        train.train_and_evaluate(config, tmp_path / "a", data_dir=data_dir)


def test_a_dry_run_checks_the_weights(
    source: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train.dry_run(tuned(source))
    assert "step 8, sha256 " in capsys.readouterr().out
    with pytest.raises(UserError, match="no checkpoint of step 6"):
        train.dry_run(tuned(source, **{"init.step": "6"}))


def test_a_workdir_of_before_the_field_is_the_same_run(
    source: pathlib.Path, tmp_path: pathlib.Path, data_dir: str
) -> None:
    shutil.copytree(source, tmp_path / "a")
    path = tmp_path / "a" / "config.json"
    written = json.loads(path.read_text())
    assert written.pop("init")
    path.write_text(json.dumps(written))
    assert trained.load(tmp_path / "a").step == 8
    config = lenet_config(**{"data.validation": 16, "data.normalize": ("scale()", "mean_sd()")})
    _, result = train.train_and_evaluate(config, tmp_path / "a", data_dir=data_dir)
    assert result["last"]["step"] == 8
    with config.unlocked():
        config.init["from"] = str(source)
    with pytest.raises(UserError, match=r"holds a run of another config: init\.from None there"):
        train.train_and_evaluate(config, tmp_path / "a", data_dir=data_dir)
