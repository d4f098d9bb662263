"""First messages of TLS clients, as OpenSSL writes them."""

from __future__ import annotations

import ssl

RECORD_HEADER_BYTES = 5


def build_client_hello(server_name: str | None) -> bytes:
    """Return the ClientHello of a client that asks for a host."""
    context = ssl.create_default_context()
    context.check_hostname = False
    written = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), written, server_hostname=server_name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return written.read()[RECORD_HEADER_BYTES:]
    raise AssertionError("a handshake without an answer")
