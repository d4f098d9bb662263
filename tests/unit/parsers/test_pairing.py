"""Which response goes with which request, and what is flagged: the tables in parsers/http1/pairing.py."""

from __future__ import annotations

import pytest

from ebpf.events import Missing, Role
from parsers.exchange import Incomplete
from parsers.http1.pairing import PROVEN_TURNS
from parsers.http1.probation import QUIET_NS as PROBATION_QUIET_NS
from parsers.http_exchange import HttpExchange
from parsers.limits import ParserLimits
from parsers.tracker import ConnectionTracker
from tests.builders import NOTHING_MISSING, SECOND_NS, Conversation


def ask(number: int) -> bytes:
    return b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number


def answer(number: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nX-Id: %d\r\nContent-Length: 0\r\n\r\n" % number


def tell(exchanges: list[HttpExchange]) -> list[str]:
    """Return each exchange as `request-response flag`, each side by its number."""
    lines = []
    for exchange in exchanges:
        asked = exchange.request.target[1:].decode() if exchange.request else "?"
        answered = dict(exchange.response.headers)[b"X-Id"].decode() if exchange.response else "?"
        lines.append(f"{asked}-{answered} {exchange.incomplete or ''}".strip())
    return lines


def turn(talk: Conversation, number: int) -> None:
    talk.request(ask(number))
    talk.response(answer(number))


def pipeline(talk: Conversation, *numbers: int) -> None:
    talk.request(b"".join(ask(number) for number in numbers))
    for number in numbers:
        talk.response(answer(number))


def test_certain_pipelining_is_sure() -> None:
    talk = Conversation()
    pipeline(talk, 1, 2, 3)
    turn(talk, 4)
    assert tell(talk.run()) == ["1-1", "2-2", "3-3", "4-4"]


@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
def test_certain_holds_a_response_for_its_request(role: Role) -> None:
    talk = Conversation(role=role)
    for number in (1, 2, 3):
        talk.response(answer(number))
        talk.request(ask(number))
    assert tell(talk.run()) == ["1-1", "2-2", "3-3"]


def test_a_held_response_knows_its_requests_method() -> None:
    talk = Conversation()
    talk.response(b"HTTP/1.1 200 OK\r\nX-Id: 1\r\nContent-Length: 1000\r\n\r\n")
    talk.request(b"HEAD /1 HTTP/1.1\r\nHost: a\r\n\r\n")
    turn(talk, 2)
    assert tell(talk.run()) == ["1-1", "2-2"]


def test_a_response_is_held_for_the_reorder_time_only() -> None:
    talk = Conversation()
    talk.response(answer(1))
    assert talk.run(finish=False) == []
    assert tell(talk.run()) == ["?-1 one_side"]


def test_a_response_without_request_after_requests_were_seen_tells_of_a_loss() -> None:
    talk = Conversation()
    turn(talk, 1)
    talk.response(answer(2))
    assert tell(talk.run()) == ["1-1", "?-2 lost_bytes"]


def test_held_responses_are_bounded() -> None:
    talk = Conversation()
    talk.response(answer(1) * 3)
    assert tell(talk.run(ParserLimits(max_stream_buffer=100), finish=False)) == ["?-1 one_side"] * 3


def test_a_lost_response_costs_its_own_exchange_and_flags_until_a_quiet_spell() -> None:
    talk = Conversation()
    turn(talk, 1)
    talk.request(ask(2))
    talk.response(b"", length=len(answer(2)), missing=Missing.RING_FULL)
    turn(talk, 3)
    talk.wait(4 * SECOND_NS)
    turn(talk, 4)
    talk.wait(5 * SECOND_NS)
    turn(talk, 5)
    assert tell(talk.run()) == ["1-1", "2-? lost_bytes", "3-3 lost_bytes", "4-4 lost_bytes", "5-5"]


@pytest.mark.parametrize("pause_seconds", [0, 1, 4])
def test_responses_that_are_reported_one_request_late_after_a_loss_are_flagged(pause_seconds: int) -> None:
    talk = Conversation()
    for number in range(1, 1 + PROVEN_TURNS):
        turn(talk, number)
    talk.request(ask(4))
    talk.response(b"", length=25, missing=Missing.RING_FULL)  # 100 Continue
    for number in (5, 6, 7):
        talk.wait(pause_seconds * SECOND_NS)
        talk.request(ask(number))
        talk.response(answer(number - 1))
    told = tell(talk.run())[PROVEN_TURNS:]
    assert "5-4 lost_bytes" in told
    assert all(line.endswith(" lost_bytes") for line in told)


def test_a_response_that_comes_too_late_for_the_request_before_ends_the_flags() -> None:
    talk = Conversation()
    turn(talk, 1)
    talk.request(ask(2))
    talk.response(b"", length=len(answer(2)), missing=Missing.RING_FULL)
    talk.request(ask(3))
    talk.wait(SECOND_NS + 1)  # longer than any report is late
    talk.response(answer(3))
    turn(talk, 4)
    assert tell(talk.run()) == ["1-1", "2-? lost_bytes", "3-3 lost_bytes", "4-4"]


def test_joined_late_a_response_ahead_of_a_request_that_waits_for_lost_bytes_makes_doubt() -> None:
    """Request 2 stands behind a hole that nothing reports, so its response seems to have none."""
    talk = Conversation(joined_late=True)
    talk.request(b"POST /1 HTTP/1.1\r\nContent-Length: 20\r\n\r\n" + bytes(10))
    talk.lose_request(5)
    talk.request(bytes(5) + b"HEAD /2 HTTP/1.1\r\nHost: a\r\n\r\n")
    talk.response(answer(1))
    talk.response(b"HTTP/1.1 200 OK\r\nX-Id: 2\r\nContent-Length: 446\r\n\r\n")
    talk.lose_request(len(ask(3)))
    waiting = len(talk.events)
    talk.wait(SECOND_NS)
    talk.response(answer(3))
    turn(talk, 4)
    tracker = ConnectionTracker(ParserLimits())
    exchanges = [each for event in talk.events[:waiting] for each in tracker.feed(event)]
    # The lost bytes do not come, and request 2 is read.
    exchanges += tracker.advance(talk.events[waiting - 1].ktime_ns + SECOND_NS)
    for event in talk.events[waiting:]:
        exchanges += tracker.feed(event)
        exchanges += tracker.advance(event.ktime_ns + PROBATION_QUIET_NS)
    told = tell(exchanges + tracker.flush())
    assert "2-3 joined_late" in told
    assert "2-3" not in told


def test_a_response_lost_until_the_next_one_makes_doubt_that_a_quiet_spell_ends() -> None:
    talk = Conversation()
    talk.request(ask(1))
    talk.lose_response(len(answer(1)))
    talk.request(ask(2))
    talk.response(answer(2), missing=Missing.RING_FULL)
    turn(talk, 3)
    talk.wait(5 * SECOND_NS)
    turn(talk, 4)
    assert tell(talk.run()) == ["1-? lost_bytes", "2-2 lost_bytes", "3-3 lost_bytes", "4-4"]


def test_a_loss_after_pipelining_makes_doubt_for_good() -> None:
    talk = Conversation()
    pipeline(talk, 1, 2)
    talk.lose_request(10)
    talk.request(ask(4), missing=Missing.RING_FULL)
    talk.response(answer(3))
    talk.response(answer(4))
    talk.wait(2 * SECOND_NS)
    turn(talk, 5)
    assert tell(talk.run()) == ["1-1", "2-2", "4-3 lost_bytes", "?-4 lost_bytes", "5-5 lost_bytes"]


def test_a_lost_request_leaves_its_response_alone() -> None:
    talk = Conversation()
    turn(talk, 1)
    talk.lose_request(len(ask(2)))
    talk.response(answer(2))
    talk.request(ask(3), missing=Missing.RING_FULL)
    talk.response(answer(3))
    turn(talk, 4)
    talk.wait(5 * SECOND_NS)
    turn(talk, 5)
    flagged = [f"{number}-{number} lost_bytes" for number in (3, 4)]
    assert tell(talk.run()) == ["1-1", "?-2 lost_bytes", *flagged, "5-5"]


def test_silence_does_not_end_the_doubt_while_lost_requests_are_unanswered() -> None:
    talk = Conversation()
    talk.request(b"", length=3 * len(ask(1)), missing=Missing.RING_FULL)
    talk.wait(5 * SECOND_NS)
    talk.request(ask(4))
    talk.lose_response(2 * len(answer(1)))
    talk.response(answer(3), missing=Missing.RING_FULL)
    talk.request(ask(5))
    talk.response(answer(4))
    talk.response(answer(5))
    assert tell(talk.run()) == ["4-3 lost_bytes", "5-4 lost_bytes", "?-5 lost_bytes"]


@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
def test_silence_in_which_responses_were_lost_has_not_ended_the_doubt(role: Role) -> None:
    talk = Conversation(role=role)
    talk.request(b"", length=3 * len(ask(1)), missing=Missing.RING_FULL)
    talk.response(answer(1))
    talk.wait(5 * SECOND_NS)
    talk.request(ask(4))
    talk.lose_response(len(answer(2)))  # in what looked like silence
    talk.response(answer(3), missing=Missing.RING_FULL)
    talk.request(ask(5))
    talk.response(answer(4))
    talk.response(answer(5))
    told = tell(talk.run())
    assert [line.split()[0] for line in told] == ["?-1", "4-3", "5-4", "?-5"]
    assert all(line.endswith(" lost_bytes") for line in told)


def test_a_client_that_has_shown_itself_is_believed_after_a_quiet_spell() -> None:
    talk = Conversation()
    for number in range(1, 1 + PROVEN_TURNS):
        turn(talk, number)
    talk.lose_request(len(ask(7)))
    talk.response(answer(7))
    talk.request(ask(8), missing=Missing.RING_FULL)
    talk.response(answer(8))
    turn(talk, 9)
    talk.wait(5 * SECOND_NS)
    turn(talk, 10)
    right = [f"{number}-{number}" for number in range(1, 1 + PROVEN_TURNS)]
    flagged = ["?-7 lost_bytes", "8-8 lost_bytes", "9-9 lost_bytes"]
    assert tell(talk.run()) == [*right, *flagged, "10-10"]


@pytest.mark.parametrize("opened", [True, False])
@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
@pytest.mark.parametrize("lost", ["requests", "responses", "both", "none"])
def test_a_direction_that_begins_behind_a_loss_makes_doubt(opened: bool, role: Role, lost: str) -> None:  # noqa: FBT001 - parameters of the test
    """The lost requests were pipelined: each answer that is seen is that of another."""
    talk = Conversation(role=role, opened=opened)
    requests_lost, responses_lost = lost in ("requests", "both"), lost in ("responses", "both")
    if requests_lost:
        talk.lose_request(len(ask(1)))
    else:
        talk.request(ask(1))
    talk.request(ask(2), missing=Missing.RING_FULL if requests_lost else NOTHING_MISSING)
    if responses_lost:
        talk.lose_response(len(answer(1)))
    else:
        talk.response(answer(1))
    talk.response(answer(2), missing=Missing.RING_FULL if responses_lost else NOTHING_MISSING)
    turn(talk, 3)
    for line in tell(talk.run()):
        request, _, response = line.partition(" ")[0].partition("-")
        assert " " in line or request == response, line


def test_an_answer_right_behind_a_lost_request_is_not_that_of_the_next() -> None:
    talk = Conversation()
    for number in range(1, 1 + PROVEN_TURNS):
        turn(talk, number)
    talk.lose_request(len(ask(7)))
    talk.request(ask(8), missing=Missing.RING_FULL)
    talk.response(answer(7))
    talk.response(answer(8))
    assert tell(talk.run())[PROVEN_TURNS:] == ["8-7 lost_bytes", "?-8 lost_bytes"]


def test_requests_before_the_lost_ones_keep_their_place() -> None:
    talk = Conversation()
    talk.request(ask(1))
    talk.lose_request(len(ask(2)))
    talk.request(ask(3), missing=Missing.RING_FULL)
    for number in (1, 2, 3):
        talk.response(answer(number))
    exchanges = tell(talk.run())
    assert exchanges[0] == "1-1"
    assert exchanges[1:] == ["3-2 lost_bytes", "?-3 lost_bytes"]


def test_joined_late_pairs_are_sure_while_they_alternate() -> None:
    talk = Conversation(joined_late=True)
    turn(talk, 1)
    turn(talk, 2)
    assert tell(talk.run()) == ["1-1", "2-2"]


def test_joined_late_a_response_without_request_goes_at_once() -> None:
    talk = Conversation(joined_late=True)
    talk.response(answer(1))
    assert tell(talk.run(finish=False)) == ["?-1 joined_late"]
    turn(talk, 2)
    assert tell(talk.run()) == ["?-1 joined_late", "2-2"]


def test_joined_late_in_the_middle_of_messages() -> None:
    talk = Conversation(joined_late=True)
    talk.request(b"the rest of a body")
    talk.response(b"and of another\r\n\r\n")
    turn(talk, 2)
    assert tell(talk.run()) == ["2-2"]


def test_joined_late_pipelining_makes_doubt_for_good() -> None:
    talk = Conversation(joined_late=True)
    turn(talk, 1)
    pipeline(talk, 2, 3)
    talk.wait(2 * SECOND_NS)
    turn(talk, 4)
    assert tell(talk.run()) == ["1-1 joined_late", "2-2 joined_late", "3-3 joined_late", "4-4 joined_late"]


def test_joined_late_a_request_that_comes_before_the_response_is_over_makes_doubt() -> None:
    talk = Conversation(joined_late=True)
    talk.request(ask(1))
    talk.response(b"HTTP/1.1 200 OK\r\nX-Id: 1\r\nContent-Length: 2\r\n\r\na")
    talk.request(ask(2))
    talk.response(b"b")
    talk.response(answer(2))
    assert tell(talk.run()) == ["1-1 joined_late", "2-2 joined_late"]


def test_joined_late_a_client_whose_responses_come_before_their_requests_is_doubted() -> None:
    talk = Conversation(role=Role.CLIENT, joined_late=True)
    for number in (1, 2, 3):
        talk.response(answer(number))
        talk.request(ask(number))
    talk.wait(2 * SECOND_NS)
    exchanges = tell(talk.run())
    assert exchanges[0] == "?-1 joined_late"
    assert all(" " in line for line in exchanges), "no pair may claim to be sure"


def test_joined_late_the_doubt_about_a_client_ends_with_a_quiet_spell() -> None:
    talk = Conversation(role=Role.CLIENT, joined_late=True)
    talk.response(answer(1))
    turn(talk, 2)
    talk.wait(5 * SECOND_NS)
    turn(talk, 3)
    assert tell(talk.run()) == ["?-1 joined_late", "2-2 joined_late", "3-3"]


def test_joined_late_between_a_head_request_and_its_response() -> None:
    talk = Conversation(joined_late=True)
    talk.response(b"HTTP/1.1 200 OK\r\nX-Id: 1\r\nContent-Length: 500\r\n\r\n")
    turn(talk, 2)
    turn(talk, 3)
    assert tell(talk.run()) == ["?-1 joined_late", "2-2", "3-3"]


def test_joined_late_before_a_response_whose_request_was_missed_until_the_end() -> None:
    talk = Conversation(joined_late=True)
    talk.response(b"HTTP/1.0 200 OK\r\nX-Id: 1\r\n\r\nbody")
    talk.end_responses()
    talk.close()
    assert tell(talk.run()) == ["?-1 joined_late"]


def test_an_uncaptured_tail_by_design_leaves_the_next_pair_sure() -> None:
    head = b"HTTP/1.1 200 OK\r\nX-Id: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
    talk = Conversation()
    talk.request(ask(1))
    talk.response(head + b"2\r\nab\r\n")
    talk.lose_response(1000)
    talk.request(ask(2))
    talk.response(answer(2), missing=Missing.BUDGET)
    turn(talk, 3)
    assert tell(talk.run()) == ["1-1", "2-2", "3-3"]


def test_more_pending_requests_than_the_bound_are_given_up() -> None:
    talk = Conversation()
    talk.request(b"".join(ask(number) for number in range(1, 8)))
    talk.response(answer(5))
    exchanges = talk.run(ParserLimits(max_pending_messages=5))
    assert tell(exchanges)[:5] == [f"{number}-? evicted" for number in range(1, 6)]
    assert all(exchange.incomplete for exchange in exchanges)


def test_ambiguous_framing_makes_doubt() -> None:
    talk = Conversation()
    talk.request(b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 30\r\n\r\n")
    talk.response(answer(1))
    turn(talk, 2)
    talk.request(ask(3))
    talk.response(b"HTTP/1.1 200 OK\r\nX-Id: 3\r\nContent-Length: 1, 2\r\n\r\n")
    turn(talk, 4)
    assert tell(talk.run()) == ["1-1 invalid", "2-2 invalid", "3-3 invalid", "4-4 invalid"]


def test_responses_that_are_not_http_are_invalid() -> None:
    talk = Conversation()
    talk.request(ask(1))
    talk.response(b"SSH-2.0-OpenSSH_9.2\r\n")
    turn(talk, 2)
    talk.wait(5 * SECOND_NS)
    turn(talk, 3)
    assert tell(talk.run()) == ["1-? invalid", "2-2 invalid", "3-3"]


def test_a_request_given_up_while_its_body_comes_stays_as_it_was() -> None:
    talk = Conversation()
    talk.request(b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\nab")
    talk.response(b"HTTP/1.1 200 OK\r\nX-Id: 1\r\nContent-Length: 9, 8\r\n\r\n")
    (exchange,) = talk.run(finish=False)
    assert exchange.request is not None
    before = (exchange.request.body.content, exchange.request.end_ktime_ns)
    talk.request(b"c" * 400)
    talk.request(b"", length=498, missing=Missing.BUDGET)
    turn(talk, 2)
    exchanges = talk.run()
    assert tell(exchanges) == ["1-1 invalid", "2-2"]
    assert exchanges[0].request is not None
    assert (exchanges[0].request.body.content, exchanges[0].request.end_ktime_ns) == before


def test_an_early_response_lost_in_the_middle_gives_up_the_request_too() -> None:
    talk = Conversation()
    talk.request(b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
    talk.response(b"HTTP/1.1 413 X\r\nX-Id: 1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
    talk.request(b"cd")
    turn(talk, 2)
    assert tell(talk.run()) == ["1-1 invalid", "2-2"]
    assert talk.run()[0].incomplete is Incomplete.INVALID


def test_bytes_passed_over_after_a_loss_may_have_answered_the_open_request() -> None:
    talk = Conversation()
    turn(talk, 1)
    talk.request(ask(2))
    talk.response(answer(2)[:10], length=len(answer(2)), missing=Missing.RING_FULL)
    talk.request(ask(3))
    # A status line behind the beginning of another call's bytes is not found again.
    talk.response(b"," + answer(3))
    talk.lose_request(len(ask(4)))
    talk.response(answer(4))
    talk.request(ask(5), missing=Missing.RING_FULL)
    talk.response(answer(5))
    assert tell(talk.run()) == ["1-1", "2-? lost_bytes", "3-4 lost_bytes", "5-5 lost_bytes"]
