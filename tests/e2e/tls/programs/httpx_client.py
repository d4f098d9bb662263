"""httpx on asyncio: one client and task for each connection. Arguments: URL, authority, `1.1` or `2`.

Over HTTP/2 the requests of a connection are in flight at the same time.
"""

import asyncio
import ssl
import sys

import httpx

from tests.e2e.tls.plan import CONNECTIONS, HEADERS, Request, build_requests


async def ask(client: httpx.AsyncClient, asked: Request, version: str) -> None:
    answer = await client.request(asked.method, asked.path, content=asked.body, headers=HEADERS)
    assert (answer.status_code, answer.text) == (200, asked.answer)
    assert answer.http_version == f"HTTP/{version}"


async def converse(connection: int, url: str, trusted: ssl.SSLContext, version: str) -> None:
    limits = httpx.Limits(max_connections=1)
    async with httpx.AsyncClient(
        base_url=url, verify=trusted, http2=version == "2", limits=limits, timeout=60, trust_env=False
    ) as client:
        first, *others = build_requests(connection)
        await ask(client, first, version)
        if version == "2":
            await asyncio.gather(*(ask(client, asked, version) for asked in others))
        else:
            for asked in others:
                await ask(client, asked, version)


async def main() -> None:
    url, authority, version = sys.argv[1:]
    trusted = ssl.create_default_context(cafile=authority)
    await asyncio.gather(*(converse(connection, url, trusted, version) for connection in range(CONNECTIONS)))


asyncio.run(main())
