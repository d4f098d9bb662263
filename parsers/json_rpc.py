"""JSON-RPC: which methods a request calls, and which errors its response returns.

Owns the shapes of JSON-RPC 2.0 and 1.0. It must not know HTTP messages (`application`).

Contract: a request without the member `jsonrpc` is JSON-RPC 1.0 only where its response proves it. An error
belongs to a call by its id; where two calls, or two responses, share an id, it belongs to none.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from parsers.http_exchange import JsonRpcBatch, JsonRpcCall
from parsers.json_text import JsonReading
from parsers.limits import ParserLimits

_VERSIONS = frozenset(("1.0", "2.0"))
_CALL_MEMBERS_1 = frozenset(("method", "params", "id"))
_RESPONSE_MEMBERS_1 = frozenset(("result", "error", "id"))

_Key: TypeAlias = tuple[bool, str | float]
"""An id to compare: whether it is a string, and its value. 1 is not "1", but it is 1.0."""


def parse_json_rpc(
    request: JsonReading,
    response: JsonReading | None,
    limits: ParserLimits,
    counts: dict[str, int],
    *,
    is_stream: bool = False,
) -> JsonRpcBatch | None:
    """Return the calls of a JSON body; None when it calls nothing by JSON-RPC.

    `response` is the body of the response, None when it is unknown, not whole or no JSON. With `is_stream`
    its value is the list of the messages that the server sent, and it is whole where none is missing. Among
    them may be requests and notifications of the server, and batches.
    """
    value = request.value
    batched = isinstance(value, list)
    calls: list[JsonRpcCall] = []
    keys: list[_Key | None] = []
    count = 0
    # A request may carry responses too, when both ends call each other: those are no calls.
    for item in value if batched else (value,):
        call = _parse_call(item)
        if call is None:
            continue
        count += 1
        if len(calls) < limits.max_operations:
            calls.append(call)
            keys.append(_key(item.get("id")))
    if calls:
        counts["operations_unnamed"] += count - len(calls)
        if response is not None:
            if is_stream:
                id_is_known = batched or request.whole or "id" in value
                _add_streamed_errors(calls, keys, response, is_alone=not batched, id_is_known=id_is_known)
            elif batched:
                _add_errors(calls, keys, response.value)
            else:
                id_is_known = request.whole or "id" in value
                _add_error(calls[0], keys[0], response.value, id_is_known=id_is_known)
        return JsonRpcBatch(calls, count, batched)
    if request.whole and response is not None and not is_stream:
        return _parse_call_1(value, response.value)
    return None


def _parse_call(item: Any) -> JsonRpcCall | None:
    """Return the call of an object that says which version it speaks; None when it is none."""
    if not isinstance(item, dict):
        return None
    version = item.get("jsonrpc")
    method = item.get("method")
    if not (isinstance(version, str) and version in _VERSIONS and isinstance(method, str) and method):
        return None
    return JsonRpcCall(_encodable(method), _identity(item.get("id")), version)


def _parse_call_1(request: Any, response: Any) -> JsonRpcBatch | None:
    """Return the call of JSON-RPC 1.0 (§1.1, §1.2) when exactly its members are there, in both messages."""
    if not (
        isinstance(request, dict)
        and isinstance(response, dict)
        and request.keys() == _CALL_MEMBERS_1
        and response.keys() == _RESPONSE_MEMBERS_1
        and (response["result"] is None or response["error"] is None)
    ):
        return None
    method, key = request["method"], _key(request["id"])
    if not (isinstance(method, str) and method and isinstance(request["params"], list)):
        return None
    if key is None or key != _key(response["id"]):
        return None
    call = JsonRpcCall(_encodable(method), _identity(request["id"]), "1.0")
    _set_error(call, response)
    return JsonRpcBatch([call], 1)


def _add_error(call: JsonRpcCall, key: _Key | None, response: Any, *, id_is_known: bool) -> None:
    """Add the error of the one response to the one call."""
    if not isinstance(response, dict):
        return
    # 2.0 §5: the id is null when the server could not make it out.
    identity = response.get("id")
    if identity is None or not id_is_known or (key is not None and key == _key(identity)):
        _set_error(call, response)


def _add_errors(calls: list[JsonRpcCall], keys: list[_Key | None], response: Any) -> None:
    """Add the errors of a batch's responses to its calls."""
    responses: dict[_Key, dict[str, Any] | None] = {}
    for item in response if isinstance(response, list) else ():
        key = _key(item.get("id")) if isinstance(item, dict) else None
        if key is not None:
            responses[key] = None if key in responses else item
    for call, key in zip(calls, keys, strict=True):
        found = responses.get(key) if key is not None and keys.count(key) == 1 else None
        if found is not None:
            _set_error(call, found)


def _add_streamed_errors(
    calls: list[JsonRpcCall],
    keys: list[_Key | None],
    stream: JsonReading,
    *,
    is_alone: bool,
    id_is_known: bool,
) -> None:
    """Add the errors in a stream of a server's messages; `is_alone` means one call without a batch."""
    responses = [
        item
        for message in stream.value
        for item in (message if isinstance(message, list) else (message,))
        # A server's own requests have ids of their own.
        if isinstance(item, dict) and "method" not in item and ("result" in item or "error" in item)
    ]
    if is_alone and stream.whole and len(responses) == 1:
        _add_error(calls[0], keys[0], responses[0], id_is_known=id_is_known)
    else:
        _add_errors(calls, keys, responses)


def _set_error(call: JsonRpcCall, response: dict[str, Any]) -> None:
    """Take code and message (2.0 §5.1) as far as they are there; 1.0 leaves the shape of an error open."""
    error = response.get("error")
    if isinstance(error, str):
        call.error_message = _encodable(error)
    if not isinstance(error, dict):
        return
    code, message = error.get("code"), error.get("message")
    if isinstance(code, int) and not isinstance(code, bool):
        call.error_code = code
    if isinstance(message, str):
        call.error_message = _encodable(message)


def _key(identity: Any) -> _Key | None:
    if isinstance(identity, bool) or not isinstance(identity, str | int | float):
        return None
    return isinstance(identity, str), identity


def _identity(identity: Any) -> str | None:
    """Return an id as text; None also for a number with a fraction, which can be written in several ways."""
    if isinstance(identity, str):
        return _encodable(identity)
    return str(identity) if isinstance(identity, int) and not isinstance(identity, bool) else None


def _encodable(text: str) -> str:
    """Return the text without the lone surrogates that JSON can write and no encoder takes."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
