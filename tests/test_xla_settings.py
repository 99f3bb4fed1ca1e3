"""Sums come out right under jit, a user's own flags are kept, and freed memory is used again."""

import ctypes
import platform
import resource

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


def test_a_start_without_the_flags_gives_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xla_settings, "needed", lambda: True)
    monkeypatch.setattr(xla_settings, "jitted_sum", lambda: (1_065_369_600.0, 1_073_741_824.0))
    with pytest.warns(UserWarning, match="XLA_FLAGS=--xla_cpu_experimental_ynn"):
        xla_settings.check()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_freed_memory_is_used_again_without_a_page_fault() -> None:
    """By default each of the 64 MiB is taken from the system anew: 16,384 pages, zeroed again."""
    xla_settings.apply()
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    size, faults = 2**26, list[int]()
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        block = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(size)))
        ctypes.memset(block, 1, size)
        libc.free(block)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    assert faults[2] < 100
