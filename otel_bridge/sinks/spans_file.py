"""Spans as OTLP/JSON, one `TracesData` per line, in a file or on standard output.

Owns the JSON mapping of OTLP and the file. It must not choose what is in a span.

Contract: lower-camel-case names, trace and span ids in hexadecimal, enums as numbers, 64-bit integers as
strings, bytes in base64 (OTLP specification, "JSON Protobuf Encoding"). A line is whole or absent. Spans
reach the file within a second, in small batches; what a full disk refuses is dropped, counted and said. When
the file was renamed or removed, the next line goes into a new one of the same name.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import sys
import threading
from base64 import b64encode
from collections.abc import Iterable, Mapping
from json.encoder import encode_basestring as _quote
from pathlib import Path
from time import monotonic
from typing import BinaryIO

from otel_bridge.otlp.attribute_memory import AttributeMemory
from otel_bridge.scope import SCOPE_NAME, scope_version
from otel_bridge.span import AttributeValue, Resource, Span, SpanEvent

MAX_BATCH_SPANS = 64
"""Spans of one line; lines stay readable for `jq`, and their overhead small."""

MAX_BATCH_BYTES = 1024 * 1024
"""Rough bound of a line, so that spans with long bodies do not pile up."""

MAX_BATCH_AGE_SECONDS = 1.0
"""How long a span may wait for company."""

LOG_INTERVAL_SECONDS = 60.0
"""A failing disk is mentioned once in this time; the counter says how much it cost."""

_HAS_IS_REMOTE = 0x100
_IS_REMOTE = 0x200
_STATUS_UNSET = "{}"
_STATUS_ERROR = '{"code":2}'

_logger = logging.getLogger(__name__)


class SpansFileError(OSError):
    """The file cannot be written; the message says which and why."""


def encode_span_json(span: Span) -> str:
    """Return one span in the JSON mapping of opentelemetry.proto.trace.v1.Span; empty fields are left out.

    Written directly: building dictionaries for the json module to walk takes four times as long.
    """
    flags = span.trace_flags | _HAS_IS_REMOTE
    optional = ""
    if span.parent_span_id is not None:
        flags |= _IS_REMOTE
        optional = f',"parentSpanId":"{span.parent_span_id.hex()}"'
    if span.trace_state:
        optional += f',"traceState":{_quote(span.trace_state)}'
    if span.dropped_attributes_count:
        optional += f',"droppedAttributesCount":{span.dropped_attributes_count}'
    if span.events is not None:
        optional += f',"events":[{",".join([_event(event) for event in span.events])}]'
    if span.dropped_events_count:
        optional += f',"droppedEventsCount":{span.dropped_events_count}'
    return (
        f'{{"traceId":"{span.trace_id.hex()}","spanId":"{span.span_id.hex()}"{optional},"flags":{flags},'
        f'"name":{_quote(span.name)},"kind":{span.kind.value},'
        f'"startTimeUnixNano":"{span.start_unix_ns}","endTimeUnixNano":"{span.end_unix_ns}",'
        f'"attributes":{_attributes(span.attributes)},'
        f'"status":{_STATUS_ERROR if span.is_error else _STATUS_UNSET}}}'
    )


def _event(event: SpanEvent) -> str:
    """Return a Span.Event."""
    optional = f',"attributes":{_attributes(event.attributes)}' if event.attributes else ""
    if event.dropped_attributes_count:
        optional += f',"droppedAttributesCount":{event.dropped_attributes_count}'
    return f'{{"timeUnixNano":"{event.unix_ns}","name":{_quote(event.name)}{optional}}}'


def _content_length(event: SpanEvent) -> int:
    """Return the length of the longest value of an event: its content, when it has any."""
    return max(
        (len(value) for value in event.attributes.values() if isinstance(value, str | bytes)), default=0
    )


def _attributes(attributes: Mapping[str, AttributeValue]) -> str:
    return f"[{','.join(map(_encoded, attributes.items()))}]"


def _attribute(name: str, value: AttributeValue) -> str:
    """Return a KeyValue."""
    return f'{{"key":{_quote(name)},"value":{{{_any_value(value)}}}}}'


def _any_value(value: AttributeValue) -> str:
    """Return the one member of an AnyValue."""
    if isinstance(value, str):
        return f'"stringValue":{_quote(value)}'
    if isinstance(value, tuple):
        items = ",".join([f'{{"stringValue":{_quote(item)}}}' for item in value])
        return f'"arrayValue":{{"values":[{items}]}}'
    # bool before int: in Python it is one.
    if isinstance(value, bool):
        return f'"boolValue":{"true" if value else "false"}'
    if isinstance(value, int):
        return f'"intValue":"{value}"'
    return f'"bytesValue":"{b64encode(value).decode("ascii")}"'


_encoded = AttributeMemory(_attribute).__getitem__


def spans_to_json_line(spans: Iterable[Span]) -> bytes:
    """Return spans as one line of `TracesData`, grouped by resource, with its line end."""
    groups: dict[Resource, list[str]] = {}
    for span in spans:
        groups.setdefault(span.resource, []).append(encode_span_json(span))
    scope = f'{{"name":{_quote(SCOPE_NAME)},"version":{_quote(scope_version())}}}'
    resource_spans = ",".join(
        f'{{"resource":{{"attributes":{_attributes(resource.attributes)}}},'
        f'"scopeSpans":[{{"scope":{scope},"spans":[{",".join(encoded)}]}}]}}'
        for resource, encoded in groups.items()
    )
    return f'{{"resourceSpans":[{resource_spans}]}}\n'.encode()


class SpansFileSink:
    """A `SpanSink` that appends to a file, or writes to standard output for `-`."""

    name = "file"

    def __init__(self, path: str) -> None:
        self._name = "standard output" if path == "-" else path
        self._path: str | None = None
        """Of a file that may be replaced; None for standard output, pipes and devices."""
        if path == "-":
            self._file: BinaryIO = sys.stdout.buffer
        else:
            try:
                # Unbuffered: one write per line. Spans are private to the user who exports them.
                self._file = _open_private(path)
                if stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
                    self._path = os.path.realpath(path)
            except OSError as error:
                raise SpansFileError(f"cannot write spans to {path}: {error.strerror}") from error
        self._changed = threading.Condition()
        self._batch: list[Span] = []
        self._batch_bytes = 0
        self._oldest_at = 0.0
        self._submitted = 0
        self._exported = 0
        self._dropped = {"dropped_write_failed": 0, "dropped_closed": 0}
        self._failed_at = -LOG_INTERVAL_SECONDS
        self._closed = False
        self._thread = threading.Thread(target=self._write_when_old, name="spans-file", daemon=True)
        self._thread.start()

    def submit(self, span: Span) -> None:
        """Add a span to the current batch, and write the batch when it is due."""
        with self._changed:
            self._submitted += 1
            if self._closed:
                self._dropped["dropped_closed"] += 1
                return
            if not self._batch:
                self._oldest_at = monotonic()
                self._changed.notify()
            self._batch.append(span)
            for name in ("http.request.body.content", "http.response.body.content"):
                content = span.attributes.get(name)
                if isinstance(content, str | bytes):
                    self._batch_bytes += len(content)
            if span.events is not None:
                self._batch_bytes += sum(_content_length(event) for event in span.events)
            if len(self._batch) >= MAX_BATCH_SPANS or self._batch_bytes >= MAX_BATCH_BYTES:
                self._write_batch()

    def flush(self, timeout_seconds: float) -> bool:  # noqa: ARG002 - the protocol's; a disk has no time-out
        """Write what was submitted so far; return whether it could be written."""
        with self._changed:
            return self._write_batch()

    def counters(self) -> dict[str, int]:
        """Return `submitted`, `exported`, `queued` and `dropped_…` by cause."""
        with self._changed:
            return {
                "submitted": self._submitted,
                "exported": self._exported,
                "queued": len(self._batch),
                **self._dropped,
            }

    def close(self, timeout_seconds: float) -> None:
        """Write what is left and close the file. Idempotent."""
        with self._changed:
            if self._closed:
                return
            self._write_batch()
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout_seconds)
        if self._file is not sys.stdout.buffer:
            self._file.close()

    def _write_when_old(self) -> None:
        with self._changed:
            while not self._closed:
                if not self._batch:
                    self._changed.wait()
                    continue
                left = self._oldest_at + MAX_BATCH_AGE_SECONDS - monotonic()
                if left <= 0:
                    self._write_batch()
                else:
                    self._changed.wait(left)

    def _write_batch(self) -> bool:
        """Write the batch and start a new one; the lock is held."""
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        if not batch:
            return True
        try:
            self._follow_name()
            self._write_line(spans_to_json_line(batch))
        except OSError as error:
            self._dropped["dropped_write_failed"] += len(batch)
            now = monotonic()
            if now - self._failed_at >= LOG_INTERVAL_SECONDS:
                self._failed_at = now
                _logger.warning("cannot write spans to %s, they are dropped: %s", self._name, error.strerror)
            return False
        self._exported += len(batch)
        return True

    def _follow_name(self) -> None:
        """Open the file anew when its name leads to another one, or to none."""
        if self._path is None:
            return
        try:
            named = Path(self._path).stat()
        except FileNotFoundError:
            named = None
        if named is None or not os.path.samestat(named, os.fstat(self._file.fileno())):
            # The name may be a trap by now: no link is followed, and no pipe without a reader waited for.
            opened = _open_private(self._path, os.O_NOFOLLOW | os.O_NONBLOCK)
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                opened.close()
                raise OSError(errno.EEXIST, "something that is no file has its name now")
            self._file.close()
            self._file = opened
            _logger.info("%s was renamed or removed: spans go into a new file of that name", self._name)

    def _write_line(self, line: bytes) -> None:
        written = 0
        try:
            while written < len(line):
                written += self._file.write(line[written:])
            self._file.flush()
        except OSError:
            # Half a line would spoil the next one: take it back, or at least end it.
            if written:
                self._take_back(written)
            raise

    def _take_back(self, count: int) -> None:
        try:
            self._file.truncate(self._file.seek(0, os.SEEK_END) - count)
        except OSError:
            self._file.write(b"\n")


def _open_private(path: str, more_flags: int = 0) -> BinaryIO:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | more_flags, 0o600)
    return os.fdopen(descriptor, "ab", buffering=0)
