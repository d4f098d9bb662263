from __future__ import annotations

import h11
from hypothesis import assume, given
from hypothesis import strategies as st

from parsers.exchange import Incomplete
from parsers.http1.head import (
    RequestHead,
    ResponseHead,
    parse_plain_request,
    parse_plain_response,
    parse_request_head,
    parse_response_head,
)
from parsers.http_exchange import HttpExchange
from tests.builders import Conversation, describe, run_events, split_bytes
from tests.servers.shapes import Shape, generate_shapes
from tests.unit.parsers.transcripts import read_transcripts

DISPUTES = {
    *("invalid_host", "invalid_target", "uncommon_method", "unknown_expectation", "unusual_target_form"),
    *(
        "disputed_host",
        "duplicate_expect",
        "unusual_version",
        "tab_around_coding",
        "tab_around_value",
        "target_above_root",
    ),
}
"""What servers take differently although h11 takes it; see `parsers.http1.disputes`."""

# Plausible heads, most of them slightly wrong: far better at finding a difference than random bytes.
names = st.one_of(
    st.sampled_from(
        [b"Host", b"host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"X-A", b"Expect", b"X "]
    ),
    st.text("abcXYZ-_!: ", min_size=1, max_size=8).map(str.encode),
)
values = st.one_of(
    st.sampled_from(
        [b"a", b"5", b"05", b"+5", b"5, 5", b"5, 6", b"chunked", b"Chunked", b"gzip, chunked", b"", b"close"]
    ),
    st.text("ab \t\x00\x01\x7f\xe4,:", max_size=10).map(lambda text: text.encode("latin-1")),
)
colons = st.sampled_from([b": ", b": ", b": ", b":", b":  ", b" : ", b" "])
ends = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r\n ", b"\r"])
fields = st.lists(st.tuples(names, colons, values, ends), max_size=6).map(
    lambda parts: b"".join(name + colon + value + end for name, colon, value, end in parts)
)
request_lines = st.one_of(
    st.sampled_from([b"GET / HTTP/1.1", b"POST /a?b HTTP/1.0", b"OPTIONS * HTTP/1.1", b"GET /\xe4 HTTP/1.1"]),
    st.text("GET /a HTP1.0\t", max_size=16).map(str.encode),
)
status_lines = st.one_of(
    st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.0 404", b"HTTP/1.1 101 Switching", b"HTTP/1.1 200 \xe4"]),
    st.text("HTP/1.0 2\t", max_size=16).map(str.encode),
)


def heads(start_lines: st.SearchStrategy[bytes], host: bytes) -> st.SearchStrategy[bytes]:
    optional_host = st.sampled_from([host, host, b""])
    return st.tuples(start_lines, ends, optional_host, fields).map(
        lambda parts: b"".join(parts).removesuffix(b"\r\n")
    )


def is_one_head(block: bytes) -> bool:
    """Return whether no empty line ends the head earlier, as the reader of the stream makes sure."""
    whole = block + b"\r\n\r\n"
    return min(place for end in (b"\r\n\r\n", b"\n\n", b"\n\r\n") if (place := whole.find(end)) >= 0) >= len(
        block
    )


def ask_h11_request(block: bytes) -> RequestHead | None:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(block + b"\r\n\r\n")
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    return event if isinstance(event, h11.Request) else None  # type: ignore[return-value]  # only its fields are read


def wire_fields(event: object) -> list[tuple[bytes, bytes]]:
    return [(bytes(name), bytes(value)) for name, value in event.headers.raw_items()]  # type: ignore[attr-defined]


def lower_transfer_encoding(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    # h11 lower-cases the names of transfer codings, which are the same in either case.
    return [(n, v.lower() if n.lower() == b"transfer-encoding" else v) for n, v in headers]


@given(heads(request_lines, b"Host: h\r\n"))
def test_the_fast_lane_and_h11_agree_on_requests(block: bytes) -> None:
    assume(is_one_head(block))
    plain = parse_plain_request(block)
    judged = ask_h11_request(block)
    if plain is not None:
        assert judged is not None, "the fast lane took what h11 refuses"
        assert (plain.method, plain.target, plain.version) == (
            judged.method,
            judged.target,
            judged.http_version.decode(),  # type: ignore[attr-defined]  # an h11 event
        )
        assert lower_transfer_encoding(plain.fields.headers) == wire_fields(judged)
    head = parse_request_head(block)
    if judged is not None and judged.http_version.startswith(b"1."):  # type: ignore[attr-defined]  # as above
        assert head is not None, "h11 takes what we refuse"
        named = set(head.fields.anomalies)
        assert named <= {"bare_lf", "obs_fold", "invalid_field_value", *DISPUTES}


@given(heads(status_lines, b""))
def test_the_fast_lane_and_h11_agree_on_responses(block: bytes) -> None:
    assume(is_one_head(block))
    connection = h11.Connection(h11.CLIENT)
    connection.send(
        h11.Request(
            method="GET", target="/", headers=[("host", "h"), ("upgrade", "x"), ("connection", "upgrade")]
        )
    )
    connection.send(h11.EndOfMessage())
    connection.receive_data(block + b"\r\n\r\n")
    try:
        judged = connection.next_event()
    except h11.RemoteProtocolError:
        judged = None
    plain: ResponseHead | None = parse_plain_response(block)
    if plain is not None:
        assert isinstance(judged, (h11.Response, h11.InformationalResponse))
        assert (plain.status, plain.reason) == (judged.status_code, judged.reason)
        assert lower_transfer_encoding(plain.fields.headers) == wire_fields(judged)
    if isinstance(judged, (h11.Response, h11.InformationalResponse)) and judged.http_version.startswith(
        b"1."
    ):
        assert parse_response_head(block) is not None or judged.status_code < 100


def test_the_fast_lane_and_h11_agree_on_the_corpus() -> None:
    agreed = 0
    for transcript in read_transcripts():
        for side, data in transcript.steps:
            block = data.partition(b"\r\n\r\n")[0]
            plain = parse_plain_request(block) if side == ">" else None
            if plain is not None:
                judged = ask_h11_request(block)
                assert judged is not None
                assert lower_transfer_encoding(plain.fields.headers) == wire_fields(judged)
                agreed += 1
    assert agreed > 30


def is_read_whole(exchange: HttpExchange) -> bool:
    return exchange.request is not None and exchange.incomplete is not Incomplete.INVALID


shapes = list(generate_shapes(3_000))


@given(
    st.sampled_from(shapes),
    st.sampled_from(shapes),
    st.integers(0, 200),
    st.integers(0, 200),
    st.binary(max_size=4),
    st.sampled_from(
        [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b""]
    ),
)
def test_spliced_requests_never_raise(
    one: Shape, other: Shape, end: int, start: int, between: bytes, answer: bytes
) -> None:
    talk = Conversation()
    talk.request(one.data[:end] + between + other.data[start:])
    talk.response(answer * 2)
    talk.close()
    whole = talk.run()
    cut = run_events([piece for event in talk.events for piece in split_bytes(event)])
    # Behind a head that is none a message is found where a record begins: in more places when each is a byte.
    if whole and cut and is_read_whole(whole[0]) and is_read_whole(cut[0]):
        assert describe(whole[0]) == describe(cut[0])


@given(st.binary(max_size=200))
def test_bytes_never_raise(block: bytes) -> None:
    parse_request_head(block)
    parse_response_head(block)
