"""The server behind nginx and Apache: it says in the header X-Read what they read and forwarded.

A program of its own, so that its work runs beside that of the harness. What a proxy acted on comes in the
headers X-Read-Line or X-Read-Target, and X-Read-Host; the body is as the proxy sends it.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys


async def read_body(reader: asyncio.StreamReader, fields: dict[bytes, bytes]) -> bytes:
    if b"transfer-encoding" in fields:
        body = b""
        while size := int((await reader.readline()).partition(b";")[0], 16):
            body += await reader.readexactly(size)
            await reader.readline()
        while (await reader.readline()).strip():
            pass
        return body
    return await reader.readexactly(int(fields.get(b"content-length", b"0")))


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while line := await reader.readline():
            fields = {}
            while (field := (await reader.readline()).rstrip(b"\r\n")) != b"":
                name, _, value = field.partition(b":")
                fields[name.lower()] = value.strip(b" ")
            if b"expect" in fields:
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = await read_body(reader, fields)
            method = line.split(b" ")[0]
            target = fields.get(b"x-read-target", b"")
            if b"x-read-line" in fields:
                target = fields[b"x-read-line"].partition(b" ")[2].rpartition(b" ")[0].strip(b" \t")
            read = [word.hex() for word in (method, target, fields.get(b"x-read-host", b""))]
            read += [str(len(body)), hashlib.sha1(body).hexdigest()]
            content = b"" if method == b"HEAD" else b"read"
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-Read: %s\r\n\r\n%s"
                % (" ".join(read).encode(), content)
            )
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError, ValueError):
        pass
    finally:
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
