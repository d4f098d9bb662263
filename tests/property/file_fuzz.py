"""Files with anything done to them, replayed to the end: `make fuzz-files`.

Each variant goes the whole way of `wirespan replay`: its form is found, it is read, its connections are
followed and parsed, spans are built and encoded as OTLP, as OTLP/JSON and for the console. Nothing but
InputError may come of it, no stage may count a bug, and every span is one that the official classes read. Up
to the first byte that was changed, what is read is what was read before.

A variant is known by its seed and number, so each can be replayed by itself:
`python -m tests.property.file_fuzz --seed 1 --only 77`.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import resource
import signal
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType

from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from agent.endpoints import EndpointTable
from agent.pipeline import Pipeline
from agent.processes import ProcessTable
from agent.stop import StopRequest
from ebpf.capture_formats import CaptureFormat, find_format
from ebpf.input_stream import InputError, InputStream
from ebpf.packets.capture import PacketCapture
from ebpf.packets.counters import new_packet_counters
from ebpf.packets.file import PacketFile
from ebpf.packets.limits import PacketLimits
from ebpf.packets.unopened import describe_unopened
from ebpf.recording import RecordedCapture
from otel_bridge.otlp.encoding import encode_span
from otel_bridge.resources import ResourceBuilder
from otel_bridge.sinks.console import ConsoleSink
from otel_bridge.sinks.spans_file import spans_to_json_line
from otel_bridge.span import Span
from otel_bridge.spans.options import SpanOptions
from otel_bridge.spans.span_ids import CaptureIdGenerator
from parsers.limits import ParserLimits
from parsers.tracker import ConnectionTracker
from tests.property.capture_samples import samples
from tests.stand_ins import CollectingSink

PROCESSOR_SECONDS = 20.0
"""Processor time after which a variant hangs: an ordinary one takes some hundredths of a second."""
_EXTREMES = (0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1)
_JSON_VALUES = (
    "null true -1 1e999 NaN [] {} 1.5 " + '"" "\\ud800" "\\u0000" ' + "9" * 400 + " " + "[[" * 5_000
).split()

Change = Callable[[Random, bytearray], int]
"""Changes a file, and returns the first place that differs."""


class HangError(BaseException):
    """A variant took too long. No exception that any stage could take for one of its own."""


def _place(random: Random, content: bytearray) -> int:
    return random.randrange(len(content)) if content else 0


def _flip(random: Random, content: bytearray) -> int:
    place = _place(random, content)
    if content:
        content[place] ^= 1 << random.randrange(8)
    return place


def _set(random: Random, content: bytearray) -> int:
    place = _place(random, content)
    size = random.choice((1, 2, 4, 8))
    value = random.choice(_EXTREMES) & (1 << 8 * size) - 1
    content[place : place + size] = value.to_bytes(size, random.choice(("little", "big")))
    return place


def _truncate(random: Random, content: bytearray) -> int:
    place = _place(random, content)
    del content[place:]
    return place


def _remove(random: Random, content: bytearray) -> int:
    place = _place(random, content)
    del content[place : place + random.choice((1, 4, 16, 100, 1_000))]
    return place


def _insert(random: Random, content: bytearray) -> int:
    place = _place(random, content)
    content[place:place] = random.randbytes(random.choice((1, 4, 16, 100, 1_000)))
    return place


def _duplicate(random: Random, content: bytearray) -> int:
    start = _place(random, content)
    piece = content[start : start + random.choice((4, 16, 100, 1_000, 10_000))]
    place = _place(random, content)
    content[place:place] = piece
    return place


def _pieces(content: bytearray) -> list[tuple[int, int]]:
    """Return where frames, packets or blocks of a file that is not compressed begin and end."""
    pieces, at = [], 0
    if content.startswith(b"wirespan recording\n"):
        at = 19
        while at + 5 <= len(content):
            end = at + 5 + int.from_bytes(content[at + 1 : at + 5], "little")
            pieces.append((at, end))
            at = end
    elif content[:4] in (b"\x4d\x3c\xb2\xa1", b"\x34\xcd\xb2\xa1"):
        header = 24 if content[:1] == b"\x34" else 16
        at = 24
        while at + 16 <= len(content):
            end = at + header + int.from_bytes(content[at + 8 : at + 12], "little")
            pieces.append((at, end))
            at = end
    elif content.startswith(b"\x0a\x0d\x0d\x0a"):
        order = "<"
        while at + 12 <= len(content):
            if content[at : at + 4] == b"\x0a\x0d\x0d\x0a":
                order = "<" if content[at + 8 : at + 12] == b"\x4d\x3c\x2b\x1a" else ">"
            (size,) = struct.unpack_from(order + "I", content, at + 4)
            pieces.append((at, at + max(12, size)))
            at += max(12, size)
    return pieces


def _with_piece(change: Callable[[Random, bytearray, int, int], int]) -> Change:
    """Return a change of one piece, where there are any."""

    def apply(random: Random, content: bytearray) -> int:
        pieces = _pieces(content)
        return change(random, content, *random.choice(pieces)) if pieces else _set(random, content)

    return apply


def _set_in_header(random: Random, content: bytearray, start: int, end: int) -> int:
    """Overwrite a field near the beginning of a piece, where its lengths, times and types are."""
    place = start + random.randrange(min(120, max(1, end - start)))
    size = random.choice((1, 2, 4, 8))
    value = random.choice(_EXTREMES) & (1 << 8 * size) - 1
    content[place : place + size] = value.to_bytes(size, random.choice(("little", "big")))
    return place


def _repeat_piece(random: Random, content: bytearray, start: int, end: int) -> int:
    content[end:end] = content[start:end] * random.choice((1, 3))
    return end


def _move_piece(random: Random, content: bytearray, start: int, end: int) -> int:
    piece = content[start:end]
    del content[start:end]
    pieces = _pieces(content)
    place = random.choice(pieces)[0] if pieces else 0
    content[place:place] = piece
    return min(start, place)


def _drop_piece(_random: Random, content: bytearray, start: int, end: int) -> int:
    del content[start:end]
    return start


def _set_field(random: Random, content: bytearray) -> int:
    """Overwrite a number of a recording where one stands; each kind of frame is as likely."""
    if not content.startswith(b"wirespan"):
        return _set(random, content)
    by_kind: dict[bytes, list[tuple[int, int]]] = {}
    for start, end in _pieces(content):
        # A frame of a record has the kind of the record behind its length.
        kind = bytes(content[start : start + 6 : 5]) if content[start : start + 1] == b"\2" else b"-"
        by_kind.setdefault(bytes(content[start : start + 1]) + kind, []).append((start + 5, end))
    if not by_kind:
        return _set(random, content)
    start, end = random.choice(by_kind[random.choice(sorted(by_kind))])
    size = random.choice((1, 4, 8, 8))
    place = start + random.randrange(max(1, min(64, end - start) // size)) * size
    value = random.choice(_EXTREMES) & (1 << 8 * size) - 1
    content[place : place + size] = value.to_bytes(size, "little")
    return place


def _set_json(random: Random, content: bytearray) -> int:
    """Replace a value in the JSON of a recording, and mend the length of its frame."""
    frames = [(start, end) for start, end in _pieces(content) if content[start] in (1, 4, 5)]
    if not frames or not content.startswith(b"wirespan"):
        return _set(random, content)
    start, end = random.choice(frames)
    text = bytes(content[start + 5 : end]).decode("utf-8", "replace")
    values = list(re.finditer(r'(?<=: )("[^"]*"|-?\d+|null|\[[^]]*\]|\{[^}]*\})', text))
    if not values:
        return _set(random, content)
    found = random.choice(values)
    changed = (text[: found.start()] + random.choice(_JSON_VALUES) + text[found.end() :]).encode()
    content[start:end] = struct.pack("<BI", content[start], len(changed)) + changed
    return start


CHANGES: tuple[Change, ...] = (
    _flip,
    _flip,
    _set,
    _truncate,
    _remove,
    _insert,
    _duplicate,
    _with_piece(_set_in_header),
    _with_piece(_set_in_header),
    _with_piece(_repeat_piece),
    _with_piece(_move_piece),
    _with_piece(_drop_piece),
    _set_field,
    _set_field,
    _set_json,
)


def build_variant(seed: int, number: int) -> tuple[str, bytes, int]:
    """Return the name of a sample, the sample with something done to it, and the first place that differs."""
    random = Random(f"{seed}:{number}")
    names = list(samples())
    name = random.choice(names + [names[0]] * 4)  # the recording is one of many files, and has more to check
    content = bytearray(samples()[name])
    first = len(content)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        first = min(first, random.choice(CHANGES)(random, content))
    return name, bytes(content), first


@contextmanager
def opened(content: bytes) -> Iterator[InputStream]:
    """Open bytes as a file is opened."""
    descriptor = os.memfd_create("variant")
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    stream = InputStream(descriptor, "variant")
    try:
        yield stream
    finally:
        stream.close()


def read_items(content: bytes) -> list[object]:
    """Return the packets or events that stand in a file, up to where it can't be read any further."""
    items: list[object] = []
    with opened(content) as stream:
        try:
            if find_format(stream) is not CaptureFormat.RECORDING:
                items += PacketFile(stream, PacketLimits(), new_packet_counters()).packets()
            else:
                source = RecordedCapture(stream)
                while not source.exhausted:
                    items += source.poll(0)
        except InputError:
            pass
    return items


@dataclass(slots=True)
class Outcome:
    """What came of one variant."""

    refusal: str = ""
    damage: str = ""
    spans: list[Span] = field(default_factory=list)


def replay(content: bytes) -> Outcome:
    """Carry a file through every stage; anything that is wrong raises."""
    outcome = Outcome()
    sink = CollectingSink()
    with opened(content) as stream:
        try:
            found = find_format(stream)
            source: RecordedCapture | PacketCapture
            source = RecordedCapture(stream) if found is CaptureFormat.RECORDING else PacketCapture(stream)
            is_packets = isinstance(source, PacketCapture)
            resources = ResourceBuilder()
            tracker = ConnectionTracker(ParserLimits())
            pipeline = Pipeline(
                source,
                ProcessTable(resources.build),
                tracker,
                CaptureIdGenerator(lambda: source.capture_id),
                SpanOptions(),
                [sink],
                endpoints=EndpointTable(resources.build_endpoint) if is_packets else None,
            )
            pipeline.run(StopRequest())
        except InputError as error:
            outcome.refusal = str(error)
            assert re.search(r"\. \S", outcome.refusal), outcome.refusal  # what it is, and what to do
            return outcome
        outcome.damage = source.damage or ""
        describe_unopened(source.unopened if isinstance(source, PacketCapture) else {})
        source.losses()
        source.observations()
    assert tracker.last_bug is None, tracker.last_bug
    assert tracker.buffered_bytes == 0
    assert pipeline.counters()["span_failures"] == 0
    outcome.spans = sink.spans
    encode(sink.spans)
    return outcome


def encode(spans: list[Span]) -> None:
    """Write spans as every sink does, and read them as their receivers do."""
    console = ConsoleSink(io.StringIO(), verbose=True)
    for span in spans:
        message = SpanMessage.FromString(encode_span(span))
        assert message.start_time_unix_nano == span.start_unix_ns
        assert 0 <= span.start_unix_ns < 2**63
        assert 0 <= span.end_unix_ns < 2**63
        json.loads(spans_to_json_line([span]))
        console.format(span)


@contextmanager
def bounded_time(seconds: float = PROCESSOR_SECONDS) -> Iterator[None]:
    """Raise HangError when what is within takes more processor time."""

    def expire(_number: int, _frame: FrameType | None) -> None:
        raise HangError

    former = signal.signal(signal.SIGVTALRM, expire)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, former)


def check_variant(seed: int, number: int) -> Outcome:
    """Replay one variant. Raises what went wrong."""
    name, content, first = build_variant(seed, number)
    with bounded_time():
        outcome = replay(content)
        if not re.search("gzip|bzip2|xz|zstd", name):
            before, after = read_items(samples()[name][:first]), read_items(content)
            assert after[: len(before)] == before, "what stands before the change is read differently"
    return outcome


def main() -> int:
    """Try variants, and print what came of them; 1 when any was not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--variants", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="replay this variant, and keep it as ./variant")
    options = parser.parse_args()
    if options.only is not None:
        Path("variant").write_bytes(build_variant(options.seed, options.only)[1])
        print(check_variant(options.seed, options.only))  # noqa: T201 (its output)
        return 0
    for content in samples().values():
        assert not replay(content).refusal
    idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tally: Counter[str] = Counter()
    slowest = 0.0
    for number in range(options.variants):
        began = time.process_time()
        try:
            outcome = check_variant(options.seed, number)
        except HangError:
            tally["hangs"] += 1
            print(f"variant {number} hangs", flush=True)  # noqa: T201
        except Exception as error:  # noqa: BLE001 (whatever it is, it is a finding)
            tally["exceptions"] += 1
            print(f"variant {number}: {type(error).__name__}: {error}"[:300], flush=True)  # noqa: T201
        else:
            tally["refused" if outcome.refusal else "damaged or cut" if outcome.damage else "whole"] += 1
            tally["spans"] += len(outcome.spans)
        slowest = max(slowest, time.process_time() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(  # noqa: T201
        f"variants {options.variants}, seed {options.seed}: exceptions {tally['exceptions']}, hangs "
        f"{tally['hangs']}; refused {tally['refused']}, read in part {tally['damaged or cut']}, read to the "
        f"end {tally['whole']}; spans {tally['spans']}; slowest {slowest:.2f} s of processor time; peak "
        f"resident memory {peak // 1024} MiB, {(peak - idle) // 1024} MiB above that of the samples"
    )
    return 1 if tally["exceptions"] or tally["hangs"] else 0


if __name__ == "__main__":
    sys.exit(main())
