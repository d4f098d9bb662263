"""Decoding HPACK (RFC 7541) when not everything was seen.

Owns the dynamic table of one direction, and what is known of it. It must not say what fields mean
(`fields`). hpack has the static table and the Huffman code; its own decoder is for an endpoint, which
has seen every block or ends the connection. Here a lost block is no error, and a guess would be one: a
decoder that goes on as if nothing was lost answers with another entry, and one user's header becomes
another's.

Contract: a field is decoded right, or it is unknown. The newest entry has index 62 (RFC 7541 §2.3.3), so an
entry keeps its distance from the newest one, and an encoder refers only to what it has not evicted. Therefore
what was inserted since a loss is known by counting alone, however large the table is and whatever lies below;
an index beyond it is unknown. Nothing depends on SETTINGS_HEADER_TABLE_SIZE: an encoder says in the block
itself what size it uses (RFC 7541 §4.2), and to keep an entry that it has evicted does no harm, because it
never refers to it.
"""

from __future__ import annotations

from typing import Final

from hpack.table import HeaderTable

from parsers.http2.fields import Field, FieldBlock, is_odd_value, read_fields
from parsers.http2.huffman import decode_huffman
from parsers.limits import ParserLimits

DEFAULT_TABLE_SIZE: Final = 4_096
"""What both ends begin with (RFC 9113 §6.5.2)."""
MAX_REMEMBERED_BLOCKS: Final = 16
"""Blocks remembered whole while the table stays as it is: a client repeats few."""
MAX_REMEMBERED_BYTES: Final = 128
"""Longest coded block remembered: one that repeats consists of indexed fields, a byte or two each."""

_ENTRY_OVERHEAD: Final = 32
"""RFC 7541 §4.1."""
_MAX_INTEGER_BYTES: Final = 5
"""Bytes behind the prefix of an integer; more would not fit into 32 bits (RFC 7541 §5.1)."""
_STATIC: Final[tuple[Field, ...]] = ((b"", b""), *HeaderTable.STATIC_TABLE)
_STATIC_COUNT: Final = len(_STATIC) - 1
_ALWAYS: Final = 1 << 62

_Entry = tuple[bytes | None, bytes | None]


class _CodingError(Exception):
    """A block that is no HPACK; it never leaves this module."""


class HeaderDecoder:
    """Decodes the field blocks of one direction, in order."""

    __slots__ = (
        "_blocks",
        "_capacity",
        "_changed",
        "_complete",
        "_counts",
        "_entries",
        "_has_seen_odd",
        "_in_doubt",
        "_limits",
        "_trusted",
        "_trusting",
        "held_bytes",
    )

    def __init__(self, limits: ParserLimits, counts: dict[str, int]) -> None:
        self._limits = limits
        self._counts = counts
        self._entries: list[_Entry] = []
        """Newest last; None in an entry is unknown."""
        self.held_bytes = 0
        """Size of the entries as RFC 7541 §4.1 counts; at least, where a name is unknown."""
        self._capacity: int | None = DEFAULT_TABLE_SIZE
        """None when it is not known."""
        self._complete = True
        """No entry is missing below those that are here."""
        self._trusting = True
        self._trusted = _ALWAYS
        """Entries, from the newest, that the peer has beyond doubt."""
        self._blocks: dict[bytes, FieldBlock] = {}
        self._changed = False
        self._in_doubt = False
        self._has_seen_odd = False
        """An odd value was decoded, which later blocks may refer to."""

    def taint(self) -> None:
        """Note that blocks were lost, or may have been: whatever the table held is unknown now."""
        self._entries.clear()
        self._blocks.clear()
        self.held_bytes = 0
        self._capacity = None
        self._complete = False
        self._trusting = False
        self._trusted = 0

    def trust(self) -> None:
        """Note that what is inserted from here on is beyond doubt."""
        if not self._trusting:
            self._trusting = True
            self._blocks.clear()
            # Size updates are not beyond doubt either.
            self._capacity = None
            self._complete = False

    def decode(self, coded: bytes) -> FieldBlock:
        """Decode a whole field block; one that fails keeps the fields before the failure."""
        block = self._blocks.get(coded)
        if block is not None:
            return block
        fields: list[Field | None] = []
        self._changed = self._in_doubt = False
        failed = False
        try:
            self._read_block(coded, fields)
        except (_CodingError, IndexError):
            failed = True
        block = read_fields(fields, self._limits, may_have_odd_values=self._has_seen_odd)
        block.failed = failed
        block.in_doubt = self._in_doubt
        if self._changed:
            self._blocks.clear()
        elif len(coded) <= MAX_REMEMBERED_BYTES and not failed:
            if len(self._blocks) >= MAX_REMEMBERED_BLOCKS:
                self._blocks.clear()
            self._blocks[coded] = block
        return block

    def _read_block(self, coded: bytes, fields: list[Field | None]) -> None:
        at = 0
        end = len(coded)
        while at < end:
            byte = coded[at]
            at += 1
            if byte >= 0x80:
                # Indexed field (§6.1).
                index = byte & 0x7F
                if index == 0x7F:
                    index, at = _read_integer(coded, at, index)
                if 0 < index <= _STATIC_COUNT:
                    fields.append(_STATIC[index])
                    continue
                name, value = self._find_entry(index)
                fields.append(None if name is None or value is None else (name, value))
                continue
            if byte & 0xE0 == 0x20:
                if fields:
                    # §4.2: only at the beginning of a block.
                    raise _CodingError
                index = byte & 0x1F
                if index == 0x1F:
                    index, at = _read_integer(coded, at, index)
                self._resize(index)
                continue
            # Literal field, with incremental indexing (§6.2.1) or without; one that must never be indexed
            # (§6.2.3) reads alike.
            indexed = byte >= 0x40
            mask = 0x3F if indexed else 0x0F
            index = byte & mask
            if index == mask:
                index, at = _read_integer(coded, at, index)
            if not index:
                name, at = _read_string(coded, at)
            elif index <= _STATIC_COUNT:
                name = _STATIC[index][0]
            else:
                name = self._find_entry(index)[0]
            literal, at = _read_string(coded, at)
            if is_odd_value(literal):
                self._has_seen_odd = True
            if name is None:
                fields.append(None)
                if indexed:
                    self._insert((None, literal), len(literal))
                continue
            known = (name, literal)
            fields.append(known)
            if indexed:
                self._insert(known, len(name) + len(literal))

    def _find_entry(self, index: int) -> _Entry:
        """Return a dynamic entry by its index; unknown parts of it are None."""
        entries = self._entries
        back = index - _STATIC_COUNT
        if back <= 0:
            raise _CodingError
        if back > len(entries):
            if self._complete:
                raise _CodingError
            return None, None
        if back > self._trusted:
            self._in_doubt = True
        return entries[-back]

    def _insert(self, entry: _Entry, length: int) -> None:
        """Insert an entry of `length` bytes, evicting what does not fit any more (§4.4)."""
        self._changed = True
        entries = self._entries
        size = length + _ENTRY_OVERHEAD
        capacity = self._capacity
        if capacity is not None and size > capacity:
            # Empties the table and is not inserted.
            entries.clear()
            self.held_bytes = 0
            return
        bound = self._limits.max_header_table
        if size > bound:
            # It has its place in the peer's table, so it has one here; what it says is not kept.
            entry = (None, None)
            size = _ENTRY_OVERHEAD
        if self._trusting:
            self._trusted += 1
        entries.append(entry)
        self.held_bytes += size
        if self.held_bytes > (bound if capacity is None else min(bound, capacity)):
            self._evict(bound if capacity is None else min(bound, capacity))
            if capacity is None or capacity > bound:
                self._counts["http2_forgotten_entries"] += 1
                self._complete = False

    def _evict(self, bound: int) -> None:
        """Evict the oldest entries until the rest fits."""
        entries = self._entries
        count = 0
        while self.held_bytes > bound:
            name, value = entries[count]
            self.held_bytes -= len(name or b"") + len(value or b"") + _ENTRY_OVERHEAD
            count += 1
        del entries[:count]

    def _resize(self, capacity: int) -> None:
        """Take a dynamic table size update (§6.3)."""
        self._changed = True
        self._capacity = capacity
        bound = min(capacity, self._limits.max_header_table)
        if self.held_bytes > bound:
            self._evict(bound)
        if not capacity:
            # The peer's table is empty as well.
            self._complete = True


def _read_integer(coded: bytes, at: int, value: int) -> tuple[int, int]:
    """Read the rest of an integer behind a full prefix (§5.1); return it and where it ends."""
    for shift in range(0, 7 * _MAX_INTEGER_BYTES, 7):
        byte = coded[at]
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _CodingError


def _read_string(coded: bytes, at: int) -> tuple[bytes, int]:
    """Read a string literal (§5.2); return it and where it ends."""
    byte = coded[at]
    at += 1
    length = byte & 0x7F
    if length == 0x7F:
        length, at = _read_integer(coded, at, length)
    end = at + length
    raw = coded[at:end]
    if len(raw) != length:
        raise _CodingError
    if byte < 0x80:
        return raw, end
    decoded = decode_huffman(raw)
    if decoded is None:
        raise _CodingError
    return decoded, end
