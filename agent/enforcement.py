"""Decisions put into force: the kernel's policy map, and what is in flight when less is captured.

Owns every write to that map but the kernel's own, and the processes that are let finish: when less is
captured from one moment on, the kernel goes on for `FINISHING_NS` with connections that it has captured so
far, and the agent drops what begins on them after the change. It must not decide (`selection`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from agent import procfs
from agent.workloads.workload import CaptureDecision
from ebpf.events import Policy, ProcessPolicy

FINISHING_NS = 5_000_000_000
"""How long what is in flight at a change is let finish; nearly every request is over by then."""


class PolicyMap(Protocol):
    """The part of a live capture that selection reads and writes."""

    def set_policy(self, tgid: int, policy: ProcessPolicy) -> None:
        """Apply a policy to a process; its children inherit it. Raises OSError when there is no room."""

    def change_policy(self, tgid: int, policy: ProcessPolicy) -> None:
        """Replace the policy of a process that has one of its own; no-op for any other process."""

    def remove_policy(self, tgid: int) -> None:
        """Return a process to the default policy."""

    def policy(self, tgid: int) -> ProcessPolicy | None:
        """Return the policy that a process has of its own, inherited or not."""


class Enforcement:
    """The policies of the processes of this host."""

    def __init__(self, policies: PolicyMap, ktime_now: Callable[[], int], proc: Path = procfs.PROC) -> None:
        self._policies = policies
        self._ktime_now = ktime_now
        self._proc = proc
        self._finishing: dict[int, int] = {}
        self._unselectable = 0
        self._changed = 0

    def policy(self, tgid: int) -> ProcessPolicy | None:
        """Return the policy that a process has of its own, inherited or not."""
        return self._policies.policy(tgid)

    def enforce(self, tgid: int, decision: CaptureDecision) -> None:
        """Write the policy that a decision means for a process that runs."""
        current = self._policies.policy(tgid)
        if decision.roles is None:
            if current is None:
                self.introduce(tgid, ProcessPolicy(capture=Policy.UNDECIDED, tls=decision.tls))
            elif current.tls and not decision.tls:
                self._change(tgid, dataclasses.replace(current, tls=False))
            return
        wanted = ProcessPolicy(
            capture=decision.roles, ports=decision.ports, bodies=decision.bodies, tls=decision.tls
        )
        if current is None:
            self.introduce(tgid, wanted)
            return
        if not current.capture & Policy.UNDECIDED:
            if dataclasses.replace(current, finishing=Policy.IGNORE) == wanted:
                return
            self._changed += 1
            finishing = _let_finish(current, wanted)
            if finishing:
                wanted = dataclasses.replace(wanted, finishing=finishing)
                self.note_finishing(tgid)
        self._change(tgid, wanted)

    def return_to_undecided(self, tgid: int, decision: CaptureDecision) -> None:
        """Take back the policy of a decision that was about the program before."""
        self._change(tgid, ProcessPolicy(capture=Policy.UNDECIDED, tls=decision.tls))

    def introduce(self, tgid: int, policy: ProcessPolicy) -> None:
        """Write the policy of a process that has none."""
        if not policy.capture:
            return
        try:
            self._policies.set_policy(tgid, policy)
        except OSError:
            self._unselectable += 1
            return
        # The kernel removes an entry when its process exits; one written later would stay for good.
        if not procfs.is_alive(tgid, self._proc):
            self._policies.remove_policy(tgid)

    def remove(self, tgid: int) -> None:
        """Return a process to the default policy."""
        self._policies.remove_policy(tgid)

    def note_finishing(self, tgid: int) -> None:
        """Let a process finish what is in flight, for `FINISHING_NS` from now on."""
        self._finishing[tgid] = self._ktime_now() + FINISHING_NS

    def end_finishing(self) -> None:
        """End the leave to finish of the processes whose time is over."""
        now = self._ktime_now()
        for tgid in [tgid for tgid, due_ktime_ns in self._finishing.items() if due_ktime_ns <= now]:
            del self._finishing[tgid]
            current = self._policies.policy(tgid)
            if current is not None:
                self._change(tgid, dataclasses.replace(current, finishing=Policy.IGNORE))

    def counters(self) -> dict[str, int]:
        """Return `unselectable_processes` and `changed_processes`, from the start (`Selection.counters`)."""
        return {"unselectable_processes": self._unselectable, "changed_processes": self._changed}

    def _change(self, tgid: int, policy: ProcessPolicy) -> None:
        """Write the policy of a process that has one, be it undecided."""
        if not policy.capture and not policy.finishing:
            self._policies.remove_policy(tgid)
            return
        try:
            self._policies.change_policy(tgid, policy)
        except OSError:
            self._unselectable += 1
            self._policies.remove_policy(tgid)


def _let_finish(current: ProcessPolicy, wanted: ProcessPolicy) -> Policy:
    """Return the roles in which less is captured from now on."""
    if wanted.ports and not (current.ports and current.ports <= wanted.ports):
        return current.capture
    return (current.capture & ~wanted.capture) | current.finishing
