from __future__ import annotations

import grpc
import pytest

from ebpf.events import Role
from otel_bridge.otlp.protobuf_wire import encode_field, encode_varint, length_delimited_tag
from otel_bridge.span import AttributeValue, Span
from otel_bridge.spans.options import SpanOptions
from otel_bridge.spans.rpc import MAX_METHOD_LENGTH, STATUS_NAMES
from parsers.exchange import Incomplete
from parsers.http_exchange import GrpcCall, GrpcMessage, Headers, HttpExchange, MessageFlow, Truncation
from tests.unit.otel_bridge.exchanges import body, exchange, request, response, span_of

GRPC = (b"content-type", b"application/grpc")
JWT = b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
SERVER_ERRORS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}


def string(number: int, content: bytes) -> bytes:
    return encode_field(length_delimited_tag(number), content)


def message(
    content: bytes, *, size: int | None = None, compressed: bool = False, truncation: Truncation | None = None
) -> GrpcMessage:
    return GrpcMessage(len(content) if size is None else size, content, compressed, truncation)


def call(
    method: str | None = "shop.Orders/Get",
    status: int | None = 0,
    asked: list[GrpcMessage] | None = None,
    answered: list[GrpcMessage] | None = None,
    **rest: object,
) -> GrpcCall:
    asked, answered = asked or [], answered or []
    made = GrpcCall(
        method,
        status,
        None,
        asked,
        answered,
        MessageFlow(len(asked), sum(each.size for each in asked)),
        MessageFlow(len(answered), sum(each.size for each in answered)),
    )
    for name, value in rest.items():
        setattr(made, name, value)
    return made


def grpc_exchange(
    given: GrpcCall,
    role: Role = Role.SERVER,
    *,
    headers: Headers | None = None,
    response_headers: Headers | None = None,
    trailers: Headers | None = None,
    content: bytes = b"",
    status: int = 200,
) -> HttpExchange:
    target = f"/{given.method}".encode() if given.method is not None else None
    asked = request(b"POST", b"/", [GRPC, *(headers or [])], body(content, None))
    asked.target = target
    answered = response(status, [GRPC, *(response_headers or [])])
    answered.trailers = trailers or []
    made = exchange(role, asked, answered)
    made.application = given
    return made


def span(
    given: GrpcCall, role: Role = Role.SERVER, options: SpanOptions | None = None, **rest: object
) -> Span:
    return span_of(grpc_exchange(given, role, **rest), options)  # type: ignore[arg-type] # passed through


def rendered(asked: list[GrpcMessage], **rest: object) -> AttributeValue | None:
    return span(call(asked=asked), **rest).attributes.get("wirespan.rpc.request.messages")  # type: ignore[arg-type]


def test_a_call_in_full() -> None:
    given = call(
        asked=[message(string(1, b"o-17"))],
        answered=[message(string(1, b"o-17") + b"\x10\x02")],
    )
    made = span(
        given,
        headers=[(b"te", b"trailers"), (b"grpc-timeout", b"1S"), (b"x-tenant", b"a")],
        response_headers=[(b"x-cost", b"1")],
        trailers=[(b"grpc-status", b"0"), (b"x-cost", b"2"), (b"x-sum-bin", b"AAE")],
        content=b"\0\0\0\0\6\n\4o-17",
    )
    assert made.name == "shop.Orders/Get"
    assert not made.is_error
    attributes = made.attributes
    assert attributes["url.path"] == "/shop.Orders/Get"
    rpc = {name: value for name, value in attributes.items() if "rpc" in name and "header" not in name}
    assert list(rpc.items()) == [
        ("rpc.system.name", "grpc"),
        ("rpc.method", "shop.Orders/Get"),
        ("rpc.response.status_code", "OK"),
        ("wirespan.rpc.request.message_count", 1),
        ("wirespan.rpc.request.message_size", 6),
        ("wirespan.rpc.response.message_count", 1),
        ("wirespan.rpc.response.message_size", 8),
        ("wirespan.rpc.request.messages", ('{1: "o-17"}',)),
        ("wirespan.rpc.response.messages", ('{1: "o-17", 2: 2}',)),
        ("rpc.request.metadata.x-tenant", ("a",)),
        ("rpc.response.metadata.x-cost", ("1", "2")),
        ("rpc.response.metadata.x-sum-bin", ("AAE",)),
    ]
    # Bodies before what was understood of them, and headers last: they are what a bound cuts first.
    names = list(attributes)
    assert (
        names.index("network.protocol.version")
        < names.index("rpc.system.name")
        < names.index("http.request.body.content")
        < names.index("wirespan.rpc.request.messages")
        < names.index("rpc.request.metadata.x-tenant")
        < names.index("http.request.header.content-type")
    )
    assert attributes["http.request.body.content"] == b"\0\0\0\0\6\n\4o-17"


@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
@pytest.mark.parametrize("code", range(17))
def test_the_status_follows_the_conventions(code: int, role: Role) -> None:
    made = span(call(status=code), role)
    name = STATUS_NAMES[code]
    is_error = name in SERVER_ERRORS if role is Role.SERVER else code != 0
    assert made.attributes["rpc.response.status_code"] == name
    assert made.is_error is is_error
    assert made.attributes.get("error.type") == (name if is_error else None)


def test_names_are_those_of_the_implementation() -> None:
    assert {code.value[0]: code.name for code in grpc.StatusCode} == dict(enumerate(STATUS_NAMES))


def test_without_a_status_http_tells() -> None:
    made = span(call(status=None), Role.CLIENT, status=503)
    assert "rpc.response.status_code" not in made.attributes
    assert made.attributes["error.type"] == "503"
    assert made.is_error

    given = grpc_exchange(call(status=None))
    given.incomplete = Incomplete.CLOSED
    assert span_of(given).attributes["error.type"] == "connection_closed"

    made = span(call(status=None))
    assert not made.is_error


def test_the_status_of_the_call_prevails_over_that_of_http() -> None:
    assert span(call(status=14), Role.CLIENT, status=503).attributes["error.type"] == "UNAVAILABLE"


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("shop.v1.Orders/Get", "shop.v1.Orders/Get"),
        ("Echo/echo", "Echo/echo"),
        ("api/shop.Orders/Get_2", "api/shop.Orders/Get_2"),
        ("Get", None),
        ("", None),
        ("/Get", None),
        ("shop.Orders/", None),
        ("shop.Orders/Get Me", None),
        ("shop.Orders/Gét", None),
        ("shop.Orders/Get\n", None),
        ("a/" + "b" * (MAX_METHOD_LENGTH - 2), "a/" + "b" * (MAX_METHOD_LENGTH - 2)),
        ("a/" + "b" * (MAX_METHOD_LENGTH - 1), None),
    ],
)
def test_a_method_that_no_interface_can_have_is_other(method: str, name: str | None) -> None:
    made = span(call(method))
    assert made.name == (name or "grpc")
    assert made.attributes["rpc.method"] == (name or "_OTHER")
    assert made.attributes.get("rpc.method_original") == (None if name else method)


def test_a_server_does_not_know_what_it_does_not_implement() -> None:
    made = span(call("shop.Orders/Scan17", 12), Role.SERVER)
    assert (made.name, made.attributes["rpc.method"]) == ("grpc", "_OTHER")
    assert made.attributes["rpc.method_original"] == "shop.Orders/Scan17"
    assert span(call("shop.Orders/Scan17", 12), Role.CLIENT).name == "shop.Orders/Scan17"


def test_an_unknown_method_is_absent() -> None:
    made = span(call(None))
    assert made.name == "grpc"
    assert "rpc.method" not in made.attributes


def test_a_secret_in_a_method_is_redacted() -> None:
    made = span(call(f"a.B/{JWT.decode()}"))
    assert made.attributes["rpc.method_original"] == "a.B/REDACTED"
    assert made.name == "grpc"
    assert JWT.decode() not in str(made)


def test_metadata_is_what_the_application_sent() -> None:
    call_definition = [
        (b"User-Agent", b"grpc-python/1"),
        (b"grpc-encoding", b"gzip"),
        (b"grpc-accept-encoding", b"gzip"),
        (b"Grpc-Trace-Bin", b"AA"),
        (b"host", b"h"),
        (b"content-length", b"3"),
        (b"connection", b"close"),
        (b"transfer-encoding", b"chunked"),
    ]
    web = call(web=True, trailers=[(b"grpc-status", b"0"), (b"X-B", b"4")])
    made = span(
        web,
        headers=[*call_definition, (b"X-A", b"1"), (b"x-a", b"2")],
        response_headers=[(b"x-b", b"3")],
    )
    metadata = {name: value for name, value in made.attributes.items() if ".metadata." in name}
    assert metadata == {"rpc.request.metadata.x-a": ("1", "2"), "rpc.response.metadata.x-b": ("3", "4")}
    assert made.attributes["wirespan.rpc.web"] is True


def test_metadata_is_redacted_as_headers_are() -> None:
    made = span(
        call(status_message=f"token {JWT.decode()} expired"),
        headers=[(b"authorization", b"Bearer s3cret"), (b"x-api-key", b"k3y")],
        trailers=[(b"x-session-id", b"s3ssion"), (b"x-note", b"see " + JWT)],
    )
    attributes = made.attributes
    assert attributes["rpc.request.metadata.authorization"] == ("Bearer REDACTED",)
    assert attributes["rpc.request.metadata.x-api-key"] == ("REDACTED",)
    assert attributes["rpc.response.metadata.x-session-id"] == ("REDACTED",)
    assert attributes["rpc.response.metadata.x-note"] == ("see REDACTED",)
    assert attributes["wirespan.rpc.status_message"] == "token REDACTED expired"
    # Two of them are headers as well.
    assert attributes["wirespan.redacted"] == 7


def test_binary_metadata_is_base64() -> None:
    made = span(
        call(),
        headers=[(b"x-a-bin", b"AAE"), (b"X-B-Bin", b"\0\0\1"), (b"x-c", b"\0\1"), (b"x-d-bin", b"\0")],
        trailers=[(b"x-e-bin", b"\0see " + JWT), (b"x-token-bin", b"\0abc")],
    )
    metadata = {name: value for name, value in made.attributes.items() if ".metadata." in name}
    assert metadata == {
        "rpc.request.metadata.x-a-bin": ("AAE",),
        "rpc.request.metadata.x-b-bin": ("AAE",),
        "rpc.request.metadata.x-c": ("\0\1",),
        "rpc.request.metadata.x-d-bin": ("",),
        "rpc.response.metadata.x-e-bin": ("REDACTED",),
        "rpc.response.metadata.x-token-bin": ("REDACTED",),
    }
    open_metadata = span(call(), options=SpanOptions(redaction=False), headers=[(b"x-e-bin", b"\0a")])
    assert open_metadata.attributes["rpc.request.metadata.x-e-bin"] == ("YQ",)


def test_one_sided_calls_keep_what_was_seen() -> None:
    given = exchange(Role.CLIENT, request(b"POST", b"/a.B/C", [GRPC]), None)
    unknown = MessageFlow(uncounted=True)
    given.application = call("a.B/C", None, [message(b"\x08\x01")], response_flow=unknown)
    attributes = span_of(given).attributes
    assert attributes["wirespan.rpc.request.messages"] == ("{1: 1}",)
    assert not [name for name in attributes if name.startswith("wirespan.rpc.response")]


def test_what_was_not_counted_is_told() -> None:
    attributes = span(call(request_flow=MessageFlow(3, 30, uncounted=True))).attributes
    assert attributes["wirespan.rpc.request.message_count"] == 3
    assert attributes["wirespan.rpc.request.message_size"] == 30
    assert attributes["wirespan.rpc.request.uncounted"] is True
    assert attributes["wirespan.rpc.response.message_count"] == 0
    assert "wirespan.rpc.response.uncounted" not in attributes

    attributes = span(call(request_flow=MessageFlow(uncounted=True))).attributes
    assert attributes["wirespan.rpc.request.uncounted"] is True
    assert "wirespan.rpc.request.message_count" not in attributes


def test_anomalies_of_the_call_stand_beside_those_of_the_exchange() -> None:
    given = grpc_exchange(call(anomalies=("grpc_status_invalid",)))
    given.anomalies = ("http2_uppercase_name",)
    assert span_of(given).attributes["wirespan.anomalies"] == ("http2_uppercase_name", "grpc_status_invalid")


def test_without_bodies_no_content_appears() -> None:
    attributes = span(
        call(asked=[message(string(1, b"o-17"))]),
        options=SpanOptions(capture_bodies=False),
        content=b"o-17",
    ).attributes
    assert attributes["wirespan.rpc.request.message_count"] == 1
    assert "o-17" not in str(attributes)


def test_without_headers_no_metadata_appears() -> None:
    attributes = span(
        call(status_message="x-secret-thing"),
        options=SpanOptions(capture_headers=False),
        headers=[(b"x-tenant", b"a")],
    ).attributes
    assert not [name for name in attributes if "metadata" in name or "status_message" in name]


def test_an_empty_status_message_is_none() -> None:
    assert "wirespan.rpc.status_message" not in span(call(status_message="")).attributes


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (message(b""), "{}"),
        (message(b"\xff\xff"), "<2 bytes>"),
        (message(string(1, b"abc")[:3], size=5, truncation=Truncation.GAP), "{1: <1 of 3 bytes>, …}"),
        (
            message(b"\x08\x01\x12", size=3, compressed=True, truncation=Truncation.LIMIT),
            "{1: 1, …}",
        ),
        (
            message(b"\x08\x01", compressed=True, truncation=Truncation.DECODE_ERROR),
            "<2 bytes, not decoded>",
        ),
    ],
)
def test_messages_are_rendered_as_far_as_they_are_known(given: GrpcMessage, shown: str) -> None:
    assert rendered([given]) == (shown,)


@pytest.mark.parametrize(
    ("content_type", "shown"),
    [
        (b"application/grpc+proto", ('{1: "a"}',)),
        (b"application/grpc-web-text+protobuf; x=1", ('{1: "a"}',)),
        (b"application/grpc; a+json", ('{1: "a"}',)),
        (b"application/grpc+thrift", None),
        (b"Application/GRPC+JSON", ("\n\x01a",)),
    ],
)
def test_the_codec_decides_the_form(content_type: bytes, shown: tuple[str, ...] | None) -> None:
    given = grpc_exchange(call(asked=[message(string(1, b"a"))]))
    assert given.request is not None
    given.request.headers = [(b"Content-Type", content_type)]
    assert span_of(given).attributes.get("wirespan.rpc.request.messages") == shown


def test_a_content_type_that_is_unknown_means_protobuf() -> None:
    given = grpc_exchange(call(asked=[message(b"\x08\x01")]))
    assert given.request is not None
    given.request.headers = []
    assert span_of(given).attributes["wirespan.rpc.request.messages"] == ("{1: 1}",)


def test_what_is_rendered_of_one_direction_is_bounded() -> None:
    shown = rendered([message(string(1, b"x" * 1000) * 20)] * 10)
    assert isinstance(shown, tuple)
    assert 1 < len(shown) < 10
    assert sum(map(len, shown)) < 40_000


@pytest.mark.parametrize(
    "content",
    [
        JWT,
        b"a\t" + JWT,
        b"\x00\xff" + JWT + b"\x00",
        b"4111 1111 1111 1111",
        b"\t4111111111111111\n",
        b"\x00" + b"4111111111111111" + b"\x01",
        string(1, b"4111111111111111"),
        b"https://user:hunter2@host/",
        b'{"password": "hunter2"}',
        b'{"a": "{\\"password\\": \\"hunter2\\"}"}',
        b"see /?token=hunter2&a=1",
        b"-----BEGIN PRIVATE KEY-----\nMIIhunter2\n-----END PRIVATE KEY-----\n",
    ],
)
def test_secrets_in_messages_are_redacted(content: bytes) -> None:
    for codec in (b"proto", b"json"):
        given = grpc_exchange(call(asked=[message(string(3, content) if codec == b"proto" else content)]))
        assert given.request is not None
        given.request.headers = [(b"content-type", b"application/grpc+" + codec)]
        span = span_of(given)
        (shown,) = span.attributes["wirespan.rpc.request.messages"]  # type: ignore[misc] # a list of one
        for secret in (JWT.decode(), "hunter2", "4111"):
            assert secret not in shown
        assert "REDACTED" in shown


def test_a_card_number_in_a_number_is_redacted() -> None:
    assert rendered([message(b"\x08" + encode_varint(4111111111111111))]) == ("{1: REDACTED}",)


def test_a_secret_that_a_cut_ends_is_not_shown() -> None:
    content = string(1, JWT)[:30]
    shown = rendered([message(content, size=60, truncation=Truncation.LIMIT)])
    assert shown == (f"{{1: <28 of {len(JWT)} bytes>, …}}",)

    given = grpc_exchange(call(asked=[message(JWT[:15], size=60, truncation=Truncation.LIMIT)]))
    assert given.request is not None
    given.request.headers = [(b"content-type", b"application/grpc+json")]
    assert span_of(given).attributes["wirespan.rpc.request.messages"] == ("REDACTED",)


CODED: list[Headers] = [[(b"grpc-encoding", b"gzip")], [(b"content-type", b"application/grpc-web-text")]]


@pytest.mark.parametrize("headers", CODED)
@pytest.mark.parametrize(
    ("messages", "flow"),
    [
        ([message(string(1, JWT))], MessageFlow(1, 60)),
        ([message(b"\x08\x01")], MessageFlow(2, 4)),
        ([message(b"\x08\x01")], MessageFlow(1, 2, uncounted=True)),
        ([message(b"\x08\x01", size=9, truncation=Truncation.LIMIT)], MessageFlow(1, 9)),
    ],
)
def test_a_coded_body_stays_back_unless_all_of_it_was_looked_through(
    headers: Headers, messages: list[GrpcMessage], flow: MessageFlow
) -> None:
    given = grpc_exchange(call(asked=messages, request_flow=flow), content=b"coded")
    assert given.request is not None
    given.request.headers = headers
    span = span_of(given)
    assert span.attributes["http.request.body.content"] == "REDACTED"
    assert isinstance(span.attributes["wirespan.redacted"], int)
    open_span = span_of(given, SpanOptions(redaction=False))
    assert open_span.attributes["http.request.body.content"] == b"coded"
    without = span_of(given, SpanOptions(capture_bodies=False))
    assert "http.request.body.content" not in without.attributes


@pytest.mark.parametrize("headers", [*CODED, [(b"grpc-encoding", b"identity")]])
def test_a_coded_body_that_was_looked_through_is_exported(headers: Headers) -> None:
    compressed = headers[0][1] == b"gzip"
    given = grpc_exchange(call(asked=[message(b"\x08\x01", compressed=compressed)]), content=b"coded")
    assert given.request is not None
    given.request.headers = headers
    assert span_of(given).attributes["http.request.body.content"] == b"coded"
    assert "wirespan.redacted" not in span_of(given).attributes


def test_a_compressed_message_without_an_encoding_is_coded_too() -> None:
    broken = message(b"\x08\x01", compressed=True, truncation=Truncation.DECODE_ERROR)
    given = grpc_exchange(call(asked=[broken]), content=b"coded")
    assert span_of(given).attributes["http.request.body.content"] == "REDACTED"
