"""From exchanges to the sinks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from agent.attribution import Attributor
from agent.export import Export
from agent.processes import PATIENCE_NS, ProcessTable
from agent.selection import Selection
from agent.selection_rules import SelectionRules
from agent.workloads.workload import CaptureDecision, Workload
from ebpf.events import ClockSample, Origin, Policy, ProcessFacts, Role, SocketInfo
from otel_bridge.resources import ResourceBuilder
from otel_bridge.spans.options import SpanOptions
from otel_bridge.spans.span_ids import CaptureIdGenerator
from parsers.http_exchange import Body, HttpExchange, HttpRequest, HttpResponse
from tests.stand_ins import CollectingSink, PoliciesInMemory, ToldDiscovery

CONTAINER = "c" * 64
SHOP = Workload(container_id=CONTAINER, names=("shop",), attributes={"container.name": "shop"})
SOCKET = SocketInfo("ipv4", "10.0.0.1", 80, "10.0.0.2", 4000, 1, 2, 3)
TGID = 42


def read(tgid: int, ktime_ns: int) -> ProcessFacts:
    return ProcessFacts(ktime_ns, tgid, 1, "/bin/server", (), None, (f"/docker/{CONTAINER}",))


class Way:
    """The way of exchanges to a sink, and the time."""

    def __init__(self, rules: SelectionRules | None = None, discovery: ToldDiscovery | None = None) -> None:
        self.now = 1_000
        self.sink = CollectingSink()
        processes = ProcessTable(ResourceBuilder({}).build, read=read, discovery=discovery)
        selection = None
        if rules is not None:
            selection = Selection(
                rules, PoliciesInMemory(), processes, discovery=discovery, ktime_now=lambda: self.now
            )
        self.selection = selection
        self.export = Export(
            Attributor(processes, selection, lambda: self.now),
            CaptureIdGenerator(lambda: bytes(16)),
            SpanOptions(),
            [self.sink],
            discovery=discovery,
        )
        self.export.set_clock(ClockSample(0, 1_700_000_000_000_000_000))

    def names(self) -> list[Any]:
        return [span.resource.service_name for span in self.sink.spans]


def exchange(role: Role = Role.SERVER, content: bytes = b"hello") -> HttpExchange:
    request = HttpRequest(b"GET", b"/", "1.1", [], Body(0, b"", None), 900, 900)
    response = HttpResponse(200, b"OK", "1.1", [], Body(len(content), content, "utf-8"), 950, 950)
    return HttpExchange(1, 0, SOCKET, role, Origin(900, TGID), request, response)


def test_what_is_known_goes_at_once() -> None:
    way = Way()
    way.export.take([exchange()])
    assert way.names() == ["server"]
    way.export.release()
    assert way.export.counters()["waited"] == 0


def test_an_exchange_waits_until_its_container_has_a_name() -> None:
    told = ToldDiscovery()
    way = Way(discovery=told)
    way.export.take([exchange()])
    way.export.release()
    assert way.names() == []
    assert way.export.counters()["waiting"] == 1
    told.tell(CONTAINER, SHOP)
    way.export.release()
    assert way.names() == ["shop"]


@pytest.mark.parametrize("end", ["patience", "the run"])
def test_it_goes_without_a_name_in_the_end(end: str) -> None:
    way = Way(discovery=ToldDiscovery())
    way.export.take([exchange()])
    if end == "patience":
        way.now += PATIENCE_NS
        way.export.release()
    else:
        way.export.finish()
    assert way.names() == ["server"]


def test_it_goes_without_a_name_when_others_need_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    way = Way(discovery=ToldDiscovery())
    monkeypatch.setattr(way.export._waiting, "_max_exchanges", 1)
    way.export.take([exchange(), exchange()])
    assert way.names() == ["server"]
    assert way.export.counters()["pushed_out"] == 1


def decided(**rules: Any) -> Workload:
    decision = CaptureDecision(reason="a rule", **rules)
    return Workload(container_id=CONTAINER, names=("shop",), attributes={}, decision=decision)


@pytest.mark.parametrize(
    ("workload", "exported"),
    [
        (decided(roles=Policy.CAPTURE_INGRESS), 1),
        (decided(roles=Policy.CAPTURE_EGRESS), 0),
        (decided(roles=Policy.IGNORE), 0),
        (decided(roles=Policy.CAPTURE_INGRESS, ports=frozenset({4000})), 1),
        (decided(roles=Policy.CAPTURE_INGRESS, ports=frozenset({81})), 0),
        (SHOP, 0),
    ],
)
def test_what_was_captured_provisionally_is_kept_by_the_decision(workload: Workload, exported: int) -> None:
    told = ToldDiscovery()
    way = Way(SelectionRules(pods=True), told)
    way.export.take([exchange()])
    assert way.export.counters()["waiting"] == 1
    told.tell(CONTAINER, workload)
    assert way.selection is not None
    way.selection.advance()
    way.export.release()
    assert len(way.sink.spans) == exported
    assert way.export.counters()["refused"] == 1 - exported
    assert way.export.counters()["waiting"] == 0


def test_what_is_undecided_at_the_end_is_not_exported() -> None:
    way = Way(SelectionRules(pods=True), ToldDiscovery())
    way.export.take([exchange()])
    way.export.finish()
    assert way.names() == []
    assert way.export.counters()["refused"] == 1


def test_bodies_are_left_out_where_they_are_not_wanted() -> None:
    told = ToldDiscovery()
    told.tell(CONTAINER, decided(roles=Policy.CAPTURE_INGRESS, bodies=False))
    way = Way(SelectionRules(pods=True), told)
    way.export.take([exchange()])
    (span,) = way.sink.spans
    assert "http.response.body.content" not in span.attributes
    assert span.attributes["http.response.body.size"] == 5


def test_a_peer_that_is_known_is_named() -> None:
    told = ToldDiscovery()
    told.tell(CONTAINER, SHOP)
    peer: Mapping[str, str] = {"wirespan.peer.container.name": "till"}
    told.peers["10.0.0.2"] = peer
    way = Way(discovery=told)
    way.export.take([exchange()])
    assert way.sink.spans[0].attributes["wirespan.peer.container.name"] == "till"
