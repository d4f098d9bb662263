"""Exchanges that wait."""

from agent.processes import Process
from agent.waiting import WaitingExchanges
from ebpf.events import ProcessFacts, Role, SocketInfo
from parsers.exchange import Body, HttpExchange, HttpRequest

SOCKET = SocketInfo("ipv4", "127.0.0.1", 80, "127.0.0.1", 4000, 1, 2, 3)


def process(tgid: int) -> Process:
    return Process(ProcessFacts(0, tgid, None, None, (), None), 0, 0, None)


def exchange(number: int, size: int = 1) -> HttpExchange:
    body = Body(size=size, content=b"x" * size, charset=None)
    return HttpExchange(
        number, SOCKET, Role.SERVER, 1, HttpRequest(b"GET", b"/", "1.1", [], body, 0, 0), None
    )


def test_the_ready_come_out_in_their_order_and_the_others_stay() -> None:
    waiting, early, late = WaitingExchanges(), process(1), process(2)
    for number in range(6):
        assert waiting.add(exchange(number), late if number % 2 else early) == []
    asked = []

    def is_ready(each: Process) -> bool:
        asked.append(each)
        return each is early

    assert [each.connection_id for each, _ in waiting.take(is_ready)] == [0, 2, 4]
    assert sorted(each.facts.tgid for each in asked) == [1, 2], "each process is asked for once"
    assert len(waiting) == 3
    assert [(each.connection_id, whose) for each, whose in waiting.take(lambda _: True)] == [
        (1, late),
        (3, late),
        (5, late),
    ]
    assert waiting.counters() == {"waiting": 0, "waited": 6, "pushed_out": 0}


def test_the_oldest_goes_for_one_too_many() -> None:
    waiting, whose = WaitingExchanges(max_exchanges=2), process(1)
    assert [waiting.add(exchange(number), whose) for number in (1, 2)] == [[], []]
    ((pushed_out, its_process),) = waiting.add(exchange(3), whose)
    assert pushed_out.connection_id == 1
    assert its_process is whose
    assert waiting.counters() == {"waiting": 2, "waited": 3, "pushed_out": 1}


def test_the_oldest_go_for_too_many_bytes() -> None:
    waiting, whose = WaitingExchanges(max_bytes=10), process(1)
    for number in (1, 2):
        assert waiting.add(exchange(number, 4), whose) == []
    assert [each.connection_id for each, _ in waiting.add(exchange(3, 9), whose)] == [1, 2]
    assert [each.connection_id for each, _ in waiting.add(exchange(4, 11), whose)] == [3, 4]
    assert waiting.add(exchange(5, 10), whose) == [], "nothing is left in the books"
