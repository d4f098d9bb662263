"""One direction of a connection in packets: order, copies, overlaps, holes, and how long they last."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ebpf.events import Direction, EventKind, SocketEvent
from ebpf.packets.limits import PacketLimits
from parsers.exchange import Incomplete
from tests.builders import MILLISECOND_NS, SECOND_NS, describe, run_events
from tests.packets import ACK, CLIENT, FIN, SERVER, Segment, Talk, pcap, read_capture, run_packets
from tests.unit.ebpf.talks import GET, OK, SECOND, WHOLE, counted, described, exchange, told, without

FORGED = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhallo"


def test_an_exchange_that_spans_the_end_of_the_sequence_numbers() -> None:
    talk = Talk(client_isn=2**32 - 10, server_isn=2**32 - 20)
    talk.open()
    talk.request(GET, size=7)
    talk.response(OK, size=7)
    assert described(talk.segments) == WHOLE


def test_an_answer_that_was_written_before_its_request_follows_it() -> None:
    talk = exchange()
    request, response = talk.segments[3], talk.segments[5]
    reordered = without(talk.segments, request)
    reordered.insert(reordered.index(response) + 1, request)
    events = told(reordered)
    assert [event.payload for event in events if event.kind is EventKind.DATA] == [GET, OK]


def test_segments_that_come_again_change_nothing() -> None:
    talk = exchange()
    again = [segment for segment in talk.segments for _ in range(2)]
    assert described(again) == WHOLE
    assert counted(again) == {"connections_http": 1, "duplicate_bytes": len(GET + OK)}


def test_keep_alive_probes_are_no_data() -> None:
    talk = exchange()
    request = talk.segments[3]
    probe = replace(talk.segments[6], sequence=request.sequence + len(GET) - 1, payload=b"\0")
    segments = [*talk.segments[:7], probe, replace(probe, payload=b""), *talk.segments[7:]]
    assert described(segments) == WHOLE


def test_a_missing_segment_is_a_gap_once_its_receiver_acknowledged_it() -> None:
    talk = Talk()
    talk.open()
    talk.request(GET)
    talk.response(OK[:-5])
    lost = talk.send(1, OK[-5:-2])
    talk.send(1, OK[-2:])
    talk.send(0)
    talk.wait(40 * SECOND_NS)
    talk.request(SECOND)
    events = told(without(talk.segments, lost))
    gap = next(event for event in events if event.kind is EventKind.DATA and not event.payload)
    assert (gap.direction, gap.position, gap.length) == (Direction.EGRESS, len(OK) - 5, 3)
    assert events.index(gap) < len(events) - 1
    first, *_ = run_events(events)
    assert describe(first) == "GET /1 1.1 (0) -> 200 1.1 (5 gap)".replace("(5 ", "(5 b'' ")
    assert counted(without(talk.segments, lost))["missing_bytes"] == 3


def test_a_segment_that_nobody_acknowledged_is_waited_for() -> None:
    talk = Talk()
    talk.open()
    talk.request(GET)
    talk.response(OK[:-5])
    late = talk.send(1, OK[-5:-2])
    talk.send(1, OK[-2:])
    talk.wait(10 * SECOND_NS)
    segments = [*without(talk.segments, late), replace(late, unix_ns=talk.unix_ns)]
    assert described(segments) == WHOLE


def test_a_hole_that_nobody_fills_is_given_up_after_its_time() -> None:
    talk = Talk()
    talk.open()
    talk.request(GET)
    talk.response(OK[:-5])
    late = talk.send(1, OK[-5:-2])
    talk.send(1, OK[-2:])
    talk.wait(31 * SECOND_NS)
    tick = talk.send(0, ack=late.sequence)
    talk.wait(SECOND_NS)
    assert counted(without(talk.segments, late))["missing_bytes"] == 3
    # Afterwards it comes too late.
    segments = [*without(talk.segments, late), tick, replace(late, unix_ns=talk.unix_ns)]
    assert counted(segments)["duplicate_bytes"] == 3


def test_bytes_whose_acknowledgement_is_missing_are_told_after_a_time() -> None:
    """The time is short when nothing of their receiver was captured."""
    for receiver_seen, waits_ns in ((False, SECOND_NS), (True, 30 * SECOND_NS)):
        talk = Talk()
        talk.open()
        talk.send(0, GET)
        segments = talk.segments if receiver_seen else [s for s in talk.segments if s.source == CLIENT]
        for later_ns, order in ((waits_ns - SECOND_NS // 2, [2, 1]), (waits_ns + SECOND_NS // 2, [1, 2])):
            other = Talk(("192.0.2.8", 9), start_unix_ns=talk.unix_ns + later_ns)
            other.open()
            other.request(GET)
            events = told(segments + other.segments)
            assert [event.connection_id for event in events if event.payload] == order


def test_a_repeated_request_does_not_wait_for_the_answer_to_itself() -> None:
    talk = exchange()
    request, response = talk.segments[3], talk.segments[5]
    spurious = replace(
        request, acknowledgement=response.sequence + len(OK), unix_ns=response.unix_ns + MILLISECOND_NS
    )
    segments = [spurious if segment is request else segment for segment in talk.segments]
    segments.remove(spurious)
    segments.insert(segments.index(response) + 1, spurious)
    assert described(segments) == WHOLE


def test_a_lost_answer_is_told_between_its_request_and_the_next_one() -> None:
    """So that the answer after it is not taken for the lost one, in whatever order the packets stand."""
    talk = Talk()
    talk.open()
    request = talk.send(0, GET)
    lost = talk.send(1, OK)
    follower = talk.send(0, SECOND)
    talk.response(OK)
    for segments in (
        without(talk.segments, lost),
        without(talk.segments, lost, request),
        [*without(talk.segments, lost, follower), follower],
        [*without(talk.segments, lost, request), request],
    ):
        exchanges = run_events(told(segments))
        pairs = [(each.request, each.response) for each in exchanges if each.incomplete is None]
        assert [request.target for request, _ in pairs if request] in ([], [b"/2"])


def test_the_loss_of_an_answer_stands_behind_a_request_that_stands_behind_a_hole() -> None:
    talk = Talk()
    talk.open()
    missing = talk.send(0, b"POST /0 HTTP/1.1\r\n")
    request = talk.send(0, GET)
    lost = talk.send(1, OK)
    talk.send(0, SECOND)
    talk.send(1)
    events = told(without(talk.segments, missing, lost))
    assert [(e.direction, e.length, e.payload) for e in events if e.kind is EventKind.DATA] == [
        (Direction.INGRESS, len(GET), request.payload),
        (Direction.EGRESS, len(OK), b""),
        (Direction.INGRESS, len(SECOND), SECOND),
    ]


def test_a_hole_is_told_up_to_where_the_other_direction_knew_it() -> None:
    talk = Talk()
    talk.open()
    talk.request(GET)
    lost = [talk.send(1, OK)]
    talk.request(SECOND)
    lost += [talk.send(1, OK)]
    talk.request(GET)
    events = told(without(talk.segments, *lost))
    assert [(e.direction, e.length) for e in events if e.kind is EventKind.DATA] == [
        (Direction.INGRESS, len(GET)),
        (Direction.EGRESS, len(OK)),
        (Direction.INGRESS, len(SECOND)),
        (Direction.EGRESS, len(OK)),
        (Direction.INGRESS, len(GET)),
    ]


@pytest.mark.parametrize("forged_first", [True, False])
def test_of_two_copies_that_differ_none_is_believed(forged_first: bool) -> None:  # noqa: FBT001 - given by pytest
    talk = exchange()
    response = talk.segments[5]
    forgery = replace(response, payload=FORGED)
    place = 5 if forged_first else 6
    segments = [*talk.segments[:place], forgery, *talk.segments[place:]]
    (result,) = run_events(told(segments))
    assert result.incomplete is Incomplete.LOST_BYTES
    assert result.response is None
    # A third copy does not decide it either.
    assert described([*segments[:7], response, *segments[7:]]) == [describe(result)]
    assert counted(segments)["conflicting_bytes"] == len(OK)


def test_a_part_that_differs_makes_the_rest_of_both_segments_unknown() -> None:
    talk = Talk()
    talk.open()
    talk.request(GET)
    response = talk.send(1, OK)
    talk.segments.append(
        replace(response, sequence=response.sequence + len(OK) - 3, payload=b"XlloHTTP/1.1 200 OK\r\n\r\n")
    )
    talk.next[1] += 20
    talk.send(0)
    events = [event for event in told(talk.segments) if event.direction is Direction.EGRESS]
    assert [(event.position, event.length, event.payload) for event in events] == [
        (0, len(OK), OK[:-3]),
        (len(OK), 20, b""),
    ]


def test_a_copy_that_comes_after_the_acknowledgement_changes_nothing() -> None:
    talk = exchange()
    forgery = replace(talk.segments[5], payload=FORGED)
    segments = [*talk.segments[:7], forgery, *talk.segments[7:]]
    assert described(segments) == WHOLE
    assert counted(segments) == {"connections_http": 1, "duplicate_bytes": len(OK)}


def test_a_copy_that_knows_more_completes_what_the_capture_cut() -> None:
    talk = exchange()
    packets = talk.packets
    packets[5:6] = [packets[5].cut(80), packets[5]]
    assert [describe(each) for each in run_packets(packets)] == WHOLE
    packets[5:7] = [packets[6], packets[6].cut(80)]
    assert [describe(each) for each in run_packets(packets)] == WHOLE


def test_what_the_capture_cut_off_is_counted() -> None:
    packets = exchange().packets
    packets[5] = packets[5].cut(len(packets[5].data) - 3)
    source, events = read_capture(pcap(packets))
    assert source.losses()["uncaptured_bytes"] == 3
    (result,) = run_events([event for event in events if isinstance(event, SocketEvent)])
    assert describe(result) == "GET /1 1.1 (0) -> 200 1.1 (5 b'he' gap)"


def test_data_behind_the_end_is_refused() -> None:
    talk = exchange()
    end = talk.segments[8]
    assert end.flags & FIN
    assert end.source == SERVER
    segments = [*talk.segments[:9], replace(end, sequence=end.sequence, payload=b"more"), *talk.segments[9:]]
    assert described(segments) == WHOLE
    early = replace(talk.segments[7], sequence=talk.segments[7].sequence - 5)
    segments = [*talk.segments[:4], early, *talk.segments[4:]]
    assert described(segments) == WHOLE


def test_an_acknowledgement_far_ahead_is_not_believed() -> None:
    talk = exchange()
    wild = replace(talk.segments[4], acknowledgement=talk.segments[4].acknowledgement + 2**30 + 9)
    assert described([*talk.segments[:5], wild, *talk.segments[5:]]) == WHOLE


def test_segments_that_wait_are_bound_in_number_and_size() -> None:
    talk = Talk()
    talk.open()
    talk.request(GET)
    body = b"HTTP/1.1 200 OK\r\nContent-Length: 6000\r\n\r\n" + b"x" * 6_000
    lost = talk.send(1, body[:100])
    for start in range(100, len(body), 100):
        talk.send(1, body[start : start + 100])
    segments = without(talk.segments, lost)
    for limits in (
        PacketLimits(max_held_pieces=10),
        PacketLimits(max_held_bytes=1_000),
        PacketLimits(max_total_held_bytes=1_000),
    ):
        counts = counted(segments, limits)
        assert counts["hold_bounds_hit"] > 0
        assert counts["missing_bytes"] == 100
    assert "hold_bounds_hit" not in counted(segments)


def overlapping(*parts: tuple[int, bytes]) -> list[Segment]:
    """An exchange whose response comes in parts that begin at these places."""
    talk = Talk()
    talk.open()
    talk.request(GET)
    base = talk.next[1]
    for start, data in parts:
        talk.next[1] = base + start
        talk.send(1, data)
    talk.next[1] = base + len(OK)
    talk.send(0)
    return talk.segments


@pytest.mark.parametrize(
    "parts",
    [
        [(10, OK[10:20]), (0, OK)],
        [(10, OK[10:20]), (25, OK[25:30]), (5, OK[5:]), (0, OK[:7])],
        [(0, OK[:20]), (10, OK[10:])],
        [(20, OK[20:]), (0, OK[:20])],
        [(20, OK[20:]), (0, OK[:30])],
        [(0, OK), (10, OK[10:20])],
        [(0, OK[:5]), (10, OK[10:]), (0, OK[:15])],
        [(0, OK[:5]), (20, OK[20:]), (10, OK[10:25]), (5, OK[5:10])],
    ],
)
def test_parts_that_overlap_give_every_byte_once(parts: list[tuple[int, bytes]]) -> None:
    assert described(overlapping(*parts)) == WHOLE


def test_an_end_that_comes_again_with_data_in_front_of_it() -> None:
    talk = exchange()
    end = talk.segments[8]
    again = replace(end, sequence=end.sequence - len(OK), payload=OK)
    assert described([*talk.segments[:8], again, *talk.segments[8:]]) == WHOLE
    late = [*talk.segments[:5], again, *talk.segments[5:]]
    assert described(late) == WHOLE


def test_data_behind_an_end_that_waits_is_counted() -> None:
    talk = exchange()
    end = talk.segments[7]
    behind = replace(end, sequence=end.sequence - 2, payload=GET[-2:] + b"more", flags=ACK)
    segments = [*talk.segments[:8], behind, *talk.segments[8:]]
    assert described(segments) == WHOLE
    assert counted(segments)["conflicting_bytes"] == 4
