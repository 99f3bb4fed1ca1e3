"""Bad input on every command: one line that names the field or file, status 2, nothing written.

Most run in this process, a few through the shell.
"""

import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from absl import flags
from absl.testing import flagsaver

import describe
import reproduce
import train
from errors import SUGGESTIONS, UserError, did_you_mean
from startup import command_line
from training import progress

ROOT = pathlib.Path(__file__).parent.parent
LENET = "configs/lenet5.py:data=digits"


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


# The flags of train.py and reproduce.py, which define them where they are started as programs.
TEXTS = ("workdir", "data_dir", "on", "study", "data", "out", "html")
SWITCHES = (
    "dry_run",
    "help_config",
    "extend",
    "plan",
    "task",
    "publish",
    "list",
    "redraw",
    "report",
    "check",
    "status",
)
SEVERAL = ("runs", "curves", "compare")


@pytest.fixture(scope="module", autouse=True)
def defined() -> Iterator[None]:
    before = set(flags.FLAGS)
    command_line.define_config("")
    for name in TEXTS:
        flags.DEFINE_string(name, None, "")
    for name in SWITCHES:
        flags.DEFINE_bool(name, False, "")
    for name in SEVERAL:
        flags.DEFINE_multi_string(name, None, "")
    flags.DEFINE_list("seeds", None, "")
    flags.DEFINE_integer("jobs", None, "")
    yield
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)


def complaint(main: Callable[[], None], arguments: list[str], capfd) -> str:
    """The one line that a command prints on standard error before it exits."""
    with flagsaver.flagsaver(), pytest.MonkeyPatch.context() as patch:
        flags.FLAGS.unparse_flags()
        patch.setattr(sys, "argv", ["command.py", *arguments])
        patch.setattr("startup.compilation_cache.use", lambda: None)  # the session has its own
        patch.setattr("startup.jobs._quit", sys.exit)  # which ends the process at once

        def command() -> None:
            command_line._parse(sys.argv)
            command_line._guarded(main)

        with pytest.raises(SystemExit) as left:
            command()
    assert left.value.code == 2
    out, error = capfd.readouterr()
    assert (out, error.count("\n")) == ("", 1), error
    return error


def described(arguments: list[str]) -> str:
    """As `complaint`, of describe.py, which has no absl flags."""
    with pytest.raises(UserError) as raised:
        describe.main(arguments)
    return command_line.one_line(raised.value) + "\n"


BASE = """from configs.base import base


def get_config(argument=None):
    config = base()
"""
FILES = [
    ("def get_config(:\n", ["mine.py, line 1: SyntaxError: invalid syntax"]),
    ("import no_such_module\n", ["mine.py, line 1: ModuleNotFoundError", "'no_such_module'"]),
    ("\n\n1 / 0\n", ["mine.py, line 3: ZeroDivisionError"]),
    ("raise SystemExit\n", ["mine.py, line 1: SystemExit"]),
    ("seed = 0\n", ["mine.py: has no function get_config"]),
    ("get_config = 3\n", ["mine.py: has no function get_config"]),
    (
        "def get_config(a, b):\n    return a\n",
        ["mine.py, line 1: get_config must take one"],
    ),
    (
        "\ndef get_config(a):\n    pass\n",
        ["mine.py, line 2: get_config returns None, not a"],
    ),
    ("def get_config():\n    return 5\n", ["mine.py, line 1: get_config returns 5"]),
    (
        "def get_config():\n    return {'seed': 0}\n",
        ["mine.py, line 1: get_config returns {'s"],
    ),
    (BASE + "    config.lock().seeed = 1\n", ["mine.py, line 6: AttributeError", "seed"]),
    (
        BASE + "    del config.eval\n    return config\n",
        ["line 4: config.eval: is missing"],
    ),
    (BASE + "    del config.eval.every\n    return config\n", ["config.eval.every: is missing"]),
    (BASE + "    config.model = 3\n", ["mine.py, line 6: TypeError"]),
    (
        f"from ml_collections import ConfigDict\n{BASE}"
        "    return ConfigDict({**config.to_dict(), 'model': 3})\n",
        ["mine.py, line 5: config.model: must hold fields (name), not 3"],
    ),
    (BASE + "    config.rate = 1\n    return config\n", ["config.rate: there is no such field"]),
]


@pytest.mark.parametrize(("text", "words"), FILES)
def test_a_config_file_is_named_with_its_line(text, words, tmp_path, capfd) -> None:
    file = tmp_path / "mine.py"
    file.write_text(text)
    lines = {
        complaint(train.main, [f"--config={file}", "--dry_run"], capfd),
        complaint(reproduce.main, [f"--config={file}"], capfd),
        described([f"--config={file}"]),
    }
    (line,) = lines  # the same on every command
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("--config.sede=1", "config.sede: there is no such field; did you mean seed"),
        ("--config.dat.name=mnist", "config.dat.name: there is no such field; did you mean data"),
        ("--config.seed.x=1", "config.seed.x: there is no such field"),
        ("--config.seed=x", "config.seed: must be a whole number from 0 to 4294967295, not 'x'"),
        ("--config.seed=1.5", "config.seed: must be a whole number from 0"),
        ("--config.seed=True", "config.seed: must be a whole number from 0"),
        ("--config.seed=-1", "config.seed: must be a whole number from 0"),
        ("--config.seed=99999999999999999999", "config.seed: must be a whole number from 0"),
        (f"--config.seed={'9' * 5000}", "config.seed: must be a whole number from 0"),
        ("--config.seed=", "config.seed: must be a whole number"),
        ("--config.seed", "--config.seed: needs a value"),
        ("--config.model=resnet", "config.model: must hold fields (name), not 'resnet'"),
        ("--config.model.name=lenet5_moden", "did you mean: lenet5_modern"),
        ("--config.model.name=zzz", "no network is called 'zzz'; see models.NETWORKS"),
        ("--config.model.pol=max", "config.model: lenet5_modern has no field 'pol'; fields: act"),
        ("--config.model.input=8", "config.model.input: is set by the data"),
        ("--config.model.dtype=float64", "config.model.dtype: JAX computes float64 as float32"),
        ("--config.model.param_dtype=float64", "config.model.param_dtype: JAX computes"),
        ("--config.model.dtype=float16", "config.model.dtype: float16 is not supported"),
        ("--config.model.width=nan", "width"),
        ("--config.duration=1e400 steps", "config.duration: '1e400 steps' is more than 2,147,48"),
        ("--config.duration=0 steps", "config.duration: '0 steps' is less than one step"),
        ("--config.duration=-3 epochs", "config.duration: '-3 epochs' is not of the form"),
        ("--config.duration=1 epochs", "warmup: '2 epochs' is 44 steps, more than the run's 22"),
        ("--config.batch_size=0", "config.batch_size: must be a whole number from 1, not 0"),
        ("--config.batch_size=12", "batch_size=12: expected a positive multiple of the 8 devices"),
        ("--config.parameters.rates=5", "config.parameters.rates: 5 is not a pair"),
        ("--config.parameters.rates=(('*',inf),)", "config.parameters.rates"),
        ("--config.parameters.clip_norm=-1", "config.parameters.clip_norm: must be a number from"),
        ("--config.optimizer.name=sdg", "config.optimizer: 'sdg' is none of sgd"),
        ("--config.optimizer.momentum=1", "config.optimizer.momentum: must be a number from 0 and"),
        ("--config.optimizer.momentum=-0.1", "config.optimizer.momentum: must be a number from 0"),
        ("--config.optimizer.weight_decay=-1", "config.optimizer.weight_decay: must be a number"),
        ("--config.optimizer.weight_decay=nan", "config.optimizer.weight_decay: must be a number"),
        ("--config.schedule.name=cosin", "config.schedule: 'cosin' is none of"),
        ("--config.schedule.rate=-1", "config.schedule.rate: must be a number from 0, not -1.0"),
        ("--config.schedule.rate=nan", "config.schedule.rate: must be a number from 0, not"),
        ("--config.schedule.rate=1e999", "config.schedule.rate: must be a number from 0, not inf"),
        ("--config.schedule.rate=1e39", "config.schedule.rate: must be a number"),
        ("--config.loss.kind=hinge", "config.loss: 'hinge' is none of cross_entropy, rbf_mse"),
        ("--config.loss.kind=rbf_mse", "config.loss: rbf_mse has no field 'label_smoothing'"),
        ("--config.loss.label_smoothing=1", "config.loss.label_smoothing: must be a number from 0"),
        ("--config.loss.weights.main=1e999", "config.loss.weights.main: must be a number from 0"),
        ("--config.loss.weights.main=-1", "config.loss.weights.main: must be a number from 0"),
        ("--config.eval.heads=aux1", "config.eval.heads: no side head 'aux1'; side heads: none"),
        ("--config.checkpoint.keep=0", "config.checkpoint.keep: must be a whole number from 1"),
        ("--config.data.name=digit", "valid names: digits, mnist"),
        ("--config.data.name=synthetic:8x8x1:1", "has one class only"),
        ("--config.data.name=folder:~nobody_here/x", "there is no folder '~nobody"),
        (f"--config.data.name=folder:{'x' * 300}", "there is no folder"),
        (
            "--config.data.size=8",
            "config.model: input: 8×8 is too small, the smallest valid size is 16×16",
        ),
        ("--config.data.size=99999999", "config.data.size: must be a whole number from 0 to 4096"),
        ("--config.data.workers=100000", "config.data.workers: must be a whole number from 0 to"),
        (
            "--config.data.augment=pad_crop(pixels=1e999)",
            "pad_crop(pixels=1e309): expected a",
        ),
        ("--config.data.augment=affine(translate=1e999)", "expected a number of at least 0"),
        ("--config.data.augment=pad_crop(pixels=99999999)", "expected a whole number of at least"),
        ("--config.data.augment=random_crop(side=99999999)", "expected a whole number of at least"),
    ],
)
def test_an_override_is_named(given: str, words: str, capfd) -> None:
    error = complaint(train.main, [f"--config={LENET}", "--dry_run", given], capfd)
    assert error.startswith("error: ")
    assert words in error


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([f"--config={LENET}"], "--workdir is missing"),
        ([f"--config={LENET}", "--workdir="], "--workdir: is empty"),
        (["--workdir=runs/x"], "--config is missing"),
        (["--config="], "--config: is empty"),
        (["--config=configs"], "there is no config file configs"),
        (["--config=configs/none.py"], "there is no config file configs/none.py"),
        ([f"--config={'x' * 300}.py"], "there is no config file xxx"),
        (["--config=README.md"], "README.md: a config file must be a Python file"),
        (
            ["--config=configs/lenet5.py:dta=mnist"],
            "config argument 'dta=mnist': must be key=value",
        ),
        ([f"--config={LENET}", "--config.seed=1", "--config.seed=2"], "--config.seed: is given tw"),
        ([f"--config={LENET}", f"--config={LENET}"], "--config: is given 2 times"),
        ([f"--config={LENET}", "--dryrun"], "flags: Unknown command line flag 'dryrun'"),
        ([f"--config={LENET}", "fast"], "unexpected argument 'fast'"),
    ],
)
def test_a_flag_is_named(given: list[str], words: str, capfd) -> None:
    assert words in complaint(train.main, given, capfd)


def test_an_override_may_be_written_as_two_words() -> None:
    assert command_line.divided(["a", "--config.seed", "1", "-config.model.heads=(a,b)"]) == (
        ["a"],
        {"seed": "1", "model.heads": "(a,b)"},
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--study=shortcuts", "--study=degradation"], "--study: is given 2 times"),
        (["--study="], "--study: is empty"),
        (["--study=degradation", "--out=README.md"], "--out: README.md cannot be a working folder"),
        ([f"--config={LENET}", "--out=README.md/x"], "--out: README.md/x cannot be a working"),
        (["--curves=runs/x", "--out=x.foo"], "--out: x.foo must end in .png, .pdf, .svg"),
        (["--curves=runs/none"], "runs/none is not a run's workdir: it has no config.json"),
        (["--compare=runs/none"], "runs/none is not a run's workdir: it has no config.json"),
        (["--compare=runs/x", "--html=x.png"], "--html: x.png must end in .html"),
        (["--compare=runs/x", "--html=none/x.html"], "--html: there is no folder none"),
        (["--html=x.html"], "--html: is the page of --compare, which is not given"),
    ],
)
def test_a_flag_of_reproduce_is_named(given: list[str], words: str, capfd) -> None:
    assert words in complaint(reproduce.main, given, capfd)


def test_at_most_five_names_are_suggested() -> None:
    names = [f"resnet{n}" for n in range(20)]
    assert did_you_mean("resnet", names).count("resnet") == SUGGESTIONS == 5
    assert did_you_mean("zzz", names) == ""


def test_a_run_says_how_many_damaged_images_it_skipped() -> None:
    last = {"step": 8, "train_error": 0.5, "test_error": 0.25}
    result = {"last": last, "validation_best": None, "test_best": last}
    assert "damaged" not in progress.result_table(result)
    text = progress.result_table({**result, "damaged": {"train": 1200, "test": 0}})
    assert text.endswith("\ndamaged images skipped: 1,200 train, 0 test")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (
            ["describe.py", f"--config={LENET}", "--show=x.foo"],
            "--show: x.foo must end in .png, .pdf, .svg",
        ),
        (
            ["describe.py", "--config=configs/none.py", "--show=x.png"],
            "there is no config file configs/none.py",
        ),
        (["reproduce.py", "degradation", "shortcuts"], "--study: is given 2 times"),
        (["evaluate.py", "--workdir="], "--workdir: is empty"),
        (["evaluate.py", "--workdir=x", "--report=x.png"], "--report: x.png must end in .html"),
        (["reproduce.py", "--compare"], "Missing value for flag --compare"),
    ],
)
def test_through_the_shell(command: list[str], words: str) -> None:
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert words in done.stderr
