"""Whose an exchange is, and whether it is captured: what the export learns of processes and of the selection.

Owns the answer, an immutable `Attribution`, and the question when it is complete. It must not build spans or
keep exchanges. Contract: an attribution says what was known when it was given; `renew` gives a later one of
the same program, `conclude` the last one, which is never pending. A program that nothing has decided on is
pending, and no exchange of it is accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from agent.decisions import CaptureState, DecisionInForce
from agent.process import END_OF_TIME_NS, Process
from agent.processes import ProcessTable
from agent.selection import Selection
from ebpf.events import Role, SocketInfo
from otel_bridge.span import Resource


@dataclass(frozen=True, slots=True, eq=False)
class Attribution:
    """The program that exchanges are of, and what becomes of them."""

    program: Hashable
    """Equal for all attributions of one program, and opaque."""
    tgid: int
    holds_from_ktime_ns: int
    """Until the next event, this is also the attribution of every exchange of `tgid` that began at this time
    or later; `END_OF_TIME_NS` for a program that has ended."""
    state: CaptureState
    resource: Resource | None
    """None unless accepted, and when it can't be built (`bug`)."""
    bodies: bool
    """Whether content of messages goes into the span."""
    in_force: DecisionInForce | None
    """The decision, by which an accepted exchange may still be refused: for its role, its ports, its time.
    None: everything is captured."""
    bug: Exception | None = None
    """What kept the resource from being built."""

    def accepts(self, role: Role, socket: SocketInfo, start_ktime_ns: int) -> bool:
        """Return whether an exchange is captured; nothing of a pending program is."""
        if self.state is not CaptureState.ACCEPTED:
            return False
        return self.in_force is None or self.in_force.accepts(role, socket, start_ktime_ns)


class Attributor:
    """The process table and the selection as the export sees them."""

    def __init__(
        self, processes: ProcessTable, selection: Selection | None, ktime_now: Callable[[], int]
    ) -> None:
        self._processes = processes
        self._selection = selection if selection is not None and selection.selects else None
        self._ktime_now = ktime_now

    def attribute(self, tgid: int | None, ktime_ns: int) -> Attribution:
        """Return whose an exchange is that `tgid` began at `ktime_ns`; pending until enough is known."""
        return self._attribute(self._processes.find(tgid, ktime_ns))

    def renew(self, attribution: Attribution) -> Attribution:
        """Return what is known of the same program now."""
        assert isinstance(attribution.program, Process)
        return self._attribute(attribution.program)

    def conclude(self, attribution: Attribution) -> Attribution:
        """Return what holds of the same program when no more is waited for: accepted or refused."""
        process = attribution.program
        assert isinstance(process, Process)
        if self._selection is None:
            return self._make(process, CaptureState.ACCEPTED)
        state = self._selection.consider(process)
        if state is CaptureState.PENDING:
            in_force = self._selection.in_force(process)
            # What began before the decision was withdrawn is still accepted by it.
            was_captured = in_force is not None and in_force.former is not None
            state = CaptureState.ACCEPTED if was_captured else CaptureState.REFUSED
        return self._make(process, state)

    def _attribute(self, process: Process) -> Attribution:
        is_complete = self._processes.complete(process, self._ktime_now())
        state = CaptureState.ACCEPTED
        if self._selection is not None:
            state = self._selection.consider(process)
        return self._make(process, state if is_complete else CaptureState.PENDING)

    def _make(self, process: Process, state: CaptureState) -> Attribution:
        in_force = None if self._selection is None else self._selection.in_force(process)
        resource = bug = None
        if state is CaptureState.ACCEPTED:
            try:
                resource = self._processes.resource(process)
            except Exception as error:  # noqa: BLE001 (a bug costs exchanges, not the run)
                bug = error
        return Attribution(
            process,
            process.facts.tgid,
            process.from_ktime_ns if process.is_running else END_OF_TIME_NS,
            state,
            resource,
            in_force is None or in_force.decision.bodies,
            in_force,
            bug,
        )
