from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.event_stream import ServerSentEvent, read_events


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["data: a", ""], [("message", "a")]),
        (["data:a", ""], [("message", "a")]),
        (["data:  a", ""], [("message", " a")]),
        (["data: {", 'data: "a": 1', "data: }", ""], [("message", '{\n"a": 1\n}')]),
        (["event: next", "data: a", "", "data: b", ""], [("next", "a"), ("message", "b")]),
        (["data: a", "event: next", "id: 7", "retry: 3", ": note", ""], [("next", "a")]),
        (["event: a", "event: b", "data: x", ""], [("b", "x")]),
        ([": comment", "", "", "data", ""], [("message", "")]),
        (["id: 7", "data:", ""], [("message", "")]),
        (["event: next", "", "data: a", ""], [("message", "a")]),
        (["other: x", "dat: x", "Data: x", "data : x", ""], []),
        (["data: a\u2028b\x0bc\x85d", ""], [("message", "a\u2028b\x0bc\x85d")]),
        (["\ufeffdata: a", ""], [("message", "a")]),
        (["", "data: a", ""], [("message", "a")]),
    ],
)
def test_events_are_read(line_end: str, lines: list[str], expected: list[tuple[str, str]]) -> None:
    text = line_end.join([*lines, ""])
    assert read_events(text) == ([ServerSentEvent(*event) for event in expected], True)


@pytest.mark.parametrize("rest", ["data: b\n", "data: b", "d", "id: 7\n", "\ufeffdata: b"])
def test_an_event_that_nothing_ends_is_left_out(rest: str) -> None:
    assert read_events("data: a\n\n" + rest) == ([ServerSentEvent("message", "a")], False)


def test_nothing_has_no_events() -> None:
    assert read_events("") == ([], True)


lines = st.lists(
    st.sampled_from(["data: a", "data:", "data: {", "event: next", "event:", ": x", "id: 1", "", "", "x"]),
    max_size=12,
)


@given(lines, st.lists(st.sampled_from(["\n", "\r\n", "\r"]), min_size=1))
def test_any_line_ends_give_the_same(given_lines: list[str], line_ends: list[str]) -> None:
    mixed = "".join(line + line_ends[place % len(line_ends)] for place, line in enumerate(given_lines))
    # A lone CR before an empty line that LF ends would be one line end.
    if "\r\n" in mixed and "\r" in line_ends and "\n" in line_ends:
        return
    plain = "".join(line + "\n" for line in given_lines)
    assert read_events(mixed) == read_events(plain)


@given(lines, st.integers(0, 200))
def test_a_beginning_has_the_first_events(given_lines: list[str], cut: int) -> None:
    text = "".join(line + "\r\n" for line in given_lines)
    events, _ = read_events(text)
    beginning, _ = read_events(text[:cut])
    assert beginning == events[: len(beginning)]


@given(st.text(max_size=60) | st.text("data:ev \r\n\ufeff", max_size=60))
def test_any_text_is_read(text: str) -> None:
    read_events(text)
