"""The runs that a config file proposes by itself: reproduce.py --config=FILE."""

import pathlib

import pytest

from errors import UserError
from reproduction import planning, sweep

CONFIG = '''"""A toy. Nobody's recipe."""
from configs.base import base


def get_config(argument=None):
    config = base()
    config.model.name = "toy"
    config.data.name = argument or "digits"
    config.schedule.rate = 0.1
    return config
'''


def write(folder: pathlib.Path, body: str) -> str:
    path = folder / "toy.py"
    path.write_text(f"{CONFIG}\n\ndef sweep():\n{body}\n" if body else CONFIG)
    return str(path)


def test_runs_that_differ_in_their_seed_alone_are_one_row(tmp_path):
    body = (
        "    yield {'seed': 0}\n"
        "    yield {'schedule.rate': 1.0, 'model.width': 2.0, 'seed': 0}\n"
        "    yield {'seed': 3}"
    )
    config = f"{write(tmp_path, body)}:mnist"
    study, data, wanted = sweep.create(config, {"model.depth": 5})
    assert data == "mnist"
    changed = "schedule.rate=1.0, model.width=2.0"
    assert wanted == {("as configured", 0), (changed, 0), ("as configured", 3)}
    assert study.command == f"python reproduce.py --config={config} --config.model.depth=5"
    assert study.paper == "A toy. Nobody's recipe"

    jobs = {(job.run.label, job.seed): job for job in planning.jobs(study, data, (0, 3), tmp_path)}
    resolved = jobs[changed, 0].config
    assert (resolved.schedule.rate, resolved.seed) == (1.0, 0)
    assert resolved.model.to_dict() == {"name": "toy", "width": 2.0, "depth": 5}
    assert jobs["as configured", 3].config.schedule.rate == 0.1
    assert "about" not in planning.plan(list(jobs.values()), list(jobs.values()))  # nobody knows


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("", "toy.py has no sweep()"),
        ("    yield {'rate': 1.0}", "it must yield fields, with an integer seed"),
        ("    yield 3", "yields 3; it must yield fields"),
        ("    yield {'seed': 1}\n    yield {'seed': 1}", "yields as configured, seed 1 twice"),
        ("    yield from ()", "sweep() yields nothing"),
        ("    yield {'rat': 1.0, 'seed': 1}", "config.rat: there is no such field"),
        (
            "    yield {'seed': 1}\n    1 / 0",
            "toy.py, line 15: ZeroDivisionError: division",
        ),
        ("    return None", "toy.py: sweep() returns None; it must yield fields"),
    ],
)
def test_a_sweep_that_cannot_run_is_one_line(body, words, tmp_path):
    with pytest.raises(UserError) as raised:
        sweep.create(write(tmp_path, body), {})
    assert words in str(raised.value)
