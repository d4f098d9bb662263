"""One compilation of the kernel side: its options, the child that compiles, and the descriptors in the end.

Owns the options, which a capture takes from its compilation, and the message when this host can't capture. It
must not import bcc, whose compiler would stay in memory: the child (`compiler_child`) does.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass, field

from ebpf.compiler_child import MAX_MESSAGE_BYTES
from ebpf.events import Policy
from ebpf.protocols import JUDGED_PROTOCOLS, JudgedProtocol

COMPILE_TIMEOUT_SECONDS = 180.0
"""Compiling takes a second or two; under emulation up to a minute."""
MAX_DESCRIPTORS = 128
"""Handed over by the compiler at most: maps, links and programs."""
_COMPILER_LINES = 8
"""Lines of a compiler's complaint that reach the user."""


class CaptureUnavailable(Exception):  # noqa: N818  # names the state that the user meets
    """Why this host can't capture: `cause`, and `remedy`, the command or change that mends it."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(f"{cause}. {remedy}")
        self.cause = cause
        self.remedy = remedy


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureOptions:
    """What the kernel side captures. Everything here is fixed for the life of one capture."""

    ports: frozenset[int] = frozenset()
    """Local or remote TCP ports; empty: every port. Unix sockets have none and are left out when ports are
    named."""
    turn_budget: int = 131_072 + 65_536
    """Bytes captured of one direction until the other direction speaks: the default body limit and a header
    block. Over HTTP/2 of the content of DATA frames, until the next message begins at either end."""
    header_budget: int = 65_536
    """The same for processes whose bodies are not captured (`ProcessPolicy.bodies`): a header block."""
    ring_bytes: int = 8_388_608
    """Size of the ring buffer: a power of two, at least a page."""
    default_policy: Policy = Policy.CAPTURE_INGRESS | Policy.CAPTURE_EGRESS
    """Policy of processes that `LiveCapture.set_policy` never named."""
    undecided_at_exec: bool = False
    """A process that executes a program becomes `Policy.UNDECIDED`: captured until the agent has decided on
    it."""
    protocols: tuple[JudgedProtocol, ...] = JUDGED_PROTOCOLS
    """What is captured beside HTTP."""
    tls: bool = True
    """The programs of TLS probes are loaded, and `FileMapped` says where they may belong."""
    agent_tgid: int = field(default_factory=os.getpid)
    """Process that is never captured, and neither is the other end of the connections that it opens."""

    def compiler_flags(self) -> list[str]:
        """Return the options as the program sees them."""
        flags = [
            f"-DTURN_BUDGET={self.turn_budget}",
            f"-DRING_BYTES={self.ring_bytes}",
            f"-DRING_PAGES={self.ring_bytes // os.sysconf('SC_PAGE_SIZE')}",
            f"-DDEFAULT_POLICY={int(self.default_policy)}",
            f"-DAGENT_TGID={self.agent_tgid}",
        ]
        if self.ports:
            flags.append("-DPORTS_IN_USE")
        if self.undecided_at_exec:
            flags.append("-DUNDECIDED_AT_EXEC")
        return flags


def _compiler_complaint(output: str) -> str:
    errors = [line for line in output.splitlines() if "error" in line.lower()] or output.splitlines()
    return "; ".join(line.strip() for line in errors[:_COMPILER_LINES])


class Compilation:
    """A child that compiles, loads and attaches the kernel side while its parent does other things.

    Ends with `finish` or `abandon`.
    """

    def __init__(self, options: CaptureOptions) -> None:
        self._options = options
        self.tls_obstacle: str | None = None
        """After `finish`: why this kernel takes no TLS probes; None when it takes them or none were asked
        for."""
        self._channel, theirs = socket.socketpair()
        with theirs:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "ebpf.compiler_child"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
        request = {
            "flags": options.compiler_flags(),
            "ports": sorted(options.ports),
            "tls": options.tls,
            "protocols": [(each.name, each.number, str(each.source)) for each in options.protocols],
        }
        self._channel.sendall(json.dumps(request).encode())

    @property
    def options(self) -> CaptureOptions:
        """The options that the kernel side is compiled with, and so those of its capture."""
        return self._options

    def finish(self) -> dict[str, int]:
        """Wait, and return the descriptors by name; the caller owns them. Raises CaptureUnavailable."""
        try:
            _, complaint = self._child.communicate(timeout=COMPILE_TIMEOUT_SECONDS)
            self._channel.settimeout(COMPILE_TIMEOUT_SECONDS)
            answer, descriptors, _flags, _address = socket.recv_fds(
                self._channel, MAX_MESSAGE_BYTES, MAX_DESCRIPTORS
            )
        except subprocess.TimeoutExpired as error:
            raise CaptureUnavailable(
                f"compiling the kernel side took longer than {COMPILE_TIMEOUT_SECONDS:.0f} s",
                "Try again when this host is less busy.",
            ) from error
        finally:
            self.abandon()
        if not answer:
            raise CaptureUnavailable(
                f"the compiler ended with {self._child.returncode}: {_compiler_complaint(complaint)}",
                "`wirespan check` says what this host lacks.",
            )
        manifest = json.loads(answer)
        if "cause" in manifest:
            details = _compiler_complaint(complaint)
            raise CaptureUnavailable(
                manifest["cause"] + (f": {details}" if details else ""), manifest["remedy"]
            )
        self.tls_obstacle = manifest["tls_obstacle"]
        return dict(zip(manifest["descriptors"], descriptors, strict=True))

    def abandon(self) -> None:
        """End the child, also in the middle of its work. Idempotent; does nothing after `finish`."""
        self._channel.close()
        if self._child.poll() is None:
            self._child.kill()
            self._child.communicate()
