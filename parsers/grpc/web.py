"""What gRPC-Web does differently: base64 text, and trailers that travel in the body.

Owns both forms (gRPC-Web protocol, "Protocol differences vs gRPC over HTTP2"). It must not know messages or
calls.
"""

from __future__ import annotations

import re
from binascii import Error, a2b_base64

from parsers.http1.field_lines import is_token
from parsers.http_exchange import HeaderList, Headers

_RUN = re.compile(rb"[^=]+=*|=+")


class Base64Decoder:
    """Decodes base64 as it passes: a sender may pad whenever it flushes, so padded runs follow each other."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    @property
    def held_bytes(self) -> int:
        """Characters of an unfinished group of four."""
        return len(self._rest)

    def decode(self, data: bytes) -> bytes | None:
        """Return the bytes that the characters complete, None when they are no base64 (RFC 4648 §4)."""
        data = self._rest + data
        whole = len(data) & ~3
        self._rest = data[whole:]
        groups = data[:whole]
        runs = _RUN.findall(groups) if b"=" in groups else (groups,)
        try:
            return b"".join([a2b_base64(run, strict_mode=True) for run in runs])
        except Error:
            self._rest = b""
            return None


def parse_trailers(block: bytes, max_fields: int) -> Headers:
    """Return the fields of a trailers frame: HTTP/1 field lines without an empty line at the end.

    A line that is no field is left out, and so are those beyond `max_fields`.
    """
    fields: HeaderList = []
    for line in block.split(b"\n"):
        name, colon, value = line.partition(b":")
        if colon and name and is_token(name):
            fields.append((name, value.strip(b" \t\r")))
            if len(fields) == max_fields:
                break
    return fields
