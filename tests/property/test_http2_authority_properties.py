"""h2 is the authority on HTTP/2: what it accepts reads the same here, and what it refuses is flagged."""

from __future__ import annotations

import pytest
from h2.exceptions import ProtocolError
from h2.utilities import HeaderValidationFlags, validate_headers
from hypothesis import given, settings
from hypothesis import strategies as st

from ebpf.events import Direction, Role
from parsers.exchange import Incomplete
from parsers.http_exchange import Headers, HttpExchange
from tests.property.http2_authority import CONVERSATIONS, Truth, conversations, converse
from tests.property.http2_authority import Conversation as Agreed
from tests.property.http2_dialogues import cut
from tests.unit.parsers.http2_peers import OK, Frames, build_request, ended, head, tell, watch

roles = st.sampled_from([Role.SERVER, Role.CLIENT])


@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
@pytest.mark.parametrize("seed", range(CONVERSATIONS))
def test_a_conversation_that_h2_accepts_reads_the_same(seed: int, role: Role) -> None:
    spoken = converse(seed)
    assert_same(watch(tell(spoken.calls, role=role).events).exchanges, spoken, role)


@settings(max_examples=60)
@given(conversations, st.lists(st.integers(1, 60_000), max_size=8), roles)
def test_it_reads_the_same_however_it_is_cut(spoken: Agreed, cuts: list[int], role: Role) -> None:
    events = tell(cut(spoken.calls, cuts), role=role).events
    assert_same(watch(events).exchanges, spoken, role)


@settings(max_examples=10)
@given(st.integers(0, CONVERSATIONS - 1).filter(lambda seed: len(converse(seed).calls) < 40), roles)
def test_it_reads_the_same_byte_by_byte(seed: int, role: Role) -> None:
    spoken = converse(seed)
    pieces = [
        (from_client, data[at : at + 1] if at < 600 else data[at:])
        for from_client, data in spoken.calls
        for at in range(min(len(data), 601))
    ]
    assert_same(watch(tell(pieces, role=role).events).exchanges, spoken, role)


def test_the_conversations_hold_everything_that_they_should() -> None:
    truths = [truth for seed in range(CONVERSATIONS) for truth in converse(seed).truths.values()]
    kinds = {data[3] for seed in range(CONVERSATIONS) for _, data in converse(seed).calls if len(data) > 9}
    assert {0, 1, 2, 3, 4, 5, 6, 7, 8} <= kinds
    assert sum(truth.pushed for truth in truths) > 5
    assert sum(truth.untaken for truth in truths) > 5
    assert sum(truth.answered_early for truth in truths) > 5
    assert sum(truth.reset is not None for truth in truths) > 50
    assert sum(bool(truth.request.trailers) and bool(truth.response.trailers) for truth in truths) > 10
    assert sum(bool(truth.response.interim) for truth in truths) > 50
    # More than one frame of fields, so with CONTINUATION.
    assert sum(any(len(value) > 16_384 for _, value in truth.request.headers) for truth in truths) > 10


def assert_same(exchanges: list[HttpExchange], spoken: Agreed, role: Role) -> None:
    by_path = {exchange.request.target: exchange for exchange in exchanges if exchange.request is not None}
    assert len(by_path) == len(exchanges)
    for number, truth in spoken.truths.items():
        exchange = by_path[b"/%d" % number]
        assert exchange.role is role
        assert exchange.pushed is truth.pushed
        _assert_message(exchange, truth)
        if truth.untaken:
            assert exchange.incomplete is Incomplete.RESET
            assert exchange.reset is not None
            assert exchange.reset.untaken
        elif truth.answered_early:
            assert exchange.incomplete is None
            assert exchange.anomalies == ("request_cut_short",)
        elif truth.reset is not None:
            by_client, code = truth.reset
            assert exchange.incomplete is Incomplete.RESET
            assert exchange.reset is not None
            assert exchange.reset.code == code
            assert exchange.reset.direction is (
                Direction.EGRESS if by_client == (role is Role.CLIENT) else Direction.INGRESS
            )
        else:
            assert exchange.incomplete is None
            assert exchange.anomalies == ()


def _assert_message(exchange: HttpExchange, truth: Truth) -> None:
    request, response = exchange.request, exchange.response
    assert request is not None
    pseudo = dict(truth.request.headers)
    assert request.method == pseudo[b":method"]
    assert request.target == pseudo[b":path"]
    assert request.scheme == pseudo[b":scheme"]
    assert request.authority == pseudo[b":authority"]
    assert fields(request.headers) == fields(truth.request.headers)
    assert request.trailers == truth.request.trailers
    assert request.body.content == truth.request.content[:131_072]
    if not truth.response.headers:
        assert response is None or response.status is None
        return
    assert response is not None
    assert response.status == int(dict(truth.response.headers)[b":status"])
    assert response.interim == truth.response.interim
    assert fields(response.headers) == fields(truth.response.headers)
    assert response.trailers == truth.response.trailers
    assert response.body.content == truth.response.content[:131_072]


def fields(headers: Headers) -> Headers:
    """The fields of a head; h2 moves joined cookies to the end."""
    return sorted((name, value) for name, value in headers if not name.startswith(b":"))


REQUEST = build_request(b"/", (b"te", b"trailers"), (b"x-a", b"1"))
BASES: dict[str, Headers] = {
    "request": REQUEST,
    "connect": [(b":method", b"CONNECT"), (b":authority", b"a:1")],
    "websocket": [(b":protocol", b"websocket"), *build_request(b"/", method=b"CONNECT")],
    "response": [*OK, (b"content-type", b"text/plain")],
    "request trailers": [(b"x-sum", b"1")],
    "response trailers": [(b"x-sum", b"1")],
}
NAMES = [
    *(b":method", b":path", b":scheme", b":authority", b":protocol", b":status", b":odd", b":Method"),
    *(b"host", b"te", b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"),
    *(b"x-b", b"X-B", b"x:b", b"x b", b"x\x00", b"x\x7f", b"x\xe9", b"", b"cookie", b"content-type"),
]
VALUES = [
    *(b"", b"a", b"b", b"GET", b"CONNECT", b"/", b"http", b"200", b"trailers", b"Trailers", b"websocket"),
    *(
        b" a",
        b"a ",
        b"\ta",
        b"a\t",
        b" ",
        b"a\x00b",
        b"a\rb",
        b"a\nb",
        b"\n",
        b"a b",
        b"\x0b",
        b"\xe9",
        b"a\x7f",
    ),
]
changes = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), st.integers(0, 9), st.sampled_from(NAMES), st.sampled_from(VALUES)),
        st.tuples(st.just("remove"), st.integers(0, 9), st.just(b""), st.just(b"")),
        st.tuples(st.just("repeat"), st.integers(0, 9), st.just(b""), st.just(b"")),
        st.tuples(st.just("set"), st.integers(0, 9), st.just(b""), st.sampled_from(VALUES)),
    ),
    max_size=3,
)


def changed(base: Headers, made: list[tuple[str, int, bytes, bytes]]) -> Headers:
    headers = list(base)
    for kind, place, name, value in made:
        at = place % (len(headers) + (kind == "insert")) if headers or kind == "insert" else None
        if at is None:
            continue
        if kind == "insert":
            headers.insert(at, (name, value))
        elif kind == "remove":
            del headers[at]
        elif kind == "repeat":
            headers.append(headers[at])
        else:
            headers[at] = (headers[at][0], value)
    return headers


def is_refused_by_h2(kind: str, headers: Headers) -> bool:
    flags = HeaderValidationFlags(
        is_client="response" in kind,
        is_trailer="trailers" in kind,
        is_response_header=kind == "response",
        is_push_promise=False,
    )
    try:
        for _ in validate_headers(headers, flags):
            pass
    except (ProtocolError, IndexError):
        return True
    return False


def told(kind: str, headers: Headers) -> HttpExchange | None:
    """Return the exchange that has these fields as head or trailers."""
    frames = Frames()
    in_trailers = "trailers" in kind
    if "response" in kind:
        frames.ask(1)
        if in_trailers:
            frames.answer(1, ends=False)
        frames.server(head(1, frames.responses.encode(headers)))
    else:
        if in_trailers:
            frames.ask(1, ends=False)
        frames.client(frames.request(1, headers))
        frames.answer(1, ends=kind not in ("connect", "websocket"))
        if kind in ("connect", "websocket"):
            frames.server(ended(1))
    exchanges = frames.watch().exchanges
    return exchanges[0] if exchanges else None


def is_stricter(kind: str, headers: Headers) -> bool:
    """Whether the fields have what h2 does not look for: a name that is no token, another status than 200."""
    token = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
    names = [name for name, _ in headers if name.translate(None, token) and not name.startswith(b":")]
    statuses = [value for name, value in headers if name == b":status"]
    return bool(names) or (kind == "response" and statuses != [b"200"])


@settings(max_examples=600)
@given(st.sampled_from(sorted(BASES)), changes)
def test_fields_that_h2_refuses_are_flagged_and_those_that_it_accepts_are_not(
    kind: str, made: list[tuple[str, int, bytes, bytes]]
) -> None:
    headers = changed(BASES[kind], made)
    exchange = told(kind, headers)
    is_flagged = exchange is None or exchange.incomplete is not None or exchange.anomalies != ()
    if is_refused_by_h2(kind, headers):
        assert is_flagged
    elif not is_stricter(kind, headers) and kind not in ("connect", "websocket"):
        assert not is_flagged


@pytest.mark.parametrize(
    ("kind", "headers", "anomaly"),
    [
        ("request", [*REQUEST, (b"x", b"a\x00b")], "invalid_field_value"),
        ("request", [*REQUEST, (b"x", b"a\nb")], "invalid_field_value"),
        ("request", [*REQUEST, (b"x", b" a")], "invalid_field_value"),
        ("response", [*OK, (b"x", b"a\t")], "invalid_field_value"),
        ("response trailers", [(b"x", b"a\rb")], "invalid_field_value"),
        ("request", build_request(b"/\x00"), "invalid_field_value"),
        ("request", build_request(b"/")[1:], "missing_pseudo_field"),
        ("request", build_request(b"/")[:-1], "missing_pseudo_field"),
        ("request", build_request(b""), "not_strict"),
        ("request", [*REQUEST[:1], *REQUEST], "not_strict"),
        ("request", [(b":protocol", b"x"), *REQUEST], "not_strict"),
        ("connect", [(b":path", b"/"), *BASES["connect"]], "not_strict"),
        ("websocket", BASES["websocket"][:3], "missing_pseudo_field"),
        ("request", [*REQUEST[:2], *REQUEST[3:]], "missing_host"),
        ("request", [*REQUEST, (b"host", b"b")], "target_host_mismatch"),
        ("request", [*REQUEST, (b"host", b"a"), (b"host", b"a")], "duplicate_host"),
    ],
)
def test_each_rule_has_its_name(kind: str, headers: Headers, anomaly: str) -> None:
    assert is_refused_by_h2(kind, headers)
    exchange = told(kind, headers)
    assert exchange is not None
    assert anomaly in exchange.anomalies


def test_an_odd_value_is_seen_where_a_later_block_refers_to_it() -> None:
    frames = Frames()
    odd = [*REQUEST, (b"x-odd", b"a\x00b")]
    for number in (1, 3, 5):
        frames.client(frames.request(number, odd if number != 3 else REQUEST))
        frames.answer(number)
    anomalies = [exchange.anomalies for exchange in frames.watch().exchanges]
    assert anomalies == [("invalid_field_value",), (), ("invalid_field_value",)]
