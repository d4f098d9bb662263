from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import struct
import time
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ebpf.capture_formats import RECORDING_MAGIC as MAGIC
from ebpf.capture_formats import CaptureFormat, find_format
from ebpf.events import (
    CaptureEvent,
    ClockSample,
    Missing,
    Origin,
    ProcessExecuted,
    ProcessExited,
    ProcessFacts,
    ProcessForked,
    SocketEvent,
)
from ebpf.input_stream import InputError, InputStream
from ebpf.layout import FORK_RECORD, PROCESS_RECORD
from ebpf.recording import FORMAT_VERSION, RecordedCapture, RecordingWriter
from tests.unit.ebpf.test_layout import record, without_tid

FACTS = ProcessFacts(10, 321, 1_700_000_000_000_000_000, "/usr/bin/python3", ("python3", "app.py"), "shop")
CAPTURE_ID = bytes(range(16))
EXIT = PROCESS_RECORD.pack(6, 0, 321, 99, 0, 0)


def write(path: Path) -> None:
    writer = RecordingWriter(path, version="1.2.3", capture_id=CAPTURE_ID)
    writer.append_facts(FACTS)
    writer.append_records([record(b"a" * 100), record(b"b" * 8_192, connection_id=6), EXIT])
    writer.append_clock(ClockSample(5, 6))
    writer.close({"ring_full_bytes": 17})
    writer.close({"ring_full_bytes": 99})


def read(path: Path) -> tuple[RecordedCapture, list[CaptureEvent]]:
    stream = InputStream.open(path)
    source = RecordedCapture(stream)
    events: list[CaptureEvent] = []
    assert find_format(stream) is CaptureFormat.RECORDING
    while not source.exhausted:
        events += source.poll(0)
    source.close()
    return source, events


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "capture.wirespan"


def test_what_was_written_is_read_in_order(path: Path) -> None:
    before_unix_ns = time.time_ns()
    write(path)
    source, events = read(path)
    clock, facts, first, second, exited, later = events
    assert isinstance(clock, ClockSample)
    assert before_unix_ns <= clock.unix_ns <= time.time_ns()
    assert facts == FACTS
    assert isinstance(first, SocketEvent)
    assert isinstance(second, SocketEvent)
    assert (first.payload, second.payload) == (b"a" * 100, b"b" * 8_192)
    assert (exited, later) == (ProcessExited(99, 321), ClockSample(5, 6))
    assert source.losses() == {"ring_full_bytes": 17}
    assert source.preamble["wirespan"] == "1.2.3"
    assert source.capture_id == CAPTURE_ID
    assert (source.damage, source.is_cut) == (None, False)
    assert source.inspect(first.socket.cookie, first.connection_id) == []
    assert source.poll(0) == []


def test_kernel_addresses_are_blanked_and_nobody_else_may_read_it(path: Path) -> None:
    write(path)
    assert (0xFFFF_8880_1234_5678).to_bytes(8, "little") not in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_long_recording_is_read_in_pieces(path: Path) -> None:
    writer = RecordingWriter(path, version="1", capture_id=CAPTURE_ID)
    writer.append_records([EXIT] * 5_003)
    writer.close({})
    source = RecordedCapture(InputStream.open(path))
    sizes = []
    while not source.exhausted:
        sizes.append(len(source.poll(0)))
    source.close()
    assert sum(sizes) == 5_004
    assert max(sizes) == 1_024


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_a_recording_cut_anywhere_yields_what_is_whole_or_says_what_to_do(
    path: Path, data: st.DataObject
) -> None:
    write(path)
    whole = path.read_bytes()
    _, expected = read(path)
    end = data.draw(st.integers(min_value=0, max_value=len(whole)))
    path.write_bytes(whole[:end])
    try:
        source, events = read(path)
    except InputError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert re.search("ecord again|Name a file|is empty", refusal)
        assert end < len(whole)
        return
    assert events[1:] == expected[1 : len(events)]
    assert bool(source.losses()) == (end == len(whole))
    if source.damage is None:
        return
    assert source.is_cut
    said = re.fullmatch(r"is cut, at byte (\d+); its last (\d+) bytes are not read", source.damage)
    assert said is not None
    consumed, left = map(int, said.groups())
    assert consumed + left == end
    path.write_bytes(whole[:consumed])
    again, same = read(path)
    assert (again.damage, len(same)) == (None, len(events))


@given(position=st.integers(min_value=0), flip=st.integers(min_value=1, max_value=255))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_damage_never_raises_anything_else(path: Path, position: int, flip: int) -> None:
    write(path)
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= flip
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        read(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"no recording, say", "is neither a recording of wirespan nor a packet capture"),
        (MAGIC[:10], "cut at its beginning"),
        (MAGIC, "cut at its beginning"),
        (MAGIC + struct.pack("<BI", 1, 2) + b"{}", "cut at its beginning"),
        (MAGIC + struct.pack("<BI", 1, 2) + b"[]", "cut at its beginning"),
    ],
)
def test_a_foreign_file_is_refused(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(path)


def test_a_recording_of_the_first_format_is_read(path: Path) -> None:
    # as format 1 had them: three zeros behind the kind of a process record, and fewer facts
    executed = struct.pack("<B3xIQII", 5, 77, 1_000, 9, 5) + b"/bin/echo" + b"echo\0"
    facts = {**dataclasses.asdict(FACTS)}
    del facts["cgroups"], facts["workload"]
    frames = [
        (1, json.dumps({"format": 1, "wirespan": "0.1"}).encode()),
        (3, struct.pack("<QQ", 5, 6)),
        (4, json.dumps(facts).encode()),
        (2, executed),
        (2, struct.pack("<B3xIQII", 6, 77, 2_000, 0, 0)),
        (2, without_tid(record(), missing=3)),
    ]
    content = b"".join(struct.pack("<BI", kind, len(frame)) + frame for kind, frame in frames)
    path.write_bytes(MAGIC + content)
    source, events = read(path)
    assert events[:4] == [
        ClockSample(5, 6),
        FACTS,
        ProcessExecuted(1_000, 77, "/bin/echo", ("echo",)),
        ProcessExited(2_000, 77),
    ]
    assert isinstance(events[4], SocketEvent)
    assert (events[4].origin, events[4].missing) == (Origin(123_456, 321), Missing(3))
    assert (len(events), source.damage) == (5, None)
    assert len(source.capture_id) == 16


def test_the_id_of_a_capture_is_known_with_its_first_event(path: Path) -> None:
    write(path)
    source = RecordedCapture(InputStream.open(path))
    assert source.capture_id == b""
    assert source.poll(0)
    assert source.capture_id == CAPTURE_ID
    source.close()


def test_forks_cgroups_and_workloads_are_recorded(path: Path) -> None:
    workload = MappingProxyType({"k8s.pod.name": "shop-1", "container.id": "0123"})
    facts = dataclasses.replace(FACTS, cgroups=("/docker/0123", "/"), workload=workload)
    writer = RecordingWriter(path, version="1", capture_id=CAPTURE_ID)
    writer.append_facts(facts)
    writer.append_records([FORK_RECORD.pack(7, 322, 100, 321)])
    writer.close({})
    _, events = read(path)
    assert events[1:] == [facts, ProcessForked(100, 322, 321)]


def test_a_newer_format_names_the_version_that_made_it(path: Path) -> None:
    preamble = json.dumps({"format": FORMAT_VERSION + 1, "wirespan": "9.0"}).encode()
    path.write_bytes(MAGIC + struct.pack("<BI", 1, len(preamble)) + preamble)
    with pytest.raises(InputError, match=r"newer wirespan \(9.0.*Replay it with that version"):
        read(path)


def test_a_missing_file_is_refused(path: Path) -> None:
    with pytest.raises(InputError, match="can't be read: No such file"):
        RecordedCapture(InputStream.open(path))


def test_frames_of_a_later_compatible_version_are_passed_over(path: Path) -> None:
    write(path)
    content = path.read_bytes()
    path.write_bytes(content + struct.pack("<BI", 200, 3) + b"new")
    source, events = read(path)
    assert len(events) == 6
    assert source.observations() == {"frames_of_later_versions": 1}
