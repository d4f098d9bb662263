from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpf.tls.client_hello import read_server_name
from tests.unit.ebpf.tls.client_hellos import build_client_hello

HELLO = build_client_hello("shop.example")


@pytest.mark.parametrize(
    ("asked", "read"),
    [
        ("shop.example", "shop.example"),
        ("SHOP.Example", "shop.example"),
        ("b\u00fccher.example", "xn--bcher-kva.example"),
    ],
)
def test_the_host_that_is_asked_for(asked: str, read: str) -> None:
    assert read_server_name(build_client_hello(asked)) == read


@pytest.mark.parametrize("asked", [None, "192.0.2.1"])
def test_a_hello_without_a_host(asked: str | None) -> None:
    # RFC 6066 section 3: an address is no host name
    assert read_server_name(build_client_hello(asked)) is None


def test_a_cut_hello_has_a_name_only_if_all_of_it_is_there() -> None:
    end = HELLO.index(b"shop.example") + len(b"shop.example")
    for length in range(len(HELLO)):
        assert read_server_name(HELLO[:length]) == ("shop.example" if length >= end else None)


@pytest.mark.parametrize(
    ("what", "by"),
    [
        (b"shop.example", b"shop example"),
        (b"shop.example", b"shop\0exampl"),
        (b"\0\0\x0cshop", b"\1\0\x0cshop"),
    ],
)
def test_what_is_no_host_name_is_none(what: bytes, by: bytes) -> None:
    assert HELLO.count(what) == 1
    assert read_server_name(HELLO.replace(what, by)) is None


@given(st.binary(max_size=600), st.integers(0, len(HELLO)))
def test_any_bytes_give_a_name_or_none(raw: bytes, kept: int) -> None:
    assert read_server_name(raw) is None or raw[:1] == b"\1"
    read_server_name(HELLO[:kept] + raw)
