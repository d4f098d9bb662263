from __future__ import annotations

import pytest

from ebpf.events import SocketInfo
from otel_bridge.spans.addresses import (
    MAX_AUTHORITY_LENGTH,
    HostPort,
    format_authority,
    forwarded_client,
    forwarded_scheme,
    network_attributes,
    parse_authority,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("shop.example", HostPort("shop.example", None)),
        ("shop.example:8080", HostPort("shop.example", 8080)),
        ("10.0.0.1:80", HostPort("10.0.0.1", 80)),
        ("[2001:db8::1]", HostPort("2001:db8::1", None)),
        ("[2001:db8::1]:443", HostPort("2001:db8::1", 443)),
        ("[fe80::1%eth0]:1", HostPort("fe80::1%eth0", 1)),
        ("user:pw@shop.example:1", HostPort("shop.example", 1)),
        ("shop.example:", HostPort("shop.example", None)),
        ("", None),
        (":80", None),
        ("a b", None),
        ("shop.example:0", None),
        ("shop.example:65536", None),
        ("shop.example:x", None),
        ("2001:db8::1", None),
        ("a/b", None),
    ],
)
def test_authorities(text: str, expected: HostPort | None) -> None:
    assert parse_authority(text) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"x-forwarded-for": ["203.0.113.7, 10.0.0.1"]}, HostPort("203.0.113.7", None)),
        ({"x-forwarded-for": ["203.0.113.7:4711"]}, HostPort("203.0.113.7", 4711)),
        ({"x-forwarded-for": ["2001:db8::7"]}, HostPort("2001:db8::7", None)),
        ({"x-forwarded-for": ["[2001:db8::7]:4711, x"]}, HostPort("2001:db8::7", 4711)),
        ({"x-forwarded-for": [""]}, None),
        ({"forwarded": ["for=192.0.2.60;proto=http;by=203.0.113.43"]}, HostPort("192.0.2.60", None)),
        (
            {"forwarded": ['proto=https; For="[2001:db8::1]:4711", for=10.0.0.1']},
            HostPort("2001:db8::1", 4711),
        ),
        ({"forwarded": ["for=_hidden"], "x-forwarded-for": ["10.0.0.9"]}, None),
        ({"forwarded": ["for=unknown"]}, None),
        ({"forwarded": ["proto=http"]}, None),
    ],
)
def test_the_first_hop_names_the_client(headers: dict[str, list[str]], expected: HostPort | None) -> None:
    assert forwarded_client(headers) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"x-forwarded-proto": ["HTTPS, http"]}, "https"),
        ({"x-forwarded-proto": ["gopher"]}, None),
        ({"forwarded": ["for=1.2.3.4;proto=https"]}, "https"),
        ({"forwarded": ["for=1.2.3.4"]}, None),
    ],
)
def test_the_first_hop_names_the_scheme(headers: dict[str, list[str]], expected: str | None) -> None:
    assert forwarded_scheme(headers) == expected


def test_ipv6_addresses_are_bracketed_in_an_authority() -> None:
    assert format_authority(HostPort("::1", 80)) == "[::1]:80"
    assert format_authority(HostPort("::1", None)) == "[::1]"
    assert format_authority(HostPort("a", 1)) == "a:1"


def test_a_unix_socket_has_paths_and_no_ports() -> None:
    unix = SocketInfo("unix", "/run/app.sock", None, None, None, 1, 2, 3)
    assert dict(network_attributes(unix)) == {
        "network.local.address": "/run/app.sock",
        "network.transport": "unix",
    }


def test_an_internet_socket_has_both_ends() -> None:
    ipv6 = SocketInfo("ipv6", "::1", 80, "::2", 5000, 1, 2, 3)
    assert dict(network_attributes(ipv6)) == {
        "network.peer.address": "::2",
        "network.peer.port": 5000,
        "network.local.address": "::1",
        "network.local.port": 80,
        "network.transport": "tcp",
        "network.type": "ipv6",
    }


def test_a_text_that_no_authority_is_as_long_as_is_none() -> None:
    assert parse_authority("a" * MAX_AUTHORITY_LENGTH) == HostPort("a" * MAX_AUTHORITY_LENGTH, None)
    assert parse_authority("a" * (MAX_AUTHORITY_LENGTH + 1)) is None
