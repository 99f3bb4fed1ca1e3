"""evaluate.py on a run's checkpoints: its numbers against counts by hand, files, refusals."""

import json
import pathlib
import shutil
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import data
import evaluate
import sharding
from errors import UserError
from protocols import error_tables, scoring
from tests.toy import lenet_config
from training import data_record, experiment
from training.checkpoints import Checkpoints
from training.trained import load


@pytest.fixture(scope="module")
def run(tmp_path_factory, data_dir) -> pathlib.Path:
    """A finished run: two checkpoints, the first of which is better on the validation images.

    Of 64 synthetic images the first 40 are for training and the last 16 for validation; 24 test.
    Its rows are counted here, image by image.
    """
    workdir = tmp_path_factory.mktemp("run")
    config = lenet_config(**{"data.validation": 16, "data.train_images": 40})
    (workdir / "config.json").write_text(json.dumps(config.to_dict()))
    single = sharding.create_mesh(jax.devices()[:1])
    made = experiment.create(config, single, data_dir)
    data_record.keep(workdir, data_record.of(made.pipeline))
    state = made.create_state()
    # The other one always gives the same answer, that which is right least often.
    labels = np.concatenate(
        [batch["label"][batch["mask"] > 0] for batch in made.pipeline.evaluation("validation")]
    )
    last = dict(state.params["fc5"])
    last["bias"] = last["bias"].at[np.bincount(labels, minlength=10).argmin()].add(20.0)
    other = state.replace(params={**state.params, "fc5": last})
    apply = jax.jit(partial(made.network.apply, train=False))
    rows: list[dict[str, Any]] = []
    for params in (state.params, other.params):
        row: dict[str, Any] = {}
        for split in ("validation", "test"):
            wrong, losses = 0, []
            for batch in made.pipeline.evaluation(split):
                logits = np.asarray(apply({"params": params}, batch["image"]).logits, np.float64)
                scores = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
                for place in np.flatnonzero(batch["mask"]):
                    label = int(batch["label"][place])
                    wrong += int(scores[place].argmax() != label)
                    losses.append(-scores[place, label])
            row[split] = {"error": wrong / len(losses), "loss": float(np.mean(losses))}
        rows.append(row)
    assert rows[0]["validation"]["error"] < rows[1]["validation"]["error"]
    with Checkpoints(workdir, keep=2) as checkpoints:
        for step, row, each in zip((4, 8), rows, (state, other), strict=True):
            checkpoints.save(
                step,
                each.replace(step=jnp.asarray(step, jnp.int32)),
                validation_error=row["validation"]["error"],
            )
            checkpoints.wait()
    lines = [json.dumps({"step": step, **row}) for step, row in zip((4, 8), rows, strict=True)]
    (workdir / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return workdir


def rows_of(run: pathlib.Path) -> dict[int, dict[str, Any]]:
    """The rows of the fixture, by step."""
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return {row["step"]: row for row in rows}


def evaluated(folders, *protocols, data_dir, **options):
    folders = [folders] if isinstance(folders, pathlib.Path) else folders
    return evaluate.evaluate(folders, protocols or ("plain",), data_dir=data_dir, **options)


def numbers(report) -> dict:
    """The fields that must not depend on the machine, devices or batch size."""
    names = ("images", "top1", "top5", "classes", "confused", "multiply_adds", "views")
    return {name: report[name] for name in names}


def test_the_plain_protocol_gives_the_runs_own_numbers(run, data_dir):
    (report,) = evaluated(run, data_dir=data_dir)
    last = rows_of(run)[8]["test"]
    assert report["images"] == 24
    assert report["top1"]["error"] == pytest.approx(last["error"])
    assert report["loss"] == pytest.approx(last["loss"], rel=1e-5)
    assert report["top1"]["errors"] == sum(entry["errors"] for entry in report["classes"])
    assert (report["top1"]["low"], report["top1"]["high"]) == scoring.wilson(
        report["top1"]["errors"], 24
    )


def test_every_number_says_what_it_depends_on(run, data_dir):
    (report,) = evaluated(run, "ten_crop:side=320", data_dir=data_dir)
    path = run / "evaluations" / "ten_crop-side=320_test_8.json"
    assert json.loads(path.read_text()) == report
    assert report["protocol"] == "ten_crop:side=320"
    assert report["split"] == "test"
    assert report["data"] == "synthetic:16x16x1:10:64:24"
    (network,) = report["networks"]
    assert network["step"] == 8
    assert network["chosen"] == "the last saved step"
    assert report["views"] == 10
    # conv1 12²·25·6, conv2 2²·150·16, and the dense layers on a 1×1 map; ten crops.
    one = 144 * 150 + 4 * 2400 + 16 * 120 + 120 * 84 + 84 * 10
    assert report["multiply_adds"] == 10 * one
    assert report["clock"]["images_per_s"] > 0


def test_best_is_chosen_on_the_validation_images(run, data_dir):
    errors = {step: row["validation"]["error"] for step, row in rows_of(run).items()}
    (report,) = evaluated(run, step="best", split="validation", data_dir=data_dir)
    assert report["networks"][0]["step"] == 4
    assert report["networks"][0]["chosen"] == "least validation error of the saved steps"
    assert report["images"] == 16
    assert report["top1"]["error"] == pytest.approx(errors[4])
    (named,) = evaluated(run, step=8, split="validation", data_dir=data_dir)
    assert named["networks"][0]["chosen"] == "named by the user"
    assert named["top1"]["error"] == pytest.approx(errors[8])


@pytest.mark.parametrize("text", ["flip", "multi_scale:sides=224+336"])
def test_batches_change_no_number(run, data_dir, text):
    reports = [evaluated(run, text, data_dir=data_dir, batch_size=size)[0] for size in (None, 7)]
    assert numbers(reports[0]) == numbers(reports[1])
    assert reports[0]["loss"] == pytest.approx(reports[1]["loss"], rel=1e-6)


def test_an_ensemble_averages_posteriors(run, data_dir):
    (alone,) = evaluated(run, data_dir=data_dir)
    (twice,) = evaluated([run, run], data_dir=data_dir)
    assert twice["top1"] == alone["top1"]
    assert twice["loss"] == pytest.approx(alone["loss"])
    assert twice["multiply_adds"] == 2 * alone["multiply_adds"]
    assert (run / "evaluations" / "ensemble_plain_test_8+8.json").exists()


def test_ensembles_of_the_first_runs_are_tested_in_one_pass(run, data_dir, tmp_path):
    shutil.copytree(run, tmp_path / "other")
    both = [run, tmp_path / "other"]
    first, second = evaluated(both, "flip", data_dir=data_dir, ensembles=True)
    (alone,) = evaluated(run, "flip", data_dir=data_dir)
    (together,) = evaluated(both, "flip", data_dir=data_dir)
    assert numbers(first) == numbers(alone)
    assert numbers(second) == numbers(together)
    assert [len(report["networks"]) for report in (first, second)] == [1, 2]
    assert [report["views"] for report in (first, second)] == [2, 4]
    error_tables.publish([first, second], tmp_path / "table")
    rows = (tmp_path / "table.md").read_text().splitlines()[-2:]
    assert [row.split(" | ")[1] for row in rows] == ["1", "2"]


def test_other_data_of_the_same_classes(run, data_dir):
    name = "synthetic:20x18x3:10:10:5"
    (report,) = evaluated(run, "center", data_name=name, data_dir=data_dir)
    assert (report["images"], report["data"]) == (5, name)
    stem = "center_synthetic-20x18x3-10-10-5-test_8.json"
    assert (run / "evaluations" / stem).exists()


def test_a_page_of_mistakes_has_every_result(run, data_dir, tmp_path):
    reports = evaluated(run, "plain", "flip", data_dir=data_dir, page="")
    page = (run / "evaluations" / "report_test_8.html").read_text()
    for report in reports:
        assert f"<h2>{report['protocol']}, {report['data']} test:" in page
        assert f"{100 * report['calibration']['ece']:.2f}%" in page
    # Fewer than 24 images of 10 classes: every mistake is shown.
    assert page.count("<figure>") == sum(report["top1"]["errors"] for report in reports)
    evaluated(run, data_dir=data_dir, page=str(tmp_path / "mine.html"))
    assert "<h2>plain" in (tmp_path / "mine.html").read_text()


def test_damaged_images_do_not_shift_the_pictures():
    read = [{"image": np.full((1, 1, 1), row), "label": 0} for row in range(5)]
    loader: Any = SimpleNamespace(count=5, read=lambda row: None if row in (0, 3) else read[row])
    images = evaluate.Images("some", loader, ["a"], (1, 1, 1))
    (batch,) = images.batches(8)
    assert batch[0].ravel().tolist() == [1, 2, 4]
    assert [images.tested(place).item() for place in range(3)] == [1, 2, 4]
    assert images.damaged == {0, 3}


def test_a_folder_of_images_of_many_sizes(run, data_dir, tmp_path):
    draws = np.random.RandomState(0)
    for split in ("train", "val"):
        for label in range(10):
            folder = tmp_path / split / f"class{label}"
            folder.mkdir(parents=True)
            for index in range(1 + label % 2):
                height, width = draws.randint(17, 40, 2)
                pixels = draws.randint(0, 256, (height, width, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    name = f"folder:{tmp_path}"
    (report,) = evaluated(run, "ten_crop", data_name=name, data_dir=data_dir, batch_size=8)
    assert report["images"] == len(data.open_split(name, "test")) == 15
    assert [entry["images"] for entry in report["classes"]] == [1, 2] * 5
    # By hand, through the run's own preprocessing: one central crop of one image.
    (center,) = evaluated(run, "center:side=224", data_name=name, data_dir=data_dir)
    loaded = load(run)
    wrong = 0
    for example in (data.open_split(name, "test")[index] for index in range(15)):
        height, width = example["image"].shape[:2]
        short = min(height, width)
        size = (round(width * 16 / short), round(height * 16 / short))
        image = Image.fromarray(example["image"])
        small = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
        top, left = (size[1] - 16 + 1) // 2, (size[0] - 16 + 1) // 2
        crop = small[top : top + 16, left : left + 16]
        wrong += int(loaded.predict(crop[None])[0] != example["label"])
    assert center["top1"]["errors"] == wrong


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"data_name": "synthetic:16x16x1:7:10:5"}, "not the 7 of synthetic"),
        ({"split": "dev"}, "no such part; valid: train, validation, test"),
        ({"step": 5}, "no checkpoint of step 5; saved: 4, 8"),
        ({"data_name": "digits2"}, "no data set 'digits2'"),
    ],
)
def test_bad_input_is_one_line(run, data_dir, options, words):
    with pytest.raises(UserError) as caught:
        evaluated(run, data_dir=data_dir, **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folders_without_a_run_or_of_another_network_are_refused(run, data_dir, tmp_path):
    with pytest.raises(UserError, match="no run here"):
        evaluated(tmp_path, data_dir=data_dir)
    config = json.loads((run / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="no checkpoint yet"):
        evaluated(tmp_path, data_dir=data_dir)
    shutil.copy(run / "data.npz", tmp_path)
    config["model"]["name"] = "lenet_caffe"
    (tmp_path / "config.json").write_text(json.dumps(config))
    shutil.copytree(run / "checkpoints", tmp_path / "checkpoints")
    with pytest.raises(UserError, match="another network") as caught:
        evaluated(tmp_path, data_dir=data_dir)
    assert "\n" not in str(caught.value)


def test_runs_on_different_data_are_no_ensemble():
    names = ("synthetic:8x8x1:10:64:24", "synthetic:8x8x1:10:64:25")
    loaded: Any = [SimpleNamespace(config=lenet_config(**{"data.name": name})) for name in names]
    with pytest.raises(
        UserError, match=f"b: trained on {names[1]}, a on {names[0]}; name the data set"
    ):
        evaluate.open_images(loaded, ("a", "b"), None, "test", None)


def test_a_run_under_way_is_left_alone(run, data_dir, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    unfinished = tmp_path / "run" / "checkpoints" / "9.orbax-checkpoint-tmp-1"
    unfinished.mkdir()
    assert load(tmp_path / "run").step == 8
    assert unfinished.exists()


def test_tables_say_protocol_split_and_choice(run, data_dir):
    reports = evaluated(run, "plain", "flip", data_dir=data_dir)
    text = error_tables.summary(reports)
    for part in ("lenet5_modern", "step 8 (the last saved step)", "test: 24 images", "flip"):
        assert part in text
    assert f"{100 * reports[1]['top1']['error']:.2f}%" in text
    reports[0]["networks"][0]["network"] = "googlenet_2014"
    reports[0]["protocol"] = "crop_144"
    lines = [line for line in error_tables.beside_published(reports).splitlines() if "144" in line]
    assert "7.89%" in lines[0]
    assert f"{100 * reports[0]['top5']['error']:.2f}%" in lines[0]
    assert "7 × googlenet_2014" in lines[1]
    assert f"{100 * reports[0]['top5']['error']:.2f}%" not in lines[1]


def test_a_published_table_is_made_of_its_numbers_alone(run, data_dir, tmp_path):
    reports = evaluated(run, "flip", "plain", data_dir=data_dir)
    with pytest.raises(UserError, match=r"--publish: there is no folder .*sub"):
        error_tables.check_stem(tmp_path / "sub" / "lenet.v1")
    (tmp_path / "sub").mkdir()
    with pytest.raises(UserError, match=r"sub is a folder; name the files, e.g. .*sub/table"):
        error_tables.check_stem(tmp_path / "sub")
    error_tables.check_stem(tmp_path / "sub" / "lenet.v1")
    error_tables.publish(reports, tmp_path / "sub" / "lenet.v1")
    kept = json.loads((tmp_path / "sub" / "lenet.v1.json").read_text())
    text = (tmp_path / "sub" / "lenet.v1.md").read_text()
    assert text == error_tables.markdown(kept)
    assert str(run) not in json.dumps(kept)
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    # The cheapest first, and what the other costs beside it.
    assert [row[0] for row in rows[1:]] == ["| plain", "| flip"]
    assert [row[4] for row in rows[1:]] == ["×1.0", "×2.0"]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"lenet.json: cannot be written"):
        error_tables.publish(reports, tmp_path / "file" / "lenet")


def test_committed_tables_are_those_of_their_numbers():
    folder = pathlib.Path(__file__).parent.parent / "results" / "protocols"
    numbers = sorted(folder.glob("*.json"))
    assert numbers
    for path in numbers:
        kept = json.loads(path.read_text())
        assert path.with_suffix(".md").read_text() == error_tables.markdown(kept)
        for entry in kept["protocols"]:
            low, high = scoring.wilson(entry["top1"]["errors"], entry["images"])
            assert (entry["top1"]["low"], entry["top1"]["high"]) == pytest.approx((low, high))
            assert entry["top1"]["error"] == entry["top1"]["errors"] / entry["images"]
