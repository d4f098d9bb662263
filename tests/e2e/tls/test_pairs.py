"""Clients and servers that people run, over TLS, a thousand requests on 50 connections: their spans."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.e2e.conftest import CLIENT, SERVER, ExportedSpan, read_spans
from tests.e2e.tls.clients import converse
from tests.e2e.tls.plan import CONNECTIONS, REQUESTS_PER_CONNECTION, Request
from tests.e2e.tls.servers import Materials, running_server
from tests.e2e.tls.spans import assert_exact, of_kind
from tests.running_agent import Agent

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

LIBRARIES = {"go": "go", "wget": "gnutls"}
"""Of programs that use another one than OpenSSL, whether shared or their own."""

PAIRS = [
    ("nginx", "curl"),
    ("nginx", "curl-h2"),
    ("nginx", "httpx-h2"),
    ("nginx", "wget"),
    ("gunicorn", "requests"),
    ("uvicorn", "aiohttp"),
    ("uvicorn", "httpx"),
    ("node", "node"),
    ("node", "curl"),
    ("installed-node", "installed-node"),
    ("go", "go"),
    ("go", "go-h2"),
    ("go", "requests"),
]


RING_BYTES = 32 * 1_048_576
"""Go asks and answers a thousand times in 0.2 s, with the agent on the same cores: two of that fill 8 MiB."""


@dataclass
class Conversation:
    """What a client has asked of a server, and what was seen of it."""

    port: int
    began_unix_ns: int
    asked: list[Request] = field(default_factory=list)
    complaint: str = ""
    """Why the client failed."""
    spans: list[ExportedSpan] = field(default_factory=list)


Conversations = Mapping[tuple[str, str], Conversation]


@pytest.fixture(scope="module")
def conversations(materials: Materials, tmp_path_factory: pytest.TempPathFactory) -> Conversations:
    """Hold them one after the other, before the eyes of one agent."""
    spans_file: Path = tmp_path_factory.mktemp("pairs") / "spans.jsonl"
    held: dict[tuple[str, str], Conversation] = {}
    with ExitStack() as running:
        servers = {
            name: running.enter_context(running_server(name, materials, tmp_path_factory.mktemp(name)))
            for name in dict(PAIRS)
        }
        ports = [f"--port={server.port}" for server in servers.values()]
        environment = {**os.environ, "WIRESPAN_CAPTURE_RING_BYTES": str(RING_BYTES)}
        agent = Agent("run", *ports, "--spans-file", str(spans_file), env=environment)
        running.callback(agent.close)
        for server, client in PAIRS:
            talk = held[server, client] = Conversation(servers[server].port, time.time_ns())
            try:
                talk.asked = converse(client, servers[server].url, materials, tmp_path_factory.mktemp(client))
            except AssertionError as error:
                talk.complaint = str(error)
        agent.stop()
    newest_first = sorted(held.values(), key=lambda talk: -talk.began_unix_ns)
    for span in read_spans(spans_file):
        # One that was there before the first of them spoils the last one's count.
        began = (talk for talk in newest_first if talk.began_unix_ns <= span.start_unix_ns)
        next(began, newest_first[0]).spans.append(span)
    return held


def library_of(name: str) -> str:
    return LIBRARIES.get(name.removesuffix("-h2"), "openssl")


@pytest.mark.parametrize(("server", "client"), PAIRS)
def test_each_request_becomes_exactly_one_span_at_each_end(
    conversations: Conversations, server: str, client: str
) -> None:
    talk = conversations[server, client]
    assert talk.complaint == ""
    assert len(talk.asked) == CONNECTIONS * REQUESTS_PER_CONNECTION == 1000
    assert_exact(
        talk.spans,
        talk.asked,
        talk.port,
        libraries={CLIENT: library_of(client), SERVER: library_of(server)},
        version="2" if client.endswith("-h2") else "1.1",
        given_up=frozenset({"reset", "closed"} if client == "curl-h2" else ()),
    )
    ports = {span.attributes["network.peer.port"] for span in of_kind(talk.spans, SERVER)}
    if server == "gunicorn":
        assert len(ports) > CONNECTIONS, "its synchronous workers close after each answer"
    elif client != "curl-h2":
        assert len(ports) >= CONNECTIONS
