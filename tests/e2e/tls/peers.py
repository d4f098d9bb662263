"""Two `openssl_peer` that talk to each other, and what each of them has said."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.e2e.tls.servers import Materials

PEER_SECONDS = 60


@dataclass(frozen=True)
class Posted:
    """A body that went to the server and back."""

    path: str
    body: str
    client_port: int


@dataclass
class Talk:
    """What became of two peers."""

    port: int
    posted: list[Posted]
    complaints: list[str] = field(default_factory=list)
    """What they said when they ended otherwise than expected."""


@contextmanager
def serving_peer(
    materials: Materials,
    pattern: str,
    connections: int,
    *,
    program: Sequence[str] | None = None,
    environment: dict[str, str] | None = None,
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run the server for so many connections; yield its process and port.

    Args:
        materials: Certificates, and the program.
        pattern: How it calls OpenSSL.
        connections: After these it ends.
        program: The words that start it, where its path alone does not.
        environment: Variables besides those of the tests.
    """
    issued = materials.certificates
    with subprocess.Popen(
        [
            *(program or [str(materials.openssl_peer)]),
            *("serve", pattern, str(issued.certificate), str(issued.key), str(connections)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    ) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        try:
            line = server.stdout.readline()
            assert line, server.stderr.read()
            yield server, int(line)
        finally:
            server.kill()


def talk(materials: Materials, pattern: str, sizes: str) -> Talk:
    """Run a server and a client of a pattern to their ends; for `sizes` see openssl_peer.c."""
    with serving_peer(materials, pattern, sizes.count("/") + 1) as (server, port):
        client = subprocess.run(
            [
                *(str(materials.openssl_peer), "ask", pattern, str(port)),
                *(str(materials.certificates.authority), sizes),
            ],
            capture_output=True,
            text=True,
            timeout=PEER_SECONDS,
            check=False,
        )
        _, said_by_server = server.communicate(timeout=PEER_SECONDS)
    each_size = [int(size) for size in sizes.replace("/", ",").split(",")]
    posted = []
    for request, (line, size) in enumerate(zip(client.stdout.splitlines(), each_size, strict=False)):
        path, client_port = line.split()
        posted.append(Posted(path, build_body(request, size), int(client_port)))
    complaints = [said for said in (client.stderr, said_by_server) if said]
    if client.returncode or server.returncode or len(posted) != len(each_size):
        complaints.append(f"client {client.returncode}, server {server.returncode}, {len(posted)} requests")
    return Talk(port, posted, complaints)


@functools.cache
def build_body(request: int, size: int) -> str:
    """Return what the client posts: letters that tell request and position in every eight bytes."""
    words = []
    for word in range(-(-size // 8)):
        told = (request << 20) + word
        words.append("".join(chr(ord("a") + (told >> shift & 15)) for shift in range(24, -1, -4)))
    return "\n".join([*words, ""])[:size]
