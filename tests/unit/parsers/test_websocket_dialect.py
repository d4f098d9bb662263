"""GraphQL and JSON-RPC in the messages of a WebSocket."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpf.events import Role
from parsers.http_exchange import (
    GraphQlOperation,
    GraphQlRequest,
    HttpExchange,
    JsonRpcBatch,
    WebSocketSession,
)
from parsers.limits import ParserLimits
from parsers.tracker import ConnectionTracker
from tests.builders import Conversation
from tests.unit.otel_bridge.exchanges import span_of
from tests.websocket_peers import UPGRADE, accept, frame, masked

LIMITS = ParserLimits()
CALL = {"jsonrpc": "2.0", "method": "tools/call", "id": 1}
FAILED = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "Method not found"}}
DONE = {"jsonrpc": "2.0", "id": 1, "result": 3}
NOTICE = {"jsonrpc": "2.0", "method": "eth_subscription", "params": {}}
ASKS_BACK = {"jsonrpc": "2.0", "method": "roots/list", "id": 1}
TICKS = {"query": "subscription Ticks { tick }"}
ERROR = {"message": "no"}

Said = list[tuple[str, Any]]
"""Speaker and message, `c` being the client."""


def ask(identity: str = "a", kind: str = "subscribe", **members: Any) -> tuple[str, Any]:
    return "c", {"type": kind, "id": identity, "payload": members or TICKS}


def tell(kind: str, payload: Any = None, identity: str = "a") -> tuple[str, Any]:
    return "s", {"type": kind, "id": identity, "payload": payload}


def converse(
    said: Said, subprotocol: bytes | None = None, *, role: Role = Role.SERVER
) -> tuple[HttpExchange, ConnectionTracker]:
    talk = Conversation(role=role)
    talk.request(UPGRADE)
    talk.response(accept(*([] if subprotocol is None else [b"Sec-WebSocket-Protocol: " + subprotocol])))
    for speaker, message in said:
        payload = message if isinstance(message, bytes) else json.dumps(message).encode()
        if speaker == "c":
            talk.request(masked(1, payload))
        else:
            talk.response(frame(1, payload))
    tracker = ConnectionTracker(LIMITS)
    exchanges = [each for event in talk.events for each in tracker.feed(event)] + tracker.flush()
    (given_exchange,) = exchanges
    return given_exchange, tracker


def carried(said: Said, subprotocol: bytes | None = None, *, role: Role = Role.SERVER) -> Any:
    given_exchange, tracker = converse(said, subprotocol, role=role)
    assert tracker.counters()["unrecognised"] == 0
    session = given_exchange.application
    assert isinstance(session, WebSocketSession)
    return session.carried


@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([("c", CALL), ("s", FAILED)], [-32601]),
        ([("c", CALL), ("s", NOTICE), ("s", ASKS_BACK), ("c", DONE), ("s", FAILED)], [-32601]),
        ([("c", CALL), ("s", DONE)], [None]),
        ([("c", CALL), ("c", {**CALL, "id": 2}), ("s", {**FAILED, "id": 2}), ("s", DONE)], [None, -32601]),
        ([("c", [CALL, {**CALL, "id": 2}]), ("s", [DONE, {**FAILED, "id": 2}])], [None, -32601]),
        ([("c", CALL), ("s", {**FAILED, "id": 9})], [None]),
        ([("c", CALL), ("c", CALL), ("s", FAILED), ("s", DONE)], [None, None]),
        ([("c", CALL), ("s", b"not json"), ("s", FAILED)], [-32601]),
    ],
)
def test_calls_and_their_errors_are_read(said: Said, expected: list[int | None], role: Role) -> None:
    batch = carried(said, role=role)
    assert isinstance(batch, JsonRpcBatch)
    assert [call.error_code for call in batch.calls] == expected
    assert batch.count == len(expected)


@pytest.mark.parametrize(
    "said",
    [
        [],
        [("c", b"hello")],
        [("c", {"type": "subscribe", "id": "a", "payload": TICKS})],
        [("s", CALL)],
        [("c", {"method": "add", "id": 1, "params": []})],
        [("c", {"a": '"jsonrpc"'})],
        [("c", b'"jsonrpc"')],
    ],
)
def test_other_messages_are_neither(said: Said) -> None:
    assert carried(said) is None


@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
@pytest.mark.parametrize(
    ("subprotocol", "start", "result"),
    [(b"graphql-transport-ws", "subscribe", "next"), (b"graphql-ws", "start", "data")],
)
def test_operations_and_their_errors_are_read(
    subprotocol: bytes, start: str, result: str, role: Role
) -> None:
    began: Said = [("c", {"type": "connection_init"}), ("s", {"type": "connection_ack"}), ask(kind=start)]
    ticks = GraphQlOperation("Ticks", "subscription")
    for answers, expected in (
        ([tell(result, {"data": {"tick": 1}}), tell("complete")], 0),
        ([tell(result, {"data": None, "errors": [ERROR, ERROR]}), tell(result, {"errors": [ERROR]})], 3),
        ([tell("error", [ERROR, ERROR])], 2),
        ([tell("error", ERROR)], 1),
        ([tell(result, {"errors": [ERROR]}, "b")], None),
        ([("s", {"type": "ka"}), tell("complete")], None),
        ([tell(result, 7), tell("error", [ERROR], "b")], None),
    ):
        assert carried([*began, *answers], subprotocol, role=role) == GraphQlRequest([ticks], 1, expected)


def test_several_operations_of_a_session_are_told_together() -> None:
    said: Said = [
        ask("a", query="query First { a }"),
        tell("next", {"data": {}}, "a"),
        ask("b", query="mutation Second { b }"),
        tell("error", [ERROR], "b"),
    ]
    request = carried(said, b"graphql-transport-ws")
    assert request == GraphQlRequest(
        [GraphQlOperation("First", "query"), GraphQlOperation("Second", "mutation")], 2, 1
    )


def test_another_subprotocol_carries_no_graphql() -> None:
    said: Said = [ask(), tell("next", {"errors": [ERROR]})]
    assert carried(said, b"chat") is None
    assert carried(said) is None
    assert carried([("c", {"type": "ping"})], b"graphql-transport-ws") is None


def test_what_a_session_carried_is_counted_and_on_its_span() -> None:
    given_exchange, tracker = converse([("c", CALL), ("s", FAILED)])
    assert tracker.counters()["json_rpc_requests"] == 1
    attributes = span_of(given_exchange).attributes
    assert attributes["rpc.method"] == "tools/call"
    assert attributes["rpc.response.status_code"] == "-32601"
    assert attributes["wirespan.websocket.received.count"] == 1
    given_exchange, tracker = converse([ask(), tell("error", [ERROR])], b"graphql-transport-ws")
    assert tracker.counters()["graphql_requests"] == 1
    attributes = span_of(given_exchange).attributes
    assert attributes["graphql.operation.name"] == "Ticks"
    assert attributes["wirespan.graphql.error_count"] == 1


def test_a_session_of_which_messages_may_be_missing_tells_no_zero() -> None:
    many: Said = [ask(), *[tell("next", {"data": {}})] * (LIMITS.max_websocket_messages + 5)]
    request = carried(many, b"graphql-transport-ws")
    assert isinstance(request, GraphQlRequest)
    assert request.error_count is None


words = st.recursive(
    st.sampled_from(
        [None, 1, "a", "subscribe", "next", "error", True, CALL, FAILED, TICKS, {"errors": [ERROR]}]
    ),
    lambda inner: (
        st.dictionaries(st.sampled_from(["type", "id", "payload", "jsonrpc", "method"]), inner, max_size=4)
        | st.lists(inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    st.lists(st.tuples(st.sampled_from("cs"), words | st.binary(max_size=10)), max_size=6),
    st.sampled_from([None, b"graphql-ws", b"graphql-transport-ws"]),
    st.sampled_from([Role.CLIENT, Role.SERVER]),
)
def test_no_message_is_a_bug(said: Said, subprotocol: bytes | None, role: Role) -> None:
    carried(said, subprotocol, role=role)
