"""Recordings: the kernel side's records in a file, and that file as a source of events.

Owns the file format. Reading one needs neither root nor bcc, so that a capture made on one host can be
replayed, tested and profiled on any other. It must not interpret a record; `layout` does.

Format: the magic, then frames: one byte of type, four of length (little-endian), the content. The first frame
is a JSON preamble, the second a clock sample, the last one the loss counters. Kernel records stay as they
are, except that kernel addresses are blanked: a recording is made to be handed on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import struct
from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO

from ebpf.clocks import read_clocks
from ebpf.events import CaptureEvent, ClockSample, ProcessFacts, SocketEvent
from ebpf.layout import COOKIE_SLICE, LayoutError, RecordDecoder, is_socket_record

MAGIC = b"wirespan recording\n"
FORMAT_VERSION = 2
"""Raised when an older reader would misread what is written; readers refuse newer versions.

Format 1 is read as well: it has no records of forks, and zeros where an exec record has the length of its
cgroups."""
MAX_FRAME_BYTES = 1 << 20
"""Far above any record (8.3 KB) or process description; a larger length is damage, not data."""

_FRAME = struct.Struct("<BI")
_CLOCK = struct.Struct("<QQ")
_BLANK_COOKIE = bytes(COOKIE_SLICE.stop - COOKIE_SLICE.start)
_EVENTS_PER_POLL = 1024
"""Events returned at once, so that a replay's memory does not grow with its file."""


class RecordingError(Exception):
    """The file is no recording that this version reads; the message says what to do."""


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

    def __init__(self, path: Path, *, version: str) -> None:
        clock = read_clocks()
        # a recording holds credentials of whoever was captured: nobody else may read it
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
        }
        self._file.write(MAGIC + _frame(_FrameType.PREAMBLE, json.dumps(preamble).encode()))
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
        # not by asdict, which copies a mapping as what it is, whether JSON knows it or not
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


class RecordedCapture:
    """A recording as an `EventSource`.

    Raises RecordingError when the file is missing, foreign, newer than this version, or damaged before its
    first event. A tail that was cut, by a full disk or a killed recorder, is not an error: what is whole is
    read, and `cut_bytes` says how much is not.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file: BinaryIO = path.open("rb")
        except OSError as error:
            raise RecordingError(
                f"{path} can't be read: {error.strerror}. Name a file made by `wirespan record`."
            ) from error
        self.cut_bytes = 0
        """Bytes at the end that form no whole frame, or stand behind one that is damaged."""
        self._losses: dict[str, int] = {}
        self._decoder = RecordDecoder()
        self._exhausted = False
        with contextlib.ExitStack() as undo:
            undo.callback(self._file.close)
            self.preamble = self._read_preamble()
            """Host, kernel, machine, version of wirespan and start of the recording."""
            self._events = self._read_events()
            self._pending = next(self._events, None)
            if not isinstance(self._pending, ClockSample):
                raise RecordingError(f"{path} is damaged or was cut before its first event. Record again.")
            undo.pop_all()

    def _read_frame(self) -> tuple[int, bytes] | None:
        start = self._file.tell()
        header = self._file.read(_FRAME.size)
        if not header:
            return None
        if len(header) == _FRAME.size:
            frame_type, length = _FRAME.unpack(header)
            if frame_type and length <= MAX_FRAME_BYTES:
                content = self._file.read(length)
                if len(content) == length:
                    return frame_type, content
        self._note_cut(start)
        return None

    def _note_cut(self, start: int) -> None:
        self.cut_bytes = self._file.seek(0, os.SEEK_END) - start

    def _read_preamble(self) -> dict[str, str | int]:
        if self._file.read(len(MAGIC)) != MAGIC:
            raise RecordingError(
                f"{self._path} is no recording of wirespan, nor a packet capture (pcap, pcapng). "
                "Name a file made by `wirespan record` or tcpdump."
            )
        frame = self._read_frame()
        try:
            preamble: dict[str, str | int] = json.loads(frame[1] if frame else b"")
            version = int(preamble["format"])
        except (ValueError, KeyError, TypeError) as error:
            raise RecordingError(
                f"{self._path} is damaged or was cut at its beginning. Record again."
            ) from error
        if version > FORMAT_VERSION:
            raise RecordingError(
                f"{self._path} was made by a newer wirespan ({preamble.get('wirespan')}, format {version}). "
                "Replay it with that version."
            )
        return preamble

    def _read_events(self) -> Iterator[CaptureEvent]:
        start = self._file.tell()
        while (frame := self._read_frame()) is not None:
            frame_type, content = frame
            try:
                if frame_type == _FrameType.RECORD:
                    yield self._decoder.decode(content)
                elif frame_type == _FrameType.CLOCK:
                    yield ClockSample(*_CLOCK.unpack(content))
                elif frame_type == _FrameType.FACTS:
                    facts = json.loads(content)
                    facts["command_line"] = tuple(facts["command_line"])
                    facts["cgroups"] = tuple(facts.get("cgroups", ()))
                    yield ProcessFacts(**facts)
                elif frame_type == _FrameType.LOSSES:
                    self._losses = {str(cause): int(amount) for cause, amount in json.loads(content).items()}
                # frames of other types are of a later, compatible version
            except (LayoutError, ValueError, KeyError, TypeError, AttributeError, struct.error):
                self._note_cut(start)
                return
            start = self._file.tell()

    @property
    def damage(self) -> str | None:
        """What is wrong with the file, as the rest of a sentence; None as far as it is whole."""
        return f"is cut: its last {self.cut_bytes} bytes hold no whole record" if self.cut_bytes else None

    @property
    def exhausted(self) -> bool:
        """Whether the file's end was reached."""
        return self._exhausted

    def poll(self, timeout_seconds: float) -> list[CaptureEvent]:  # noqa: ARG002  # a file lets nobody wait
        """Return the next events, [] at the end."""
        events: list[CaptureEvent] = []
        if self._pending is not None:
            events.append(self._pending)
            self._pending = None
        if not self._file.closed:
            for event in self._events:
                events.append(event)
                if len(events) >= _EVENTS_PER_POLL:
                    return events
        self._exhausted = True
        return events

    def inspect(self, cookie: int, connection_id: int) -> list[SocketEvent]:  # noqa: ARG002  # nothing is live
        """Return []: what a recording knows, its events say."""
        return []

    def losses(self) -> dict[str, int]:
        """Return the loss counters of the capture that was recorded.

        {} until the end was read, and when the file was cut before it.
        """
        return self._losses

    def observations(self) -> dict[str, int]:
        """Return {}: a recording holds what was captured and what was lost."""
        return {}

    def close(self) -> None:
        """Release the file. Idempotent."""
        self._file.close()
