"""What the selection keeps of each process: the decision about it, and what it has from its ancestors.

Owns these by process, beside the facts that `processes` owns, and the rules by which they pass to a child and
to the next program. It must not decide (`selection`) or write policies (`enforcement`). An entry lives as
long as its `Process` does, so the bounds of `processes` bound this table too.
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

from agent.decisions import CaptureState, DecisionInForce
from agent.process import Process
from ebpf.events import Policy


@dataclass(slots=True)
class Standing:
    """One process as the selection sees it."""

    in_force: DecisionInForce | None = None
    """None: undecided, which means pending."""
    is_attested: bool = False
    """Whether the kernel side has captured the process by a policy that was decided, not provisionally."""
    is_born_decided: bool = False
    """Whether its parent was decided on before the fork, so that it is never captured provisionally."""
    is_descendant: bool | None = None
    """Whether it descends from a process that was selected by number; None: not asked, or not known."""
    inherits_descent: bool | None = None
    """`is_descendant` without what /proc says of the process itself."""

    @property
    def state(self) -> CaptureState:
        """Whether the process is captured."""
        return CaptureState.PENDING if self.in_force is None else self.in_force.state

    def inherit_descent(self, former: Standing) -> None:
        """Take over the descent of a parent, or of the program before."""
        self.is_descendant = self.inherits_descent = former.is_descendant


class Standings:
    """The standings of all processes; a `Heritage` of the process table."""

    def __init__(self) -> None:
        self._by_process: WeakKeyDictionary[Process, Standing] = WeakKeyDictionary()

    def __len__(self) -> int:
        """Return of how many processes something is kept."""
        return len(self._by_process)

    def of(self, process: Process) -> Standing:
        """Return the standing of a process; a new one is undecided."""
        standing = self._by_process.get(process)
        if standing is None:
            standing = self._by_process[process] = Standing()
        return standing

    def hand_to_child(self, parent: Process, child: Process, forked_ktime_ns: int) -> None:
        """Let a child begin as its parent stands now."""
        former, standing = self.of(parent), self.of(child)
        standing.is_attested = former.is_attested
        standing.inherit_descent(former)
        in_force = former.in_force
        standing.is_born_decided = (
            in_force is not None
            and in_force.decision.roles is not None
            and in_force.done_ktime_ns < forked_ktime_ns
        )

    def hand_to_successor(self, former: Process, successor: Process, *, is_sure: bool) -> None:
        """Let the next program of a process descend as the one before; a decision ends with its program."""
        before = self.of(former)
        # The kernel side reports no end of a refused process, so its number may have been given away since.
        is_refused = before.in_force is not None and before.in_force.decision.roles == Policy.IGNORE
        if is_sure or not is_refused:
            self.of(successor).inherit_descent(before)

    def revise(self, process: Process) -> None:
        """Make a process undecided, because its facts have turned out to be others."""
        self.of(process).in_force = None

    def withdraw_reading(self, process: Process) -> None:
        """Forget the descent that /proc showed, because it showed another process."""
        standing = self.of(process)
        standing.is_descendant = standing.inherits_descent
