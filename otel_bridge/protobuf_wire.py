"""The protobuf wire format, as far as OTLP attributes need it.

Owns varints and length-delimited fields (protobuf documentation, "Encoding"). It must not know any message.

Contract: a field is its tag, then its length as a varint, then its content; fields of one message may stand
in any order and are joined by mere concatenation.
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


def length_delimited_tag(number: int) -> bytes:
    """Return the tag of a string, bytes or message field with this number, below 16."""
    return bytes((number << 3 | 2,))


def encode_field(tag: bytes, content: bytes) -> bytes:
    """Return a length-delimited field."""
    return tag + encode_varint(len(content)) + content
