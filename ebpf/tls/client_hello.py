"""The server name in the first message of a TLS client.

Owns the layout of a ClientHello as far as its server_name extension. Contract: any bytes give a name or None.
"""

from __future__ import annotations

import re

CLIENT_HELLO = 1
SERVER_NAME, HOST_NAME = 0, 0
"""Type of the extension, and of the only kind of name that it has (RFC 6066 §3)."""

_BEFORE_SESSION_ID = 4 + 2 + 32  # type and length of the message, legacy_version, random (RFC 8446 §4.1.2)
_HOST_NAME = re.compile(rb"[0-9A-Za-z._-]{1,255}")


def read_server_name(hello: bytes) -> str | None:
    """Return the host that a ClientHello asks for, in lower case; None when it is not there, or cut off.

    `hello` begins with the type of the handshake message.
    """
    if not hello or hello[0] != CLIENT_HELLO:
        return None
    at = _BEFORE_SESSION_ID
    for length_bytes in (1, 2, 1):  # legacy_session_id, cipher_suites, legacy_compression_methods
        at += length_bytes + int.from_bytes(hello[at : at + length_bytes], "big")
    end = at + 2 + int.from_bytes(hello[at : at + 2], "big")
    at += 2
    while at + 4 <= min(end, len(hello)):
        kind = int.from_bytes(hello[at : at + 2], "big")
        length = int.from_bytes(hello[at + 2 : at + 4], "big")
        if kind == SERVER_NAME:
            return _read_host_name(hello[at + 4 : at + 4 + length])
        at += 4 + length
    return None


def _read_host_name(extension: bytes) -> str | None:
    length = int.from_bytes(extension[3:5], "big")
    name = extension[5 : 5 + length]
    if extension[2:3] != bytes((HOST_NAME,)) or len(name) != length or not _HOST_NAME.fullmatch(name):
        return None
    return name.decode("ascii").lower()
