"""What JSON-RPC and GraphQL say inside the framings that their specifications allow."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.application import recognise
from parsers.counters import new_counters
from parsers.exchange import Incomplete
from parsers.http_exchange import Body, DeclaredCoding, GraphQlRequest, HttpExchange, JsonRpcBatch, Truncation
from parsers.limits import ParserLimits
from tests.builders import Conversation
from tests.unit.otel_bridge.exchanges import body, exchange, request, response

LIMITS = ParserLimits()
EVENTS = b"text/event-stream"
CALL = {"jsonrpc": "2.0", "method": "tools/call", "id": 1}
FAILED = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "Method not found"}}
DONE = {"jsonrpc": "2.0", "id": 1, "result": {"error": None}}
PROGRESS = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1}}
ASKS_BACK = {"jsonrpc": "2.0", "method": "sampling/createMessage", "id": 1, "params": {"error": 1}}
QUERY = {"query": "subscription Ticks { tick }"}
ERROR = {"message": "no"}


def exchanged(
    asked: Any,
    answer: bytes | Body,
    answer_type: bytes,
    *,
    asked_type: bytes = b"application/json",
    version: str = "1.1",
    incomplete: Incomplete | None = None,
) -> HttpExchange:
    sent = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
    given_exchange = exchange(
        request_=request(b"POST", b"/mcp", [(b"Content-Type", asked_type)], body(sent)),
        response_=response(
            headers=[(b"content-type", answer_type)],
            content=answer if isinstance(answer, Body) else body(answer),
        ),
    )
    assert given_exchange.request is not None
    assert given_exchange.response is not None
    given_exchange.request.version = given_exchange.response.version = version
    given_exchange.incomplete = incomplete
    return given_exchange


def codes(given_exchange: HttpExchange, counts: dict[str, int] | None = None) -> list[int | None]:
    """Return the error codes of the calls that an exchange carries."""
    recognise(given_exchange, LIMITS, new_counters() if counts is None else counts)
    assert isinstance(given_exchange.application, JsonRpcBatch)
    return [call.error_code for call in given_exchange.application.calls]


def errors(given_exchange: HttpExchange) -> int | None:
    recognise(given_exchange, LIMITS, new_counters())
    assert isinstance(given_exchange.application, GraphQlRequest)
    return given_exchange.application.error_count


def events(*messages: Any, kind: str = "message", line_end: str = "\n") -> bytes:
    parts = [f"event: {kind}{line_end}data: {json.dumps(message)}{line_end * 2}" for message in messages]
    return "".join(parts).encode()


def lines(*messages: Any) -> bytes:
    return "".join(json.dumps(message) + "\n" for message in messages).encode()


def sequence(*messages: Any) -> bytes:
    return "".join("\x1e" + json.dumps(message) + "\n" for message in messages).encode()


def parts(*messages: Any, boundary: str = "-", end: str = "--") -> bytes:
    head = f"\r\n--{boundary}\r\nContent-Type: application/json; charset=utf-8\r\n\r\n"
    return (
        "".join(head + json.dumps(message) for message in messages) + f"\r\n--{boundary}{end}\r\n"
    ).encode()


FRAMINGS = [
    (EVENTS, events),
    (b"Text/Event-Stream; charset=utf-8", events),
    (b"application/x-ndjson", lines),
    (b"application/jsonl", lines),
    (b"application/json-seq", sequence),
    (b"application/vnd.rpc+json-seq", sequence),
    (b"multipart/mixed; boundary=-", parts),
]
every_framing = pytest.mark.parametrize(("framing", "encode"), FRAMINGS)


@every_framing
@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([FAILED], -32601),
        ([PROGRESS, ASKS_BACK, FAILED], -32601),
        ([[PROGRESS, FAILED]], -32601),
        ([{**FAILED, "id": 1.0}], -32601),
        ([{**FAILED, "id": None}], -32601),
        ([DONE], None),
        ([{**FAILED, "id": "1"}], None),
        ([{**FAILED, "id": 2}], None),
        ([{**FAILED, "id": None}, DONE], None),
        ([FAILED, DONE], None),
        ([FAILED, FAILED], None),
        ([{**ASKS_BACK, "error": FAILED["error"]}], None),
        ([PROGRESS], None),
        ([7, "error", None, ["error"]], None),
    ],
)
def test_an_error_of_a_call_is_read(
    framing: bytes, encode: Any, messages: list[Any], expected: int | None
) -> None:
    assert codes(exchanged(CALL, encode(*messages), framing)) == [expected]


@every_framing
def test_errors_of_a_batch_go_to_their_calls(framing: bytes, encode: Any) -> None:
    batch = [CALL, {**CALL, "id": "two"}, {**CALL, "id": 3}, {"jsonrpc": "2.0", "method": "notify"}]
    second = {"jsonrpc": "2.0", "id": "two", "error": {"code": -32000}}
    third = {**DONE, "id": 3}
    for messages in ([third, PROGRESS, second, FAILED], [[third, second], FAILED], [[FAILED, second, third]]):
        assert codes(exchanged(batch, encode(*messages), framing)) == [-32601, -32000, None, None]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_events_may_be_written_in_any_way(line_end: str) -> None:
    data = json.dumps(FAILED, indent=1).replace("\n", f"{line_end}data: ")
    stream = line_end.join(
        ["\ufeff: hello", "id: 0", "data:", "", "retry: 100", f"data: {data}", "id: 1", "", ""]
    )
    assert codes(exchanged(CALL, stream.encode(), EVENTS)) == [-32601]


def test_an_event_that_is_no_json_hides_no_other() -> None:
    stream = b"event: endpoint\ndata: /messages\n\n" + events(FAILED)
    assert codes(exchanged(CALL, stream, EVENTS)) == [-32601]
    stream = b"data: ping\n\n" + events({**FAILED, "id": None})
    assert codes(exchanged(CALL, stream, EVENTS)) == [None]


@every_framing
@pytest.mark.parametrize(
    "truncation", [Truncation.LIMIT, Truncation.GAP, Truncation.SENDFILE, Truncation.BOMB]
)
def test_of_a_stream_that_was_cut_the_messages_before_the_cut_are_read(
    framing: bytes, encode: Any, truncation: Truncation
) -> None:
    stream = encode(PROGRESS, FAILED, PROGRESS)
    answered_at = len(encode(PROGRESS, FAILED))
    for cut in range(len(stream)):
        told = codes(exchanged(CALL, body(stream[:cut], truncation=truncation), framing))
        assert told in ([None], [-32601])
        if cut > answered_at + 10:
            assert told == [-32601]
        if cut < len(encode(PROGRESS)) + len(json.dumps(FAILED)):
            assert told == [None]


def test_what_did_not_decode_tells_nothing() -> None:
    assert codes(exchanged(CALL, body(events(FAILED), truncation=Truncation.DECODE_ERROR), EVENTS)) == [None]
    coded = body(events(FAILED))
    coded.coding = DeclaredCoding("dcb", is_applied=True)
    assert codes(exchanged(CALL, coded, EVENTS)) == [None]
    coded.coding = DeclaredCoding("gzip", is_applied=False)
    assert codes(exchanged(CALL, coded, EVENTS)) == [-32601]


@pytest.mark.parametrize("incomplete", list(Incomplete))
@pytest.mark.parametrize("version", ["1.0", "1.1", "2"])
def test_a_stream_tells_nothing_where_it_may_belong_to_another_request(
    incomplete: Incomplete, version: str
) -> None:
    cut_short = (Incomplete.CLOSED, Incomplete.RESET, Incomplete.TIMED_OUT, Incomplete.STOPPED)
    sure = version == "2" and incomplete in cut_short
    given_exchange = exchanged(CALL, events(FAILED), EVENTS, version=version, incomplete=incomplete)
    assert codes(given_exchange) == [-32601 if sure else None]
    given_exchange = exchanged(
        QUERY, events({"errors": [ERROR]}, kind="next"), EVENTS, version=version, incomplete=incomplete
    )
    assert errors(given_exchange) == (1 if sure else None)
    given_exchange = exchanged(
        QUERY, events({"data": {}}, kind="next"), EVENTS, version=version, incomplete=incomplete
    )
    assert errors(given_exchange) is None


@pytest.mark.parametrize(
    ("asked_type", "encode"), [(b"application/x-ndjson", lines), (b"application/json-seq", sequence)]
)
def test_calls_may_be_framed_as_well(asked_type: bytes, encode: Any) -> None:
    second = {**CALL, "id": 2}
    given_exchange = exchanged(
        encode(CALL, second), encode(DONE, {**FAILED, "id": 2}), asked_type, asked_type=asked_type
    )
    assert codes(given_exchange) == [None, -32601]
    given_exchange = exchanged(encode(CALL), encode(FAILED), asked_type, asked_type=asked_type)
    assert codes(given_exchange) == [-32601]
    assert isinstance(given_exchange.application, JsonRpcBatch)
    assert not given_exchange.application.batched


def test_lines_that_are_no_calls_are_none() -> None:
    search = lines({"index": "a"}, {"query": {"match_all": {}}, "method": 1, "jsonrpc": 1})
    given_exchange = exchanged(
        search, lines({"error": 1}), b"application/json", asked_type=b"application/x-ndjson"
    )
    recognise(given_exchange, LIMITS, new_counters())
    assert given_exchange.application is None


def test_messages_beyond_the_bound_are_counted() -> None:
    few = ParserLimits(max_framed_messages=3)
    for place, expected in ((2, -32601), (3, None)):
        counts = new_counters()
        messages: list[Any] = [PROGRESS] * 5
        messages[place] = FAILED
        given_exchange = exchanged(CALL, events(*messages), EVENTS)
        recognise(given_exchange, few, counts)
        assert isinstance(given_exchange.application, JsonRpcBatch)
        assert given_exchange.application.calls[0].error_code == expected
        assert counts["framed_messages_unread"] == 2


def test_json_rpc_1_is_not_guessed_from_a_stream() -> None:
    asked = {"method": "getinfo", "params": [], "id": "x"}
    answered = events({"result": None, "error": {"code": 1}, "id": "x"})
    given_exchange = exchanged(asked, answered, EVENTS)
    recognise(given_exchange, LIMITS, new_counters())
    assert given_exchange.application is None


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([{"data": {"tick": 1}}, {"data": {"tick": 2}}], 0),
        ([{"data": {"tick": 1}}, {"data": None, "errors": [ERROR, ERROR]}, {"errors": [ERROR]}], 3),
        ([{"errors": None, "data": {}}], 0),
        ([], None),
        ([{}], None),
        ([{"data": {}}, 7], None),
    ],
)
def test_errors_of_a_subscription_over_events_are_counted(results: list[Any], expected: int | None) -> None:
    stream = b":\n\n" + events(*results, kind="next") + b"event: complete\ndata:\n\n"
    assert errors(exchanged(QUERY, stream, EVENTS)) == expected
    unnamed = stream.replace(b"event: next\n", b"")
    assert errors(exchanged(QUERY, unnamed, EVENTS)) == expected


def test_events_of_one_connection_for_all_operations_belong_to_none() -> None:
    result = {"id": "a", "payload": {"errors": [ERROR]}}
    assert errors(exchanged(QUERY, events(result, kind="next"), EVENTS)) is None


FIRST = {"data": {"hero": None}, "hasNext": True}
LAST = {"hasNext": False}


@pytest.mark.parametrize(
    "content_type", [b"multipart/mixed", b'multipart/mixed; boundary="-"; deferSpec=20220824']
)
@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([FIRST, {"incremental": [{"data": {}, "path": ["hero"]}], **LAST}], 0),
        (
            [
                {**FIRST, "errors": [ERROR]},
                {"incremental": [{"items": [], "errors": [ERROR, ERROR]}], **LAST},
            ],
            3,
        ),
        ([{**FIRST, "pending": [{"id": "0"}]}, {"completed": [{"id": "0", "errors": [ERROR]}], **LAST}], 1),
        ([{**FIRST, "pending": [{"id": "0"}]}, {"completed": [{"id": "0"}], **LAST}], 0),
        ([FIRST, {"path": ["hero"], "data": None, "errors": [ERROR], **LAST}], 1),
        ([{}, {"payload": {"data": {}}}, {}, {"payload": {"errors": [ERROR]}}, {"payload": None}], 1),
        ([{}, {"payload": {"data": {}}}, {"payload": None, "errors": [ERROR]}], 1),
        ([{}, {}], None),
        ([FIRST], None),
        ([{**FIRST, "errors": [ERROR]}], 1),
    ],
)
def test_errors_of_parts_are_counted(content_type: bytes, results: list[Any], expected: int | None) -> None:
    assert errors(exchanged(QUERY, parts(*results), content_type)) == expected


def test_incremental_delivery_may_be_events_too() -> None:
    stream = events({**FIRST}, {"incremental": [{"errors": [ERROR]}], **LAST}, kind="next")
    assert errors(exchanged(QUERY, stream, EVENTS)) == 1


def test_parts_that_nothing_ends_tell_the_errors_that_were_seen() -> None:
    failed = {"data": None, "errors": [ERROR]}
    assert errors(exchanged(QUERY, parts(failed, {"data": {}}, end=""), b"multipart/mixed")) == 1
    assert errors(exchanged(QUERY, parts({"data": {}}, end=""), b"multipart/mixed")) is None


def test_a_query_in_a_url_may_be_answered_by_events() -> None:
    given_exchange = exchange(
        request_=request(b"GET", b"/graphql?query=subscription%7Ba%7D"),
        response_=response(
            headers=[(b"Content-Type", EVENTS)], content=body(events({"errors": [ERROR]}, kind="next"))
        ),
    )
    assert errors(given_exchange) == 1


@given(st.lists(st.integers(1, 400), max_size=12), st.sampled_from(["\n", "\r\n", "\r"]), st.booleans())
def test_any_division_of_the_bytes_gives_the_same(places: list[int], line_end: str, is_chunked: bool) -> None:  # noqa: FBT001 - drawn
    stream = events(PROGRESS, ASKS_BACK, FAILED, line_end=line_end)
    asked = json.dumps(CALL).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    if is_chunked:
        half = len(stream) // 2
        pieces = [stream[:half], stream[half:]]
        answer = head + b"Transfer-Encoding: chunked\r\n\r\n"
        answer += b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    else:
        answer = head + b"Content-Length: %d\r\n\r\n" % len(stream) + stream
    talk = Conversation()
    talk.request(b"POST /mcp HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n")
    talk.request(b"Content-Length: %d\r\n\r\n%b" % (len(asked), asked))
    begin = 0
    for place in [*sorted({place for place in places if place < len(answer)}), len(answer)]:
        talk.response(answer[begin:place])
        begin = place
    (given_exchange,) = talk.run(LIMITS)
    assert given_exchange.incomplete is None
    application = given_exchange.application
    assert isinstance(application, JsonRpcBatch)
    assert application.calls[0].error_code == -32601


words = st.lists(
    st.sampled_from(
        [
            *(
                "data: ",
                "event: next",
                "\n",
                "\n\n",
                "\r\n",
                "\x1e",
                "--x",
                "--x--",
                "{",
                "}",
                "[",
                "]",
                ",",
                ":",
            ),
            *(
                '"error"',
                '"errors"',
                '"id"',
                "1",
                '"data"',
                '"payload"',
                '"hasNext"',
                "true",
                '"incremental"',
            ),
            *(
                json.dumps(FAILED),
                json.dumps(DONE),
                json.dumps(FIRST),
                "null",
                '"method"',
                '"completed"',
                "\ud800",
            ),
        ]
    ),
    max_size=20,
).map(lambda chosen: "".join(chosen).encode("utf-8", "surrogatepass"))


@given(
    st.binary(max_size=40) | words,
    st.sampled_from([*[framing for framing, _ in FRAMINGS], b"multipart/x; boundary=x"]),
    st.sampled_from([CALL, [CALL, {**CALL, "id": 2}], QUERY]),
    st.sampled_from([None, *Truncation]),
    st.sampled_from(["utf-8", "latin-1", None]),
)
def test_no_content_is_a_bug(
    answer: bytes, framing: bytes, asked: Any, truncation: Truncation | None, charset: str | None
) -> None:
    given_exchange = exchanged(asked, body(answer, charset, truncation=truncation), framing)
    recognise(given_exchange, LIMITS, new_counters())
    assert given_exchange.application is not None
