"""All stages together on events made by hand, without a kernel."""

import dataclasses
import time
from collections.abc import Callable

import pytest
from prometheus_client import generate_latest

from agent.metrics import build_registry
from agent.pipeline import EXCHANGES_AT_ONCE, Pipeline
from agent.processes import ProcessTable
from agent.selection import Selection
from agent.selection_rules import SelectionRules
from agent.stop import StopRequest
from ebpf.events import (
    CaptureEvent,
    ClockSample,
    Direction,
    EventKind,
    FileMapped,
    Missing,
    Origin,
    Policy,
    ProcessExecuted,
    ProcessExited,
    ProcessFacts,
    ProcessForked,
    ProcessPolicy,
    Role,
    SocketEvent,
    SocketInfo,
)
from otel_bridge.span import Resource, SpanKind
from otel_bridge.spans.options import SpanOptions
from otel_bridge.spans.span_ids import CaptureIdGenerator
from parsers.limits import ParserLimits
from parsers.tracker import ConnectionTracker
from tests.stand_ins import CollectingSink, PoliciesInMemory

SOCKET = SocketInfo("ipv4", "127.0.0.1", 80, "127.0.0.1", 4000, 1, 2, 3)
REQUEST = b"GET /x HTTP/1.1\r\nHost: shop\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
CLOCK = ClockSample(1_000, 1_700_000_000_000_001_000)
TGID = 42


class Source:
    """Batches of events, as a recording would give them."""

    def __init__(self, *batches: list[CaptureEvent], tail: list[SocketEvent] | None = None) -> None:
        self._batches = list(batches)
        self._tail = tail or []
        self.inspected: list[tuple[int, int]] = []

    def poll(self, timeout_seconds: float) -> list[CaptureEvent]:  # noqa: ARG002
        return self._batches.pop(0) if self._batches else []

    @property
    def exhausted(self) -> bool:
        return not self._batches

    def inspect(self, cookie: int, connection_id: int) -> list[SocketEvent]:
        self.inspected.append((cookie, connection_id))
        return self._tail

    def losses(self) -> dict[str, int]:
        return {"ring_full_records": 7}

    def observations(self) -> dict[str, int]:
        return {"connections_http": 5, "budget_bytes": 11}

    def close(self) -> None:
        pass


def moved(
    direction: Direction, payload: bytes, ktime_ns: int, *, position: int = 0, length: int | None = None
) -> SocketEvent:
    missing = Missing.BUDGET if length is not None else Missing(0)
    return SocketEvent(
        EventKind.DATA,
        ktime_ns,
        1,
        Origin(ktime_ns, TGID),
        direction,
        position,
        len(payload) if length is None else length,
        payload,
        missing,
        Role.SERVER,
        False,
        SOCKET,
    )


def exchange(start: int = 2_000) -> list[CaptureEvent]:
    return [
        moved(Direction.INGRESS, REQUEST, start),
        moved(Direction.EGRESS, RESPONSE + b"hello", start + 500),
    ]


def resource_of(facts: ProcessFacts) -> Resource:
    return Resource({"service.name": facts.executable_path or "unknown"})


def pipeline(source: Source, sink: CollectingSink, **options: object) -> Pipeline:
    return Pipeline(
        source,
        options.pop("processes", None) or ProcessTable(resource_of),  # type: ignore[arg-type]
        ConnectionTracker(ParserLimits()),
        CaptureIdGenerator(lambda: bytes(16)),
        SpanOptions(),
        [sink],
        **options,  # type: ignore[arg-type]
    )


def test_events_become_a_span_with_its_process_and_unix_times() -> None:
    sink = CollectingSink()
    facts = ProcessFacts(1_500, TGID, 1, "/bin/server", (), None)
    pipeline(Source([CLOCK, facts, *exchange()]), sink).run(StopRequest())
    (span,) = sink.spans
    assert span.kind is SpanKind.SERVER
    assert span.resource.service_name == "/bin/server"
    assert span.start_unix_ns == 1_700_000_000_000_002_000
    assert span.end_unix_ns == 1_700_000_000_000_002_500


def test_a_process_is_read_at_its_first_sight_and_named_by_its_last_program() -> None:
    seen: list[int] = []

    def read(tgid: int, ktime_ns: int) -> ProcessFacts | None:
        seen.append(ktime_ns)
        return None

    sink = CollectingSink()
    table = ProcessTable(resource_of, read=read)
    executed = ProcessExecuted(1_800, TGID, "/bin/curl", ("curl",))
    source = Source([CLOCK, executed, *exchange(), ProcessExited(3_000, TGID)])
    pipeline(source, sink, processes=table).run(StopRequest())
    assert seen == [1_800]
    assert sink.spans[0].resource.service_name == "/bin/curl"
    sink = CollectingSink()
    pipeline(Source([CLOCK, *exchange(7_000)]), sink, processes=ProcessTable(resource_of, read=read)).run(
        StopRequest()
    )
    assert seen == [1_800, 7_000]


def test_a_later_clock_sample_moves_later_spans_only() -> None:
    sink = CollectingSink()
    later = ClockSample(10_000, CLOCK.unix_ns + 9_000 + 77)
    source = Source([CLOCK, *exchange()], [later, *second_exchange()])
    pipeline(source, sink).run(StopRequest())
    assert [span.start_unix_ns - CLOCK.unix_ns for span in sink.spans] == [1_000, 19_077]


def test_stages_that_work_on_many_exchanges_at_once_keep_their_order_and_their_process() -> None:
    sink = CollectingSink()
    count = EXCHANGES_AT_ONCE * 2 + 3
    step = len(REQUEST)
    events: list[CaptureEvent] = [CLOCK, ProcessFacts(1_500, TGID, 1, "/bin/before", (), None)]
    for number in range(count):
        ktime_ns = 2_000 + number * 10
        events += [
            moved(Direction.INGRESS, REQUEST, ktime_ns, position=number * step),
            moved(Direction.EGRESS, RESPONSE + b"hello", ktime_ns + 5, position=number * (len(RESPONSE) + 5)),
        ]
        if number == count - 2:
            events.append(ProcessExecuted(ktime_ns + 6, TGID, "/bin/after", ()))
    pipeline(Source(events), sink).run(StopRequest())
    assert [span.start_unix_ns for span in sink.spans] == [
        CLOCK.unix_ns + 1_000 + number * 10 for number in range(count)
    ]
    assert [span.resource.service_name for span in sink.spans[-2:]] == ["/bin/before", "/bin/after"]


def second_exchange() -> list[CaptureEvent]:
    return [
        moved(Direction.INGRESS, REQUEST, 20_000, position=len(REQUEST)),
        moved(Direction.EGRESS, RESPONSE + b"hello", 20_500, position=len(RESPONSE) + 5),
    ]


def test_what_is_pending_at_the_end_is_exported_flagged() -> None:
    sink = CollectingSink()
    pipeline(Source([CLOCK, exchange()[0]]), sink).run(StopRequest())
    (span,) = sink.spans
    assert span.attributes["wirespan.incomplete"] == "stopped"
    assert "http.response.status_code" not in span.attributes


def test_a_quiet_connection_is_inspected_for_its_uncaptured_tail() -> None:
    tail = [moved(Direction.EGRESS, b"", 3_000, position=len(RESPONSE), length=5)]
    source = Source(
        [CLOCK, moved(Direction.INGRESS, REQUEST, 2_000), moved(Direction.EGRESS, RESPONSE, 2_500)],
        [],
        tail=tail,
    )
    sink = CollectingSink()
    later = 500_000_000
    now = lambda: 2_600 if len(source._batches) > 1 else later  # noqa: E731 (a clock)
    pipeline(source, sink, ktime_now=now).run(StopRequest())
    assert source.inspected == [(SOCKET.cookie, 1)]
    assert sink.spans[0].attributes["http.response.body.size"] == 5
    assert "wirespan.incomplete" not in sink.spans[0].attributes


def test_a_request_to_stop_drains_what_is_there_first() -> None:
    sink, stop = CollectingSink(), StopRequest()
    stop.request()
    pipeline(Source([CLOCK, *exchange()], [], exchange(9_000)), sink).run(stop)
    assert len(sink.spans) == 1


def test_a_live_capture_listens_on_for_calls_that_return_just_now() -> None:
    sink, stop = CollectingSink(), StopRequest()
    stop.request()
    request, response = exchange()
    late = Source([CLOCK, request], [], [response], [])
    pipeline(late, sink, ktime_now=lambda: 10_000).run(stop)
    assert sink.spans[0].attributes["http.response.status_code"] == 200


def provisional(events: list[SocketEvent]) -> list[SocketEvent]:
    """As captured of a process that nothing was decided about."""
    return [dataclasses.replace(event, provisional=True) for event in events]


@pytest.mark.parametrize(
    "executed",
    [[ProcessExecuted(1_800, TGID, "/bin/wget", ())], [ProcessForked(1_800, TGID, 1)], []],
    ids=["it executed a program", "it was forked by one that was undecided", "no event came"],
)
def test_refused_processes_are_left_out_and_counted(executed: list[CaptureEvent]) -> None:
    policies = PoliciesInMemory()
    policies.set_policy(TGID, ProcessPolicy(capture=Policy.UNDECIDED))
    sink = CollectingSink()
    processes = ProcessTable(resource_of)
    selection = Selection(SelectionRules(executables=("curl",)), policies, processes)
    events = [CLOCK, *executed, *provisional(exchange())]
    run = pipeline(Source(events), sink, processes=processes, selection=selection)
    run.run(StopRequest())
    assert policies.by_tgid == {}
    assert sink.spans == []
    assert selection.counters()["refused_events"] == 2


class NotedTls:
    """Writes down what is called."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def mapped(self, event: FileMapped) -> None:
        self.told.append(("mapped", event.tgid, event.name))

    def executed(self, tgid: int, path: str | None) -> None:
        self.told.append(("executed", tgid, path))

    def forked(self, tgid: int, parent_tgid: int) -> None:
        self.told.append(("forked", tgid, parent_tgid))

    def exited(self, tgid: int) -> None:
        self.told.append(("exited", tgid))


PROCESS_EVENTS: list[CaptureEvent] = [
    ProcessForked(1_100, TGID, 7),
    ProcessExecuted(1_200, TGID, "curl", ()),
    FileMapped(1_300, TGID, 99, "libssl.so.3"),
    ProcessExited(1_400, TGID),
]


def test_tls_processes_take_note_of_processes_and_their_files() -> None:
    tls_processes = NotedTls()
    facts = ProcessFacts(1_200, TGID, 1, "/usr/bin/curl", (), None)
    processes = ProcessTable(resource_of, read=lambda *_: facts)
    pipeline(
        Source([CLOCK, *PROCESS_EVENTS]), CollectingSink(), processes=processes, tls_processes=tls_processes
    ).run(StopRequest())
    assert tls_processes.told == [
        ("forked", TGID, 7),
        ("executed", TGID, "/usr/bin/curl"),
        ("mapped", TGID, "libssl.so.3"),
        ("exited", TGID),
    ]
    pipeline(Source([CLOCK, *PROCESS_EVENTS]), CollectingSink()).run(StopRequest())


def test_a_bug_costs_one_exchange_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    sink = CollectingSink()
    run = pipeline(Source([CLOCK, *exchange()], second_exchange()), sink, processes=ProcessTable(broken))
    run.run(StopRequest())
    assert run.counters()["span_failures"] == 2
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert "ValueError" in errors[0].getMessage()


def broken(facts: ProcessFacts) -> Resource:
    raise ValueError(f"no resource for {facts.tgid}")


@pytest.mark.parametrize("build", [resource_of, broken])
def test_the_metrics_of_a_run_balance(build: Callable[[ProcessFacts], Resource]) -> None:
    sink = CollectingSink()
    run = pipeline(Source([CLOCK, *exchange()], second_exchange()), sink, processes=ProcessTable(build))
    run.run(StopRequest())
    text = generate_latest(build_registry(lambda: run)).decode()
    values = {
        name: float(value)
        for name, value in (line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("wirespan"))
    }
    assert values["wirespan_exchanges_total"] == 2
    built, failed = values["wirespan_spans_built_total"], values["wirespan_span_failures_total"]
    assert built + failed == 2
    fates = sum(value for name, value in values.items() if name.startswith("wirespan_spans_total{"))
    assert fates + values['wirespan_spans_queued{sink="collected"}'] == built
    assert values['wirespan_capture_losses_total{cause="ring_full_records"}'] == 7
    assert values['wirespan_connections_judged_total{verdict="http"}'] == 5
    assert values["wirespan_budget_bytes_total"] == 11
    assert values['wirespan_exchanges_incomplete_total{reason="lost_bytes"}'] == 0
    assert values["wirespan_connections"] == 0


def test_metrics_before_the_start_hold_what_is_known() -> None:
    text = generate_latest(build_registry(lambda: None)).decode()
    assert "wirespan_build_info" in text
    assert "process_resident_memory_bytes" in text
    assert "wirespan_exchanges" not in text


def test_the_liveness_mark_moves_with_the_loop() -> None:
    run = pipeline(Source([CLOCK], []), CollectingSink())
    run.ticked_at = 0.0
    before = time.monotonic()
    run.run(StopRequest())
    assert before <= run.ticked_at <= time.monotonic()


def test_a_child_that_has_ended_is_selected_as_its_parent() -> None:
    """A fork for each connection, read when /proc shows of the child only that it has not been waited for."""
    sink = CollectingSink()
    parent, child = TGID + 1, TGID
    known = {
        parent: ProcessFacts(1_000, parent, 1, "/bin/server", ("server",), "shop"),
        child: ProcessFacts(1_000, child, 2, None, (), None),
    }
    processes = ProcessTable(resource_of, read=lambda tgid, _: known.get(tgid))
    selection = Selection(SelectionRules(executables=("server",)), PoliciesInMemory(), processes)
    events = [CLOCK, ProcessForked(1_500, child, parent), *exchange(), ProcessExited(9_000, child)]
    run = pipeline(Source(events), sink, processes=processes, selection=selection)
    run.run(StopRequest())
    assert [span.resource.service_name for span in sink.spans] == ["/bin/server"]
    assert run.counters()["refused"] == 0


@pytest.mark.parametrize("selects", [True, False])
def test_the_end_of_a_connection_makes_no_process_of_one_that_has_ended(*, selects: bool) -> None:
    reads: list[int] = []
    processes = ProcessTable(resource_of, read=lambda tgid, _: reads.append(tgid))
    rules = SelectionRules(executables=("curl",)) if selects else SelectionRules()
    selection = Selection(rules, PoliciesInMemory(), processes)
    ended = moved(Direction.INGRESS, b"", 3_000, position=0, length=0)
    ended.kind = EventKind.ENDED
    events = [CLOCK, ProcessExited(2_500, TGID), ended]
    pipeline(Source(events), CollectingSink(), processes=processes, selection=selection).run(StopRequest())
    assert reads == []
    assert processes.counters()["running"] == 0
