from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpf import recorded_values
from ebpf.events import CaptureEvent, ClockSample, ProcessExited, ProcessFacts
from ebpf.layout import RecordDecoder
from ebpf.recorded_values import (
    LATEST_KTIME_NS,
    LATEST_POSITION,
    LATEST_UNIX_NS,
    MAX_TGID,
    DamagedValueError,
    check_event,
    read_capture_id,
    read_clock,
    read_facts,
    read_losses,
    read_preamble,
)
from tests.unit.ebpf.test_layout import record

FACTS: dict[str, Any] = {
    "ktime_ns": 10,
    "tgid": 321,
    "start_unix_ns": 1_700_000_000_000_000_000,
    "executable_path": "/usr/bin/python3",
    "command_line": ["python3", "app.py"],
    "service_name": "shop",
    "cgroups": ["/"],
    "workload": {"k8s.pod.name": "shop-1"},
}
numbers = st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**61, 2**62, 2**63 - 1, 2**63, 2**64 - 1])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def event(**fields: int) -> CaptureEvent:
    return RecordDecoder().decode(record(b"x" * 10, **fields))


@given(numbers, numbers, numbers)
def test_a_time_that_passes_is_one_that_a_span_can_state(ktime_ns: int, unix_ns: int, other: int) -> None:
    try:
        sample = read_clock(ktime_ns, unix_ns)
        check_event(ProcessExited(other, 1))
    except DamagedValueError:
        return
    assert 0 <= other + sample.unix_ns - sample.ktime_ns < 2**63
    assert abs(sample.unix_ns - unix_ns) <= recorded_values.READING_NS


def test_a_clock_that_knows_no_time_begins_at_the_epoch() -> None:
    assert read_clock(5_000, 4_000) == ClockSample(5_000, 5_000)
    assert read_clock(5, 2_000_000) == ClockSample(5, 2_000_000)
    with pytest.raises(DamagedValueError, match="a reading of the clocks says 2000001 and 1"):
        read_clock(2_000_001, 1)


def test_the_largest_values_pass() -> None:
    read_clock(LATEST_KTIME_NS - 1, LATEST_UNIX_NS - 1)
    check_event(
        event(ktime_ns=LATEST_KTIME_NS - 1, position=LATEST_POSITION - 10, tgid=MAX_TGID, tid=MAX_TGID)
    )
    check_event(event(kind=2, length=0))  # the path of a Unix socket is none of its stream


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"ktime_ns": LATEST_KTIME_NS}, "a record has the time"),
        ({"ktime_ns": 2**64 - 1}, "a record has the time"),
        ({"position": LATEST_POSITION}, "a record has the position"),
        ({"position": 2**64 - 1}, "a record has the position"),
        ({"length": 9}, "a record holds 10 of 9 bytes"),
        ({"kind": 3, "length": 0}, "a record holds 10 of 0 bytes"),
        ({"tgid": MAX_TGID + 1}, "a record is of the process"),
        ({"tgid": 2**32 - 1}, "a record is of the process"),
        ({"tid": MAX_TGID + 1}, "a record is of the thread"),
        ({"tid": 2**32 - 1}, "a record is of the thread"),
    ],
)
def test_a_record_with_a_value_out_of_range_is_damaged(fields: dict[str, int], said: str) -> None:
    with pytest.raises(DamagedValueError, match=said):
        check_event(event(**fields))


def test_a_record_holds_no_more_than_the_kernel_copies() -> None:
    with pytest.raises(DamagedValueError, match="a record holds 8193 bytes"):
        check_event(RecordDecoder().decode(record(bytes(8_193))))


def test_facts_are_read_as_they_were_written() -> None:
    assert read_facts(json.dumps(FACTS).encode()) == ProcessFacts(
        10,
        321,
        1_700_000_000_000_000_000,
        "/usr/bin/python3",
        ("python3", "app.py"),
        "shop",
        ("/",),
        {"k8s.pod.name": "shop-1"},
    )
    unknown = FACTS | {"start_unix_ns": None, "executable_path": None, "service_name": None, "workload": None}
    facts = read_facts(json.dumps(unknown).encode())
    assert (facts.start_unix_ns, facts.executable_path, facts.service_name, facts.workload) == (None,) * 4
    # Bytes of a command line that are no text come as surrogates.
    surrogates = read_facts(json.dumps(FACTS | {"command_line": ["\udcff"]}).encode())
    assert surrogates.command_line == ("\udcff",)


@pytest.mark.parametrize(
    "change",
    [
        {"ktime_ns": -1},
        {"ktime_ns": LATEST_KTIME_NS},
        {"ktime_ns": "10"},
        {"ktime_ns": 10.0},
        {"ktime_ns": True},
        {"ktime_ns": None},
        {"tgid": MAX_TGID + 1},
        {"tgid": []},
        {"start_unix_ns": 2**63},
        {"start_unix_ns": -1},
        {"executable_path": 7},
        {"command_line": "python3"},
        {"command_line": [7]},
        {"command_line": None},
        {"service_name": ["shop"]},
        {"cgroups": {"/": 1}},
        {"cgroups": [None]},
        {"workload": []},
        {"workload": {"name": 1}},
        {"workload": {"name": "\ud800"}},
        {"workload": {"\ud800": "x"}},
    ],
)
def test_facts_of_another_type_are_damaged(change: dict[str, object]) -> None:
    with pytest.raises(DamagedValueError, match="the facts of a process hold an invalid value"):
        read_facts(json.dumps(FACTS | change).encode())


@pytest.mark.parametrize("missing", sorted(set(FACTS) - {"cgroups", "workload"}))
def test_facts_without_one_of_them_are_damaged(missing: str) -> None:
    with pytest.raises(DamagedValueError):
        read_facts(json.dumps({name: value for name, value in FACTS.items() if name != missing}).encode())


@pytest.mark.parametrize("read", [read_facts, read_losses, read_preamble])
@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b"7", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b"1" * 10_000],
)
def test_what_is_no_object_of_json_is_damaged(read: Any, content: bytes) -> None:
    with pytest.raises(DamagedValueError):
        read(content)


@pytest.mark.parametrize("amount", ["1", 1.5, -1, 2**63, None, True, float("inf"), float("nan"), []])
def test_losses_are_counts(amount: object) -> None:
    assert read_losses(b'{"ring_full_bytes": 17}') == {"ring_full_bytes": 17}
    with pytest.raises(DamagedValueError, match="the counters of losses hold an invalid value"):
        read_losses(json.dumps({"ring_full_bytes": amount}).encode())
    with pytest.raises(DamagedValueError):
        read_losses(json.dumps({"\x1b[31m": 1}).encode())


@pytest.mark.parametrize("version", [0, -1, 1.5, "2", None, True, float("inf"), 2**63])
def test_a_format_is_a_number(version: object) -> None:
    with pytest.raises(DamagedValueError, match="the preamble holds an invalid value"):
        read_preamble(json.dumps({"format": version}).encode())


def test_the_version_that_made_a_recording_can_be_shown() -> None:
    assert read_preamble(b'{"format": 1}') == {"format": 1}
    assert (
        len(str(read_preamble(json.dumps({"format": 3, "wirespan": "9" * 500}).encode())["wirespan"])) == 64
    )
    for hostile in ("\x1b]0;title\x07", "\ud800", "a\nb", 7):
        with pytest.raises(DamagedValueError):
            read_preamble(json.dumps({"format": 3, "wirespan": hostile}).encode())


@given(st.sampled_from(sorted(FACTS)), values)
def test_facts_with_any_value_are_read_or_damaged(name: str, value: object) -> None:
    content = json.dumps(FACTS | {name: value}).encode()
    try:
        facts = read_facts(content)
    except DamagedValueError:
        return
    assert {field.name for field in dataclasses.fields(facts)} == set(FACTS)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_damaged(content: bytes) -> None:
    for read in (read_facts, read_losses, read_preamble):
        with pytest.raises(DamagedValueError):
            read(b"\x00" + content)


def test_the_id_of_a_capture_has_16_bytes() -> None:
    assert read_capture_id({"format": 3, "capture": "0f" * 16}) == b"\x0f" * 16
    for damaged in ({}, *({"capture": value} for value in ("", "0f" * 15, "0f" * 17, "0g" * 16, 7, None))):
        with pytest.raises(DamagedValueError, match="the preamble holds no id of the capture"):
            read_capture_id(damaged)  # type: ignore[arg-type]  # what a file may hold
