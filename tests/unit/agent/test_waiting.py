"""Exchanges that wait."""

import dataclasses

from agent.attribution import Attribution
from agent.decisions import CaptureState
from agent.waiting import WaitingExchanges
from ebpf.events import Origin, Role, SocketInfo
from parsers.http_exchange import Body, HttpExchange, HttpRequest

SOCKET = SocketInfo("ipv4", "127.0.0.1", 80, "127.0.0.1", 4000, 1, 2, 3)


def pending(program: str) -> Attribution:
    return Attribution(program, 1, 0, CaptureState.PENDING, None, bodies=True, in_force=None)


def ready(attribution: Attribution) -> Attribution:
    return dataclasses.replace(attribution, state=CaptureState.ACCEPTED)


def exchange(number: int, size: int = 1) -> HttpExchange:
    body = Body(size=size, content=b"x" * size, charset=None)
    return HttpExchange(
        number, 0, SOCKET, Role.SERVER, Origin(0, 1), HttpRequest(b"GET", b"/", "1.1", [], body, 0, 0), None
    )


def test_the_ready_come_out_in_their_order_and_the_others_stay() -> None:
    waiting = WaitingExchanges()
    for number in range(6):
        # each exchange has an attribution of its own
        assert waiting.add(exchange(number), pending("late" if number % 2 else "early")) == []
    asked = []

    def renew(attribution: Attribution) -> Attribution:
        asked.append(attribution.program)
        return ready(attribution) if attribution.program == "early" else attribution

    assert [each.connection_id for each, _ in waiting.take(renew)] == [0, 2, 4]
    assert sorted(asked) == ["early", "late"], "each program is asked for once"
    assert len(waiting) == 3
    assert [(each.connection_id, whose.program, whose.state) for each, whose in waiting.take(ready)] == [
        (number, "late", CaptureState.ACCEPTED) for number in (1, 3, 5)
    ]
    assert waiting.counters() == {"waiting": 0, "waited": 6, "pushed_out": 0}


def test_the_oldest_goes_for_one_too_many() -> None:
    waiting, whose = WaitingExchanges(max_exchanges=2), pending("any")
    assert [waiting.add(exchange(number), whose) for number in (1, 2)] == [[], []]
    ((pushed_out, attribution),) = waiting.add(exchange(3), whose)
    assert pushed_out.connection_id == 1
    assert attribution is whose
    assert waiting.counters() == {"waiting": 2, "waited": 3, "pushed_out": 1}


def test_the_oldest_go_for_too_many_bytes() -> None:
    waiting, whose = WaitingExchanges(max_bytes=10), pending("any")
    for number in (1, 2):
        assert waiting.add(exchange(number, 4), whose) == []
    assert [each.connection_id for each, _ in waiting.add(exchange(3, 9), whose)] == [1, 2]
    assert [each.connection_id for each, _ in waiting.add(exchange(4, 11), whose)] == [3, 4]
    assert waiting.add(exchange(5, 10), whose) == [], "nothing is left in the books"
