"""What this host lacks for a capture, and the command or change that mends it.

Probes by trying where that is cheap and has no effect; it must not load anything. Each finding stands alone,
so that a user sees everything that is missing at once rather than one thing per attempt.
"""

from __future__ import annotations

import ctypes
import importlib.util
import platform
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ebpf.bpf_syscalls import LIBRARY
from ebpf.btf import BtfError, KernelTypes
from ebpf.kernel_headers import KernelHeadersError, find_kernel_headers
from ebpf.program import MACHINES, offset_flags

MINIMUM_KERNEL = (5, 8)
"""The first with BPF ring buffers and with CAP_BPF."""
_NO_MEMLOCK_KERNEL = (5, 11)
"""From here on maps are charged to the memory cgroup instead of RLIMIT_MEMLOCK."""

_UPROBE_LINKS_KERNEL = (6, 6)
"""From here on many probes are one link (uprobe_multi), which asks for no more than loading does."""
UPROBES = Path("/sys/bus/event_source/devices/uprobe")

_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2
_CAP_SYS_PTRACE, _CAP_SYS_ADMIN, _CAP_SYS_RESOURCE, _CAP_PERFMON, _CAP_BPF = 19, 21, 24, 38, 39
"""include/uapi/linux/capability.h."""

_INITIAL_PID_NAMESPACE = 0xEFFFFFFC
"""PROC_PID_INIT_INO of include/linux/proc_ns.h."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One precondition of a capture."""

    subject: str
    satisfied: bool
    detail: str
    """What was found, or what is missing."""
    remedy: str | None = None
    """Command or change that mends it; None when satisfied."""
    required: bool = True
    """False: a capture runs without it, but has fewer facts."""


def _kernel_version(release: str) -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _check_system() -> Finding:
    system, machine, release = platform.system(), platform.machine(), platform.release()
    if system != "Linux":
        return Finding(
            "system", satisfied=False, detail=f"{system} has no eBPF", remedy="Run wirespan on Linux."
        )
    if machine not in MACHINES:
        return Finding(
            "system",
            satisfied=False,
            detail=f"{machine} is not supported",
            remedy=f"Run wirespan on {' or '.join(sorted(MACHINES))}.",
        )
    if _kernel_version(release) < MINIMUM_KERNEL:
        return Finding(
            "system",
            satisfied=False,
            detail=f"Linux {release} has no BPF ring buffer",
            remedy=f"Use Linux {MINIMUM_KERNEL[0]}.{MINIMUM_KERNEL[1]} or later.",
        )
    return Finding("system", satisfied=True, detail=f"Linux {release} on {machine}")


def _check_types() -> Finding:
    try:
        offset_flags(KernelTypes.of_running_kernel())
    except (BtfError, KeyError) as error:
        return Finding(
            "kernel types (BTF)",
            satisfied=False,
            detail=str(error),
            remedy="Use a kernel with CONFIG_DEBUG_INFO_BTF=y; in a container, show it /sys/kernel/btf.",
        )
    return Finding("kernel types (BTF)", satisfied=True, detail="every offset that is needed is known")


def _effective_capabilities() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    match = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return int(match[1], 16) if match else 0


def _has(capabilities: int, *numbers: int) -> bool:
    return all(capabilities >> number & 1 for number in numbers)


def check_loading() -> Finding:
    """Return whether this process may load and attach eBPF programs."""
    capabilities = _effective_capabilities()
    missing = []
    if not _has(capabilities, _CAP_SYS_ADMIN):
        if not _has(capabilities, _CAP_BPF):
            missing.append("CAP_BPF")
        if not _has(capabilities, _CAP_PERFMON):
            missing.append("CAP_PERFMON")
    needs_memlock = _kernel_version(platform.release()) < _NO_MEMLOCK_KERNEL
    if needs_memlock and not _has(capabilities, _CAP_SYS_RESOURCE):
        missing.append("CAP_SYS_RESOURCE")
    if missing:
        return Finding(
            "privileges to load eBPF programs",
            satisfied=False,
            detail=f"{', '.join(missing)} missing",
            remedy=f"Run as root (`sudo wirespan …`), or grant {', '.join(missing)}.",
        )
    return Finding("privileges to load eBPF programs", satisfied=True, detail="granted")


def _check_processes() -> Finding:
    if _has(_effective_capabilities(), _CAP_SYS_PTRACE):
        return Finding("privileges to name processes", satisfied=True, detail="granted", required=False)
    return Finding(
        "privileges to name processes",
        satisfied=False,
        detail="CAP_SYS_PTRACE missing: executables and TLS libraries of other users stay unknown",
        remedy="Run as root, or grant CAP_SYS_PTRACE.",
        required=False,
    )


def _check_probes() -> Finding:
    subject = "probes in programs (TLS)"
    if not UPROBES.exists():
        return Finding(
            subject,
            satisfied=False,
            detail="this kernel has no uprobes: TLS connections stay unseen",
            remedy="Use a kernel with CONFIG_UPROBE_EVENTS=y; in a container, show it /sys.",
            required=False,
        )
    capabilities = _effective_capabilities()
    has_links = _kernel_version(platform.release()) >= _UPROBE_LINKS_KERNEL
    if _has(capabilities, _CAP_SYS_ADMIN) or (has_links and _has(capabilities, _CAP_BPF, _CAP_PERFMON)):
        return Finding(subject, satisfied=True, detail="can be attached", required=False)
    missing = "CAP_BPF and CAP_PERFMON" if has_links else "CAP_SYS_ADMIN, before Linux 6.6,"
    return Finding(
        subject,
        satisfied=False,
        detail=f"{missing} missing: TLS connections stay unseen",
        remedy="Run as root, or grant it.",
        required=False,
    )


def _check_environments() -> Finding:
    # root without capabilities is to /proc/PID/environ a user as any other
    capabilities = _effective_capabilities()
    if _has(capabilities, _CAP_DAC_READ_SEARCH) or _has(capabilities, _CAP_DAC_OVERRIDE):
        return Finding("privileges to read environments", satisfied=True, detail="granted", required=False)
    return Finding(
        "privileges to read environments",
        satisfied=False,
        detail="CAP_DAC_READ_SEARCH missing: OTEL_SERVICE_NAME of other users' processes stays unknown",
        remedy="Run as root, or grant CAP_DAC_READ_SEARCH.",
        required=False,
    )


def _check_lockdown() -> Finding:
    try:
        text = Path("/sys/kernel/security/lockdown").read_text(encoding="ascii")
    except OSError:
        return Finding("kernel lockdown", satisfied=True, detail="not in use")
    if "[confidentiality]" in text:
        return Finding(
            "kernel lockdown",
            satisfied=False,
            detail="mode `confidentiality` forbids eBPF to read memory",
            remedy="Boot with lockdown=integrity, or without Secure Boot's confidentiality mode.",
        )
    return Finding("kernel lockdown", satisfied=True, detail="allows reading memory")


def _check_compiler() -> Finding:
    if importlib.util.find_spec("bcc") is None:
        return Finding(
            "bcc (compiler)",
            satisfied=False,
            detail="Debian's Python binding of bcc is not importable",
            remedy="Install it with `apt-get install python3-bpfcc`, then run `make setup` again.",
        )
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return Finding(
            "bcc (compiler)",
            satisfied=False,
            detail=f"{LIBRARY} is missing",
            remedy="Install it with `apt-get install libbpfcc`.",
        )
    return Finding("bcc (compiler)", satisfied=True, detail="present")


def _check_headers() -> Finding:
    try:
        tree = find_kernel_headers()
    except KernelHeadersError as error:
        return Finding("kernel headers", satisfied=False, detail="none found", remedy=str(error))
    return Finding("kernel headers", satisfied=True, detail=str(tree or "the kernel's own archive"))


def _check_namespace() -> Finding:
    try:
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return Finding("process numbers", satisfied=True, detail="/proc does not say", required=False)
    if namespace == _INITIAL_PID_NAMESPACE:
        return Finding("process numbers", satisfied=True, detail="those of the host", required=False)
    return Finding(
        "process numbers",
        satisfied=False,
        detail="a container's own: processes can't be named, and the agent would capture itself",
        remedy="Run in the host's process namespace (`docker run --pid=host`, `hostPID: true`).",
        required=False,
    )


_CHECKS: tuple[Callable[[], Finding], ...] = (
    _check_system,
    _check_types,
    check_loading,
    _check_lockdown,
    _check_compiler,
    _check_headers,
    _check_processes,
    _check_probes,
    _check_environments,
    _check_namespace,
)


def preflight() -> list[Finding]:
    """Return every precondition of a capture on this host, in the order in which a user would mend them."""
    return [check() for check in _CHECKS]
