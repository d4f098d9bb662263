"""A WebSocket session in the span of its handshake: attributes for the whole, an event for each message.

Owns their names, under `wirespan.websocket.`, for the semantic conventions have none. It must not choose
which messages are kept, nor decode them.

Contract: pure. Content and close reason are redacted as bodies are. Directions are those of this socket:
`sent` or `received`.

| attribute of the span | type | when |
|---|---|---|
| `wirespan.websocket.sent.count`, `.received.count` | int | always; messages, without control frames |
| `wirespan.websocket.sent.size`, `.received.size` | int | always; their bytes on the wire, as compressed |
| `wirespan.websocket.sent.uncounted`, `.received.uncounted` | bool | true when there was more than counted |
| `wirespan.websocket.subprotocol`, `.compression` | string | agreed on |
| `wirespan.websocket.close.code`, `.close.reason` | int, string | in the first close frame |
| `wirespan.websocket.close.direction` | string | a close frame was seen: that of the first |

| attribute of an event `websocket.message` | type | when |
|---|---|---|
| `wirespan.websocket.direction` | string | always |
| `wirespan.websocket.opcode` | string | always; `text`, `binary`, `close`, `ping`, `pong` |
| `wirespan.websocket.size` | int | always; bytes of payload on the wire, as compressed |
| `wirespan.websocket.content` | string of a text message, else bytes | bodies are captured; what was kept |
| `wirespan.websocket.truncated` | string | content is shorter than the message: why, as for bodies |
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ebpf.events import Direction
from otel_bridge.clock import ClockOffset
from otel_bridge.redaction.redactor import Redactor
from otel_bridge.span import AttributeValue, SpanEvent
from otel_bridge.spans.message_text import decode_value, read_content
from parsers.http_exchange import Body, MessageFlow, WebSocketMessage, WebSocketSession

DEFAULT_MAX_EVENTS = 128
"""The specification's default of OTEL_SPAN_EVENT_COUNT_LIMIT."""

DEFAULT_MAX_EVENT_ATTRIBUTES = 128
"""The specification's default of OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT."""

MESSAGE_EVENT: Final = "websocket.message"

_TEXT: Final = 1
_OPCODES: Final = {_TEXT: "text", 2: "binary", 8: "close", 9: "ping", 10: "pong"}
_DIRECTIONS: Final = {Direction.INGRESS: "received", Direction.EGRESS: "sent"}


class EventOptions(NamedTuple):
    """How much of a session becomes events."""

    capture_content: bool
    max_events: int
    max_attributes: int
    """Attributes of one event."""
    max_value_length: int | None
    """Characters (bytes of a bytes value) of one attribute value; None for no limit."""


class SessionEvents(NamedTuple):
    """The events of a session."""

    events: list[SpanEvent]
    """In order of time."""
    dropped: int
    """Messages and control frames that are not among them."""
    redacted: int
    """Values redacted."""


def add_websocket_attributes(
    attributes: dict[str, AttributeValue], session: WebSocketSession, rules: Redactor | None
) -> int:
    """Add what a session was as a whole; return how many values were redacted."""
    _add_flow(attributes, "sent", session.egress)
    _add_flow(attributes, "received", session.ingress)
    redacted = 0
    if session.subprotocol is not None:
        subprotocol = decode_value(session.subprotocol.encode("latin-1"))
        if rules is not None:
            subprotocol, redacted = rules.header(subprotocol)
        attributes["wirespan.websocket.subprotocol"] = subprotocol
    if session.compression is not None:
        attributes["wirespan.websocket.compression"] = session.compression
    if session.close_code is not None:
        attributes["wirespan.websocket.close.code"] = session.close_code
    if session.close_reason is not None:
        reason, count = session.close_reason, 0
        if rules is not None:
            reason, count = rules.text(reason, "", truncated=False)
        attributes["wirespan.websocket.close.reason"] = reason
        redacted += count
    if session.closed_by is not None:
        attributes["wirespan.websocket.close.direction"] = _DIRECTIONS[session.closed_by]
    return redacted


def build_websocket_events(
    session: WebSocketSession, clock: ClockOffset, rules: Redactor | None, options: EventOptions
) -> SessionEvents:
    """Return the messages of a session as events; the first ones, when a span takes fewer."""
    events = []
    redacted = 0
    messages = session.messages[: options.max_events]
    for message in messages:
        attributes, count = _describe(message, rules, capture_content=options.capture_content)
        redacted += count
        dropped = max(0, len(attributes) - options.max_attributes)
        if dropped:
            attributes = dict(list(attributes.items())[: options.max_attributes])
        if options.max_value_length is not None:
            for name, value in attributes.items():
                if isinstance(value, str | bytes):
                    attributes[name] = value[: options.max_value_length]
        events.append(SpanEvent(MESSAGE_EVENT, clock.unix_ns(message.ktime_ns), attributes, dropped))
    dropped_events = session.dropped_messages + len(session.messages) - len(messages)
    return SessionEvents(events, dropped_events, redacted)


def _add_flow(attributes: dict[str, AttributeValue], name: str, flow: MessageFlow) -> None:
    attributes[f"wirespan.websocket.{name}.count"] = flow.count
    attributes[f"wirespan.websocket.{name}.size"] = flow.size
    if flow.uncounted:
        attributes[f"wirespan.websocket.{name}.uncounted"] = True


def _describe(
    message: WebSocketMessage, rules: Redactor | None, *, capture_content: bool
) -> tuple[dict[str, AttributeValue], int]:
    """Return the attributes of one message, and how many values were redacted."""
    attributes: dict[str, AttributeValue] = {
        "wirespan.websocket.direction": _DIRECTIONS[message.direction],
        "wirespan.websocket.opcode": _OPCODES[message.opcode],
        "wirespan.websocket.size": message.size,
    }
    if not capture_content:
        return attributes, 0
    redacted = 0
    if message.content:
        charset = "utf-8" if message.opcode == _TEXT else None
        body = Body(message.size, message.content, charset, message.truncation, len(message.content))
        content, redacted = read_content(body, "", rules, unfinished=False)
        attributes["wirespan.websocket.content"] = content
    if message.truncation is not None:
        attributes["wirespan.websocket.truncated"] = message.truncation.value
    return attributes, redacted
