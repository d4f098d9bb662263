"""What a value in a recording may be.

Owns the ranges and types of everything that is read from a recording, since a file may come from anywhere.
It must not know frames (`recording`) or the layout of a record (`layout`).

Contract: what passes here is what a live capture could have said, so that no later stage checks again: times
that a span can state, positions that can be counted, text that can be encoded. Everything else raises
DamagedValueError, and nothing else does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ebpf.capture_ids import CAPTURE_ID_BYTES
from ebpf.events import (
    CaptureEvent,
    ClockSample,
    EventKind,
    ProcessFacts,
    SocketEvent,
)
from ebpf.layout import CHUNK_BYTES

LATEST_KTIME_NS = 1 << 61
"""CLOCK_MONOTONIC after 73 years. No sum with a difference of clocks leaves the 63 bits of a span's time."""
LATEST_UNIX_NS = (1 << 63) - LATEST_KTIME_NS
"""The year 2189."""
READING_NS = 1_000_000
"""How far a reading of both clocks may be off: a preemption between the two."""
LATEST_POSITION = 1 << 62
"""Bytes of one direction: at 100 GB/s, a year and a half. Sizes made of it fit in an attribute."""
MAX_TGID = 1 << 22
"""Ids of processes and threads of Linux end there (PID_MAX_LIMIT)."""
MAX_COUNT = (1 << 63) - 1
"""Largest count that is believed."""
MAX_VERSION_CHARACTERS = 64
"""Of the version that a recording says it was made by, which is shown to people."""


class DamagedValueError(Exception):
    """A value is none that a recorder writes; the message names it."""


def check_event(event: CaptureEvent) -> None:
    """Check what a kernel record says. Raises DamagedValueError."""
    if not event.ktime_ns < LATEST_KTIME_NS:
        raise DamagedValueError(f"a record has the time {event.ktime_ns}")
    if isinstance(event, SocketEvent):
        if event.position + event.length > LATEST_POSITION:
            raise DamagedValueError(f"a record has the position {event.position}")
        size = len(event.payload)
        if size > event.length and event.kind is not EventKind.OPENED:
            raise DamagedValueError(f"a record holds {size} of {event.length} bytes")
        if size > CHUNK_BYTES:
            raise DamagedValueError(f"a record holds {size} bytes")
        _, tgid, tid = event.origin
        _check_tgid(tgid or 0)
        if tid is not None and tid > MAX_TGID:
            raise DamagedValueError(f"a record is of the thread {tid}")
    elif not isinstance(event, ClockSample):
        _check_tgid(event.tgid)


def _check_tgid(tgid: int) -> None:
    if tgid > MAX_TGID:
        raise DamagedValueError(f"a record is of the process {tgid}")


def read_clock(ktime_ns: int, unix_ns: int) -> ClockSample:
    """Return a reading of both clocks. Raises DamagedValueError.

    The monotonic clock of Linux is never ahead of the other: settimeofday refuses it. By as much as a reading
    is off it may seem so on a machine without a clock, which begins at the epoch; then both are the same.
    """
    if not (ktime_ns < LATEST_KTIME_NS and ktime_ns <= unix_ns + READING_NS and unix_ns < LATEST_UNIX_NS):
        raise DamagedValueError(f"a reading of the clocks says {ktime_ns} and {unix_ns}")
    return ClockSample(ktime_ns, max(ktime_ns, unix_ns))


def read_facts(content: bytes) -> ProcessFacts:
    """Return the facts of a process. Raises DamagedValueError."""
    facts = _read_object(content, "the facts of a process")
    try:
        workload = facts.get("workload")
        return ProcessFacts(
            ktime_ns=_number(facts["ktime_ns"], LATEST_KTIME_NS - 1),
            tgid=_number(facts["tgid"], MAX_TGID),
            start_unix_ns=_optional_number(facts["start_unix_ns"], LATEST_UNIX_NS - 1),
            executable_path=_optional_text(facts["executable_path"]),
            command_line=_texts(facts["command_line"]),
            service_name=_optional_text(facts["service_name"]),
            cgroups=_texts(facts.get("cgroups", [])),
            workload=None if workload is None else _attributes(workload),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedValueError("the facts of a process hold an invalid value") from error


def read_losses(content: bytes) -> dict[str, int]:
    """Return the counters of losses. Raises DamagedValueError."""
    try:
        losses = _read_object(content, "the counters of losses").items()
        return {_plain_text(cause): _number(amount, MAX_COUNT) for cause, amount in losses}
    except (TypeError, ValueError) as error:
        raise DamagedValueError("the counters of losses hold an invalid value") from error


def read_preamble(content: bytes) -> Mapping[str, str | int]:
    """Return the preamble; `format` is a number from 1 on. Raises DamagedValueError."""
    preamble = _read_object(content, "the preamble")
    try:
        _number(preamble["format"], MAX_COUNT, least=1)
        if "wirespan" in preamble:
            preamble["wirespan"] = _plain_text(preamble["wirespan"])[:MAX_VERSION_CHARACTERS]
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedValueError("the preamble holds an invalid value") from error
    return preamble


def read_capture_id(preamble: Mapping[str, str | int]) -> bytes:
    """Return the id of the capture that was recorded, of a format that has it. Raises DamagedValueError."""
    try:
        capture_id = bytes.fromhex(_text(preamble["capture"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedValueError("the preamble holds no id of the capture") from error
    if len(capture_id) != CAPTURE_ID_BYTES:
        raise DamagedValueError("the preamble holds no id of the capture")
    return capture_id


def _read_object(content: bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DamagedValueError(f"{what} can't be read as JSON") from error
    if not isinstance(value, dict):
        raise DamagedValueError(f"{what} can't be read as an object of JSON")
    return value


def _number(value: object, most: int, *, least: int = 0) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    if not least <= value <= most:
        raise ValueError
    return value


def _optional_number(value: object, most: int) -> int | None:
    return None if value is None else _number(value, most)


def _text(value: object) -> str:
    """Return text of /proc, which may hold surrogates for bytes that are none."""
    if not isinstance(value, str):
        raise TypeError
    return value


def _optional_text(value: object) -> str | None:
    return None if value is None else _text(value)


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError
    return tuple(_text(item) for item in value)


def _plain_text(value: object) -> str:
    """Return text that can be encoded and shown in one line."""
    text = _text(value)
    text.encode()
    if text and not text.isprintable():
        raise ValueError
    return text


def _attributes(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise TypeError
    for name, text in value.items():
        _text(name).encode()
        _text(text).encode()
    return value
