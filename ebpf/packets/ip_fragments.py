"""Putting fragmented IP datagrams together.

Owns the datagrams that are not whole yet. It must not look into them.

Contract: a datagram comes out once, when all of it is here. One whose fragments overlap never does, unless
they are the same (RFC 5722 section 4; what the receiver made of it can't be known); nor does one that the
capture cut a part of. Every fragment that led to nothing is counted in `lost_fragments`.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

from ebpf.packets.limits import PacketLimits

_MAX_DATAGRAM_BYTES = 65_535


class DatagramKey(NamedTuple):
    """What the fragments of one datagram have in common (RFC 791 section 3.2, RFC 8200 section 4.5)."""

    tags: tuple[int, ...]
    source: bytes
    destination: bytes
    identifier: int


class Fragment(NamedTuple):
    """A part of a datagram's payload."""

    offset: int
    data: bytes
    """What was captured of it."""
    length: int
    """True length."""
    more: bool
    """Whether it is not the last one."""


@dataclass(slots=True)
class _Datagram:
    since_unix_ns: int
    parts: dict[int, bytes] = field(default_factory=dict)
    """By offset, without overlap."""
    held_bytes: int = 0
    length: int | None = None
    """Known from the last fragment on."""
    fragments: int = 0
    is_refused: bool = False


class Fragments:
    """The datagrams being put together. `counts["lost_fragments"]` is added to."""

    def __init__(self, limits: PacketLimits, counts: dict[str, int]) -> None:
        self._limits = limits
        self._counts = counts
        self._datagrams: OrderedDict[DatagramKey, _Datagram] = OrderedDict()

    def add(self, key: DatagramKey, part: Fragment, unix_ns: int) -> bytes | None:
        """Take a fragment; return the payload of the datagram that it completes."""
        self._expire(unix_ns)
        datagram = self._datagrams.get(key)
        if datagram is None:
            datagram = self._datagrams[key] = _Datagram(unix_ns)
            if len(self._datagrams) > self._limits.max_datagrams:
                self._give_up(next(iter(self._datagrams)))
        datagram.fragments += 1
        if datagram.is_refused or not _fits(datagram, part):
            datagram.is_refused = True
            datagram.parts.clear()
            return None
        if part.offset not in datagram.parts:
            datagram.parts[part.offset] = part.data
            datagram.held_bytes += part.length
        if not part.more:
            datagram.length = part.offset + part.length
        if datagram.held_bytes != datagram.length:
            return None
        del self._datagrams[key]
        return b"".join(datagram.parts[offset] for offset in sorted(datagram.parts))

    def finish(self) -> None:
        """Give up everything that is not whole."""
        for key in list(self._datagrams):
            self._give_up(key)

    def _expire(self, unix_ns: int) -> None:
        while self._datagrams:
            key, datagram = next(iter(self._datagrams.items()))
            if unix_ns - datagram.since_unix_ns < self._limits.fragment_ns:
                return
            self._give_up(key)

    def _give_up(self, key: DatagramKey) -> None:
        self._counts["lost_fragments"] += self._datagrams.pop(key).fragments


def _fits(datagram: _Datagram, part: Fragment) -> bool:
    """Whether a fragment is whole, and new or the same again."""
    parts = datagram.parts
    offset, data = part.offset, part.data
    end = offset + part.length
    if offset in parts:
        return parts[offset] == data and part.more == (datagram.length != end)
    if not data or len(data) != part.length or end > _MAX_DATAGRAM_BYTES:
        return False
    if datagram.length is not None and (end > datagram.length or not part.more):
        return False
    if not part.more and any(start >= end for start in parts):
        return False
    return not any(offset < start + len(other) and start < end for start, other in parts.items())
