"""What goes into spans: limits, redaction, what is captured, and the standard variables that set it.

Owns the settings, and what is prepared from them once for all spans. It must not read the environment itself:
the caller hands it over. Contract: immutable, so every span of a run is built by the same options.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from otel_bridge.redaction.redactor import Redactor
from otel_bridge.spans.message_text import FieldReader
from otel_bridge.spans.request_target import TargetReader
from otel_bridge.spans.rpc import CallReader
from otel_bridge.spans.span_events import (
    DEFAULT_MAX_EVENT_ATTRIBUTES,
    DEFAULT_MAX_EVENTS,
    EventOptions,
)
from otel_bridge.spans.trust import DEFAULT_TRUSTED_PROXIES, TrustedPeers

KNOWN_METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"}
)
"""RFC 9110, RFC 5789 and QUERY: what the conventions call known unless
OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS says other."""

DEFAULT_MAX_ATTRIBUTES = 128
"""The specification's default of OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT; many backends keep no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanOptions:
    """What goes into spans."""

    capture_headers: bool = True
    capture_bodies: bool = True
    max_attributes: int = DEFAULT_MAX_ATTRIBUTES
    max_value_length: int | None = None
    """Characters (bytes of a bytes value) of one attribute value; None for no limit, as the specification's
    default."""
    max_events: int = DEFAULT_MAX_EVENTS
    max_event_attributes: int = DEFAULT_MAX_EVENT_ATTRIBUTES
    known_methods: frozenset[str] = KNOWN_METHODS
    redaction: bool = True
    redacted_names: tuple[str, ...] = ()
    """Names of headers, parameters, fields and members that are credentials besides those known by
    themselves."""
    trusted_proxies: tuple[str, ...] = DEFAULT_TRUSTED_PROXIES
    """Addresses and networks of peers that are trusted to name the client that they act for."""
    redactor: Redactor | None = field(init=False, default=None, compare=False)
    request_fields: FieldReader = field(init=False, compare=False, repr=False)
    response_fields: FieldReader = field(init=False, compare=False, repr=False)
    targets: TargetReader = field(init=False, compare=False, repr=False)
    events: EventOptions = field(init=False, compare=False, repr=False)
    calls: CallReader = field(init=False, compare=False, repr=False)
    trusted_peers: TrustedPeers = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        redactor = Redactor(self.redacted_names) if self.redaction else None
        events = EventOptions(
            self.capture_bodies, self.max_events, self.max_event_attributes, self.max_value_length
        )
        for name, value in (
            ("redactor", redactor),
            ("request_fields", FieldReader("http.request.header.", redactor)),
            ("response_fields", FieldReader("http.response.header.", redactor)),
            ("targets", TargetReader(redactor)),
            ("events", events),
            ("calls", CallReader(redactor)),
            ("trusted_peers", TrustedPeers(self.trusted_proxies)),
        ):
            object.__setattr__(self, name, value)


def known_methods_from_environment(environ: Mapping[str, str]) -> frozenset[str]:
    """Return the methods of OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS, else the default ones."""
    listed = environ.get("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", "")
    return frozenset(method for part in listed.split(",") if (method := part.strip())) or KNOWN_METHODS
