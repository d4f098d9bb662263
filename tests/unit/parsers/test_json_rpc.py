from __future__ import annotations

from typing import Any

import pytest

from parsers.counters import new_counters
from parsers.http_exchange import JsonRpcBatch, JsonRpcCall
from parsers.json_rpc import parse_json_rpc
from parsers.json_text import CutText, JsonReading
from parsers.limits import ParserLimits

LIMITS = ParserLimits()
NO_RESPONSE = object()
ERROR = {"code": -32601, "message": "Method not found"}


def parse(request: Any, response: Any = NO_RESPONSE, *, whole: bool = True) -> JsonRpcBatch | None:
    answered = None if response is NO_RESPONSE else JsonReading(response, True)
    return parse_json_rpc(JsonReading(request, whole), answered, LIMITS, new_counters())


def call(method: str = "add", identity: Any = 1, **members: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "id": identity, **members}


def failed(identity: Any = 1, error: Any = ERROR) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identity, "error": error}


def outcome(request: Any, response: Any) -> tuple[int | None, str | None]:
    batch = parse(request, response)
    assert batch is not None
    (only,) = batch.calls
    return only.error_code, only.error_message


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (call(), JsonRpcCall("add", "1", "2.0")),
        (call(params=[1, 2]), JsonRpcCall("add", "1", "2.0")),
        (call(identity="abc"), JsonRpcCall("add", "abc", "2.0")),
        (call(identity=""), JsonRpcCall("add", "", "2.0")),
        (call(identity=None), JsonRpcCall("add", None, "2.0")),
        (call(identity=1.5), JsonRpcCall("add", None, "2.0")),
        (call(identity=True), JsonRpcCall("add", None, "2.0")),
        (call(identity=[1]), JsonRpcCall("add", None, "2.0")),
        ({"jsonrpc": "2.0", "method": "notify"}, JsonRpcCall("notify", None, "2.0")),
        ({"jsonrpc": "1.0", "method": "getinfo", "id": "x"}, JsonRpcCall("getinfo", "x", "1.0")),
        (call("m\ud800é", "\udfff"), JsonRpcCall("m?é", "?", "2.0")),
    ],
)
def test_a_call_is_told(members: dict[str, Any], expected: JsonRpcCall) -> None:
    assert parse(members) == JsonRpcBatch([expected], 1)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        "add",
        {"jsonrpc": "2.0", "id": 1, "result": 3},
        {"jsonrpc": "2.0", "method": 1, "id": 1},
        {"jsonrpc": "2.0", "method": "", "id": 1},
        {"jsonrpc": 2.0, "method": "add", "id": 1},
        {"jsonrpc": "3.0", "method": "add", "id": 1},
        {"jsonrpc": ["2.0"], "method": "add", "id": 1},
        {"method": "add", "params": [], "id": 1},
        [{"method": "add", "params": [], "id": 1}],
    ],
)
def test_what_calls_nothing_is_no_request(value: Any) -> None:
    assert parse(value) is None


def test_a_batch_tells_its_calls_and_leaves_out_what_is_none() -> None:
    batch = parse(
        [call("a", 1), {"jsonrpc": "2.0", "id": 9, "result": 1}, 5, {"jsonrpc": "2.0", "method": "b"}]
    )
    assert batch == JsonRpcBatch([JsonRpcCall("a", "1", "2.0"), JsonRpcCall("b", None, "2.0")], 2, True)


def test_of_a_long_batch_the_first_calls_are_named() -> None:
    counts = new_counters()
    many = JsonReading([call(identity=number) for number in range(LIMITS.max_operations + 5)], True)
    batch = parse_json_rpc(many, None, LIMITS, counts)
    assert batch is not None
    assert (len(batch.calls), batch.count) == (LIMITS.max_operations, LIMITS.max_operations + 5)
    assert counts["operations_unnamed"] == 5


@pytest.mark.parametrize(
    ("request_", "response", "expected"),
    [
        (call(), failed(), (-32601, "Method not found")),
        (call(identity=1), failed(1.0), (-32601, "Method not found")),
        (call(), failed(None), (-32601, "Method not found")),
        (call(identity=None), failed(None), (-32601, "Method not found")),
        (call(), {"jsonrpc": "2.0", "id": 1, "result": 3}, (None, None)),
        (call(), failed("1"), (None, None)),
        (call(), failed(2), (None, None)),
        (call(), [failed()], (None, None)),
        (call(), failed(error=None), (None, None)),
        (call(), failed(error="broken"), (None, "broken")),
        (call(), failed(error=17), (None, None)),
        (call(), failed(error={"code": True, "message": 1}), (None, None)),
        (call(), failed(error={"code": 1.5, "message": "x\ud800"}), (None, "x?")),
        (call(), failed(error={"code": 10**40}), (10**40, None)),
    ],
)
def test_an_error_belongs_to_the_call_with_its_id(
    request_: Any, response: Any, expected: tuple[int | None, str | None]
) -> None:
    assert outcome(request_, response) == expected


def test_errors_of_a_batch_go_to_their_calls_in_any_order() -> None:
    batch = parse(
        [
            call("a", 1),
            call("b", "1"),
            call("c", 3),
            {"jsonrpc": "2.0", "method": "d"},
            call("e", 5),
            call("f", 5),
        ],
        [
            failed("1", {"code": 2}),
            failed(5),
            failed(None),
            failed(1, {"code": 1}),
            7,
            {"id": 3, "result": 0},
        ],
    )
    assert batch is not None
    assert [each.error_code for each in batch.calls] == [1, 2, None, None, None, None]


def test_two_responses_with_one_id_belong_to_no_call() -> None:
    batch = parse([call("a", 1), call("b", 2)], [failed(1), {"id": 1, "result": 0}, failed(2)])
    assert batch is not None
    assert [each.error_code for each in batch.calls] == [None, -32601]


def test_one_response_to_a_batch_belongs_to_no_call() -> None:
    batch = parse([call("a", 1)], failed(1))
    assert batch is not None
    assert batch.calls[0].error_code is None


def test_of_a_cut_request_the_call_is_told_and_its_id_when_seen() -> None:
    members = {"jsonrpc": "2.0", "method": "add", "params": CutText("x")}
    assert parse(members, failed(7), whole=False) == JsonRpcBatch(
        [JsonRpcCall("add", None, "2.0", -32601, "Method not found")], 1
    )
    assert parse({**members, "id": 6}, failed(7), whole=False) == JsonRpcBatch(
        [JsonRpcCall("add", "6", "2.0")], 1
    )
    assert parse({"jsonrpc": "2.0", "method": CutText("ad")}, whole=False) is None
    assert parse({"method": "add", "params": [], "id": 1}, failed(), whole=False) is None


VERSION_1 = {"method": "getinfo", "params": [], "id": "x"}


@pytest.mark.parametrize(
    ("response", "code"),
    [
        ({"result": 5, "error": None, "id": "x"}, None),
        ({"result": None, "error": {"code": -8, "message": "bad"}, "id": "x"}, -8),
    ],
)
def test_version_1_is_known_by_its_response(response: dict[str, Any], code: int | None) -> None:
    batch = parse(VERSION_1, response)
    assert batch is not None
    (only,) = batch.calls
    assert (only.method, only.identity, only.version, only.error_code) == ("getinfo", "x", "1.0", code)


@pytest.mark.parametrize(
    ("request_", "response"),
    [
        (VERSION_1, NO_RESPONSE),
        (VERSION_1, [1]),
        (VERSION_1, {"result": 5, "id": "x"}),
        (VERSION_1, {"result": 5, "error": None, "id": "y"}),
        (VERSION_1, {"result": 5, "error": 6, "id": "x"}),
        ({**VERSION_1, "id": None}, {"result": 5, "error": None, "id": None}),
        ({**VERSION_1, "params": {}}, {"result": 5, "error": None, "id": "x"}),
        ({**VERSION_1, "method": ""}, {"result": 5, "error": None, "id": "x"}),
        ({**VERSION_1, "amount": 5}, {"result": 5, "error": None, "id": "x"}),
    ],
)
def test_what_only_resembles_version_1_is_no_request(request_: Any, response: Any) -> None:
    assert parse(request_, response) is None
