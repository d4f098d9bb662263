"""What one protocol says of a span, before it becomes one.

Owns the record between the protocols' modules and `builder`. It must not hold what `builder` can read from
any exchange: times, ids, the socket, `incomplete`.

Contract: everything in it is redacted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from otel_bridge.span import AttributeValue, SpanEvent
from otel_bridge.spans.trace_context import NO_CONTEXT, ContextReading


class SpanDescription(NamedTuple):
    """A span without what all spans share. A tuple, because it is made for every span.

    Attributes stand in groups, in the order in which `builder` puts them into the span: a limit on their
    number cuts the last ones first. Where a later group has a name of an earlier one, its value counts.
    """

    name: str
    """Of the span."""
    attributes: dict[str, AttributeValue]
    """The request, its target and its outcome; the shared attributes that were given; then the protocol, its
    version, and what else is known of the messages. `builder` adds the other groups to this dictionary."""
    contents: Sequence[Mapping[str, AttributeValue]] = ()
    """Bodies, then headers: what is long, and what a limit cuts first."""
    is_error: bool = False
    ending: Mapping[str, AttributeValue] | None = None
    """How an end gave the exchange up; None when none did."""
    surroundings: Mapping[str, AttributeValue] | None = None
    """What the exchange passed through on its connection; None when nothing."""
    anomalies: tuple[str, ...] = ()
    """Behind those of the exchange."""
    redacted: int = 0
    """Values that were replaced."""
    dropped: int = 0
    """Attributes that the parsers left out."""
    trace: ContextReading = NO_CONTEXT
    """The trace that the exchange belongs to, as its sender says."""
    events: list[SpanEvent] | None = None
    dropped_events: int = 0
