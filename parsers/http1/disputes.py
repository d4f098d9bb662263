"""What servers in wide use read differently in a request, or do not all accept, though it can be read.

Owns the names of such oddities and what makes a head odd in this way. It must not read a head or decide its
framing; the lines of the chunked coding name what is odd in them themselves (`chunked`).

Contract: the oracle is what nginx, Apache httpd, Node, gunicorn and Go's net/http make of a request (`make
test-servers`), not the grammar alone. What all of them accept and read alike has no name here. Every check
is linear in what it looks at. The fast lane (`head`) takes nothing that would be named here.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final

from parsers.http_exchange import Headers

READ_DIFFERENTLY: Final = frozenset(
    (
        "disputed_host",
        "repeated_chunked",
        "tab_around_coding",
        "target_host_mismatch",
        "transfer_encoding_in_http10",
        "transfer_encoding_with_content_length",
    )
)
"""Anomalies of a request that two servers may take for two different requests: its exchange is `invalid`."""

ENDS_DIFFERENTLY: Final = frozenset(
    (
        "repeated_chunked",
        "tab_around_coding",
        "transfer_encoding_in_http10",
        "transfer_encoding_with_content_length",
    )
)
"""Those behind which two servers may find the next request in different places."""

COMMON_METHODS: Final = tuple(
    b"""
        GET POST PUT HEAD DELETE OPTIONS PATCH PROPFIND REPORT SEARCH
        ACL BIND CHECKOUT CONNECT COPY LINK LOCK M-SEARCH MERGE MKACTIVITY MKCALENDAR MKCOL MOVE NOTIFY
        PROPPATCH PURGE QUERY REBIND SOURCE SUBSCRIBE TRACE UNBIND UNLINK UNLOCK UNSUBSCRIBE
    """.split()
)
"""Methods that every server passes on to its application, those that are used most first.

Others are tokens too (RFC 9110 §9.1), but Node refuses them with 400, and nginx and gunicorn refuse those
that are not of upper-case letters.
"""

_MAX_TARGET_HOSTS = 256
"""Pairs of an absolute target's authority and a Host remembered; a client of a proxy has tens."""
_CONTROLS = bytes((*range(9), *range(10, 32), 127))
_PRINTABLE_ASCII = bytes(range(0x21, 0x7F))
_BAD_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})|%00")
_QUESTIONABLE_PERCENT = re.compile(rb"%(?!(?!00|2[eE])[0-9A-Fa-f]{2})")
_ABSOLUTE = re.compile(rb"([A-Za-z][-+.0-9A-Za-z]*)://([^/?]*)")
_AUTHORITY = re.compile(rb"(?:[^@]*@)?(\[[^\]]*\]|[^:]*)(?::([0-9]*))?")
_NAME_BYTES = b"-_.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_DIGITS_AND_DOTS = b"0123456789."
_LEADING_ZERO = re.compile(rb"(?:^|\.)0[0-9]")
_LARGEST_PORT = 65_535
_TAB_SENSITIVE = frozenset((b"host", b"content-length", b"transfer-encoding"))
_TRAILERS_THAT_FRAME = frozenset((b"content-length", b"transfer-encoding", b"trailer"))
_FORBIDDEN_TRAILERS = frozenset(
    (b"authorization", b"content-length", b"host", b"te", b"trailer", b"transfer-encoding")
)


def find_disputes(method: bytes, target: bytes, version: str, headers: Headers) -> Iterator[str]:
    """Name what is odd in a request line and the fields as sent, framing aside (`framing`)."""
    if method not in COMMON_METHODS:
        yield "uncommon_method"
    if version not in ("1.0", "1.1"):
        yield "unusual_version"
    hosts = [value for name, value in headers if name.lower() == b"host"]
    yield from _find_target_disputes(method, target, hosts[0] if hosts else b"")
    for host in hosts:
        if not is_plain_host(host):
            yield "disputed_host" if _is_host_divided(host) else "invalid_host"
    for name in (b"content-type", b"expect"):
        values = [value for key, value in headers if key.lower() == name]
        if name == b"expect" and not all(is_plain_expectation(value) for value in values[:1]):
            yield "unknown_expectation"
        if len(values) > 1:
            yield "duplicate_" + name.decode().replace("-", "_")
    names = {name.lower() for name, _ in headers}
    if b"transfer-encoding" in names and not all(
        is_plain_announcement(value) for name, value in headers if name.lower() == b"trailer"
    ):
        yield "forbidden_trailer"


def find_line_disputes(lines: Iterable[bytes]) -> Iterator[str]:
    """Name what only the lines of the fields show: nginx takes a tab for a part of the value.

    So does Node behind Transfer-Encoding in a request with Upgrade, and leaves the body for the next request.
    """
    for line in lines:
        name, _, value = line.partition(b":")
        if b"\t" in value and name.lower() in _TAB_SENSITIVE:
            bare = value.removesuffix(b"\r").strip(b" ")
            if bare != bare.strip(b"\t"):
                yield "tab_around_coding" if name.lower() == b"transfer-encoding" else "tab_around_value"


def is_questionable(target: bytes) -> bool:
    """Whether a target without fragment deserves a closer look at its dots and percent signs."""
    path = target.partition(b"?")[0]
    return b"/.." in path or (b"%" in path and _QUESTIONABLE_PERCENT.search(path) is not None)


@lru_cache(maxsize=_MAX_TARGET_HOSTS)
def is_plain_target_host(authority: bytes, host: bytes) -> bool:
    """Whether the authority of an absolute target is plain and names the host that the Host field names."""
    return is_plain_authority(authority) and is_same_host(authority, host)


def find_trailer_disputes(headers: Headers) -> Iterator[str]:
    """Name trailers that change what was read before them (RFC 9110 §6.5.1)."""
    if any(name.lower() in _FORBIDDEN_TRAILERS for name, _ in headers):
        yield "forbidden_trailer"


def holds_control(value: bytes) -> bool:
    """Whether a value holds a control character other than a tab, which RFC 9110 §5.5 calls dangerous."""
    return len(value.translate(None, _CONTROLS)) != len(value)


def is_plain_host(value: bytes) -> bool:
    """Whether all servers take the value of a Host field: a name or an address, and a possible port."""
    host, colon, port = value.rpartition(b":") if not value.endswith(b"]") else (value, b"", b"")
    if not colon:
        host = value
    elif not (port.isdigit() and len(port) <= 5 and 0 < int(port) <= _LARGEST_PORT):
        return False
    if host.startswith(b"["):
        return host.endswith(b"]") and _is_address(host[1:-1])
    name = host.removesuffix(b".")
    if not name or b".." in host or name.translate(None, _NAME_BYTES):
        return False
    if not name.translate(None, _DIGITS_AND_DOTS):
        return name.count(b".") == 3 and name[:1] != b"." and _LEADING_ZERO.search(name) is None
    # RFC 1123 §2.1: a top-level domain begins with a letter.
    last = name.rpartition(b".")[2]
    return b"." not in name or last[:1].isalpha()


def is_plain_authority(authority: bytes) -> bool:
    """Whether all servers take the authority of an absolute target: as a Host field, but with any port."""
    match = _AUTHORITY.fullmatch(authority)
    return match is not None and b"@" not in authority and is_plain_host(match[1])


def is_plain_expectation(value: bytes) -> bool:
    """Whether the value of an Expect field is the only one that there is (RFC 9110 §10.1.1)."""
    return value.lower() == b"100-continue"


def is_plain_announcement(value: bytes) -> bool:
    """Whether a Trailer field announces no field that frames the message."""
    return _TRAILERS_THAT_FRAME.isdisjoint(name.strip(b" \t").lower() for name in value.split(b","))


def is_same_host(authority: bytes, host: bytes) -> bool:
    """Whether an absolute target and the Host field name the same host, whatever the ports."""
    name = _take_host(authority)
    return bool(name) and name == _take_host(host)


def _find_target_disputes(method: bytes, target: bytes, host: bytes) -> Iterator[str]:
    odd = target.translate(None, _PRINTABLE_ASCII).strip(b" \t")
    if odd and odd.isascii():
        yield "invalid_target"
    if method == b"CONNECT":
        return
    absolute = _ABSOLUTE.match(target)
    if absolute is not None:
        scheme, authority = absolute.groups()
        if scheme.lower() not in (b"http", b"https"):
            yield "unusual_target_form"
        if not is_same_host(authority, host):
            yield "target_host_mismatch"
        elif not is_plain_authority(authority):
            yield "invalid_target"
        target = target[absolute.end() :]
    elif not target.startswith(b"/"):
        yield "unusual_target_form"
    path = target.partition(b"?")[0]
    if b"#" in target or _BAD_PERCENT.search(path) is not None:
        yield "invalid_target"
    if _climbs_above_root(path):
        yield "target_above_root"


def _climbs_above_root(path: bytes) -> bool:
    """Whether dots, also percent-encoded ones, lead out of the root; nginx and Apache refuse such a path."""
    decoded = re.sub(rb"%2[eE]", b".", path)
    if b".." not in decoded:
        return False
    depth = 0
    for segment in re.sub(rb"%2[fF]", b"/", decoded).split(b"/"):
        if segment == b"..":
            depth -= 1
        elif segment not in (b"", b"."):
            depth += 1
        if depth < 0:
            return True
    return False


def _is_host_divided(host: bytes) -> bool:
    """Whether servers find different names in the value, because what divides name and port is unclear."""
    name = host.partition(b"]")[2] if host.startswith(b"[") else host
    _, colon, port = name.partition(b":")
    if host.startswith(b"[") and name and not colon:
        return True
    return b"@" in host or bool(port.strip(b"0123456789")) or bool(colon and b":" in port)


def _take_host(authority: bytes) -> bytes:
    match = _AUTHORITY.fullmatch(authority)
    return match[1].lower().removesuffix(b".") if match else b""


def _is_address(text: bytes) -> bool:
    try:
        ipaddress.IPv6Address(text.decode("latin-1"))
    except ValueError:
        return False
    return b"%" not in text
