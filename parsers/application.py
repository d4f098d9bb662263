"""What an HTTP exchange carries where only its content shows it: GraphQL, JSON-RPC, gRPC-Web over HTTP/1.

Owns the question which of them it may be, asked so that every other exchange pays next to nothing. It must
not know their shapes (`graphql`, `json_rpc`), and leaves alone what another protocol has claimed.

Contract: called once for each exchange that is emitted. It sets `application`, of a WebSocket what that
carried, and nothing else.
"""

from __future__ import annotations

import re

from parsers.exchange import Incomplete
from parsers.framed_messages import FramedMessages, read_framed_messages
from parsers.graphql import (
    count_errors,
    count_streamed_errors,
    parse_graphql_json,
    parse_graphql_parameters,
    parse_graphql_text,
)
from parsers.grpc.call import build_grpc_call, is_grpc_web
from parsers.http_exchange import (
    Body,
    GraphQlRequest,
    Headers,
    HttpExchange,
    HttpRequest,
    HttpResponse,
    JsonRpcBatch,
    WebSocketSession,
)
from parsers.json_rpc import parse_json_rpc
from parsers.json_text import JsonReading, read_json
from parsers.limits import ParserLimits
from parsers.media_types import read_content_type
from parsers.websocket.dialect import recognise_session

MAX_PART_HEAD = 1_024
"""Bytes from the beginning of a multipart body within which the head of its first part ends: it holds a
name and perhaps a content type."""

# How nearly all JSON begins, and nothing else that is looked for.
_PLAIN_OBJECT = b'{"'
_JSON_BEGINNING = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\n\r\x1e]*+[{\[]")
_QUERY_MEMBER = re.compile(rb'"query"[ \t\n\r]*+:[ \t\n\r]*+"')
# A selection set that is no JSON object, a keyword, or what may stand before them.
_DOCUMENT_BEGINNING = re.compile(
    rb"(?:\xef\xbb\xbf)?[\t\n\r ,]*+"
    rb"(?:[#\"]|\{[\t\n\r ,]*+[#._A-Za-z]|(?:query|mutation|subscription|fragment)\b)"
)
# JSON-RPC over HTTP has two types of its own; bitcoind and others are sent `text/plain` or none.
_JSON_TYPES = frozenset(
    (
        "",
        "text/plain",
        "text/json",
        "application/json",
        "application/x-json",
        "application/json-rpc",
        "application/jsonrpc",
        "application/jsonrequest",
    )
)
# A stream over HTTP/2 belongs to its request whatever becomes of it. Over HTTP/1 a pair that is cut may be in
# doubt as well.
_CUT_SHORT = (Incomplete.CLOSED, Incomplete.RESET, Incomplete.TIMED_OUT, Incomplete.STOPPED)
# The events whose data is a result: those of GraphQL over SSE, and those of servers that name none.
_RESULT_EVENTS = ("next", "message")
# The flags of a first message of gRPC-Web, or as base64 has them.
_GRPC_BEGINNINGS = b"\x00\x01A"
_FORM_FIELD = b'name="operations"'


def recognise(exchange: HttpExchange, limits: ParserLimits, counts: dict[str, int]) -> None:
    """Set what the exchange carries, when it is GraphQL, JSON-RPC or gRPC-Web."""
    request = exchange.request
    if request is None or exchange.application is not None:
        if isinstance(exchange.application, WebSocketSession):
            _recognise_session(exchange, exchange.application, limits, counts)
        return
    application: GraphQlRequest | JsonRpcBatch | None = None
    if request.method == b"POST":
        content = request.body.content
        if content and content[0] in _GRPC_BEGINNINGS and is_grpc_web(request.headers):
            # Over HTTP/2 its messages were read already, as they passed.
            exchange.application = build_grpc_call(request, exchange.response, None, None, limits, counts)
            return
        if content:
            application = _recognise_body(exchange, request, limits, counts)
    elif request.method == b"GET":
        target = request.target or b""
        if b"query=" in target or b"persistedQuery" in target or b"documentId=" in target:
            application = parse_graphql_parameters(_query_string(target), limits, counts)
    if application is None:
        return
    if isinstance(application, GraphQlRequest):
        counts["graphql_requests"] += 1
        application.error_count = _count_graphql_errors(exchange, limits, counts)
    else:
        counts["json_rpc_requests"] += 1
    exchange.application = application


def _recognise_session(
    exchange: HttpExchange, session: WebSocketSession, limits: ParserLimits, counts: dict[str, int]
) -> None:
    cause = exchange.incomplete
    sure = cause is None or cause in _CUT_SHORT
    carried = recognise_session(session, exchange.role, limits, counts, errors_are_sure=sure)
    if carried is not None:
        session.carried = carried
        counts["graphql_requests" if isinstance(carried, GraphQlRequest) else "json_rpc_requests"] += 1


def _recognise_body(
    exchange: HttpExchange, request: HttpRequest, limits: ParserLimits, counts: dict[str, int]
) -> GraphQlRequest | JsonRpcBatch | None:
    content = request.body.content
    is_object = content.startswith(_PLAIN_OBJECT)
    if is_object or _JSON_BEGINNING.match(content) is not None:
        says_json_rpc = may_be_json_rpc = False
        if b'"method"' in content:
            says_json_rpc = b'"jsonrpc"' in content
            may_be_json_rpc = says_json_rpc or b'"params"' in content
        # One look for "query" and for "persistedQuery".
        may_be_graphql = (
            b'uery"' in content
            and (_QUERY_MEMBER.search(content) is not None or b'"persistedQuery"' in content)
        ) or b'"documentId"' in content
        if says_json_rpc and (framed := _read_framed_request(request, limits, counts)) is not None:
            response, is_stream = _read_response(exchange, limits, counts, only_errors=True)
            return parse_json_rpc(framed, response, limits, counts, is_stream=is_stream)
        if (may_be_json_rpc or may_be_graphql) and _is_json(_media_type(request.headers)):
            reading = _read_body(request.body, content, counts, cut=_is_cut(exchange, request))
            if reading is None:
                return None
            if may_be_json_rpc:
                response, is_stream = _read_response(exchange, limits, counts, only_errors=says_json_rpc)
                calls = parse_json_rpc(reading, response, limits, counts, is_stream=is_stream)
                if calls is not None:
                    return calls
            return parse_graphql_json(reading, limits, counts) if may_be_graphql else None
        if is_object:
            return None
    if content.startswith(b"--"):
        operations = _operations_part(content)
        if operations is None or not _media_type(request.headers).startswith("multipart/"):
            return None
        reading = _read_body(request.body, operations, counts, cut=_is_cut(exchange, request))
        return None if reading is None else parse_graphql_json(reading, limits, counts)
    if (
        _DOCUMENT_BEGINNING.match(content) is not None
        and _media_type(request.headers) == "application/graphql"
    ):
        text = content.decode(request.body.charset or "utf-8", "replace")
        parameters = _query_string(request.target or b"")
        return parse_graphql_text(text, parameters, limits, counts, cut=_is_cut(exchange, request))
    return None


def _is_cut(exchange: HttpExchange, request: HttpRequest) -> bool:
    """Whether the content may go on behind what is known of it."""
    return exchange.incomplete is not None or request.body.truncation is not None


def _read_body(body: Body, content: bytes, counts: dict[str, int], *, cut: bool) -> JsonReading | None:
    reading = read_json(content.decode(body.charset or "utf-8", "replace"), cut=cut)
    if reading is not None and reading.too_large:
        counts["json_cut"] += 1
    return reading


def _response_body(exchange: HttpExchange) -> Body | None:
    """Return the body of the response that surely belongs to the request; None when there is none."""
    response = exchange.response
    if response is None or exchange.incomplete is not None or not response.body.content:
        return None
    return response.body


def _read_stream(
    exchange: HttpExchange, limits: ParserLimits, counts: dict[str, int]
) -> FramedMessages | None:
    """Return the messages of a response that has several, and surely belongs to the request."""
    response = exchange.response
    if response is None or not response.body.content:
        return None
    cause = exchange.incomplete
    if cause is not None and not (cause in _CUT_SHORT and response.version == "2"):
        return None
    framed = _read_messages(response, limits, counts)
    if framed is not None and cause is not None:
        framed = framed._replace(whole=False)
    return framed


def _read_messages(
    message: HttpRequest | HttpResponse, limits: ParserLimits, counts: dict[str, int]
) -> FramedMessages | None:
    content_type = _content_type(message.headers)
    return None if content_type is None else read_framed_messages(message.body, content_type, limits, counts)


def _read_texts(texts: list[str], counts: dict[str, int], *, whole: bool) -> JsonReading:
    """Return the JSON texts as a list, whole where none is missing; what is no JSON is left out."""
    values = []
    for text in texts:
        if not text or text.isspace():
            # An event that carries an id alone, or keeps the connection alive.
            continue
        reading = read_json(text, cut=False)
        if reading is None or reading.too_large:
            counts["json_cut"] += reading is not None
            whole = False
        else:
            values.append(reading.value)
    return JsonReading(values, whole)


def _count_graphql_errors(exchange: HttpExchange, limits: ParserLimits, counts: dict[str, int]) -> int | None:
    framed = _read_stream(exchange, limits, counts)
    if framed is not None:
        texts = framed.texts
        if framed.events is not None:
            texts = [
                text for text, event in zip(texts, framed.events, strict=False) if event in _RESULT_EVENTS
            ]
        read = _read_texts(texts, counts, whole=framed.whole)
        return count_streamed_errors(read.value, whole=read.whole)
    body = _response_body(exchange)
    if body is None:
        return None
    return count_errors(body.content, body.charset or "utf-8", cut=body.truncation is not None)


def _read_framed_request(
    request: HttpRequest, limits: ParserLimits, counts: dict[str, int]
) -> JsonReading | None:
    """Return the calls of a request that are lines or a sequence of JSON texts; None when they are not."""
    framed = _read_messages(request, limits, counts)
    if framed is None or framed.events is not None:
        return None
    read = _read_texts(framed.texts, counts, whole=framed.whole)
    return JsonReading(read.value[0], read.whole) if len(read.value) == 1 else read


def _read_response(
    exchange: HttpExchange, limits: ParserLimits, counts: dict[str, int], *, only_errors: bool
) -> tuple[JsonReading | None, bool]:
    """Return the response as JSON, and whether it is a stream of messages.

    A response of one message is read where it is whole. With `only_errors`, nothing is read that can't hold
    an error.
    """
    response = exchange.response
    if response is None or (only_errors and b'"error"' not in response.body.content):
        return None, False
    framed = _read_stream(exchange, limits, counts)
    if framed is not None:
        return _read_texts(framed.texts, counts, whole=framed.whole), True
    body = _response_body(exchange)
    if body is None or body.truncation is not None:
        return None, False
    reading = _read_body(body, body.content, counts, cut=False)
    return (reading if reading is not None and reading.whole else None), False


def _content_type(headers: Headers) -> bytes | None:
    for name, value in headers:
        if len(name) == len(b"content-type") and name.lower() == b"content-type":
            return value
    return None


def _media_type(headers: Headers) -> str:
    content_type = _content_type(headers)
    return "" if content_type is None else read_content_type(content_type).media_type


def _is_json(media_type: str) -> bool:
    return media_type in _JSON_TYPES or media_type.endswith("+json")


def _query_string(target: bytes) -> str:
    return target.partition(b"?")[2].decode("latin-1")


def _operations_part(content: bytes) -> bytes | None:
    """Return the first part of a multipart body when it holds GraphQL operations.

    The specification of GraphQL multipart requests puts them first, so that a server can begin before the
    files came.
    """
    boundary_end = content.find(b"\r\n", 0, MAX_PART_HEAD)
    name = content.find(_FORM_FIELD, 0, MAX_PART_HEAD)
    head_end = content.find(b"\r\n\r\n", 0, MAX_PART_HEAD)
    if not 0 < boundary_end < name < head_end:
        return None
    part_end = content.find(b"\r\n" + content[:boundary_end], head_end)
    return content[head_end + 4 :] if part_end < 0 else content[head_end + 4 : part_end]
