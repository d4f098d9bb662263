from __future__ import annotations

import gzip
import json
from base64 import b64encode
from typing import Any

import pytest

from parsers.application import recognise
from parsers.counters import new_counters
from parsers.exchange import Incomplete
from parsers.http_exchange import (
    Body,
    GraphQlOperation,
    GraphQlRequest,
    GrpcCall,
    Headers,
    HttpExchange,
    JsonRpcBatch,
    JsonRpcCall,
    MessageFlow,
    Truncation,
)
from parsers.limits import ParserLimits
from tests.builders import Conversation
from tests.unit.otel_bridge.exchanges import body, exchange, request, response, span_of

LIMITS = ParserLimits()
# Beyond the bound of any Python, which since 3.12 is not that of sys.getrecursionlimit().
TOO_DEEP = 100_000
JSON: Headers = [(b"Host", b"a"), (b"content-TYPE", b"application/json; charset=utf-8")]
FOO = GraphQlOperation("Foo", "query")
GRAPHQL = b'{"query":"query Foo { a }"}'
JSON_RPC = b'{"jsonrpc":"2.0","method":"add","id":1}'
FAILED = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"no"}}'


def asked(
    content: bytes | Body,
    answer: bytes | Body | None = b"",
    *,
    headers: Headers = JSON,
    method: bytes = b"POST",
    target: bytes = b"/",
    incomplete: Incomplete | None = None,
) -> HttpExchange:
    sent = content if isinstance(content, Body) else body(content)
    given = exchange(request_=request(method, target, headers, sent), response_=None)
    if answer is not None:
        given.response = response(content=answer if isinstance(answer, Body) else body(answer))
    given.incomplete = incomplete
    return given


def recognised(given: HttpExchange, counts: dict[str, int] | None = None) -> object:
    recognise(given, LIMITS, new_counters() if counts is None else counts)
    return given.application


def graphql(operation: GraphQlOperation = FOO, errors: int | None = None) -> GraphQlRequest:
    return GraphQlRequest([operation], 1, errors)


def json_rpc(code: int | None = None, message: str | None = None) -> JsonRpcBatch:
    return JsonRpcBatch([JsonRpcCall("add", "1", "2.0", code, message)], 1)


def test_graphql_is_recognised_and_counted() -> None:
    counts = new_counters()
    assert recognised(asked(GRAPHQL, b'{"data":{}}'), counts) == graphql(errors=0)
    assert recognised(asked(GRAPHQL, b'{"errors":[{}]}'), counts) == graphql(errors=1)
    assert counts["graphql_requests"] == 2
    assert counts["json_rpc_requests"] == 0


def test_json_rpc_is_recognised_and_counted() -> None:
    counts = new_counters()
    assert recognised(asked(JSON_RPC, b'{"jsonrpc":"2.0","id":1,"result":3}'), counts) == json_rpc()
    assert recognised(asked(JSON_RPC, FAILED), counts) == json_rpc(-32000, "no")
    assert counts["json_rpc_requests"] == 2
    assert counts["graphql_requests"] == 0


def test_json_rpc_without_a_version_is_recognised_by_its_response() -> None:
    sent = b'{"method":"getinfo","params":[],"id":"x"}'
    expected = JsonRpcBatch([JsonRpcCall("getinfo", "x", "1.0")], 1)
    assert recognised(asked(sent, b'{"result":1,"error":null,"id":"x"}')) == expected
    assert recognised(asked(sent, b'{"paid":true}')) is None
    assert recognised(asked(sent, b"<html>")) is None
    assert recognised(asked(sent, None)) is None


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/json",
        b"Application/JSON ; charset=utf-8",
        b"application/json-rpc",
        b"application/graphql+json",
        b"text/plain",
        None,
    ],
)
def test_media_types_that_may_be_json(content_type: bytes | None) -> None:
    headers = [] if content_type is None else [(b"Content-Type", content_type)]
    assert recognised(asked(b"\xef\xbb\xbf \r\n" + GRAPHQL, headers=headers)) == graphql()
    assert recognised(asked(b"\n" + JSON_RPC, headers=headers)) == json_rpc()


@pytest.mark.parametrize("content_type", [b"text/html", b"image/png", b"multipart/form-data; boundary=x"])
def test_media_types_that_are_none(content_type: bytes) -> None:
    assert recognised(asked(GRAPHQL, headers=[(b"Content-Type", content_type)])) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a=b&query=%7Ba%7D",
        b'{"id":17}',
        b'{"query":"shoes","page":2}',
        b'{"query":{"match_all":{}}}',
        b'{"query": "{ a }"',
        b'{"method":"card","params":{"amount":5}}',
        b'{"jsonrpc":"2.0","result":1,"id":1}',
        b'{"persistedQuery":true}',
        b'{"documentId":"17"}',
        b'"query"',
        b"query Foo { a }",
    ],
)
def test_anything_else_is_plain_http(content: bytes) -> None:
    assert recognised(asked(content, b'{"data":{}}')) is None


def test_a_persisted_document_is_recognised() -> None:
    digest = "ab" * 32
    apollo = json.dumps({"extensions": {"persistedQuery": {"version": 1, "sha256Hash": digest}}}).encode()
    identified = json.dumps({"documentId": f"sha256:{digest}", "operationName": "Foo"}).encode()
    assert recognised(asked(apollo)) == graphql(GraphQlOperation(None, None))
    assert recognised(asked(identified)) == graphql(GraphQlOperation("Foo", None))


def test_json_rpc_may_carry_what_looks_like_graphql() -> None:
    sent = b'{"jsonrpc":"2.0","method":"add","id":1,"params":{"query":"{ a }"}}'
    assert recognised(asked(sent)) == json_rpc()
    sent = b'{"query":"query Foo { a }","variables":{"jsonrpc":"2.0"}}'
    assert recognised(asked(sent)) == graphql()


@pytest.mark.parametrize(
    ("target", "operation"),
    [
        (b"/graphql?query=query+Foo%7Ba%7D", FOO),
        (b"/graphql?query={a}", GraphQlOperation(None, "query")),
        (b"/graphql?documentId=sha256:" + b"0" * 64, GraphQlOperation(None, None)),
    ],
)
def test_a_url_may_ask(target: bytes, operation: GraphQlOperation) -> None:
    given = asked(b"", b'{"data":{}}', method=b"GET", target=target, headers=[])
    assert recognised(given) == graphql(operation, 0)


@pytest.mark.parametrize(
    ("method", "target"),
    [(b"GET", b"/search?query=shoes"), (b"GET", b"/"), (b"HEAD", b"/?query={a}"), (b"PUT", b"/?query={a}")],
)
def test_other_urls_do_not(method: bytes, target: bytes) -> None:
    assert recognised(asked(b"", method=method, target=target)) is None


def test_unknown_targets_and_methods_ask_nothing() -> None:
    given = asked(b"", method=b"GET")
    assert given.request is not None
    given.request.target = None
    assert recognised(given) is None
    given.request.method = None
    assert recognised(given) is None


def test_a_document_as_body() -> None:
    headers = [(b"Content-Type", b"application/graphql")]
    for content in (b"query Foo { a }", b"# x\nquery Foo { a }", b'"described" query Foo { a }'):
        assert recognised(asked(body(content, None), headers=headers)) == graphql()
    assert recognised(asked(b"{ a }", headers=headers)) == graphql(GraphQlOperation(None, "query"))
    assert recognised(asked(b"{ a }", headers=JSON)) is None
    given = asked(b"query Bar { a } query Foo { a }", headers=headers, target=b"/?operationName=Foo")
    assert recognised(given) == graphql()
    cut = body(b"query Foo { a ", truncation=Truncation.LIMIT)
    assert recognised(asked(cut, headers=headers)) == graphql()


def form(operations: bytes, name: bytes = b"operations", rest: bytes = b"") -> bytes:
    return (
        b'--x\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b' % (name, operations)
        + b'\r\n--x\r\nContent-Disposition: form-data; name="map"\r\n\r\n{}\r\n'
        + rest
    )


def test_an_upload_carries_operations_in_its_first_part() -> None:
    headers = [(b"Content-Type", b"multipart/form-data; boundary=x")]
    upload = form(GRAPHQL, rest=b'--x\r\nContent-Disposition: form-data; name="0"\r\n\r\n\xff\x00')
    assert recognised(asked(body(upload, None, truncation=Truncation.LIMIT), headers=headers)) == graphql()
    without_end = body(
        form(GRAPHQL).partition(b'\r\n--x\r\nContent-Disposition: form-data; name="map"')[0], None
    )
    assert recognised(asked(without_end, headers=headers)) == graphql()


@pytest.mark.parametrize(
    "content",
    [
        form(b"[1,"),
        form(GRAPHQL, name=b"file"),
        form(b"a", b"file", form(GRAPHQL)),
        b'--x\r\nContent-Disposition: form-data; name="operations"' + b" " * 2_000 + b"\r\n\r\n" + GRAPHQL,
        b"--",
    ],
)
def test_other_uploads_carry_none(content: bytes) -> None:
    assert recognised(asked(content, headers=[(b"Content-Type", b"multipart/form-data; boundary=x")])) is None


def test_what_looks_like_an_upload_is_none() -> None:
    assert recognised(asked(form(GRAPHQL), headers=JSON)) is None


@pytest.mark.parametrize("incomplete", [None, Incomplete.CLOSED])
def test_of_a_cut_body_only_what_is_certain_is_told(incomplete: Incomplete | None) -> None:
    truncation = Truncation.LIMIT if incomplete is None else None
    cut = body(b'{"operationName":"Foo","query":"query Foo { a ', truncation=truncation)
    assert recognised(asked(cut, incomplete=incomplete)) == graphql()
    cut = body(b'{"jsonrpc":"2.0","method":"add","id":1,"params":[', truncation=truncation)
    assert recognised(asked(cut, incomplete=incomplete)) == json_rpc()


@pytest.mark.parametrize("incomplete", list(Incomplete))
def test_a_response_that_may_not_belong_tells_nothing(incomplete: Incomplete) -> None:
    assert recognised(asked(GRAPHQL, b'{"errors":[{}]}', incomplete=incomplete)) == graphql()
    assert recognised(asked(JSON_RPC, FAILED, incomplete=incomplete)) == json_rpc()


def test_a_response_that_was_cut_tells_what_is_certain() -> None:
    cut = body(b'{"errors":[{}],"data":{"a', truncation=Truncation.LIMIT)
    assert recognised(asked(GRAPHQL, cut)) == graphql(errors=1)
    cut = body(FAILED, truncation=Truncation.LIMIT)
    assert recognised(asked(JSON_RPC, cut)) == json_rpc()


def test_a_response_that_is_no_json_tells_nothing() -> None:
    events = b'event: message\ndata: {"jsonrpc":"2.0","id":1,"error":{"code":1}}\n\n'
    assert recognised(asked(JSON_RPC, events)) == json_rpc()
    assert recognised(asked(GRAPHQL, b"<html>errors</html>")) == graphql()
    assert recognised(asked(GRAPHQL, None)) == graphql()


def test_what_is_nested_too_deep_is_read_in_part_and_counted() -> None:
    counts = new_counters()
    deep = b"[" * TOO_DEEP
    assert recognised(asked(JSON_RPC[:-1] + b',"params":' + deep + b"}"), counts) == json_rpc()
    assert recognised(asked(JSON_RPC, b'{"error":' + deep), counts) == json_rpc()
    assert counts["json_cut"] == 2


def test_names_are_read_in_the_charset_of_the_body() -> None:
    sent = body('{"jsonrpc":"2.0","method":"größe","id":1}'.encode("latin-1"), "latin-1")
    application = recognised(asked(sent))
    assert isinstance(application, JsonRpcBatch)
    assert application.calls[0].method == "größe"


def test_what_another_protocol_claimed_is_left_alone() -> None:
    given = asked(GRAPHQL)
    call = GrpcCall("a.B/C", 0, None, [], [], MessageFlow(), MessageFlow())
    given.application = call
    assert recognised(given) is call


def test_a_response_alone_carries_nothing() -> None:
    assert recognised(exchange(request_=None, response_=response(content=body(GRAPHQL)))) is None


@pytest.mark.parametrize("capture_bodies", [True, False])
def test_a_conversation_is_recognised_only_where_bodies_are_captured(
    capture_bodies: bool,  # noqa: FBT001 (a parameter of the table)
) -> None:
    talk = Conversation()
    talk.request(b"POST /graphql HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n")
    talk.request(b"Content-Length: %d\r\n\r\n%b" % (len(GRAPHQL), GRAPHQL))
    talk.response(b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"data":null}')
    (given,) = talk.run(ParserLimits(capture_bodies=capture_bodies))
    given.application = None
    assert recognised(given) == (graphql(errors=0) if capture_bodies else None)


def grpc_frame(content: bytes, flag: int = 0) -> bytes:
    return bytes([flag]) + len(content).to_bytes(4, "big") + content


WEB: Headers = [(b"Content-Type", b"application/grpc-web+proto")]
WEB_TEXT: Headers = [(b"Content-Type", b"application/grpc-web-text")]
WEB_ANSWER = grpc_frame(b"there") + grpc_frame(b"grpc-status: 5\r\ngrpc-message: no%20one\r\n", 0x80)


def asked_web(
    content: bytes | Body, answer: bytes | Body | None, headers: Headers = WEB, **more: Any
) -> HttpExchange:
    given = asked(content, answer, headers=headers, target=b"/a.B/C", **more)
    if given.response is not None:
        given.response.headers = list(headers)
    return given


def web_call(given: HttpExchange, counts: dict[str, int] | None = None) -> GrpcCall:
    call = recognised(given, counts)
    assert isinstance(call, GrpcCall)
    return call


@pytest.mark.parametrize("flag", [0, 1])
@pytest.mark.parametrize("text", [True, False])
def test_grpc_web_is_recognised_and_counted(flag: int, text: bool) -> None:  # noqa: FBT001 - a parameter
    encode = b64encode if text else bytes
    headers = WEB_TEXT if text else WEB
    content = gzip.compress(b"hello") if flag else b"hello"
    headers = [*headers, (b"grpc-encoding", b"gzip")]
    counts = new_counters()
    given = asked_web(body(encode(grpc_frame(content, flag)), None), body(encode(WEB_ANSWER), None), headers)
    call = web_call(given, counts)
    assert (call.web, call.method, call.status, call.status_message) == (True, "a.B/C", 5, "no one")
    assert [message.content for message in call.request_messages] == [b"hello"]
    assert [message.content for message in call.response_messages] == [b"there"]
    assert call.request_flow == MessageFlow(1, len(content))
    assert call.response_flow == MessageFlow(1, 5)
    assert call.trailers == [(b"grpc-status", b"5"), (b"grpc-message", b"no%20one")]
    assert counts["grpc_calls"] == 1


def test_an_answer_of_headers_only_has_a_status() -> None:
    given = asked_web(body(grpc_frame(b""), None), b"")
    assert given.response is not None
    given.response.headers.append((b"Grpc-Status", b"12"))
    call = web_call(given)
    assert (call.status, call.request_flow, call.response_flow) == (12, MessageFlow(1, 0), MessageFlow())


@pytest.mark.parametrize(
    ("truncation", "cut"), [(Truncation.LIMIT, Truncation.LIMIT), (Truncation.GAP, Truncation.GAP)]
)
def test_a_grpc_web_body_that_was_cut_says_so(truncation: Truncation, cut: Truncation) -> None:
    sent = grpc_frame(b"one") + grpc_frame(b"two")
    counts = new_counters()
    call = web_call(
        asked_web(
            body(sent[:-1], None, size=len(sent), truncation=truncation),
            body(WEB_ANSWER[:20], None, size=len(WEB_ANSWER), truncation=truncation),
        ),
        counts,
    )
    assert [(message.content, message.truncation) for message in call.request_messages] == [
        (b"one", None),
        (b"tw", cut),
    ]
    assert call.request_flow == MessageFlow(1, 3, uncounted=True)
    assert (call.status, call.trailers) == (None, [])
    # Trailers come last: when they began, all messages had passed.
    assert call.response_flow == MessageFlow(1, 5)
    assert counts["grpc_trailers_lost"] == 1


def test_a_call_that_was_never_answered_has_no_status() -> None:
    call = web_call(asked_web(body(grpc_frame(b"hi"), None), None, incomplete=Incomplete.CLOSED))
    assert (call.status, call.response_flow) == (None, MessageFlow(uncounted=True))


@pytest.mark.parametrize(
    "headers",
    [
        [(b"Content-Type", b"application/grpc")],
        [(b"Content-Type", b"application/grpc+proto")],
        [(b"Content-Type", b"text/plain")],
        JSON,
        [],
    ],
)
def test_there_is_no_other_grpc_over_http_1(headers: Headers) -> None:
    for content in (grpc_frame(b"hi"), grpc_frame(b"hi", 1), b"A plain text", b"\x00", b"A"):
        counts = new_counters()
        assert recognised(asked_web(body(content, None), body(WEB_ANSWER, None), headers), counts) is None
        assert counts["grpc_calls"] == 0


@pytest.mark.parametrize("method", [b"GET", b"PUT", None])
def test_grpc_web_is_posted(method: bytes | None) -> None:
    given = asked_web(body(grpc_frame(b"hi"), None), body(WEB_ANSWER, None))
    assert given.request is not None
    given.request.method = method
    assert recognised(given) is None


@pytest.mark.parametrize("capture_bodies", [True, False])
@pytest.mark.parametrize("chunked", [True, False])
def test_a_conversation_in_grpc_web(capture_bodies: bool, chunked: bool) -> None:  # noqa: FBT001 - parameters
    talk = Conversation()
    sent = grpc_frame(b"\x0a\x02hi")
    talk.request(b"POST /a.B/C HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc-web\r\n")
    talk.request(b"Content-Length: %d\r\n\r\n%b" % (len(sent), sent))
    talk.response(b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc-web\r\n")
    if chunked:
        talk.response(b"Transfer-Encoding: chunked\r\n\r\n")
        for part in (WEB_ANSWER[:7], WEB_ANSWER[7:12], WEB_ANSWER[12:]):
            talk.response(b"%x\r\n%b\r\n" % (len(part), part))
        talk.response(b"0\r\n\r\n")
    else:
        talk.response(b"Content-Length: %d\r\n\r\n%b" % (len(WEB_ANSWER), WEB_ANSWER))
    (given,) = talk.run(ParserLimits(capture_bodies=capture_bodies))
    call = given.application
    if not capture_bodies:
        assert call is None
        return
    assert isinstance(call, GrpcCall)
    assert (call.method, call.status, call.response_flow) == ("a.B/C", 5, MessageFlow(1, 5))
    span = span_of(given)
    assert (span.name, span.attributes["rpc.response.status_code"]) == ("a.B/C", "NOT_FOUND")
    assert span.attributes["wirespan.rpc.web"] is True
    assert span.attributes["wirespan.rpc.request.messages"] == ('{1: "hi"}',)
