"""Judging a connection in packets by its first bytes, also one that was joined late."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ebpf.events import Direction, EventKind, Protocol, Role
from parsers.exchange import Incomplete
from tests.builders import SECOND_NS, run_events
from tests.packets import ACK, FIN, Talk, socket_events
from tests.unit.ebpf.talks import GET, OK, SECOND, WHOLE, counted, described, told, without

TLS = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\6\4\0\0\0\0\0" + bytes(6)


def test_a_connection_joined_late_begins_with_the_first_message() -> None:
    late = Talk()
    late.open()
    late.response(b"the rest of an answer")
    late.request(GET)
    late.response(OK)
    events = told(late.segments[3:])
    assert all(event.joined_late for event in events)
    assert [(event.direction, event.position, event.payload) for event in events[1:]] == [
        (Direction.INGRESS, 0, GET),
        (Direction.EGRESS, 0, OK),
    ]
    assert described(late.segments[3:]) == WHOLE


def test_a_response_tells_the_roles_of_a_connection_joined_late() -> None:
    late = Talk()
    late.open()
    late.response(OK)
    (result,) = run_events(told(late.segments[3:]))
    assert (result.role, result.socket.local_port) == (Role.SERVER, 80)
    assert result.incomplete is Incomplete.JOINED_LATE


def test_a_first_request_that_is_missing_leaves_the_roles_known() -> None:
    talk = Talk()
    talk.open()
    lost = talk.send(0, GET)
    talk.response(OK)
    talk.request(SECOND)
    talk.response(OK)
    exchanges = run_events(told(without(talk.segments, lost)))
    assert [each.incomplete for each in exchanges] == [Incomplete.JOINED_LATE, None]
    assert exchanges[1].request is not None
    assert exchanges[1].request.target == b"/2"
    assert {each.role for each in exchanges} == {Role.SERVER}


def test_an_unknown_beginning_of_the_answers_is_a_gap() -> None:
    talk = Talk()
    talk.open()
    talk.send(0, GET)
    talk.wait(3 * SECOND_NS)
    talk.send(0, b"", ack=0)
    answer = talk.send(1, OK)
    unacknowledged = [replace(segment, flags=0) for segment in talk.segments[3:5]]
    segments = [talk.segments[0], *unacknowledged, answer]
    for each in (segments, segments[1:]):
        events = told(each)
        assert [(e.direction, e.position, e.length, e.payload) for e in events[1:]] == [
            (Direction.INGRESS, 0, len(GET), GET),
            (Direction.EGRESS, 0, 1, b""),
            (Direction.EGRESS, 1, len(OK), OK),
        ]


def speak(*turns: tuple[int, bytes], late: bool = False) -> Talk:
    talk = Talk()
    talk.open()
    if late:
        talk.segments.clear()
    for sender, data in turns:
        talk.send(sender, data)
        talk.send(1 - sender)
    return talk


@pytest.mark.parametrize(
    ("turns", "verdict"),
    [
        ([(0, TLS)], "connections_tls"),
        ([(0, b"\x16"), (0, b"\x03\x01")], "connections_tls"),
        ([(1, b"220 mail.example\r\n")], "connections_not_http"),
        ([(1, b"\0\0")], "connections_not_http"),
        ([(0, SETTINGS)], "connections_not_http"),
        ([(0, b"GE"), (0, b"T / HTTP/1.1\r\n\r\n")], "connections_http"),
        ([(0, b"G"), (0, b"IF8")], "connections_not_http"),
        ([(0, b"\r\n\r\nPOST / HTTP/1.1\r\n\r\n")], "connections_http"),
        ([(0, PREFACE)], "connections_http2"),
        ([(1, SETTINGS), (0, PREFACE)], "connections_http2"),
        ([(1, SETTINGS[:4]), (1, SETTINGS[4:])], "connections_http2"),
    ],
)
def test_what_a_connection_speaks_is_told_by_its_first_bytes(
    turns: list[tuple[int, bytes]], verdict: str
) -> None:
    counts = counted(speak(*turns).segments)
    counts.pop("bytes_left_alone", None)
    assert counts == {verdict: 1}
    events = [event for event in told(speak(*turns).segments) if event.kind is not EventKind.UNJUDGED]
    assert bool(events) == ("connections_http" in verdict)
    assert b"".join(e.payload for e in events) == (b"".join(data for _, data in turns) if events else b"")
    assert all((event.socket.protocol == Protocol.HTTP2) == verdict.endswith("2") for event in events)


def test_what_a_connection_carries_that_is_no_http_is_counted() -> None:
    talk = speak((0, b"\x16"), (0, b"\x03\x01"), (1, b"\x16\x03\x03"))
    talk.close()
    assert counted(talk.segments) == {"connections_tls": 1, "bytes_left_alone": 6}
    lost = talk.segments[-5]
    assert counted(without(talk.segments, lost)) == {"connections_tls": 1, "bytes_left_alone": 3}


def test_an_end_while_undecided_is_told_behind_the_beginning() -> None:
    talk = Talk()
    talk.open()
    talk.request(b"GE")
    talk.send(1, flags=FIN | ACK)
    talk.send(0)
    talk.request(GET[2:])
    assert [event.kind for event in told(talk.segments)] == [
        EventKind.OPENED,
        EventKind.DATA,
        EventKind.ENDED,
        EventKind.DATA,
    ]
    late = Talk()
    late.open()
    late.request(b"GE")
    late.send(1, flags=FIN | ACK)
    late.send(0)
    late.request(GET)
    assert [event.kind for event in told(late.segments[3:])] == [EventKind.OPENED, EventKind.DATA]


def test_a_connection_joined_late_is_judged_at_every_segment_for_some_turns() -> None:
    noise = [(turn % 2, b"noise") for turn in range(15)]
    assert counted(speak(*noise, (1, OK), late=True).segments)["connections_http"] == 1
    assert counted(speak(*noise, (1, b"noise"), (0, GET), late=True).segments) == {
        "connections_not_http": 1,
        "bytes_left_alone": 5 + len(GET),
    }


def test_two_bytes_in_the_middle_prove_no_tls() -> None:
    assert counted(speak((0, TLS), (0, GET), late=True).segments) == {"connections_http": 1}


def test_http2_joined_late_begins_with_a_head_that_tells_who_speaks() -> None:
    window_update = b"\0\0\4\x08\0\0\0\0\0\0\0\1\0"
    head = b"\0\0\3\1\4\0\0\0\3\x82\x86\x84"
    turns = [(turn % 2, window_update) for turn in range(40)]
    talk = speak(*turns, (0, head), late=True)
    events = told(talk.segments)
    assert [event.payload for event in events] == [b"", head]
    assert all(event.socket.protocol == Protocol.HTTP2 and event.joined_late for event in events)
    assert events[0].socket.local_port == 80
    answer = b"\0\0\1\1\4\0\0\0\3\x88"
    assert told(speak((1, answer), late=True).segments)[0].socket.local_port == 80


def test_first_bytes_that_the_capture_cut_are_a_late_beginning() -> None:
    talk = Talk()
    talk.open()
    talk.request(GET)
    talk.response(OK)
    packets = talk.packets
    packets[3] = packets[3].cut(14 + 20 + 32 + 2)
    events = socket_events(packets)
    assert [event.payload for event in events] == [b"", OK]
    assert all(event.joined_late for event in events)


def test_a_connection_whose_end_is_not_seen_loses_its_late_beginning_quietly() -> None:
    late = speak((0, b"noise"), late=True)
    late.send(0, flags=FIN | ACK)
    late.send(1, flags=FIN | ACK)
    late.send(0)
    assert told(late.segments) == []
