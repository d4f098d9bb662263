"""The protobuf wire format, as far as OTLP spans need it.

Owns varints, tags and length-delimited fields (protobuf documentation, "Encoding"). It must not know any
message.

Contract: a field is its tag, then its content, preceded by the content's length when it is length-delimited;
fields of one message may stand in any order and are joined by mere concatenation.
"""

from __future__ import annotations


def _build_varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_PREPARED = tuple(_build_varint(number) for number in range(4096))
"""Nearly all lengths on the way out are below this; as many small objects cost 200 KiB."""


def encode_varint(number: int) -> bytes:
    """Return a number from 0 to 2**64 - 1, seven bits a byte, the lowest first."""
    return _PREPARED[number] if number < 4096 else _build_varint(number)


def varint_tag(number: int) -> bytes:
    """Return the tag of an integer, enum or bool field with this number."""
    return _build_varint(number << 3)


def fixed64_tag(number: int) -> bytes:
    """Return the tag of a fixed64 or double field with this number: eight bytes follow."""
    return _build_varint(number << 3 | 1)


def length_delimited_tag(number: int) -> bytes:
    """Return the tag of a string, bytes or message field with this number."""
    return _build_varint(number << 3 | 2)


def fixed32_tag(number: int) -> bytes:
    """Return the tag of a fixed32 field with this number: four bytes follow."""
    return _build_varint(number << 3 | 5)


def encode_field(tag: bytes, content: bytes) -> bytes:
    """Return a length-delimited field."""
    return tag + encode_varint(len(content)) + content
