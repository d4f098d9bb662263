from __future__ import annotations

import pytest

from otel_bridge.spans.trace_context import (
    MAX_TRACESTATE_LENGTH,
    MAX_TRACESTATE_MEMBERS,
    TraceContext,
    read_trace_context,
)

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
CONTEXT = TraceContext(bytes.fromhex(TRACE), bytes.fromhex(SPAN), 1, "")


@pytest.mark.parametrize(
    ("traceparent", "flags"),
    [
        (f"00-{TRACE}-{SPAN}-01", 1),
        (f"00-{TRACE}-{SPAN}-00", 0),
        (f"00-{TRACE}-{SPAN}-03", 3),
        (f"00-{TRACE}-{SPAN}-ff", 255),
        (f" 00-{TRACE}-{SPAN}-01\t", 1),
        (f"01-{TRACE}-{SPAN}-01", 1),
        (f"cc-{TRACE}-{SPAN}-01-what-comes-later", 1),
    ],
)
def test_a_valid_traceparent_is_the_parent(traceparent: str, flags: int) -> None:
    reading = read_trace_context({"traceparent": [traceparent]})
    assert reading.context == TraceContext(CONTEXT.trace_id, CONTEXT.span_id, flags, "")
    assert reading.malformed == 0


@pytest.mark.parametrize(
    "values",
    [
        [""],
        ["00"],
        [f"ff-{TRACE}-{SPAN}-01"],
        [f"00-{'0' * 32}-{SPAN}-01"],
        [f"00-{TRACE}-{'0' * 16}-01"],
        [f"00-{TRACE.upper()}-{SPAN}-01"],
        [f"00-{TRACE}-{SPAN}-01-more"],
        [f"00-{TRACE}-{SPAN}-1"],
        [f"00-{TRACE[:-1]}-{SPAN}-01"],
        [f"00-{TRACE}-{SPAN}-0x"],
        [f"01-{TRACE}-{SPAN}-01more"],
        [f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01"],
    ],
)
def test_a_malformed_or_repeated_traceparent_is_ignored_and_counted(values: list[str]) -> None:
    reading = read_trace_context({"traceparent": values, "tracestate": ["a=1"]})
    assert reading.context is None
    assert reading.malformed == 1


@pytest.mark.parametrize(
    ("values", "state"),
    [
        (["rojo=00f067aa0ba902b7"], "rojo=00f067aa0ba902b7"),
        (["a=1 , b=2,,", "c=3"], "a=1,b=2,c=3"),
        (["1tenant@vendor=x"], "1tenant@vendor=x"),
        ([""], ""),
        ([",".join(f"k{number}=v" for number in range(MAX_TRACESTATE_MEMBERS))],) * 2,
    ],
)
def test_tracestate_is_kept_as_one_list(values: list[str], state: str | list[str]) -> None:
    reading = read_trace_context({"traceparent": [f"00-{TRACE}-{SPAN}-01"], "tracestate": values})
    assert reading.context is not None
    assert reading.context.state == (state if isinstance(state, str) else state[0])
    assert reading.malformed == 0


@pytest.mark.parametrize(
    "state",
    [
        "novalue",
        "A=1",
        "a=1,a=2",
        "a=",
        "a=x=y",
        "k" * 257 + "=v",
        "k=" + "v" * 257,
        ",".join(f"k{number}=v" for number in range(MAX_TRACESTATE_MEMBERS + 1)),
        ",".join(f"k{number}={'v' * 250}" for number in range(32)) + " " * MAX_TRACESTATE_LENGTH,
    ],
)
def test_a_malformed_tracestate_costs_only_itself(state: str) -> None:
    reading = read_trace_context({"traceparent": [f"00-{TRACE}-{SPAN}-01"], "tracestate": [state]})
    assert reading.context == CONTEXT
    assert reading.malformed == 1


@pytest.mark.parametrize(
    ("b3", "trace", "flags"),
    [
        (f"{TRACE}-{SPAN}-1", TRACE, 1),
        (f"{TRACE}-{SPAN}-1-{SPAN}", TRACE, 1),
        (f"{TRACE}-{SPAN}-d", TRACE, 1),
        (f"{TRACE}-{SPAN}-0", TRACE, 0),
        (f"{TRACE}-{SPAN}", TRACE, 1),
        (f"{TRACE[:16]}-{SPAN}-1", "0" * 16 + TRACE[:16], 1),
        (f"{TRACE.upper()}-{SPAN}-1", TRACE, 1),
    ],
)
def test_a_single_b3_header_is_the_parent(b3: str, trace: str, flags: int) -> None:
    reading = read_trace_context({"b3": [b3]})
    assert reading.context == TraceContext(bytes.fromhex(trace), CONTEXT.span_id, flags, "")
    assert reading.malformed == 0


@pytest.mark.parametrize("b3", ["0", "1", "d"])
def test_a_b3_header_with_a_decision_alone_names_no_parent(b3: str) -> None:
    assert read_trace_context({"b3": [b3]}) == read_trace_context({})


@pytest.mark.parametrize(
    "b3",
    ["", "x", f"{TRACE}-{SPAN}-2", f"{'0' * 32}-{SPAN}-1", f"{TRACE}-{'0' * 16}", f"{TRACE[:20]}-{SPAN}"],
)
def test_a_malformed_b3_header_is_ignored_and_counted(b3: str) -> None:
    assert read_trace_context({"b3": [b3]}).context is None
    assert read_trace_context({"b3": [b3]}).malformed == 1


@pytest.mark.parametrize(
    ("more", "flags"),
    [
        ({}, 1),
        ({"x-b3-sampled": ["1"]}, 1),
        ({"x-b3-sampled": ["true"]}, 1),
        ({"x-b3-sampled": ["0"]}, 0),
        ({"x-b3-sampled": ["0"], "x-b3-flags": ["1"]}, 1),
    ],
)
def test_several_b3_headers_are_the_parent(more: dict[str, list[str]], flags: int) -> None:
    reading = read_trace_context({"x-b3-traceid": [TRACE], "x-b3-spanid": [SPAN], **more})
    assert reading.context == TraceContext(CONTEXT.trace_id, CONTEXT.span_id, flags, "")


@pytest.mark.parametrize(
    "headers",
    [
        {"x-b3-traceid": [TRACE]},
        {"x-b3-traceid": [TRACE, TRACE], "x-b3-spanid": [SPAN]},
        {"x-b3-traceid": ["xyz"], "x-b3-spanid": [SPAN]},
        {"x-b3-traceid": [TRACE], "x-b3-spanid": ["1"]},
        {"b3": [f"{TRACE}-{SPAN}", f"{TRACE}-{SPAN}"]},
    ],
)
def test_malformed_b3_headers_are_ignored_and_counted(headers: dict[str, list[str]]) -> None:
    assert read_trace_context(headers).context is None
    assert read_trace_context(headers).malformed == 1


def test_traceparent_wins_over_b3_and_b3_stands_in_for_a_malformed_one() -> None:
    b3 = {"b3": [f"{'1' * 32}-{'2' * 16}-1"]}
    assert read_trace_context({"traceparent": [f"00-{TRACE}-{SPAN}-01"], **b3}).context == CONTEXT
    reading = read_trace_context({"traceparent": ["garbage"], **b3})
    assert reading.context == TraceContext(b"\x11" * 16, b"\x22" * 8, 1, "")
    assert reading.malformed == 1
