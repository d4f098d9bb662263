"""A proxy that knows CONNECT only: `python -m tests.e2e.servers.connect_proxy ADDRESS`.

ADDRESS is an IPv4 or IPv6 address. The first line of output is the port. Of a target, the part in front of an
`@` is passed over, and what follows is connected to.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

ESTABLISHED = b"HTTP/1.0 200 Connection established\r\n\r\n"
REFUSED = b"HTTP/1.0 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read one CONNECT, then carry bytes both ways until both ends are done."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        host, _, port = head.split(b" ", 2)[1].decode().rpartition("@")[2].rpartition(":")
        try:
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.write(REFUSED)
            return
        writer.write(ESTABLISHED)
        await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))
        far_writer.close()
    except (OSError, asyncio.IncompleteReadError):
        return
    finally:
        writer.close()


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry one direction to its end."""
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


async def main() -> None:
    server = await asyncio.start_server(serve, sys.argv[1], 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
