"""The fields of one HTTP/2 field block, sorted into what they mean (RFC 9113 §8).

Owns pseudo-fields, cookie crumbs, and what is odd about a field section. It must not decode
(`headers`), nor know whether the block is a head or trailers.

h2 is the authority on what is odd: a block that its `validate_headers` refuses has an anomaly, or is no head
to `stream`. Its functions look at every character in Python and take fifteen times as long as sorting, so
the same rules are applied here to whole values, and a test compares both.

Contract: what is unknown is left out and counted; a value is the one that was sent or None. A block is shared
by all messages that repeat it, so it is never changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from h2.utilities import CONNECTION_HEADERS
from hpack.table import HeaderTable

from parsers.http1.field_lines import RECURRING_FIELDS
from parsers.http_exchange import HeaderList
from parsers.limits import ParserLimits

Field = tuple[bytes, bytes]

_FIELD_NAME_BYTES: Final = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
_PSEUDO: Final = (b":method", b":path", b":scheme", b":authority", b":protocol", b":status")
_IS_PLAIN: Final = 0
_IS_SPECIAL: Final = 1
_IS_UNKNOWN_PSEUDO: Final = 2
_FIRST_PSEUDO: Final = 3
_KINDS: Final[dict[bytes, int]] = {
    **dict.fromkeys((name for name, _ in HeaderTable.STATIC_TABLE), _IS_PLAIN),
    **dict.fromkeys(RECURRING_FIELDS, _IS_PLAIN),
    **dict.fromkeys(
        (*CONNECTION_HEADERS, b"content-encoding", b"content-type", b"cookie", b"host", b"te"), _IS_SPECIAL
    ),
    **{name: _FIRST_PSEUDO + place for place, name in enumerate(_PSEUDO)},
}
"""What to do with a field, by its name; names that are not here are looked at. Special are the fields that
HTTP/2 does without (RFC 9113 §8.2.2) and those whose value is needed."""
_FIELD_OVERHEAD: Final = 32
"""What a field counts beyond its name and value (RFC 9113 §6.5.2)."""


@dataclass(slots=True)
class FieldBlock:
    """A decoded field block."""

    headers: HeaderList = field(default_factory=list)
    """Fields without pseudo-fields; cookie crumbs joined when all fields are known."""
    method: bytes | None = None
    path: bytes | None = None
    scheme: bytes | None = None
    authority: bytes | None = None
    protocol: bytes | None = None
    status: int | None = None
    content_type: bytes | None = None
    content_encoding: bytes | None = None
    unknown: int = 0
    """Fields whose name or value is unknown."""
    dropped: int = 0
    """Fields beyond the bounds."""
    size: int = 0
    """Bytes of names and values."""
    hides_pseudo: bool = False
    """A pseudo-field may be among the unknown ones: they stand first (RFC 9113 §8.3)."""
    is_request: bool = False
    """Has a pseudo-field of requests."""
    is_response: bool = False
    """Has `:status`."""
    failed: bool = False
    """The block does not decode to its end."""
    malformed: bool = False
    """It says different things at once, or a pseudo-field makes no sense: no telling what the peer took."""
    in_doubt: bool = False
    """Refers to an entry that was learned while it was open whether frames were read at all."""
    anomalies: tuple[str, ...] = ()


def is_odd_value(value: bytes) -> bool:
    """Whether a value has NUL, CR or LF, or white space around it (RFC 9113 §8.2.1)."""
    # Looking for a number is twenty times as quick as looking for a string of one byte.
    return 0x00 in value or 0x0A in value or 0x0D in value or value.strip(b" \t") != value


def read_fields(
    fields: list[Field | None], limits: ParserLimits, *, may_have_odd_values: bool = True
) -> FieldBlock:
    """Sort fields in wire order; None stands for one that is unknown.

    `may_have_odd_values` is False where the caller is sure that no value `is_odd_value`.
    """
    block = FieldBlock()
    headers = block.headers
    anomalies: dict[str, None] = {}
    pseudo: list[bytes | None] = [None] * len(_PSEUDO)
    crumbs: list[bytes] = []
    hosts: list[bytes] = []
    size = content = 0
    most = limits.max_headers
    longest = limits.max_header_list
    regular_seen = False
    for index, known in enumerate(fields):
        if known is None:
            block.unknown += 1
            block.hides_pseudo = block.hides_pseudo or not regular_seen
            continue
        name, value = known
        kind = _KINDS.get(name)
        if kind is None:
            kind = _look_at_name(name, anomalies)
        length = len(name) + len(value)
        size += length + _FIELD_OVERHEAD
        if size > longest or len(headers) >= most:
            block.dropped = len(fields) - index
            break
        if kind >= _IS_UNKNOWN_PSEUDO:
            if regular_seen:
                anomalies["pseudo_field_after_field"] = None
            if kind == _IS_UNKNOWN_PSEUDO:
                anomalies["unknown_pseudo_field"] = None
                continue
            place = kind - _FIRST_PSEUDO
            if pseudo[place] is None:
                pseudo[place] = value
            elif pseudo[place] != value:
                anomalies["conflicting_pseudo_field"] = None
                block.malformed = True
            else:
                anomalies["not_strict"] = None
            continue
        regular_seen = True
        content += length
        if kind == _IS_SPECIAL:
            _take_special(block, name, value, crumbs, hosts, anomalies)
        headers.append(known)
    block.size = content
    if may_have_odd_values and any(is_odd_value(value) for value in _values(headers, pseudo)):
        anomalies["invalid_field_value"] = None
    if len(crumbs) > 1 and not block.unknown and not block.dropped:
        _join_crumbs(headers, crumbs)
    _take_pseudo(block, pseudo, anomalies)
    method, path, scheme, authority, protocol, _ = pseudo
    if block.is_request and (
        hosts
        or protocol is not None
        or method == b"CONNECT"
        or not (method and path and scheme and authority)
    ):
        _look_at_request(block, pseudo, hosts, anomalies)
    if anomalies:
        block.anomalies = tuple(anomalies)
    return block


def _values(headers: HeaderList, pseudo: list[bytes | None]) -> Iterator[bytes]:
    for name, value in headers:
        # gRPC peers that have agreed on it send binary metadata as it is, behind a NUL.
        if not (value.startswith(b"\0") and name.endswith(b"-bin")):
            yield value
    for known in pseudo:
        if known is not None:
            yield known


def _look_at_name(name: bytes, anomalies: dict[str, None]) -> int:
    """Return what to do with a field whose name is not among the usual ones."""
    if name.startswith(b":"):
        return _IS_UNKNOWN_PSEUDO
    if name.translate(None, _FIELD_NAME_BYTES) or not name:
        anomalies["uppercase_field_name" if name.lower() != name else "invalid_field_name"] = None
    return _IS_PLAIN


def _look_at_request(
    block: FieldBlock, pseudo: list[bytes | None], hosts: list[bytes], anomalies: dict[str, None]
) -> None:
    """Find what a request lacks or has too much of (RFC 9113 §8.3.1 and §8.5, RFC 8441 §4)."""
    if block.hides_pseudo:
        return
    method, path, scheme, authority, protocol, _ = pseudo
    if method == b"CONNECT" and protocol is None:
        if path is not None or scheme is not None:
            anomalies["not_strict"] = None
    elif method is None or path is None or scheme is None:
        anomalies["missing_pseudo_field"] = None
    if path == b"" or (protocol is not None and method != b"CONNECT"):
        anomalies["not_strict"] = None
    if len(hosts) > 1:
        anomalies["duplicate_host"] = None
    if hosts and authority is not None and hosts[0] != authority:
        anomalies["target_host_mismatch"] = None
    elif not hosts and authority is None and not block.unknown and not block.dropped:
        anomalies["missing_host"] = None


def _take_special(
    block: FieldBlock,
    name: bytes,
    value: bytes,
    crumbs: list[bytes],
    hosts: list[bytes],
    anomalies: dict[str, None],
) -> None:
    if name == b"content-type":
        block.content_type = value
    elif name == b"content-encoding":
        before = block.content_encoding
        block.content_encoding = value if before is None else before + b"," + value
    elif name == b"cookie":
        crumbs.append(value)
    elif name == b"host":
        hosts.append(value)
    elif name != b"te" or value.lower() != b"trailers":
        anomalies["connection_field"] = None


def _join_crumbs(headers: HeaderList, crumbs: list[bytes]) -> None:
    """Make one Cookie of its crumbs, in the place of the first (RFC 9113 §8.2.3)."""
    first = next(index for index, (name, _) in enumerate(headers) if name == b"cookie")
    rest = [known for known in headers[first:] if known[0] != b"cookie"]
    headers[first:] = [(b"cookie", b"; ".join(crumbs)), *rest]


def _take_pseudo(block: FieldBlock, pseudo: list[bytes | None], anomalies: dict[str, None]) -> None:
    method, path, scheme, authority, protocol, status = pseudo
    block.is_response = status is not None
    block.is_request = (
        method is not None
        or path is not None
        or scheme is not None
        or authority is not None
        or protocol is not None
    )
    if block.malformed:
        # Which of two values the peer took cannot be told; all are left out.
        return
    block.method = method
    block.path = path
    block.scheme = scheme
    block.authority = authority
    block.protocol = protocol
    if status is None:
        return
    if len(status) == 3 and status.isdigit() and status >= b"100" and not block.is_request:
        block.status = int(status)
    else:
        anomalies["invalid_status"] = None
        block.malformed = True
