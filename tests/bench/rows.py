"""The lines of the table: what was measured, in which unit, against which bound; and printing it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import click

TURNS = 5


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    unit: str
    without: float | None
    """The same figure with no agent running."""
    measured: float
    bound: float | None
    """Upper bound, from docs/performance.md."""
    share: float | None = None
    """Of a part: of the whole that is named above it, 0 to 1."""
    bound_to_come: float | None = None
    """Upper bound that a later change brings; nothing fails by it."""

    @property
    def holds(self) -> bool | None:
        """Whether the measured figure is within its bound; None where there is none."""
        return None if self.bound is None else self.measured <= self.bound


def best_of(measure: Callable[[], float]) -> float:
    """Return the smallest of several measurements."""
    return min(measure() for _ in range(TURNS))


def print_table(rows: list[Row]) -> None:
    """Print the rows for a person to read."""
    width = max(len(row.what) for row in rows)
    click.echo(f"{'':{width}}  {'untraced':>10}  {'measured':>10}  {'bound':>6}")
    for row in rows:
        untraced = "" if row.without is None else f"{row.without:.2f}"
        bound = "" if row.bound is None else f"{row.bound:.3g}"
        verdict = {None: "", True: "holds", False: "EXCEEDED"}[row.holds]
        if row.bound_to_come is not None:
            verdict = f"bound to come: {row.bound_to_come:.2f}"
        if row.share is not None:
            verdict = f"{row.share:.0%}"
        figures = f"{untraced:>10}  {row.measured:>10.2f}  {bound:>6}"
        click.echo(f"{row.what:{width}}  {figures}  {row.unit:11} {verdict}")
