"""Varied traffic through the stages of the agent and through the naive stack, in turns over the same bytes.

One exchange again and again stands beside it, to show what the memory of earlier traffic makes of that. No
kernel and no network.

Noise is kept out in five ways. Processor time counts, not time by the clock. Slices of some hundred exchanges
go through both sides in turns, so that both meet the same phases of a shared machine. A time is the best of
several rounds for each slice, because noise only adds. A ratio is the median over all turns. The collector is
set as in the agent for both sides, and each turn begins after a collection.

No round finds its own traffic again. The stages of a round are new, and the memory that modules keep holds
less than half of a round; a test keeps it so.
"""

from __future__ import annotations

import gc
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.cli import main as wirespan
from agent.session import GC_THRESHOLD
from ebpf.events import Protocol
from tests.bench import naive_stack
from tests.bench.naive_stack import NaiveStack
from tests.bench.records import encode_record, tell, write_recording
from tests.bench.rows import Row
from tests.bench.stages import RedactorCall, Stages, noting_redaction, time_redaction
from tests.bench.traffic import Exchange, Traffic
from tests.bench.wire import Call, write_http1, write_http2

SEED = 7
SLICES = 8
EXCHANGES_PER_SLICE = 300
CONNECTIONS_PER_SLICE = 10
ROUNDS = 5
REPLAYS = 3
HTTP1_RATIO = 0.10
HTTP2_RATIO = 0.25
"""Agent over naive stack, upper bounds that a later change brings. Nothing may become worse until then."""
_SLICE_NS = 10_000_000_000
_CONNECTION_NS = 77_000


@dataclass(frozen=True, slots=True)
class Slice:
    """Some exchanges, as records for the agent and as bytes for the naive stack."""

    exchanges: int
    records: list[bytes]
    run_naive_stack: Callable[[NaiveStack], int]
    """Returns nanoseconds."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of traffic."""

    name: str
    make_slice: Callable[[Traffic, random.Random, int], Slice]
    """Takes the traffic, a source of chance for the framing, and the number of the slice."""
    bound_to_come: float | None


def _join_http1(exchanges: Sequence[tuple[list[Call], list[Call]]], number: int) -> Slice:
    connections = [exchanges[each::CONNECTIONS_PER_SLICE] for each in range(CONNECTIONS_PER_SLICE)]
    calls = [
        [call for request, response in connection for call in request + response]
        for connection in connections
    ]
    messages = [
        (b"".join(call.data for call in request), b"".join(call.data for call in response))
        for request, response in exchanges
    ]
    records = _encode_records(calls, number, protocol=Protocol.HTTP1)
    return Slice(len(exchanges), records, lambda naive: naive.run_http1(messages))


def _encode_records(connections: Sequence[Sequence[Call]], number: int, *, protocol: Protocol) -> list[bytes]:
    """Return the records of connections that speak at the same time."""
    events = []
    for index, calls in enumerate(connections):
        events += tell(
            calls,
            connection_id=number * CONNECTIONS_PER_SLICE + index + 1,
            start_ktime_ns=(number + 1) * _SLICE_NS + index * _CONNECTION_NS,
            protocol=protocol,
        )
    return [encode_record(event) for event in sorted(events, key=lambda event: event.ktime_ns)]


def _make_http1(
    say: Callable[[Traffic], Exchange], traffic: Traffic, chance: random.Random, number: int
) -> Slice:
    exchanges = [write_http1(say(traffic), chance) for _ in range(EXCHANGES_PER_SLICE)]
    return _join_http1(exchanges, number)


def _make_http2(traffic: Traffic, chance: random.Random, number: int) -> Slice:
    exchanges = [traffic.change() for _ in range(EXCHANGES_PER_SLICE)]
    connections = [
        write_http2(exchanges[each::CONNECTIONS_PER_SLICE], chance) for each in range(CONNECTIONS_PER_SLICE)
    ]
    heard = [[(call.from_client, call.data) for call in calls] for calls in connections]
    records = _encode_records(connections, number, protocol=Protocol.HTTP2)
    return Slice(len(exchanges), records, lambda naive: naive.run_http2(heard))


def _make_repeated(traffic: Traffic, chance: random.Random, number: int) -> Slice:
    request = Call(from_client=True, data=naive_stack.REQUEST_HEAD + naive_stack.REQUEST_BODY)
    response = Call(from_client=False, data=naive_stack.RESPONSE_HEAD + naive_stack.RESPONSE_BODY)
    return _join_http1([([request], [response])] * EXCHANGES_PER_SLICE, number)


KINDS = {
    "http1": Kind("varied HTTP/1", lambda *how: _make_http1(Traffic.change, *how), HTTP1_RATIO),
    "gets": Kind("varied GETs", lambda *how: _make_http1(Traffic.lookup, *how), HTTP1_RATIO),
    "http2": Kind("varied HTTP/2", _make_http2, HTTP2_RATIO),
    "repeated": Kind("one exchange repeated", _make_repeated, None),
}


def make_slices(kind: Kind, seed: int = SEED, slices: int = SLICES) -> list[Slice]:
    """Return traffic of a kind; the same for the same seed."""
    traffic, chance = Traffic(seed), random.Random(seed)
    return [kind.make_slice(traffic, chance, number) for number in range(slices)]


@dataclass(slots=True)
class Figures:
    """Processor time of each part over one slice, in nanoseconds; or sums of such."""

    decode: int
    parse: int
    span: int
    redaction: int
    """Part of `span`."""
    encode: int
    agent: int
    """All stages."""
    naive: int = 0
    """Of the naive stack; 0 when it did not run."""


class Measurement:
    """One kind of traffic, ready to be measured slice by slice, round after round."""

    def __init__(self, kind: Kind, slices: int = SLICES) -> None:
        self.slices = make_slices(kind, slices=slices)
        self.exchanges = sum(each.exchanges for each in self.slices)
        self._noted: list[list[RedactorCall]] = [[] for _ in self.slices]
        self.begin_round()
        for each, calls in zip(self.slices, self._noted, strict=True):
            with noting_redaction(calls):
                self._stages.run(each.records)

    def begin_round(self) -> None:
        """Start with stages that have read nothing."""
        self._stages = Stages()
        self._naive = NaiveStack()

    def measure_slice(self, number: int, *, with_naive_stack: bool) -> Figures:
        """Return what the stages take for the next slice, and the naive stack for the same."""
        each = self.slices[number]
        gc.collect()
        times = self._stages.run(each.records)
        redaction = time_redaction(self._noted[number])
        gc.collect()
        naive = each.run_naive_stack(self._naive) if with_naive_stack else 0
        return Figures(times.decode, times.parse, times.span, redaction, times.encode, times.total, naive)

    def end_round(self) -> None:
        """Check what came of a round.

        Raises:
            RuntimeError: Not every exchange came out whole, so that the figures mean nothing.
        """
        built = self._stages.counters.built
        whole = built - self._stages.incomplete
        if not built == whole == self.exchanges or self._naive.spans not in (0, self.exchanges):
            raise RuntimeError(
                f"of {self.exchanges} exchanges {built} became spans, {whole} of them whole, and"
                f" {self._naive.spans} became spans of the naive stack"
            )

    @property
    def encoded_bytes(self) -> int:
        """What the spans of this round take as OTLP requests."""
        return self._stages.encoded_bytes


class Replay:
    """`wirespan replay` of a recording, in this process: all that a run does but for kernel and delivery."""

    def __init__(self, slices: Sequence[Slice], folder: Path) -> None:
        self._path = folder / "traffic.wirespan"
        write_recording(self._path, [record for each in slices for record in each.records])

    def measure(self) -> int:
        """Return its processor time, in nanoseconds."""
        arguments = ["replay", str(self._path), "--spans-file", "/dev/null", "--log-level", "error"]
        gc.collect()
        began = time.process_time_ns()
        wirespan(arguments, standalone_mode=False)
        return time.process_time_ns() - began


@contextmanager
def collector_of_the_agent() -> Iterator[None]:
    """Have the collector pass over all that is there, and look as rarely as in an agent."""
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def measure(kind: Kind) -> list[Row]:
    """Return the rows of one kind of traffic."""
    measurement = Measurement(kind)
    rounds: list[list[Figures]] = []
    with collector_of_the_agent(), tempfile.TemporaryDirectory() as folder:
        for _ in range(ROUNDS):
            measurement.begin_round()
            rounds.append([measurement.measure_slice(each, with_naive_stack=True) for each in range(SLICES)])
            measurement.end_round()
        replay = Replay(measurement.slices, Path(folder))
        replay_us = min(replay.measure() for _ in range(REPLAYS)) / measurement.exchanges / 1000
    best_us = {name: _sum_best(rounds, name) / measurement.exchanges / 1000 for name in Figures.__slots__}
    ratio = statistics.median(figures.agent / figures.naive for each in rounds for figures in each)
    return [
        Row(f"{kind.name}: naive stack per exchange", "µs", None, best_us["naive"], None),
        Row(
            f"{kind.name}: agent over naive stack",
            "ratio",
            None,
            ratio,
            None,
            bound_to_come=kind.bound_to_come,
        ),
        Row(f"{kind.name}: agent per exchange, records to OTLP bytes", "µs", None, best_us["agent"], None),
        *(
            Row(
                f"{kind.name}: {what}",
                "µs",
                None,
                best_us[name],
                None,
                share=best_us[name] / best_us["agent"],
            )
            for name, what in (
                ("decode", "decode"),
                ("parse", "parse"),
                ("span", "span, redaction included"),
                ("redaction", "redaction by itself"),
                ("encode", "encode"),
            )
        ),
        Row(f"{kind.name}: replay of the recording, per exchange", "µs", None, replay_us, None),
    ]


def _sum_best(rounds: Sequence[Sequence[Figures]], name: str) -> int:
    """Return the best of each slice in any round, over all slices."""
    return sum(min(getattr(figures, name) for figures in turns) for turns in zip(*rounds, strict=True))
