"""Spans for people: one line per exchange, like an access log for everything.

Owns the columns, the colours and the safety of the terminal. It must not choose what is in a span.

Contract: whatever was on the wire, only printable characters and this module's own colours reach the stream.
Columns line up until a value is too long for its own; nothing but bodies is cut.
"""

from __future__ import annotations

import re
import sys
import threading
from datetime import datetime
from typing import TextIO

import click

from otel_bridge.foreign_text import escape_character, printable
from otel_bridge.span import Span, SpanEvent, SpanKind

MAX_BODY_CHARACTERS = 2000
"""Of a body in verbose output; a screen shows about as many. Other outputs have all of it."""

_ENDPOINTS_WIDTH = 44
_METHOD_WIDTH = 7
_TARGET_WIDTH = 40
_INDENT = " " * 15

_REQUEST_HEADER = "http.request.header."
_RESPONSE_HEADER = "http.response.header."

# As `printable` has it, but for tabs and line breaks.
_UNPRINTABLE_IN_BODY = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


class ConsoleSink:
    """A `SpanSink` that prints."""

    name = "console"

    def __init__(self, stream: TextIO | None = None, *, color: bool = False, verbose: bool = False) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._color = color
        self._verbose = verbose
        self._lock = threading.Lock()
        self._submitted = 0
        self._exported = 0
        self._dropped = 0
        self._broken = False

    def submit(self, span: Span) -> None:
        """Print a span; once the stream is gone (closed pipe) spans are counted as dropped."""
        text = self.format(span)
        with self._lock:
            self._submitted += 1
            if not self._broken:
                try:
                    self._stream.write(text)
                    self._stream.flush()
                except (OSError, ValueError):
                    self._broken = True
                else:
                    self._exported += 1
                    return
            self._dropped += 1

    def flush(self, timeout_seconds: float) -> bool:  # noqa: ARG002 - the protocol's; every span is flushed at once
        """Return whether the stream still takes output."""
        return not self._broken

    def counters(self) -> dict[str, int]:
        """Return `submitted`, `exported`, `queued` (always 0) and `dropped_stream_closed`."""
        with self._lock:
            return {
                "submitted": self._submitted,
                "exported": self._exported,
                "queued": 0,
                "dropped_stream_closed": self._dropped,
            }

    def close(self, timeout_seconds: float) -> None:
        """Leave the stream to its owner."""

    def format(self, span: Span) -> str:
        """Return the lines of a span."""
        attributes = span.attributes
        time = datetime.fromtimestamp(span.start_unix_ns / 1e9).strftime("%H:%M:%S.%f")[:-3]
        arrow = "←" if span.kind is SpanKind.SERVER else "→"
        endpoints = _cell(" → ".join(_endpoints(span)), _ENDPOINTS_WIDTH)
        # PROTOCOL: what stands in the columns, which are HTTP's.
        method = _cell(str(attributes.get("http.request.method_original", _method(span))), _METHOD_WIDTH)
        target = _cell(_target(span), _TARGET_WIDTH)
        status = _shown(span, "http.response.status_code", "---")
        duration = _duration(span.end_unix_ns - span.start_unix_ns)
        sent, received = (_size(attributes.get(f"http.{side}.body.size")) for side in ("request", "response"))
        line = (
            f"{self._style(time, dim=True)} {arrow} {endpoints} {self._style(method, bold=True)} {target} "
            f"{self._style(status, fg=_status_color(span), bold=span.is_error)} "
            f"{duration:>9} {sent:>8} {received:>8}"
        )
        notes = [
            f"{name}={printable(_shown(span, key))}"
            for name, key in (("incomplete", "wirespan.incomplete"), ("error", "error.type"))
            if key in attributes and attributes[key] != status
        ]
        carried = _carried(span)
        if carried:
            line += f"  {self._style(carried, fg='cyan')}"
        if notes:
            line += "  " + self._style(" ".join(notes), fg="yellow")
        lines = [line.rstrip()]
        if self._verbose:
            lines += self._details(span, ">", "request", _REQUEST_HEADER)
            lines += self._details(span, "<", "response", _RESPONSE_HEADER)
            lines += [self._message(span, event) for event in span.events or ()]
        return "\n".join(lines) + "\n"

    def _details(self, span: Span, mark: str, side: str, prefix: str) -> list[str]:
        lines = []
        for name, values in span.attributes.items():
            if name.startswith(prefix) and isinstance(values, tuple):
                header = self._style(printable(name[len(prefix) :]), fg="cyan")
                lines += [f"{_INDENT}{mark} {header}: {printable(value)}" for value in values]
        content = span.attributes.get(f"http.{side}.body.content")
        if isinstance(content, bytes):
            lines.append(f"{_INDENT}{mark} {self._style(f'({len(content)} bytes, not text)', dim=True)}")
        elif isinstance(content, str):
            shown = _UNPRINTABLE_IN_BODY.sub(
                escape_character, content[:MAX_BODY_CHARACTERS].replace("\r\n", "\n")
            )
            lines += [f"{_INDENT}{mark} {line}" for line in shown.split("\n")]
            note = _cut_note(span, side, content)
            if note:
                lines.append(f"{_INDENT}{mark} {self._style(note, dim=True)}")
        return lines

    def _message(self, span: Span, event: SpanEvent) -> str:
        """Return the line of a WebSocket message, marked as the request or the response by its direction."""
        attributes = event.attributes
        is_sent = attributes.get("wirespan.websocket.direction") == "sent"
        mark = ">" if is_sent == (span.kind is SpanKind.CLIENT) else "<"
        notes = [
            str(attributes.get("wirespan.websocket.opcode", "?")),
            _size(attributes.get("wirespan.websocket.size")),
        ]
        reason = attributes.get("wirespan.websocket.truncated")
        if isinstance(reason, str):
            notes.append(f"cut: {reason}")
        content = attributes.get("wirespan.websocket.content")
        shown = ""
        if isinstance(content, str):
            shown = " " + printable(content[:MAX_BODY_CHARACTERS])
            if len(content) > MAX_BODY_CHARACTERS:
                notes.append(f"{len(content) - MAX_BODY_CHARACTERS} more characters")
        note = self._style(f"({', '.join(notes)})", dim=True)
        return f"{_INDENT}{mark} {note}{shown}"

    def _style(
        self, text: str, *, fg: str | None = None, bold: bool | None = None, dim: bool | None = None
    ) -> str:
        return click.style(text, fg=fg, bold=bold or None, dim=dim) if self._color else text


def _carried(span: Span) -> str:
    """Return in short what the exchange carried on top of HTTP; nothing for plain HTTP."""
    attributes = span.attributes
    system = attributes.get("rpc.system.name")
    if system == "grpc":
        return f"grpc {_shown(span, 'rpc.response.status_code', '?')}"
    if system == "jsonrpc":
        method = attributes.get("rpc.method")
        if not isinstance(method, str):
            return f"jsonrpc {_shown(span, 'wirespan.jsonrpc.call_count', '?')} calls"
        return printable(f"jsonrpc {method} {_shown(span, 'rpc.response.status_code')}".rstrip())
    if "graphql.operation.type" in attributes or "graphql.operation.name" in attributes:
        kind, name = (_shown(span, f"graphql.operation.{part}") for part in ("type", "name"))
        return printable(f"graphql {kind or '?'} {name}".rstrip())
    if "wirespan.graphql.operation_count" in attributes:
        return f"graphql {_shown(span, 'wirespan.graphql.operation_count')} operations"
    return _session(span) if "wirespan.websocket.sent.count" in attributes else ""


def _session(span: Span) -> str:
    """Return what a WebSocket carried: messages sent and received, and how it was closed."""
    shown = "ws"
    for side, arrow in (("sent", "↑"), ("received", "↓")):
        more = "+" if f"wirespan.websocket.{side}.uncounted" in span.attributes else ""
        shown += f" {_shown(span, f'wirespan.websocket.{side}.count', '?')}{more}{arrow}"
    code = _shown(span, "wirespan.websocket.close.code")
    return f"{shown} close {code}" if code else shown


def _cut_note(span: Span, side: str, content: str) -> str:
    notes = []
    if len(content) > MAX_BODY_CHARACTERS:
        notes.append(f"{len(content) - MAX_BODY_CHARACTERS} more characters")
    reason = _shown(span, f"wirespan.{side}.body.truncated")
    if reason:
        size = _shown(span, f"http.{side}.body.size", "an unknown number of")
        captured = _shown(span, f"wirespan.{side}.body.captured_size", "0")
        notes.append(f"captured {captured} of {size} bytes: {reason}")
    return f"({', '.join(notes)})" if notes else ""


def _shown(span: Span, name: str, default: str = "") -> str:
    """Return an attribute that is a string or a number, as text."""
    value = span.attributes.get(name, default)
    return value if isinstance(value, str) else repr(value)


def _cell(text: str, width: int) -> str:
    return f"{printable(text):<{width}}"


def _method(span: Span) -> str:
    original = _shown(span, "http.request.method_original")
    method = _shown(span, "http.request.method")
    return original or ("?" if method == "_OTHER" else method)


def _endpoints(span: Span) -> tuple[str, str]:
    """Return client and server as this socket has them; the own end goes by the service's name."""
    service = span.resource.service_name
    peer = _address(span, "network.peer") or "?"
    if span.kind is SpanKind.CLIENT:
        return service, _address(span, "server") or peer
    port = _shown(span, "network.local.port")
    names_port = not port or service.endswith(f":{port}")
    return peer, service if names_port else f"{service}:{port}"


def _address(span: Span, prefix: str) -> str:
    address, port = _shown(span, f"{prefix}.address"), _shown(span, f"{prefix}.port")
    if not address or not port:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _target(span: Span) -> str:
    path = _shown(span, "url.path")
    if path:
        query = _shown(span, "url.query")
        return f"{path}?{query}" if query else path
    full = _shown(span, "url.full")
    # The server is in a column of its own.
    authority_end = full.find("/", full.find("://") + 3)
    return full[authority_end:] if authority_end >= 0 else full


def _status_color(span: Span) -> str | None:
    status = span.attributes.get("http.response.status_code")
    if not isinstance(status, int):
        return "magenta"
    return {1: "blue", 2: "green", 3: "cyan", 4: "yellow", 5: "red"}.get(status // 100)


def _duration(nanoseconds: int) -> str:
    if nanoseconds < 1_000_000:
        return f"{nanoseconds / 1e3:.0f} µs"
    if nanoseconds < 1_000_000_000:
        return f"{nanoseconds / 1e6:.1f} ms"
    return f"{nanoseconds / 1e9:.2f} s"


def _size(size: object) -> str:
    if not isinstance(size, int):
        return "-"
    if size < 1000:
        return f"{size} B"
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 1000 or unit == "GB":
            return f"{size:.1f} {unit}"
    return ""
