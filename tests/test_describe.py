"""describe.py: its text, its JSON, and its error lines."""

import itertools
import json
import pathlib
import subprocess
import sys
from typing import Any

import pytest
from measured import measured

import describe
import models
from errors import UserError
from inspection import description, picture, trace
from papers import results

ROOT = pathlib.Path(__file__).parent.parent


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    describe.main(arguments)
    return capsys.readouterr().out


def test_the_json_flag_prints_only_json(capsys):
    found = json.loads(output(capsys, "lenet5_1998", "--json"))
    # LeCun et al. 1998, section II.B.
    assert (found["name"], found["params"], found["multiply_adds"]) == (
        "lenet5_1998",
        60_000,
        328_096,
    )
    assert found["input_shape"] == [32, 32, 1]
    keys = ("name", "kind", "output", "params", "multiply_adds")
    assert [found["layers"][0][key] for key in keys] == ["C1", "conv", [28, 28, 6], 156, 117_600]
    assert found["layers"][1]["kernel"] == found["layers"][1]["stride"] == [2, 2]
    assert [layer["receptive_field"][0] for layer in found["layers"][:5]] == [5, 6, 14, 16, 32]
    assert found["published"]["connections"] == "340,908"
    assert found["published"]["MNIST test error"] == "0.95%"
    assert found["deviations"] == list(models.NETWORKS["lenet5_1998"].deviations)
    assert any("345,308" in entry["printed"] for entry in found["misprints"])


def test_the_script_prints_json_alone_and_exits_2_with_one_line():
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "describe.py", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    good = run("lecture_conv5x5", "--json")
    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)["multiply_adds"] == 120_422_400
    bad = run("lenet5_modrn")
    assert bad.returncode == 2
    assert bad.stdout == ""
    assert bad.stderr.count("\n") == 1
    assert "lenet5_modern" in bad.stderr


def test_the_table_has_the_papers_columns(capsys):
    text = output(capsys, "alexnet_2012")
    table = text.split("published")[0].splitlines()
    lines = {line.split()[0]: line.split() for line in table if line.strip()}
    # Layer, kind, kernel / stride / pad, output, receptive field, params, multiply-adds, share.
    assert lines["conv1"][1:7] == ["conv", "11×11", "/", "4", "/", "0"]
    assert lines["conv1"][7:] == ["55×55×96", "11", "34,944", "105,415,200", "14.55"]
    assert lines["conv2"][1:4] == ["conv,", "2", "groups"]
    assert lines["total"] == ["total", "60,965,224", "724,406,816", "100.00"]
    assert "60 million" in text
    assert "here 60,965,224" in text
    assert "55·48·96" in text  # the slip in Fig. 2, with its reason


def test_padding_that_differs_by_side_is_shown():
    window = trace.Window
    assert description.window_text(None) == ""
    assert description.window_text(window((3, 3), (2, 2), ((0, 1), (0, 1)))) == "3×3 / 2 / 0+1"
    assert description.window_text(window((1, 7), (1, 2), ((0, 0), (3, 3)))) == "1×7 / 1×2 / 0×3"


def test_overrides_reach_the_network(capsys):
    found = json.loads(
        output(capsys, "lenet5_modern:input=(28,28,1),conv_pad=2,pool=max", "--json")
    )
    assert found["input_shape"] == [28, 28, 1]
    assert found["params"] == 61_706  # 28×28 with pad 2 has the same counts: sheet, section 1.4
    assert json.loads(output(capsys, "cuda_convnet_cifar10_conv_local", "--json"))
    of_a_side = json.loads(output(capsys, "vgg_D:input=32,width=0.25", "--json"))
    assert of_a_side["input_shape"] == [32, 32, 3]
    text = output(capsys, "lenet5_modern:num_classes=26")
    assert "with num_classes=26" in text
    assert "84×26" not in text
    assert f"{84 * 26 + 26:,}" in text


def test_heads_are_off_unless_asked_for(capsys):
    trunk = json.loads(output(capsys, "googlenet_2014", "--json"))
    one = json.loads(output(capsys, "googlenet_2014:heads=(aux1,)", "--json"))
    assert one["params"] - trunk["params"] == 3_188_840  # sheet, section 5.1
    assert one["multiply_adds"] > trunk["multiply_adds"]


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("vgg_A", {"name": "vgg_A"}),
        ("a:b=1,c=0.5", {"name": "a", "b": 1, "c": 0.5}),
        ("a:b=(1, 2),c=word", {"name": "a", "b": (1, 2), "c": "word"}),
        ("a:b=(x,y),c=()", {"name": "a", "b": ("x", "y"), "c": ()}),
        ("a:b=((1, 2), 3),c=None", {"name": "a", "b": ((1, 2), 3), "c": None}),
    ],
)
def test_parse(text: str, spec: dict):
    assert describe.parse(text) == spec


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["lenet5_modrn"], "lenet5_modern"),
        (["vgg_A:depth=3"], "vgg_A has no field 'depth'; fields: "),
        (["vgg_A:depth"], "'depth' is not field=value"),
        (["vgg_A:width=-1"], "width: must be above 0"),
        (["vgg_A:num_classes=ten"], "num_classes: 'ten' is not of type int"),
        (["vgg_A:initializer=xavier"], "none of paper, he, glorot"),
        (["lenet5_modern:input=(8,8,1)"], "the smallest valid size is 16×16"),
        (["vgg_A:width=1,width=2"], "width is given twice"),
        (["vgg_A:name=vgg_B"], "name is given twice"),
        (["lenet5_modern", "--all"], "exactly one of"),
        ([], "exactly one of"),
        (["--config=a.py", "--show=a.png", "--picture=a.png"], "--picture: draws layers or totals"),
        (["--all", "--picture", "nowhere/a.png"], "--picture: there is no folder nowhere"),
        (["--all", "--picture", "/proc/a.png"], "--picture: /proc cannot be written"),
        (["--all", "--picture", "a.xls"], "must end in .png, .pdf, .svg"),
        (["--diff", "vgg_A"], "expected 2 arguments"),
        (["--al"], "--al"),
        (["--config=nowhere.py"], "there is no config file nowhere.py"),
        (["--config=describe.py"], "describe.py: has no function get_config"),
        (["--config=configs/lenet5.py", "--config.data.sise=36"], "config.data.sise: there is no"),
        (["--config=configs/lenet5.py", "--config.model.wide=2"], "wide"),
        (["vgg_A", "--config.data.size=36"], "--config.data.size: needs --config"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], says: str, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError) as caught:
        describe.main(arguments)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_config_is_described_as_it_trains(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    found = json.loads(output(capsys, "--config=configs/lenet5.py:data=digits", "--json"))
    assert found["name"] == "lenet5_modern"
    assert found["input_shape"] == [32, 32, 1]
    assert found["params"] == 61_706
    words = ("--config.model.activation=tanh", "--config.data.size=36", "--json")
    found = json.loads(output(capsys, "--config=configs/lenet5.py:data=digits", *words))
    assert found["input_shape"] == [36, 36, 1]
    assert found["params"] == 61_706 + (6 * 6 - 5 * 5) * 16 * 120  # a map of 6×6 before C5


def test_plain_and_residual_differ_in_one_field(capsys):
    found = json.loads(output(capsys, "--diff", "plain18", "resnet18_A", "--json"))
    assert found["fields"] == {"shortcut": ["none", "A"]}
    assert found["layers"] == found["totals"] == {}
    text = output(capsys, "--diff", "plain18", "resnet18_A")
    assert "shortcut: none -> A" in text
    assert "layers: the same" in text


def test_diff_names_layers_of_either_side_and_what_changed(capsys):
    found = json.loads(
        output(capsys, "--diff", "resnet18_A", "resnet18_B:num_classes=10", "--json")
    )
    assert found["fields"] == {"num_classes": [1000, 10], "shortcut": ["A", "B"]}
    before, after = found["layers"]["conv3_1/projection"]
    assert before is None
    assert after["params"] == 64 * 128 + 2 * 128
    assert found["layers"]["fc"]["params"] == [513_000, 5_130]
    text = output(capsys, "--diff", "resnet18_A", "lenet5_modern")
    assert "class: ResNet -> LeNetModern" in text
    assert "\n- conv2_1/a: conv" in text
    assert "\n+ fc3: dense" in text


@pytest.fixture
def two_networks(monkeypatch):
    """Replaces the networks by two, so that `--all` is fast."""
    kept = {name: models.NETWORKS[name] for name in ("resnet20_cifar10_A", "vgg_A")}
    monkeypatch.setattr(models, "NETWORKS", kept)


@pytest.mark.usefixtures("two_networks")
def test_all_prints_a_line_a_network(capsys):
    lines = output(capsys, "--all").splitlines()
    assert len(lines) == 3
    assert lines[1].split() == ["resnet20_cifar10_A", "32×32×3", "269,722", "40,551,040", "21"]
    listed = json.loads(output(capsys, "--all", "--json"))
    assert [entry["params"] for entry in listed] == [269_722, 132_863_336]


def test_the_picture_shows_every_published_error_at_its_cost(tmp_path, monkeypatch):
    names = (
        "alexnet_2012",
        "vgg_A",
        "resnet34_A",
        "resnet20_cifar10_A",
        "cuda_convnet_cifar10_18pct",
    )
    spread = picture.spread
    drawn: list[tuple[Any, Any]] = []

    def watched(labels, renderer):
        spread(labels, renderer)
        drawn.extend((label, label.get_window_extent(renderer)) for label in labels)

    monkeypatch.setattr(picture, "spread", watched)
    path = tmp_path / "cost.png"
    picture.draw({name: measured(name) for name in names}, str(path))
    assert path.read_bytes().startswith(b"\x89PNG")
    spots = [(label.get_text(), *label.xy) for label, _ in drawn]
    # Krizhevsky et al. 2012, Table 2; He et al. 2016a, Tables 3 and 6.
    assert ("alexnet_2012", 724_406_816, 18.2) in spots
    assert ("resnet34_A", 3_644_493_824, 25.03) in spots
    assert ("resnet20_A", 40_551_040, 8.75) in spots
    assert len(spots) == 3 + 3 + 2
    boxes = [box for _, box in drawn]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_a_larger_crop_costs_what_it_costs():
    rate = results.plainest("resnet200_preact")[0]
    cost = picture.cost_of(rate, {"resnet200_preact": measured("resnet200_preact")})
    # Convolutions grow with the area, (320/224)²; the dense layer of 2048×1000 does not.
    dense = 2_048_000
    assert cost - dense == (14_776_270_848 - dense) * 100 // 49
