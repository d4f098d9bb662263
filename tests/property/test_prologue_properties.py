"""What stands in front of HTTP: however it is cut the exchanges are the same, and no bytes raise."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ebpf.events import Role
from parsers.limits import ParserLimits
from parsers.prologue import Prologue
from parsers.proxy_protocol import SIGNATURE, V1_BEGINNING, Reading, read_proxy_header
from tests.builders import Conversation, describe, run_events
from tests.property.dialogues import drop
from tests.proxy_headers import AUTHORITY, AWS, SSL, frame_v2, header_v1, header_v2

LIMIT = ParserLimits().max_proxy_header
TOKENS = st.text("!#$%&'*+-.^_`|~0123456789abcXYZPROXYHTTP", min_size=1, max_size=12).map(str.encode)
ESTABLISHED = b"HTTP/1.1 200 OK\r\n\r\n"
roles = st.sampled_from([Role.SERVER, Role.CLIENT])
kernel_roles = st.sampled_from([None, Role.UNKNOWN])
ports = st.integers(0, 65_535)
fields = st.lists(
    st.tuples(st.sampled_from([AUTHORITY, SSL, AWS, 0x01, 0x03, 0x04]), st.binary(max_size=40)), max_size=4
)
headers = st.one_of(
    st.just(b""),
    st.builds(lambda a, b, p, q: header_v1(str(a), p, str(b), q), *[st.ip_addresses(v=4)] * 2, ports, ports),
    st.builds(lambda a, b, p, q: header_v1(str(a), p, str(b), q), *[st.ip_addresses(v=6)] * 2, ports, ports),
    st.builds(
        lambda a, b, p, q, more: header_v2(str(a), p, str(b), q, *more),
        *[st.ip_addresses(v=6)] * 2,
        ports,
        ports,
        fields,
    ),
    st.builds(lambda more: frame_v2(0x20, 0, b"", *more), fields),
)
cuts = st.lists(st.integers(1, 400), max_size=8)
stages = st.lists(headers, min_size=1, max_size=4)
"""The header in front of each stage; each stage but the last is a CONNECT."""


def cut(data: bytes, at: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(place for place in at if place < len(data))})
    return [data[first:second] for first, second in pairwise(places)]


def perform(talk: Conversation, prologue: list[bytes], methods: list[bytes], at: list[int]) -> None:
    """Let a client set up tunnels inside one another, then make requests."""
    for number, header in enumerate(prologue[:-1]):
        for part in cut(header + b"CONNECT h%d:80 HTTP/1.1\r\nHost: h\r\n\r\n" % number, at):
            talk.request(part)
        for part in cut(ESTABLISHED, at):
            talk.response(part)
    header = prologue[-1]
    for number, method in enumerate(methods):
        for part in cut(header + b"%b /%d HTTP/1.1\r\nHost: a\r\n\r\n" % (method, number), at):
            talk.request(part)
        for part in cut(b"HTTP/1.1 204 No Content\r\nX-Id: %d\r\n\r\n" % number, at):
            talk.response(part)
        header = b""


def summarise(talk: Conversation, *, finish: bool = True) -> list[tuple[str, Prologue | None]]:
    return [(describe(exchange), exchange.prologue) for exchange in talk.run(finish=finish)]


@given(
    stages,
    st.lists(TOKENS.filter(lambda m: m not in (b"CONNECT", b"HEAD")), min_size=1),
    cuts,
    roles,
    kernel_roles,
)
def test_any_cutting_gives_the_same_exchanges_and_prologues(
    prologue: list[bytes], methods: list[bytes], at: list[int], role: Role, kernel_role: Role | None
) -> None:
    whole, parts = Conversation(role=role), Conversation(role=role, kernel_role=kernel_role)
    perform(whole, prologue, methods, [])
    perform(parts, prologue, methods, at)
    expected = summarise(whole, finish=False)
    assert summarise(parts, finish=False) == expected
    assert len(expected) == len(prologue) - 1 + len(methods)
    for index, (text, known) in enumerate(expected):
        assert "incomplete" not in text
        depth = min(index, len(prologue) - 1)
        seen = len(known.tunnels) if known is not None else 0
        assert seen == depth
        count = len(known.proxy_headers) if known is not None else 0
        assert count == sum(map(bool, prologue[: depth + 1]))


@given(stages, cuts, roles, st.sets(st.integers(1, 30), max_size=4))
def test_what_is_lost_never_gives_a_header_or_a_tunnel_that_was_not_there(
    prologue: list[bytes], at: list[int], role: Role, dropped: set[int]
) -> None:
    whole, talk = Conversation(role=role), Conversation(role=role)
    perform(whole, prologue, [b"GET", b"POST"], [])
    perform(talk, prologue, [b"GET", b"POST"], at)
    known = [prologue for _, prologue in summarise(whole) if prologue is not None]
    real_headers = {header for each in known for header in each.proxy_headers}
    real_tunnels = {tunnel for each in known for tunnel in each.tunnels}
    for exchange in run_events(drop(talk.events, dropped)):
        if exchange.prologue is not None:
            assert {header for header in exchange.prologue.proxy_headers if header.is_whole} <= real_headers
            assert set(exchange.prologue.tunnels) <= real_tunnels


beginnings = st.one_of(
    st.binary(max_size=60),
    st.binary(max_size=60).map(lambda rest: V1_BEGINNING + rest),
    st.binary(max_size=60).map(lambda rest: SIGNATURE + rest),
    st.binary(max_size=60).map(lambda rest: SIGNATURE + b"\x21\x11" + rest),
    st.binary(max_size=60).map(lambda rest: SIGNATURE + b"\x21\x11\0\x20" + rest),
    st.text("PROXY TCP46UNKNOWN:.0123456789abcdef\r\n", max_size=120).map(
        lambda t: V1_BEGINNING + t.encode()
    ),
)


@given(beginnings, beginnings, cuts, roles, kernel_roles, st.booleans())
def test_arbitrary_beginnings_never_raise(
    requests: bytes,
    responses: bytes,
    at: list[int],
    role: Role,
    kernel_role: Role | None,
    tunnelled: bool,  # noqa: FBT001 - drawn
) -> None:
    talk = Conversation(role=role, kernel_role=kernel_role)
    if tunnelled:
        talk.request(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
        talk.response(ESTABLISHED)
    for part in cut(requests, at):
        talk.request(part)
    for part in cut(responses, at):
        talk.response(part)
    talk.run()


@given(beginnings)
def test_a_header_is_read_from_what_is_there_and_no_more(data: bytes) -> None:
    reading = read_proxy_header(data, LIMIT)
    if isinstance(reading, Reading):
        shorter = [read_proxy_header(data[:size], LIMIT) for size in range(len(data))]
        assert all(isinstance(each, Reading) for each in shorter)
    else:
        header, size = reading
        assert 0 < size <= len(data)
        assert read_proxy_header(data[:size], LIMIT) == (header, size)
        assert read_proxy_header(data[: size - 1], LIMIT) is Reading.NEED_MORE
