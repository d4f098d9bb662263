"""What the messages of a WebSocket are where only their text says it: GraphQL or JSON-RPC.

Owns the two subprotocols of GraphQL (`graphql-transport-ws`, and the older `graphql-ws` of
subscriptions-transport-ws) and the look for JSON-RPC 2.0, which has none. It must not know frames, nor
what operations and calls look like (`graphql`, `json_rpc`).

Contract: called once for a session that is over; reads the messages that were kept, which are bounded. What
the client asks is shown; an error is one of the server's that has the id of what was asked in this session.
"""

from __future__ import annotations

from typing import Any

from ebpf.events import Direction, Role
from parsers.graphql import count_session_errors, parse_graphql_json
from parsers.http_exchange import GraphQlRequest, JsonRpcBatch, WebSocketMessage, WebSocketSession
from parsers.json_rpc import parse_json_rpc
from parsers.json_text import JsonReading, read_json
from parsers.limits import ParserLimits
from parsers.websocket.frames import TEXT

_GRAPHQL_PROTOCOLS = frozenset(("graphql-transport-ws", "graphql-ws"))
_ASKS = ("subscribe", "start")


def recognise_session(
    session: WebSocketSession,
    role: Role,
    limits: ParserLimits,
    counts: dict[str, int],
    *,
    errors_are_sure: bool,
) -> GraphQlRequest | JsonRpcBatch | None:
    """Return what a session carries; None when it is neither. `role` is that of the socket.

    `errors_are_sure` is False where messages of the server may belong to what was lost.
    """
    from_client = Direction.EGRESS if role is Role.CLIENT else Direction.INGRESS
    if session.subprotocol in _GRAPHQL_PROTOCOLS:
        return _read_graphql(session, from_client, limits, counts, errors_are_sure=errors_are_sure)
    first = next(
        (each for each in session.messages if each.opcode == TEXT and each.direction is from_client), None
    )
    if (
        first is None
        or b'"jsonrpc"' not in first.content
        or not first.content.lstrip().startswith((b"{", b"["))
    ):
        return None
    asked = _read_messages(session, from_client, counts)
    answered = _read_messages(session, _opposite(from_client), counts) if errors_are_sure else None
    calls = [item for value in asked.value for item in (value if isinstance(value, list) else (value,))]
    request = JsonReading(calls[0] if len(calls) == 1 else calls, True)
    return parse_json_rpc(request, answered, limits, counts, is_stream=True)


def _read_graphql(
    session: WebSocketSession,
    from_client: Direction,
    limits: ParserLimits,
    counts: dict[str, int],
    *,
    errors_are_sure: bool,
) -> GraphQlRequest | None:
    asked = _read_messages(session, from_client, counts)
    payloads: list[dict[str, Any]] = []
    ids: set[str] = set()
    for message in asked.value:
        if not isinstance(message, dict) or message.get("type") not in _ASKS:
            continue
        payload, identity = message.get("payload"), message.get("id")
        if isinstance(payload, dict) and isinstance(identity, str):
            payloads.append(payload)
            ids.add(identity)
    if not payloads:
        return None
    request = parse_graphql_json(JsonReading(payloads, True), limits, counts)
    if request is not None and errors_are_sure:
        answered = _read_messages(session, _opposite(from_client), counts)
        request.error_count = count_session_errors(answered.value, ids, whole=asked.whole and answered.whole)
    return request


def _read_messages(session: WebSocketSession, direction: Direction, counts: dict[str, int]) -> JsonReading:
    """Return the JSON of the messages of a direction, whole where none is missing."""
    values: list[Any] = []
    whole = not session.dropped_messages
    for message in session.messages:
        if message.direction is direction and message.opcode == TEXT:
            value = _read_message(message, counts)
            if value is None:
                whole = False
            else:
                values.append(value)
    flow = session.egress if direction is Direction.EGRESS else session.ingress
    return JsonReading(values, whole and not flow.uncounted)


def _read_message(message: WebSocketMessage, counts: dict[str, int]) -> Any:
    if message.truncation is not None:
        return None
    reading = read_json(message.content.decode("utf-8", "replace"), cut=False)
    if reading is None or reading.too_large:
        counts["json_cut"] += reading is not None
        return None
    return reading.value


def _opposite(direction: Direction) -> Direction:
    return Direction.INGRESS if direction is Direction.EGRESS else Direction.EGRESS
