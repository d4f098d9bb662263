"""Whether uretprobes are safe, tried in this kernel."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator

import pytest

from ebpf import uretprobes
from ebpf.uretprobes import HAZARD, UNKNOWN_HAZARD, find_hazard, needs_trial, survives_seccomp

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or platform.machine() != "x86_64", reason="needs root, and x86-64"
)


@pytest.fixture(autouse=True)
def _ask_anew() -> Iterator[None]:
    find_hazard.cache_clear()
    yield
    find_hazard.cache_clear()


@pytest.mark.parametrize(
    ("machine", "release", "needed"),
    [
        ("x86_64", "6.10.14", False),
        ("x86_64", "6.11.0-8-generic", True),
        ("x86_64", "6.13.1", True),
        ("x86_64", "6.14.0", False),
        ("x86_64", "7.0", False),
        ("x86_64", "of a kind", True),
        ("aarch64", "6.11.0", False),
    ],
)
def test_kernels_that_may_end_a_program(machine: str, release: str, *, needed: bool) -> None:
    assert needs_trial(machine, release) is needed


@needs_root
def test_a_confined_program_survives_in_a_kernel_that_is_mended() -> None:
    if needs_trial(platform.machine(), platform.release()):
        pytest.skip("it may not be")
    assert survives_seccomp()


@needs_root
def test_a_program_that_seccomp_ends_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    makes_a_call = uretprobes._CHILD.replace("labs(-1)\nwrite(", "libc.getppid()\nwrite(")
    monkeypatch.setattr(uretprobes, "_CHILD", makes_a_call)
    assert not survives_seccomp()


@needs_root
def test_a_probe_that_was_never_met_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        uretprobes, "_CHILD", uretprobes._CHILD.replace('labs(-1)\nwrite(1, b"alive', 'write(1, b"alive')
    )
    with pytest.raises(ValueError, match="never met"):
        survives_seccomp()


def refuse() -> bool:
    raise PermissionError(1, "Operation not permitted")


@pytest.mark.parametrize(
    ("trial", "hazard"), [(lambda: True, None), (lambda: False, HAZARD), (refuse, UNKNOWN_HAZARD)]
)
def test_what_is_not_known_to_be_safe_is_a_hazard(
    monkeypatch: pytest.MonkeyPatch, trial: Callable[[], bool], hazard: str | None
) -> None:
    monkeypatch.setattr(uretprobes, "survives_seccomp", trial)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(platform, "release", lambda: "6.12.1")
    assert find_hazard() == hazard
