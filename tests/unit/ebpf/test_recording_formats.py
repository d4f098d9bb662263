"""Recordings that earlier versions made: one file of each format, with the exchanges that are in it."""

from __future__ import annotations

from pathlib import Path

from ebpf.events import CaptureEvent, SocketEvent
from ebpf.input_stream import InputStream
from ebpf.recording import RecordedCapture
from tests.builders import describe, run_events

RECORDINGS = Path(__file__).parents[2] / "corpus" / "recordings"


def read(name: str) -> tuple[RecordedCapture, list[CaptureEvent]]:
    source = RecordedCapture(InputStream.open(RECORDINGS / name))
    events: list[CaptureEvent] = []
    while not source.exhausted:
        events += source.poll(0)
    source.close()
    return source, events


def test_a_recording_of_format_2_gives_the_exchanges_that_it_always_gave() -> None:
    source, events = read("format2.wsr.gz")
    assert source.preamble["format"] == 2
    assert source.capture_id.hex() == "0f85a60e6e94f7bcedbf4a8ece3df527"
    assert source.damage is None
    moved = [event for event in events if isinstance(event, SocketEvent)]
    assert {(event.origin.tgid, event.origin.tid) for event in moved} == {(None, None), (26187, None)}
    expected = (RECORDINGS / "format2.txt").read_text().splitlines()
    assert [describe(exchange) for exchange in run_events(moved)] == expected
