"""What stood in front of HTTP, in a span."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ebpf.events import Role, SocketInfo
from otel_bridge.span import AttributeValue
from otel_bridge.spans.options import SpanOptions
from parsers.http_exchange import Headers
from parsers.prologue import Prologue, Tunnel
from parsers.proxy_protocol import ProxyHeader
from tests.unit.otel_bridge.exchanges import CLIENT_SOCKET, SERVER_SOCKET, exchange, request, span_of

HEADER = ProxyHeader(2, "203.0.113.7", 56_324, "198.51.100.2", 443, "shop.example", tls=True)
HOSTLESS: Headers = []
UNTRUSTED = replace(SERVER_SOCKET, remote_address="192.0.2.9")
CLAIMED = {
    "wirespan.proxy_protocol.version": 2,
    "wirespan.proxy_protocol.source.address": "203.0.113.7",
    "wirespan.proxy_protocol.source.port": 56_324,
    "wirespan.proxy_protocol.destination.address": "198.51.100.2",
    "wirespan.proxy_protocol.destination.port": 443,
    "wirespan.proxy_protocol.authority": "shop.example",
    "wirespan.proxy_protocol.tls": True,
}


def attributes_of(
    prologue: Prologue | None,
    *,
    role: Role = Role.SERVER,
    socket: SocketInfo | None = None,
    headers: Headers | None = None,
    target: bytes = b"/orders",
    options: SpanOptions | None = None,
) -> dict[str, AttributeValue]:
    given = exchange(role, request(target=target, headers=headers), socket=socket)
    given.prologue = prologue
    return span_of(given, options).attributes


def select(attributes: dict[str, AttributeValue], *prefixes: str) -> dict[str, AttributeValue]:
    return {name: value for name, value in attributes.items() if name.startswith(prefixes)}


def test_without_a_prologue_there_is_no_attribute_of_one() -> None:
    assert select(attributes_of(None), "wirespan.proxy_protocol", "wirespan.tunnel") == {}


def test_the_client_is_the_one_that_a_trusted_proxy_names() -> None:
    attributes = attributes_of(Prologue((HEADER,)))
    assert select(attributes, "client.", "network.peer.") == {
        "client.address": "203.0.113.7",
        "client.port": 56_324,
        "network.peer.address": "10.0.0.1",
        "network.peer.port": 50_123,
    }
    assert attributes["url.scheme"] == "https"
    assert select(attributes, "wirespan.proxy_protocol") == {
        **CLAIMED,
        "wirespan.proxy_protocol.trusted": True,
    }


def test_a_peer_that_is_not_trusted_names_no_client() -> None:
    attributes = attributes_of(Prologue((HEADER,)), socket=UNTRUSTED, headers=HOSTLESS)
    assert attributes["client.address"] == "192.0.2.9"
    assert attributes["client.port"] == 50_123
    assert attributes["url.scheme"] == "http"
    assert attributes["server.address"] == "10.0.0.2"
    assert select(attributes, "wirespan.proxy_protocol") == {
        **CLAIMED,
        "wirespan.proxy_protocol.trusted": False,
    }


def test_which_peers_are_trusted_is_an_option() -> None:
    options = SpanOptions(trusted_proxies=("192.0.2.0/24",))
    assert attributes_of(Prologue((HEADER,)), socket=UNTRUSTED, options=options)["client.address"] == (
        "203.0.113.7"
    )
    assert attributes_of(Prologue((HEADER,)), options=options)["client.address"] == "10.0.0.1"


def test_a_unix_socket_is_trusted() -> None:
    socket = replace(
        SERVER_SOCKET,
        family="unix",
        local_address="/run/app.sock",
        local_port=None,
        remote_address=None,
        remote_port=None,
    )
    attributes = attributes_of(Prologue((HEADER,)), socket=socket, options=SpanOptions(trusted_proxies=()))
    assert attributes["client.address"] == "203.0.113.7"


@pytest.mark.parametrize(
    ("field", "client"),
    [
        ((b"X-Forwarded-For", b"198.51.100.77, 203.0.113.7"), "198.51.100.77"),
        ((b"Forwarded", b"for=198.51.100.77"), "198.51.100.77"),
        ((b"Forwarded", b"for=unknown"), "203.0.113.7"),
    ],
)
def test_a_header_of_http_names_the_client_further_out(field: tuple[bytes, bytes], client: str) -> None:
    attributes = attributes_of(Prologue((HEADER,)), headers=[(b"Host", b"a"), field])
    assert attributes["client.address"] == client
    assert ("client.port" in attributes) == (client == "203.0.113.7")
    assert attributes["wirespan.proxy_protocol.source.address"] == "203.0.113.7"


@pytest.mark.parametrize("version", [1, 2])
def test_a_header_without_addresses_leaves_those_of_the_socket(version: int) -> None:
    attributes = attributes_of(Prologue((ProxyHeader(version),)))
    assert attributes["client.address"] == "10.0.0.1"
    assert attributes["client.port"] == 50_123
    assert select(attributes, "wirespan.proxy_protocol") == {
        "wirespan.proxy_protocol.version": version,
        "wirespan.proxy_protocol.trusted": True,
    }


def test_a_header_that_was_lost_leaves_the_client_unknown() -> None:
    attributes = attributes_of(Prologue((ProxyHeader(1, is_whole=False),)))
    assert select(attributes, "client.") == {}


def test_a_client_that_writes_a_header_of_its_own_is_the_client() -> None:
    forged = ProxyHeader(1, "10.9.9.9", 1, "10.0.0.2", 80)
    attributes = attributes_of(Prologue((HEADER, forged)))
    assert attributes["client.address"] == "203.0.113.7"
    assert attributes["wirespan.proxy_protocol.source.address"] == "203.0.113.7"


def test_the_name_that_the_client_asked_its_proxy_for_stands_in_for_a_host() -> None:
    assert attributes_of(Prologue((HEADER,)), headers=HOSTLESS)["server.address"] == "shop.example"
    assert attributes_of(Prologue((HEADER,)))["server.address"] == "shop.example"
    named = replace(HEADER, authority="other.example")
    assert attributes_of(Prologue((named,)))["server.address"] == "shop.example"


def test_the_proxys_own_span_says_that_it_wrote_a_header_and_changes_nothing_else() -> None:
    with_header = attributes_of(Prologue((HEADER,)), role=Role.CLIENT)
    without = attributes_of(None, role=Role.CLIENT)
    assert select(with_header, "wirespan.proxy_protocol") == CLAIMED
    assert {name: with_header[name] for name in without} == without
    assert with_header.keys() - without.keys() == CLAIMED.keys()


@pytest.mark.parametrize(("role", "socket"), [(Role.SERVER, SERVER_SOCKET), (Role.CLIENT, CLIENT_SOCKET)])
@pytest.mark.parametrize(
    ("headers", "target", "server"),
    [
        ([(b"Host", b"shop.example:81")], b"/a", ("shop.example", 81)),
        ([(b"Host", b"shop.example")], b"/a", ("shop.example", 443)),
        ([(b"Host", b"shop.example")], b"http://other.example:82/a", ("other.example", 82)),
        ([], b"/a", ("far.example", 443)),
    ],
)
def test_the_server_inside_a_tunnel_is_never_the_proxy(
    headers: Headers, target: bytes, server: tuple[str, int], role: Role, socket: SocketInfo
) -> None:
    tunnels = (Tunnel(b"near.example:3128"), Tunnel(b"u:p@far.example:443"))
    attributes = attributes_of(
        Prologue((), tunnels),
        role=role,
        socket=replace(socket, tls="openssl", server_name="proxy.example"),
        headers=headers,
        target=target,
    )
    assert (attributes["server.address"], attributes["server.port"]) == server
    assert attributes["wirespan.tunnel"] == ("near.example:3128", "far.example:443")
    assert "wirespan.redacted" not in attributes


@pytest.mark.parametrize(
    ("tunnel", "name"),
    [
        (Tunnel(b"shop.example:80"), "shop.example:80"),
        (Tunnel(b"[2001:db8::1]:80"), "[2001:db8::1]:80"),
        (Tunnel(b"shop.example"), "shop.example"),
        (Tunnel(b"user:secret@shop.example:80"), "shop.example:80"),
        (Tunnel(b"us er:secret@shop.example:80"), "shop.example:80"),
        (Tunnel(b"/a/b:80"), "/a/b:80"),
        (Tunnel(protocol=b"tcp"), "tcp"),
        (Tunnel(), "upgrade"),
    ],
)
def test_a_tunnel_is_named_without_credentials(tunnel: Tunnel, name: str) -> None:
    attributes = attributes_of(Prologue((), (tunnel,)))
    assert attributes["wirespan.tunnel"] == (name,)


def test_a_101_leaves_the_server_that_of_the_socket() -> None:
    attributes = attributes_of(Prologue((), (Tunnel(protocol=b"tcp"),)), headers=HOSTLESS)
    assert (attributes["server.address"], attributes["server.port"]) == ("10.0.0.2", 8080)
