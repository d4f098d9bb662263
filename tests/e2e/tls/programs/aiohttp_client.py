"""aiohttp: one session and task for each connection. Arguments: URL, file of the authority."""

import asyncio
import ssl
import sys

import aiohttp

from tests.e2e.tls.plan import CONNECTIONS, HEADERS, build_requests


async def converse(connection: int, url: str, trusted: ssl.SSLContext) -> None:
    connector = aiohttp.TCPConnector(limit=1, ssl=trusted)
    async with aiohttp.ClientSession(connector=connector, headers=HEADERS) as session:
        for asked in build_requests(connection):
            async with session.request(asked.method, url + asked.path, data=asked.body) as answer:
                assert (answer.status, await answer.text()) == (200, asked.answer)


async def main() -> None:
    url, authority = sys.argv[1:]
    trusted = ssl.create_default_context(cafile=authority)
    await asyncio.gather(*(converse(connection, url, trusted) for connection in range(CONNECTIONS)))


asyncio.run(main())
