from __future__ import annotations

import importlib.util
import platform
from pathlib import Path

import pytest

from ebpf import preflight as module
from ebpf.btf import BtfError, KernelTypes
from ebpf.kernel_headers import KernelHeadersError
from ebpf.preflight import Finding, check_loading, preflight


def finding(subject: str) -> Finding:
    (found,) = [one for one in preflight() if one.subject == subject]
    return found


def test_every_finding_that_is_not_satisfied_says_how_to_mend_it() -> None:
    for one in preflight():
        assert one.detail
        assert (one.remedy is None) == one.satisfied


@pytest.mark.parametrize(
    ("function", "value", "detail"),
    [
        ("system", "Darwin", "Darwin has no eBPF"),
        ("machine", "riscv64", "riscv64 is not supported"),
        ("release", "4.19.0-27-amd64", "has no BPF ring buffer"),
        ("release", "5.7.19", "has no BPF ring buffer"),
        ("release", "unknown", "has no BPF ring buffer"),
    ],
)
def test_systems_that_cannot_capture_are_named(
    monkeypatch: pytest.MonkeyPatch, function: str, value: str, detail: str
) -> None:
    monkeypatch.setattr(platform, function, lambda: value)
    found = module._check_system()
    assert not found.satisfied
    assert detail in found.detail


def test_a_kernel_without_types_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> KernelTypes:
        raise BtfError("nothing there")

    monkeypatch.setattr(KernelTypes, "of_running_kernel", refuse)
    assert "CONFIG_DEBUG_INFO_BTF" in str(finding("kernel types (BTF)").remedy)


@pytest.mark.parametrize(
    ("capabilities", "release", "missing"),
    [
        (0, "6.1.0", ["CAP_BPF", "CAP_PERFMON"]),
        (1 << 39, "6.1.0", ["CAP_PERFMON"]),
        (1 << 39 | 1 << 38, "6.1.0", []),
        (1 << 39 | 1 << 38, "5.10.0", ["CAP_SYS_RESOURCE"]),
        (1 << 21, "6.1.0", []),
        (1 << 21 | 1 << 24, "5.10.0", []),
    ],
)
def test_missing_capabilities_are_named(
    monkeypatch: pytest.MonkeyPatch, capabilities: int, release: str, missing: list[str]
) -> None:
    monkeypatch.setattr(module, "_effective_capabilities", lambda: capabilities)
    monkeypatch.setattr(platform, "release", lambda: release)
    found = check_loading()
    assert found.satisfied == (not missing)
    assert all(name in found.detail for name in missing)


@pytest.mark.parametrize(
    ("capabilities", "release", "missing"),
    [
        (1 << 39 | 1 << 38, "6.6.0", None),
        (1 << 39, "6.6.0", "CAP_BPF and CAP_PERFMON missing"),
        (1 << 39 | 1 << 38, "6.1.0", "CAP_SYS_ADMIN, before Linux 6.6, missing"),
        (1 << 21, "6.1.0", None),
    ],
)
def test_what_probes_need_depends_on_the_kernel(
    monkeypatch: pytest.MonkeyPatch, capabilities: int, release: str, missing: str | None
) -> None:
    monkeypatch.setattr(module, "_effective_capabilities", lambda: capabilities)
    monkeypatch.setattr(platform, "release", lambda: release)
    found = module._check_probes()
    assert found.satisfied == (missing is None)
    assert (missing or "can be attached") in found.detail
    assert not found.required


def test_a_kernel_without_uprobes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UPROBES", Path("/nothing/there"))
    assert "CONFIG_UPROBE_EVENTS" in str(finding("probes in programs (TLS)").remedy)


@pytest.mark.parametrize(
    ("subject", "sufficient"),
    [("privileges to name processes", (19,)), ("privileges to read environments", (1, 2))],
)
def test_reading_of_processes_is_wished_for_but_not_required(
    monkeypatch: pytest.MonkeyPatch, subject: str, sufficient: tuple[int, ...]
) -> None:
    monkeypatch.setattr(module, "_effective_capabilities", lambda: 0)
    found = finding(subject)
    assert not found.satisfied
    assert not found.required
    for number in sufficient:
        monkeypatch.setattr(module, "_effective_capabilities", lambda number=number: 1 << number)
        assert finding(subject).satisfied


def test_lockdown_is_read_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, satisfied in (
        ("none integrity [confidentiality]", False),
        ("none [integrity] confidentiality", True),
    ):
        monkeypatch.setattr(Path, "read_text", lambda *_args, _text=text, **_named: _text)
        assert module._check_lockdown().satisfied == satisfied


def test_a_missing_compiler_library_or_header_tree_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIBRARY", "libnowhere.so.0")
    assert "libbpfcc" in str(finding("bcc (compiler)").remedy)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert "python3-bpfcc" in str(finding("bcc (compiler)").remedy)

    def refuse() -> None:
        raise KernelHeadersError("install them")

    monkeypatch.setattr(module, "find_kernel_headers", refuse)
    assert finding("kernel headers").remedy == "install them"


def test_a_container_of_its_own_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_INITIAL_PID_NAMESPACE", 1)
    found = finding("process numbers")
    assert not found.satisfied
    assert not found.required
    assert "--pid=host" in str(found.remedy)
