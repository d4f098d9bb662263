"""Recordings: the kernel side's records in a file, and that file as a source of events.

Owns the file format; what a value in it may be is `recorded_values`. Reading one needs neither root nor bcc,
so that a capture made on one host can be replayed, tested and profiled on any other. It must not interpret a
record; `layout` does.

Format: the magic, then frames: one byte of type, four of length (little-endian), the content. The first frame
is a JSON preamble, which holds the capture's id, the second a clock sample, the last one the loss counters.
Kernel records stay as they are, except that kernel addresses are blanked: a recording is made to be handed
on.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import IntEnum
from pathlib import Path

from ebpf.capture_formats import RECORDING_MAGIC
from ebpf.capture_ids import derive_capture_id
from ebpf.clocks import read_clocks
from ebpf.events import CaptureEvent, ClockSample, ProcessFacts, SocketEvent
from ebpf.input_stream import InputError, InputStream, StreamedItems
from ebpf.layout import COOKIE_SLICE, LayoutError, RecordDecoder, add_tid, is_socket_record
from ebpf.recorded_values import (
    DamagedValueError,
    check_event,
    read_capture_id,
    read_clock,
    read_facts,
    read_losses,
    read_preamble,
)

FORMAT_VERSION = 3
"""Raised when an older reader would misread what is written; readers refuse newer versions.

Formats 1 and 2 are read as well: their preamble holds no id of the capture, and their socket records name no
thread (`layout.add_tid`). Format 1 has no records of forks, and zeros where an exec record has the length of
its cgroups."""

_FIRST_FORMAT_WITH_ORIGINS = 3
"""From this one on it holds the id of its capture, and the threads in its records."""
MAX_FRAME_BYTES = 1 << 20
"""Far above any record (8.3 KB) or process description; a larger length is damage, not data."""

_FRAME = struct.Struct("<BI")
_CLOCK = struct.Struct("<QQ")
"""ktime_ns, unix_ns."""
_RECORD_AGAIN = "Record again, or copy it again if it is whole where it was made."
_BLANK_COOKIE = bytes(COOKIE_SLICE.stop - COOKIE_SLICE.start)
_EVENTS_PER_POLL = 1024
"""Events returned at once, so that a replay's memory does not grow with its file."""


class _FrameType(IntEnum):
    PREAMBLE = 1
    RECORD = 2
    CLOCK = 3
    FACTS = 4
    LOSSES = 5


def _frame(frame_type: _FrameType, content: bytes) -> bytes:
    return _FRAME.pack(frame_type, len(content)) + content


class RecordingWriter:
    """Writes one recording. The file exists with its preamble and clock sample once this returns.

    Raises OSError when the file can't be written. What is written is on disk only after `close`.
    """

    def __init__(self, path: Path, *, version: str, capture_id: bytes) -> None:
        clock = read_clocks()
        # a recording holds credentials of the captured programs: only its owner may read it
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        os.fchmod(descriptor, 0o600)  # an older file of that name may have been open to others
        self._file = os.fdopen(descriptor, "wb", buffering=1 << 18)
        preamble = {
            "format": FORMAT_VERSION,
            "wirespan": version,
            "host": platform.node(),
            "kernel": platform.release(),
            "machine": platform.machine(),
            "start_unix_ns": clock.unix_ns,
            "capture": capture_id.hex(),
        }
        self._file.write(RECORDING_MAGIC + _frame(_FrameType.PREAMBLE, json.dumps(preamble).encode()))
        self.append_clock(clock)
        self._file.flush()

    def append_records(self, records: Iterable[bytes]) -> None:
        """Append kernel records, as `LiveCapture.poll_raw` returns them."""
        write = self._file.write
        for record in records:
            content = record
            if is_socket_record(record):
                content = record[: COOKIE_SLICE.start] + _BLANK_COOKIE + record[COOKIE_SLICE.stop :]
            write(_FRAME.pack(_FrameType.RECORD, len(content)) + content)

    def append_clock(self, clock: ClockSample) -> None:
        """Append a reading of both clocks; every ten seconds or so is enough."""
        self._file.write(_frame(_FrameType.CLOCK, _CLOCK.pack(clock.ktime_ns, clock.unix_ns)))

    def append_facts(self, facts: ProcessFacts) -> None:
        """Append what /proc said of a process; it should precede the process's first record."""
        # not by asdict, which copies a mapping as what it is, whether JSON has it or not
        content = {field.name: getattr(facts, field.name) for field in dataclasses.fields(facts)}
        if facts.workload is not None:
            content["workload"] = dict(facts.workload)
        self._file.write(_frame(_FrameType.FACTS, json.dumps(content).encode()))

    def close(self, losses: Mapping[str, int]) -> None:
        """Append the final loss counters and finish the file. Idempotent."""
        if not self._file.closed:
            self._file.write(_frame(_FrameType.LOSSES, json.dumps(dict(losses)).encode()))
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()


def _require_clock(event: CaptureEvent) -> None:
    if not isinstance(event, ClockSample):
        raise _DamageError("is damaged: its first event is no reading of the clocks")


class _DamageError(Exception):
    """What comes next can't be read; the message completes "the file ...". Never leaves this module."""


class RecordedCapture:
    """A recording as an `EventSource`.

    `poll` raises InputError when it is newer than this version, or damaged before its first event. One that
    is cut, by a full disk or a killed recorder, or damaged further on, is read as far as it goes; then
    `damage` says what is wrong.
    """

    def __init__(self, stream: InputStream, *, is_stopped: Callable[[], bool] = lambda: False) -> None:
        """Begin to read a stream that `capture_formats.find_format` calls a recording.

        Once `is_stopped` says so, it delivers what is there and ends.
        """
        self.preamble: Mapping[str, str | int] = {}
        """Host, kernel, machine, version of wirespan and start; {} before the first event."""
        self.capture_id = b""
        """As the recording has it; of formats 1 and 2 by their preamble and first reading of the clocks."""
        self.damage: str | None = None
        """What is wrong with the recording, as the rest of a sentence; None as far as it is whole."""
        self.is_cut = False
        """Whether the damage is that it ended too early, and no more."""
        self._stream = stream
        self._whole = 0
        """Up to where everything was read."""
        self._frames = 0
        self._losses: dict[str, int] = {}
        self._passed_over = 0
        self._decoder = RecordDecoder()
        self._preamble_content = b""
        self._names_threads = True
        """Whether the records are in today's layout."""
        self._events: StreamedItems[CaptureEvent] = StreamedItems(stream, self._read_events(), is_stopped)
        self._exhausted = False

    @property
    def exhausted(self) -> bool:
        """Whether the end was reached."""
        return self._exhausted

    def poll(self, timeout_seconds: float) -> list[CaptureEvent]:
        """Return the next events, [] at the end.

        Waits, where a pipe is quiet, up to `timeout_seconds` for the first.
        """
        events: list[CaptureEvent] = []
        if self._exhausted:
            return events
        for event in self._events.at_hand(timeout_seconds):
            events.append(event)
            if len(events) >= _EVENTS_PER_POLL:
                break
        self._exhausted = self._events.exhausted
        return events

    def inspect(self, cookie: int, connection_id: int) -> list[SocketEvent]:  # noqa: ARG002  # nothing is live
        """Return []: all that a recording holds is in its events."""
        return []

    def losses(self) -> dict[str, int]:
        """Return the loss counters of the capture that was recorded.

        {} until the end was read, and when the file was cut before it.
        """
        return self._losses

    def observations(self) -> dict[str, int]:
        """Return how many frames are of a later version of the format, and were passed over."""
        return {"frames_of_later_versions": self._passed_over}

    def close(self) -> None:
        """Release the input. Idempotent."""
        self._exhausted = True
        self._events.close()

    def _read_events(self) -> Iterator[CaptureEvent | None]:
        """Yield the events, None where the next one has not come yet."""
        try:
            has_clock = False
            for frame in self._read_frames():
                if frame is None:
                    yield None
                    continue
                event = self._decode(*frame)
                if event is not None:
                    if not has_clock:
                        _require_clock(event)
                        has_clock = True
                    yield event
                self._frames += 1
                self._whole = self._stream.position
            if not has_clock:
                raise self._end_too_early()
        except _DamageError as error:
            if not self._frames:
                raise InputError(
                    f"{self._stream.name} is damaged or was cut at its beginning. {_RECORD_AGAIN}"
                ) from None
            if not has_clock:
                raise InputError(
                    f"{self._stream.name} is damaged or was cut before its first event. {_RECORD_AGAIN}"
                ) from None
            self.damage = f"{error}, {self._stream.describe_rest(self._whole)}"

    def _decode(self, frame_type: int, content: bytes) -> CaptureEvent | None:
        """Return the event of a frame, None for one that is not an event."""
        try:
            if frame_type == _FrameType.RECORD:
                event = self._decoder.decode(content if self._names_threads else add_tid(content))
                check_event(event)
                return event
            if frame_type == _FrameType.CLOCK:
                clock = read_clock(*_CLOCK.unpack(content))
                self.capture_id = self.capture_id or derive_capture_id(self._preamble_content, content)
                return clock
            if frame_type == _FrameType.FACTS:
                return read_facts(content)
            if frame_type == _FrameType.LOSSES:
                self._losses = read_losses(content)
            elif frame_type == _FrameType.PREAMBLE:
                self._take_preamble(content)
            else:
                self._passed_over += 1  # of a later, compatible version
        except (LayoutError, DamagedValueError) as error:
            raise _DamageError(f"is damaged: {error}") from None
        except struct.error:
            raise _DamageError("is damaged: a reading of the clocks has another length") from None
        return None

    def _take_preamble(self, content: bytes) -> None:
        if self._frames:
            raise _DamageError("is damaged: it begins anew")
        preamble = read_preamble(content)
        version = preamble["format"]
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise InputError(
                f"{self._stream.name} was made by a newer wirespan ({preamble.get('wirespan')}, format "
                f"{version}). Replay it with that version."
            )
        self._names_threads = isinstance(version, int) and version >= _FIRST_FORMAT_WITH_ORIGINS
        if self._names_threads:
            self.capture_id = read_capture_id(preamble)
        self._preamble_content = content
        self.preamble = preamble

    def _read_frames(self) -> Iterator[tuple[int, bytes] | None]:
        """Yield type and content of each frame, None where the next one has not come yet."""
        stream = self._stream
        yield from stream.await_bytes(len(RECORDING_MAGIC))
        if not stream.holds(len(RECORDING_MAGIC)):
            raise self._end_too_early()
        stream.take(len(RECORDING_MAGIC))
        self._whole = stream.position
        size = _FRAME.size
        while True:
            if not stream.holds(size) and not (yield from stream.await_bytes(size)):
                if stream.held or stream.problem:
                    raise self._end_too_early()
                return
            frame_type, length = _FRAME.unpack(stream.take(size))
            if not frame_type or length > MAX_FRAME_BYTES:
                raise _DamageError(f"is damaged: it claims a frame of type {frame_type} and {length} bytes")
            if not self._frames and frame_type != _FrameType.PREAMBLE:
                raise _DamageError("is damaged: it has no preamble")
            if not stream.holds(length) and not (yield from stream.await_bytes(length)):
                raise self._end_too_early()
            yield frame_type, stream.take(length)

    def _end_too_early(self) -> _DamageError:
        problem = self._stream.problem
        self.is_cut = problem is None or self._stream.is_cut
        return _DamageError(problem or "is cut")
