"""Sums come out right under jit, and a user's own flags are kept."""

import pytest

from startup import xla_settings


def test_jitted_sums_are_right() -> None:
    # Without the setting jaxlib 0.10.2 gives 1,065,369,600 here.
    computed, right = xla_settings.jitted_sum()
    assert computed == right == 1_073_741_824


@pytest.mark.parametrize(
    ("given", "version", "expected"),
    [
        ("", "0.10.2", "--xla_cpu_experimental_ynn_fusion_type=-reduce"),
        ("--a=1", "0.10.2", "--a=1 --xla_cpu_experimental_ynn_fusion_type=-reduce"),
        # The user's own value of the same flag stands.
        (
            "--xla_cpu_experimental_ynn_fusion_type=+eltwise",
            "0.10.2",
            "--xla_cpu_experimental_ynn_fusion_type=+eltwise",
        ),
        ("--a=1", "0.12.0.1", "--a=1"),
    ],
)
def test_flags(monkeypatch: pytest.MonkeyPatch, given: str, version: str, expected: str) -> None:
    monkeypatch.setenv("XLA_FLAGS", given)
    monkeypatch.setattr(xla_settings.metadata, "version", lambda _: version)
    xla_settings.apply()
    assert xla_settings.os.environ["XLA_FLAGS"] == expected


def test_a_start_without_the_flags_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xla_settings, "needed", lambda: True)
    monkeypatch.setattr(xla_settings, "jitted_sum", lambda: (1_065_369_600.0, 1_073_741_824.0))
    with pytest.warns(UserWarning, match="XLA_FLAGS=--xla_cpu_experimental_ynn"):
        xla_settings.check()
