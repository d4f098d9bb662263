"""Start line and fields of one HTTP/1 message: a fast lane, then h11, then a lenient reader.

Owns what counts as a valid head. It must not know where a head ends in a stream or what follows it (`sides`).

Contract: a block goes in whole, without the empty line that ends it; a head comes out, or None for bytes
that no server would take for HTTP/1. Every reader is linear in the length of its input. Three lanes, in
this order:

1. the fast lane takes only heads that are plain ASCII, one line per field, without doubt about their framing;
2. h11 decides about everything else: what it accepts is valid and its answer stands;
3. what h11 refuses but servers accept is read leniently, and the head carries the anomalies by name.

Where both the fast lane and h11 accept a head they give the same answer; a differential test holds them to
it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias

import h11

from parsers.http1.disputes import (
    COMMON_METHODS,
    find_disputes,
    find_line_disputes,
    holds_control,
    is_plain_target_host,
    is_questionable,
)
from parsers.http1.field_lines import (
    FRAMING_FIELDS,
    HOST,
    SINGLE_FIELDS,
    is_token,
    read_field_line,
    remembered_lines,
)
from parsers.http_exchange import HeaderList, Headers

# The methods that are used most stand first: alternatives are tried in turn.
_METHODS = b"|".join(
    sorted(COMMON_METHODS, key=(b"PATCH OPTIONS DELETE HEAD PUT POST GET").find, reverse=True)
)
_PLAIN_REQUEST_LINE = re.compile(rb"(" + _METHODS + rb") (/[\x21\x22\x24-\x7e]*) HTTP/1\.([01])")
_PLAIN_ABSOLUTE_LINE = re.compile(
    rb"(" + _METHODS + rb") (https?://([^/?#@\s]+)((?:[/?][\x21\x22\x24-\x7e]*)?)) HTTP/1\.([01])"
)
_PLAIN_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9]) ([\x20-\x7e]*)")
_VERSION = re.compile(rb"HTTP/(1\.[0-9])")
_LENIENT_STATUS_LINE = re.compile(rb"HTTP/(1\.[0-9])[ \t]+([1-9][0-9][0-9])(?:[ \t]([^\x00]*))?")
_RESPONSE_START = re.compile(rb"HTTP/1\.[0-9] [1-9][0-9][0-9][ \r\n]")

MAX_STATUS_LINES = 256
"""Status lines remembered. A server has ten or so."""
MAX_STATUS_LINE_BYTES = 64
"""Longest status line remembered: every registered reason fits, and all of them stay below
128 KiB."""

MAX_SECTIONS = 512
"""Field sections remembered. A client's repeats with every request, a server's within a second of its Date.
When it is full it starts over."""
MAX_SECTION_BYTES = 1_024
"""Longest field section remembered; few are longer. Sharing their fields with the remembered lines, all take
about 1 MiB; the worst that can be sent, 10 MiB."""

_MAX_H11_LENGTH_DIGITS = 20
"""Digits of a Content-Length that h11 takes, leading zeros included."""
_MAX_BLANKS = 64
"""White space in a row that h11 is given; fields are not aligned further than that."""
_TABS_TO_SPACES = bytes.maketrans(b"\t", b" ")

# h11 reads a response only after a request; after this one it accepts any status, 101 included.
_H11_REQUEST = h11.Request(
    method="GET", target="/", headers=[("host", "h"), ("connection", "upgrade"), ("upgrade", "any")]
)


_Section: TypeAlias = tuple[tuple[tuple[bytes, bytes], ...], Mapping[bytes, bytes], int]
"""The fields of a plain section, those of them that matter to framing, and how many Host there are."""

remembered_sections: dict[bytes, _Section] = {}
"""Sections read before, of remembered lines only; so no credential is among them (`field_lines`)."""


@dataclass(slots=True)
class Fields:
    """The fields of a head or of a trailer section."""

    headers: Headers
    framing: Mapping[bytes, bytes]
    """Lower-cased names of `FRAMING_FIELDS` that are present; repeated ones joined by a comma (RFC 9110
    §5.3)."""
    anomalies: list[str] = field(default_factory=list)


@dataclass(slots=True)
class RequestHead:
    """A request line with its fields."""

    method: bytes
    target: bytes
    version: str
    fields: Fields


@dataclass(slots=True)
class ResponseHead:
    """A status line with its fields."""

    status: int
    reason: bytes
    version: str
    fields: Fields


def parse_request_head(block: bytes) -> RequestHead | None:
    """Read a request's head by the first lane that takes it; None when it is not an HTTP/1 request."""
    return parse_plain_request(block) or _parse_h11_request(block) or _parse_lenient_request(block)


def parse_response_head(block: bytes) -> ResponseHead | None:
    """Read a response's head by the first lane that takes it; None when it is not an HTTP/1 response."""
    return parse_plain_response(block) or _parse_h11_response(block) or _parse_lenient_response(block)


def parse_trailers(block: bytes) -> Fields:
    """Read a trailer section (RFC 9112 §7.1.2); it never refuses: a line that is no field is an anomaly."""
    return _read_plain_fields(block) or _read_lenient_fields(block)


def is_request_start(data: bytes, limit: int) -> bool:
    """Whether the bytes begin with a whole request line of at most `limit` bytes."""
    end = data.find(b"\n", 0, limit)
    return end > 0 and _split_request_line(data[:end].removesuffix(b"\r")) is not None


def is_response_start(data: bytes) -> bool:
    """Whether the bytes begin like a status line."""
    return _RESPONSE_START.match(data) is not None


def parse_plain_request(block: bytes) -> RequestHead | None:
    """Fast lane; None when the head is not plain."""
    line, _, section = block.partition(b"\r\n")
    match = _PLAIN_REQUEST_LINE.fullmatch(line)
    if match is None:
        return _parse_plain_absolute_request(line, section)
    method, target, minor = match.groups()
    # 0x25 is a percent sign, and 0x2E a dot.
    if (0x25 in target or (0x2E in target and b".." in target)) and is_questionable(target):
        return None
    is_http11 = minor == b"1"
    # RFC 9112 §3.2: exactly one Host in HTTP/1.1; anything else is not plain.
    fields = _read_plain_fields(section, hosts=is_http11)
    if fields is None:
        return None
    return RequestHead(method, target, "1.1" if is_http11 else "1.0", fields)


def _parse_plain_absolute_request(line: bytes, section: bytes) -> RequestHead | None:
    """Fast lane of a request to a proxy: its target names the host that Host names too."""
    match = _PLAIN_ABSOLUTE_LINE.fullmatch(line)
    fields = _read_plain_fields(section, hosts=True) if match is not None else None
    if match is None or fields is None:
        return None
    method, target, authority, path, minor = match.groups()
    host = next(value for name, value in fields.headers if name.lower() == b"host")
    if is_questionable(path) or not is_plain_target_host(authority, host):
        return None
    return RequestHead(method, target, "1.1" if minor == b"1" else "1.0", fields)


def parse_plain_response(block: bytes) -> ResponseHead | None:
    """Fast lane; None when the head is not plain."""
    line, _, section = block.partition(b"\r\n")
    read = read_recurring_status_line(line) if len(line) <= MAX_STATUS_LINE_BYTES else _read_status_line(line)
    if read is None:
        return None
    fields = _read_plain_fields(section)
    if fields is None:
        return None
    status, reason, version = read
    return ResponseHead(status, reason, version, fields)


def _read_status_line(line: bytes) -> tuple[int, bytes, str] | None:
    match = _PLAIN_STATUS_LINE.fullmatch(line)
    return match and (int(match[2]), match[3], "1.1" if match[1] == b"1" else "1.0")


read_recurring_status_line = lru_cache(maxsize=MAX_STATUS_LINES)(_read_status_line)
"""Read a status line of at most `MAX_STATUS_LINE_BYTES`; None when it is not plain."""


def _read_plain_fields(section: bytes, *, hosts: bool | None = None) -> Fields | None:
    """Read fields that are plain; `hosts` True requires one Host, False at most one, None does not ask."""
    read = remembered_sections.get(section) or _read_plain_section(section)
    if read is None:
        return None
    headers, framing, host_count = read
    if hosts is not None and host_count != 1 and (hosts or host_count):
        return None
    return Fields(headers, framing)


def _read_plain_section(section: bytes) -> _Section | None:
    """Read a section line by line, and remember it when each of its lines was remembered already."""
    headers: HeaderList = []
    framing: dict[bytes, bytes] = {}
    host_count = 0
    recurs = len(section) <= MAX_SECTION_BYTES
    for line in section.split(b"\r\n") if section else ():
        read = remembered_lines.get(line)
        if read is None:
            recurs = False
            read = read_field_line(line)
            if read is None:
                return None
        field_as_sent, key = read
        headers.append(field_as_sent)
        if key is None:
            continue
        if key is HOST:
            host_count += 1
        elif key in framing:
            if key in SINGLE_FIELDS:
                return None
            framing[key] += b", " + field_as_sent[1]
        else:
            framing[key] = field_as_sent[1]
    # bytes.isdigit is ASCII only; h11 takes at most 20 digits, and 18 always fit 64 bits.
    length = framing.get(b"content-length")
    if length is not None and not (length.isdigit() and len(length) <= 18):
        return None
    if b"transfer-encoding" in framing and framing[b"transfer-encoding"].lower() != b"chunked":
        return None
    if recurs:
        if len(remembered_sections) >= MAX_SECTIONS:
            remembered_sections.clear()
        remembered_sections[section] = (tuple(headers), framing, host_count)
    return tuple(headers), framing, host_count


def _collect_framing(headers: Headers) -> dict[bytes, bytes]:
    framing: dict[bytes, bytes] = {}
    for name, value in headers:
        key = name.lower()
        if key in FRAMING_FIELDS:
            framing[key] = framing[key] + b", " + value if key in framing else value
    return framing


def _parse_h11_request(block: bytes) -> RequestHead | None:
    if not _is_linear_for_h11(block):
        return None
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(block + b"\r\n\r\n")
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    if not isinstance(event, h11.Request) or not event.http_version.startswith(b"1."):
        return None
    fields = _take_h11_fields(block, event)
    if fields is None:
        return None
    head = RequestHead(event.method, event.target, event.http_version.decode(), fields)
    _add_disputes(head, block)
    return head


def _add_disputes(head: RequestHead, block: bytes) -> None:
    fields = head.fields
    found = [
        *fields.anomalies,
        *find_disputes(head.method, head.target, head.version, fields.headers),
        *find_line_disputes(block.split(b"\n")[1:]),
    ]
    fields.anomalies = list(dict.fromkeys(found))


def _parse_h11_response(block: bytes) -> ResponseHead | None:
    if not _is_linear_for_h11(block):
        return None
    connection = h11.Connection(h11.CLIENT)
    connection.send(_H11_REQUEST)
    connection.send(h11.EndOfMessage())
    connection.receive_data(block + b"\r\n\r\n")
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    if not isinstance(event, (h11.Response, h11.InformationalResponse)) or not event.http_version.startswith(
        b"1."
    ):
        return None
    fields = _take_h11_fields(block, event)
    if fields is None:
        return None
    return ResponseHead(event.status_code, event.reason, event.http_version.decode(), fields)


def _is_linear_for_h11(block: bytes) -> bool:
    """Whether no run of white space is long: h11 0.16 is quadratic in it (60 KB took it 22 s)."""
    return b" " * _MAX_BLANKS not in block.translate(_TABS_TO_SPACES)


def _take_h11_fields(
    block: bytes, event: h11.Request | h11.Response | h11.InformationalResponse
) -> Fields | None:
    """Take over the fields as h11 read them; None where it merged some, because the wire counts here."""
    headers = [(bytes(name), bytes(value)) for name, value in event.headers.raw_items()]
    lines = block.split(b"\n")[1:]
    folds = sum(line[:1] in (b" ", b"\t") for line in lines)
    if len(lines) - folds != len(headers):
        return None
    framing = _collect_framing(headers)
    if b"content-length" in framing and framing != _read_lenient_fields(b"\n".join(lines)).framing:
        return None
    anomalies = _find_line_anomalies(block)
    if folds:
        anomalies.append("obs_fold")
    if any(holds_control(value) for _, value in headers):
        anomalies.append("invalid_field_value")
    return Fields(headers, framing, anomalies)


def _find_line_anomalies(block: bytes) -> list[str]:
    # RFC 9112 §2.2: a recipient MAY recognise a single LF as a line terminator.
    return ["bare_lf"] if block.count(b"\n") != block.count(b"\r\n") else []


def _parse_lenient_request(block: bytes) -> RequestHead | None:
    line, _, rest = block.partition(b"\n")
    parts = _split_request_line(line.removesuffix(b"\r"))
    if parts is None:
        return None
    method, target, version = parts
    fields = _read_lenient_fields(rest)
    anomalies = _find_line_anomalies(block)
    if b" " in target or b"\t" in target:
        anomalies.append("space_in_target")
    if not target.isascii():
        anomalies.append("non_ascii_target")
    hosts = sum(name.lower() == b"host" for name, _ in fields.headers)
    if hosts > 1:
        anomalies.append("duplicate_host")
    elif not hosts and version != "1.0":
        anomalies.append("missing_host")
    head = RequestHead(method, target, version, fields)
    fields.anomalies = anomalies + fields.anomalies
    _add_disputes(head, block)
    _name_refusal(fields)
    return head


def _parse_lenient_response(block: bytes) -> ResponseHead | None:
    line, _, rest = block.partition(b"\n")
    match = _LENIENT_STATUS_LINE.fullmatch(line.removesuffix(b"\r"))
    if match is None:
        return None
    fields = _read_lenient_fields(rest)
    fields.anomalies = _find_line_anomalies(block) + fields.anomalies
    _name_refusal(fields)
    return ResponseHead(int(match[2]), (match[3] or b"").strip(b" \t"), match[1].decode(), fields)


def _name_refusal(fields: Fields) -> None:
    """Add `not_strict` when nothing names why h11 refused the head, nor will its framing (`framing`)."""
    framing = fields.framing
    length = framing.get(b"content-length", b"0")
    is_framing_plain = (
        length.isdigit()
        and len(length) <= _MAX_H11_LENGTH_DIGITS
        and framing.get(b"transfer-encoding", b"chunked").lower() == b"chunked"
    )
    if not fields.anomalies and is_framing_plain:
        fields.anomalies.append("not_strict")


def _split_request_line(line: bytes) -> tuple[bytes, bytes, str] | None:
    """Split at the first and the last white space, so that the target may hold anything but NUL."""
    method, _, rest = line.partition(b" ")
    target, _, version = rest.rstrip(b" \t").rpartition(b" ")
    target = target.strip(b" \t")
    match = _VERSION.fullmatch(version)
    if match is None or not method or not target or b"\x00" in target or not is_token(method):
        return None
    return method, target, match[1].decode()


def _read_lenient_fields(rest: bytes) -> Fields:
    anomalies: dict[str, None] = {}
    names: list[bytes] = []
    values: list[list[bytes]] = []
    for raw_line in rest.split(b"\n") if rest else ():
        line = raw_line.removesuffix(b"\r")
        if line[:1] in (b" ", b"\t"):
            # RFC 9112 §5.2: a fold is one or more spaces; without a field before it the line belongs to
            # nothing.
            anomalies["obs_fold" if values else "leading_whitespace"] = None
            if values:
                values[-1].append(line.strip(b" \t"))
            continue
        name, separator, value = line.partition(b":")
        if not separator:
            anomalies["field_without_colon"] = None
            continue
        stripped = name.rstrip(b" \t")
        if stripped != name:
            anomalies["space_before_colon"] = None
        if not stripped or not is_token(stripped):
            anomalies["invalid_field_name"] = None
        if holds_control(value):
            anomalies["invalid_field_value"] = None
        names.append(stripped)
        values.append([value.strip(b" \t")])
    headers = [(name, b" ".join(parts).strip(b" ")) for name, parts in zip(names, values, strict=True)]
    return Fields(headers, _collect_framing(headers), list(anomalies))
