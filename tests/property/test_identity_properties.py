"""Who is who: numbers on a connection, notes that requests began, and the ids made of them."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.pipeline import Pipeline
from agent.processes import ProcessTable
from agent.stop import StopRequest
from ebpf.capture_formats import CaptureFormat, find_format
from ebpf.events import CaptureEvent, ClockSample, EventSource, Role, SocketEvent
from ebpf.input_stream import InputStream
from ebpf.layout import RecordDecoder
from ebpf.packets.capture import PacketCapture
from ebpf.recording import RecordedCapture, RecordingWriter
from otel_bridge.resources import ResourceBuilder
from otel_bridge.span import Span
from otel_bridge.spans.http import SpanOptions
from otel_bridge.spans.span_ids import CaptureIdGenerator
from parsers.http_exchange import HttpExchange
from parsers.limits import ParserLimits
from parsers.numbering import RequestBegan
from parsers.tracker import ConnectionTracker
from tests.builders import Conversation
from tests.property.capture_samples import KTIME_NS, kernel_records, samples
from tests.property.dialogues import drop
from tests.property.http2_dialogues import Spoken, conversations, cut
from tests.property.lossy_ring import deliver
from tests.property.talks import draw_talk
from tests.stand_ins import CollectingSink

CAPTURE_ID = bytes(range(16))
SMALL = ParserLimits(idle_ns=50_000_000, max_pending_messages=4, max_http2_streams=4, max_ended_streams=4)
"""Bounds that are met in a short conversation: connections and streams are given up and go on."""


def assert_numbered(events: list[SocketEvent], limits: ParserLimits) -> None:
    """Feed events; check numbers, ids and notes of what comes out, and that all come out again the same."""
    notes: list[RequestBegan] = []
    told: list[tuple[HttpExchange, int]] = []
    tracker = ConnectionTracker(limits, request_observer=notes.append)
    for event in events:
        told += [(each, len(notes)) for each in tracker.advance(event.ktime_ns)]
        told += [(each, len(notes)) for each in tracker.feed(event)]
    told += [(each, len(notes)) for each in tracker.flush()]
    assert tracker.last_bug is None, tracker.last_bug

    numbers = [(each.connection_id, each.ordinal) for each, _ in told]
    assert len(set(numbers)) == len(numbers)
    generate = CaptureIdGenerator(lambda: CAPTURE_ID).generate
    made = [generate(*number) for number in numbers]
    assert len({trace_id for trace_id, _ in made}) == len({span_id for _, span_id in made}) == len(numbers)

    places = Counter((note.connection_id, note.ordinal) for note in notes)
    assert all(count == 1 for count in places.values()), "each request is noted once"
    for each, known in told:
        note = RequestBegan(each.connection_id, each.ordinal, each.origin)
        if each.request is None:
            assert (each.connection_id, each.ordinal) not in places
        elif each.request.method is not None:
            assert note in notes[:known], "a request is noted before its exchange comes, with its origin"

    again = ConnectionTracker(limits)
    same: list[HttpExchange] = []
    for event in events:
        same += again.advance(event.ktime_ns)
        same += again.feed(event)
    same += again.flush()
    assert [(each.connection_id, each.ordinal) for each in same] == numbers


@pytest.mark.parametrize("limits", [ParserLimits(), SMALL], ids=["wide", "small"])
@given(seed=st.integers(0, 2**32))
@settings(max_examples=150)
def test_http1_with_losses(limits: ParserLimits, seed: int) -> None:
    chance = random.Random(seed)
    assert_numbered(deliver(draw_talk(chance), chance).events, limits)


@pytest.mark.parametrize("limits", [ParserLimits(), SMALL], ids=["wide", "small"])
@given(
    spoken=conversations,
    places=st.lists(st.integers(1, 10_000), max_size=8),
    dropped=st.sets(st.integers(0, 60), max_size=4),
    is_client=st.booleans(),
    pause_ns=st.sampled_from([0, 60_000_000]),
)
@settings(max_examples=60)
def test_http2_with_losses(
    limits: ParserLimits,
    spoken: Spoken,
    places: list[int],
    dropped: set[int],
    is_client: bool,  # noqa: FBT001 - drawn
    pause_ns: int,
) -> None:
    talk = Conversation(role=Role.CLIENT if is_client else Role.SERVER)
    for number, (from_client, data) in enumerate(cut(spoken.calls, places)):
        (talk.request if from_client else talk.response)(data)
        if number % 9 == 8:
            talk.wait(pause_ns)
    assert_numbered(drop(talk.events, dropped), limits)


def replay(content: bytes) -> list[Span]:
    """Return the spans of a recording or a packet capture."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        stream = InputStream.open(Path(file.name))
        source = (
            RecordedCapture(stream)
            if find_format(stream) is CaptureFormat.RECORDING
            else PacketCapture(stream)
        )
        return run(source)


def run(source: EventSource) -> list[Span]:
    sink = CollectingSink()
    Pipeline(
        source,
        ProcessTable(ResourceBuilder().build),
        ConnectionTracker(ParserLimits()),
        CaptureIdGenerator(lambda: source.capture_id),
        SpanOptions(),
        [sink],
    ).run(StopRequest())
    return sink.spans


def ids(spans: list[Span]) -> list[tuple[bytes, bytes]]:
    return [(span.trace_id, span.span_id) for span in spans]


@pytest.mark.parametrize("name", samples())
def test_a_replay_gives_the_same_ids_each_time_and_each_once(name: str) -> None:
    first, second = (ids(replay(samples()[name])) for _ in range(2))
    assert first == second
    assert len(set(first)) == len(first) > 0


def test_captures_that_begin_otherwise_have_other_ids() -> None:
    spans = {name: {span_id for _, span_id in ids(replay(samples()[name]))} for name in samples()}
    assert spans["recording"] == spans["recording, gzip"]
    assert spans["pcap"] == spans["pcap, gzip"]
    assert spans["recording"].isdisjoint(spans["pcap"])
    assert spans["pcap, fragments"].isdisjoint(spans["pcap"])


class Kernel:
    """The records of a kernel, as a live capture gives them."""

    exhausted = False
    capture_id = CAPTURE_ID

    def poll(self, timeout_seconds: float) -> list[CaptureEvent]:  # noqa: ARG002
        self.exhausted = True
        decoder = RecordDecoder()
        return [ClockSample(KTIME_NS, 2 * KTIME_NS), *(decoder.decode(record) for record in kernel_records())]

    def inspect(self, cookie: int, connection_id: int) -> list[SocketEvent]:  # noqa: ARG002
        return []

    def losses(self) -> dict[str, int]:
        return {}

    def observations(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        pass


def test_the_replay_of_a_recording_gives_the_ids_of_the_run(tmp_path: Path) -> None:
    live = run(Kernel())
    writer = RecordingWriter(tmp_path / "recording", version="1", capture_id=CAPTURE_ID)
    writer.append_records(kernel_records())
    writer.close({})
    replayed = replay((tmp_path / "recording").read_bytes())
    assert sorted(ids(replayed)) == sorted(ids(live))
    assert len(live) > 5
