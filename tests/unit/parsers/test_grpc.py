from __future__ import annotations

import gzip
import struct
from base64 import b64encode

import pytest

from ebpf.events import Missing
from parsers.content import build_body
from parsers.counters import new_counters
from parsers.grpc.call import GrpcDialogue, is_grpc, open_reader
from parsers.http_exchange import (
    Body,
    DeclaredCoding,
    GrpcCall,
    Headers,
    HttpRequest,
    HttpResponse,
    MessageFlow,
    Truncation,
)
from parsers.limits import ParserLimits

GRPC: Headers = [(b"content-type", b"application/grpc")]
OK: Headers = [(b"grpc-status", b"0")]
UNCOUNTED = True


def frame(content: bytes, flag: int = 0) -> bytes:
    return struct.pack(">BI", flag, len(content)) + content


def body(content: bytes = b"") -> Body:
    return Body(len(content), content, None, None, len(content))


def request(
    target: bytes | None = b"/shop.Orders/Get", headers: Headers | None = None, content: bytes = b""
) -> HttpRequest:
    return HttpRequest(b"POST", target, "2", GRPC if headers is None else headers, body(content), 1, 2)


def response(
    headers: Headers | None = None, trailers: Headers | None = None, content: bytes = b"", status: int = 200
) -> HttpResponse:
    return HttpResponse(
        status, b"", "2", GRPC if headers is None else headers, body(content), 3, 4, trailers or []
    )


class Calling:
    """A dialogue with its counters."""

    def __init__(self, limits: ParserLimits | None = None) -> None:
        self.counts = new_counters()
        self.dialogue = GrpcDialogue(limits or ParserLimits(), self.counts)

    def run(self, request: HttpRequest | None, response: HttpResponse | None) -> GrpcCall:
        """Open the readers head by head, let them take the bodies, and return the call."""
        dialogue = self.dialogue
        dialogue.open_readers(request, None)
        opened = dialogue.request
        dialogue.open_readers(request, response)
        assert dialogue.request is opened
        for reader, message in ((dialogue.request, request), (dialogue.response, response)):
            if reader is not None and message is not None:
                reader.receive(message.body.content, 0)
        call = dialogue.build(request, response)
        assert call is not None
        return call


def call_of(request: HttpRequest | None, response: HttpResponse | None) -> GrpcCall:
    return Calling().run(request, response)


@pytest.mark.parametrize(
    ("content_type", "web", "text"),
    [
        (b"application/grpc", False, False),
        (b"application/grpc+proto", False, False),
        (b"Application/GRPC+json; charset=utf-8", False, False),
        (b"application/grpc;proto", False, False),
        (b"application/grpc ;x", False, False),
        (b"application/grpc-web", True, False),
        (b"application/grpc-web+proto", True, False),
        (b"application/grpc-web-text", True, True),
        (b"application/grpc-web-text+proto", True, True),
    ],
)
def test_the_content_type_tells_grpc(content_type: bytes, *, web: bool, text: bool) -> None:
    headers = [(b"Content-Type", content_type)]
    assert is_grpc(headers)
    stream = frame(b"hello") + (frame(b"grpc-status: 3", 0x80) if web else b"")
    stream = b64encode(stream) if text else stream
    trailers = [] if web else [(b"grpc-status", b"3")]
    call = call_of(request(headers=headers), response(headers, trailers, stream))
    assert (call.web, call.status) == (web, 3)
    assert [message.content for message in call.response_messages] == [b"hello"]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"content-type", b"application/json")],
        [(b"content-type", b"application/grpcx")],
        [(b"content-type", b"application/grpc-websocket")],
        [(b"content-type", b"text/application/grpc")],
        [(b"content-typo", b"application/grpc")],
    ],
)
def test_other_content_is_no_call(headers: Headers) -> None:
    assert not is_grpc(headers)
    counts = new_counters()
    assert open_reader(headers, ParserLimits(), counts) is None
    dialogue = GrpcDialogue(ParserLimits(), counts)
    dialogue.open_readers(request(headers=headers), response(headers))
    assert dialogue.build(request(headers=headers), response(headers, OK)) is None
    assert dialogue.build(None, None) is None
    assert counts == new_counters()


def test_a_unary_call_in_full() -> None:
    calling = Calling()
    headers = [*GRPC, (b"grpc-encoding", b"gzip")]
    coded = gzip.compress(b"answer")
    call = calling.run(
        request(content=frame(b"question")),
        response(headers, [*OK, (b"grpc-message", b"")], frame(coded, 1)),
    )
    assert (call.method, call.status, call.status_message) == ("shop.Orders/Get", 0, "")
    assert [message.content for message in call.request_messages] == [b"question"]
    assert [message.content for message in call.response_messages] == [b"answer"]
    assert (call.request_flow, call.response_flow) == (MessageFlow(1, 8), MessageFlow(1, len(coded)))
    assert (call.web, call.trailers, call.anomalies) == (False, [], ())
    assert {name: count for name, count in calling.counts.items() if count} == {"grpc_calls": 1}


def test_a_response_of_headers_only_has_the_status() -> None:
    headers = [*GRPC, (b"grpc-status", b"12"), (b"grpc-message", b"no%20such method")]
    call = call_of(request(), response(headers))
    assert (call.status, call.status_message) == (12, "no such method")
    assert call.response_flow == MessageFlow()


def test_trailers_prevail_over_headers() -> None:
    headers = [*GRPC, (b"grpc-status", b"0")]
    call = call_of(request(), response(headers, [(b"Grpc-Status", b"13"), (b"grpc-message", b"m")]))
    assert (call.status, call.status_message) == (13, "m")


@pytest.mark.parametrize("content", [frame(b"one"), b"\0\0"])
def test_a_status_in_headers_before_messages_is_none(content: bytes) -> None:
    call = call_of(request(), response([*GRPC, (b"grpc-status", b"0")], content=content))
    assert (call.status, call.status_message) == (None, None)


@pytest.mark.parametrize(
    ("values", "status", "anomalies"),
    [
        ([b"16"], 16, ()),
        ([b"05"], 5, ()),
        ([b"5", b"5"], 5, ()),
        ([b"5", b"0"], None, ("grpc_status_invalid",)),
        ([b"17"], None, ("grpc_status_invalid",)),
        ([b"-1"], None, ("grpc_status_invalid",)),
        ([b"OK"], None, ("grpc_status_invalid",)),
        ([b""], None, ("grpc_status_invalid",)),
        ([b"9" * 5000], None, ("grpc_status_invalid",)),
        ([b"\xb2"], None, ("grpc_status_invalid",)),
        ([b"0\n"], None, ("grpc_status_invalid",)),
        ([], None, ()),
    ],
)
def test_a_status_is_known_or_unknown_never_guessed(
    values: list[bytes], status: int | None, anomalies: tuple[str, ...]
) -> None:
    calling = Calling()
    trailers = [(b"grpc-status", value) for value in values]
    call = calling.run(request(), response(trailers=trailers, content=frame(b"x")))
    assert (call.status, call.anomalies) == (status, anomalies)
    assert calling.counts["grpc_invalid_statuses"] == len(anomalies)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (b"plain text", "plain text"),
        (b"%E2%98%83 100%25", "☃ 100%"),
        (b"100%, 5%zz %4", "100%, 5%zz %4"),
        (b"%ff", "\ufffd"),
    ],
)
def test_the_message_is_percent_decoded(sent: bytes, message: str) -> None:
    trailers = [(b"grpc-status", b"2"), (b"grpc-message", sent)]
    assert call_of(request(), response(trailers=trailers, content=frame(b""))).status_message == message


@pytest.mark.parametrize(
    ("target", "method"),
    [
        (b"/a.B/C", "a.B/C"),
        (b"/api/a.B/C?key=1", "api/a.B/C"),
        (b"http://host:1/a.B/C", "a.B/C"),
        (b"http://host", ""),
        (b"/", ""),
        ("/café".encode(), "café"),
        (b"/caf\xe9", "café"),
        (None, None),
    ],
)
def test_the_method_is_the_path(target: bytes | None, method: str | None) -> None:
    assert call_of(request(target), response()).method == method


def test_a_plain_answer_to_a_call_has_neither_status_nor_messages() -> None:
    html = [(b"content-type", b"text/html")]
    call = call_of(request(content=frame(b"q")), response(html, content=b"<html>", status=503))
    assert (call.method, call.status, call.response_flow) == ("shop.Orders/Get", None, MessageFlow())


def test_an_answer_with_unknown_headers_may_have_messages() -> None:
    answer = response([], content=frame(b"a"))
    answer.unknown_headers = 1
    assert call_of(request(), answer).response_flow == MessageFlow(uncounted=UNCOUNTED)


def test_one_side_is_enough() -> None:
    call = call_of(request(content=frame(b"q")), None)
    assert (call.status, call.request_flow) == (None, MessageFlow(1, 1))
    assert call.response_flow == MessageFlow(uncounted=UNCOUNTED)

    call = call_of(None, response(trailers=OK, content=frame(b"a")))
    assert (call.method, call.status) == (None, 0)
    assert (call.request_flow, call.response_flow) == (MessageFlow(uncounted=UNCOUNTED), MessageFlow(1, 1))


def test_contradicting_encodings_are_none() -> None:
    headers = [*GRPC, (b"grpc-encoding", b"gzip"), (b"grpc-encoding", b"deflate")]
    call = call_of(request(headers=headers, content=frame(gzip.compress(b"x"), 1)), response())
    assert call.request_messages[0].truncation is Truncation.DECODE_ERROR


def test_trailers_of_grpc_web_travel_in_the_body() -> None:
    headers = [(b"content-type", b"application/grpc-web+proto")]
    block = b"grpc-status:9\r\ngrpc-message:not%20now\r\nx-cost:3\r\n"
    call = call_of(request(headers=headers), response(headers, content=frame(b"a") + frame(block, 0x80)))
    assert (call.web, call.status, call.status_message) == (True, 9, "not now")
    assert call.trailers[2] == (b"x-cost", b"3")
    assert call.response_flow == MessageFlow(1, 1)


def test_messages_behind_a_content_coding_are_read_from_the_body() -> None:
    headers = [(b"content-type", b"application/grpc-web"), (b"Content-Encoding", b"gzip")]
    stream = frame(b"answer") + frame(b"grpc-status: 0", 0x80)
    answer = response(headers)
    coded = gzip.compress(stream)
    answer.body = build_body(coded, len(coded), None, [b"gzip"], b"application/grpc-web", 1000)
    counts = new_counters()
    dialogue = GrpcDialogue(ParserLimits(), counts)
    dialogue.open_readers(request(), answer)
    assert dialogue.response is None
    call = dialogue.build(request(), answer)
    assert call is not None
    assert (call.status, [message.content for message in call.response_messages]) == (0, [b"answer"])

    assert open_reader([*GRPC, (b"content-encoding", b"identity")], ParserLimits(), counts) is not None


@pytest.mark.parametrize(
    ("cut", "messages"),
    [
        (Body(100, frame(b"one"), None, Truncation.LIMIT, 8), [b"one"]),
        (Body(None, frame(b"one"), None, None, 8), [b"one"]),
        (Body(9, frame(b"one"), None, None, 8), [b"one"]),
        (Body(9, b"", None, None, 0), []),
        (Body(9, b"\x1f\x8bcoded", None, Truncation.DECODE_ERROR, 7), []),
        (Body(8, frame(b"one"), None, None, 8, DeclaredCoding("dcb", is_applied=True)), []),
    ],
)
def test_a_body_that_is_not_all_known_leaves_messages_uncounted(cut: Body, messages: list[bytes]) -> None:
    answer = response()
    answer.body = cut
    dialogue = GrpcDialogue(ParserLimits(), new_counters())
    call = dialogue.build(request(), answer)
    assert call is not None
    assert [message.content for message in call.response_messages] == messages
    assert call.response_flow.uncounted
    assert call.status is None


def test_a_call_that_was_cut_off_says_what_came() -> None:
    dialogue = GrpcDialogue(ParserLimits(), new_counters())
    asked, answer = request(), response([*GRPC, (b"grpc-status", b"0")])
    dialogue.open_readers(asked, answer)
    assert dialogue.response is not None
    dialogue.response.receive(frame(b"one") + b"\0\0\0", 0)
    dialogue.response.miss(20, Missing.RING_FULL, 0)
    call = dialogue.build(asked, answer)
    assert call is not None
    assert (call.status, call.response_flow) == (None, MessageFlow(1, 3, UNCOUNTED))
