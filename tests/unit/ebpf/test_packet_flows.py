"""Connections in packets: their beginning, their end, and which packets belong to which."""

from __future__ import annotations

from dataclasses import replace

from ebpf.events import Direction, EventKind, Origin, Protocol, Role
from ebpf.packets.limits import PacketLimits
from tests.builders import SECOND_NS, describe, run_events
from tests.packets import ACK, CLIENT, RST, SERVER, SYN, Segment, Talk, link_packet, run_packets
from tests.unit.ebpf.talks import GET, OK, SECOND, WHOLE, counted, described, exchange, told

TOLD = [EventKind.OPENED, EventKind.DATA, EventKind.DATA, EventKind.ENDED, EventKind.ENDED, EventKind.CLOSED]


def test_a_conversation_is_told_once_as_its_server_saw_it() -> None:
    talk = exchange()
    events = told(talk.segments)
    assert [event.kind for event in events] == TOLD
    opened, request, response, *_ = events
    assert {(e.connection_id, e.role, e.joined_late) for e in events} == {(1, Role.SERVER, False)}
    assert [e.origin for e in events] == [Origin(e.ktime_ns) for e in events]
    assert (request.direction, request.position, request.payload) == (Direction.INGRESS, 0, GET)
    assert (response.direction, response.position, response.payload) == (Direction.EGRESS, 0, OK)
    assert request.ktime_ns == talk.segments[3].unix_ns
    info = opened.socket
    assert (info.family, info.local_address, info.local_port) == ("ipv4", *SERVER)
    assert (info.remote_address, info.remote_port) == CLIENT
    assert (info.network_namespace, info.inode, info.cookie, info.protocol) == (0, 0, 1, Protocol.HTTP1)
    assert described(talk.segments) == WHOLE
    assert counted(talk.segments) == {"connections_http": 1}


def test_ipv6_and_mapped_addresses() -> None:
    for client, server, family, address in (
        ("2001:db8::7", "2001:db8::1", "ipv6", "2001:db8::1"),
        ("::ffff:192.0.2.7", "::ffff:192.0.2.1", "ipv4", "192.0.2.1"),
    ):
        talk = Talk((client, 1), (server, 80))
        talk.open()
        talk.request(GET)
        info = told(talk.segments)[0].socket
        assert (info.family, info.local_address, info.local_port) == (family, address, 80)


def test_the_handshake_tells_who_is_the_client_even_without_its_first_packet() -> None:
    talk = exchange()
    events = told(talk.segments[1:])
    assert [event.kind for event in events] == TOLD
    assert not events[0].joined_late


def test_data_with_the_first_packet() -> None:
    talk = Talk()
    talk.send(0, GET, SYN, ack=0)
    talk.send(1, flags=SYN | ACK)
    talk.response(OK)
    assert described(talk.segments) == WHOLE


def test_a_reset_closes_once_what_was_under_way_is_told() -> None:
    talk = Talk()
    talk.open()
    talk.request(GET)
    talk.send(0, flags=RST | ACK)
    talk.send(1, OK)
    talk.wait(SECOND_NS)
    events = told([*talk.segments, *exchange_elsewhere(talk.unix_ns).segments])
    mine = [event for event in events if event.connection_id == 1]
    assert [event.kind for event in mine] == [
        EventKind.OPENED,
        EventKind.DATA,
        EventKind.DATA,
        EventKind.CLOSED,
    ]


def exchange_elsewhere(unix_ns: int) -> Talk:
    talk = Talk(("198.51.100.9", 1_234), start_unix_ns=unix_ns)
    talk.open()
    talk.request(GET)
    return talk


def test_a_reset_far_from_the_connection_is_not_believed() -> None:
    talk = exchange()
    reset = replace(talk.segments[4], flags=RST, sequence=talk.segments[4].sequence + 2**31)
    segments = [*talk.segments[:4], reset, *talk.segments[4:]]
    assert described(segments) == WHOLE
    assert counted(segments)["segments_out_of_window"] == 1


def test_a_port_that_is_used_again_is_another_connection() -> None:
    talk = exchange()
    again = Talk(client_isn=77, server_isn=88, start_unix_ns=talk.unix_ns)
    again.open()
    again.request(SECOND)
    again.response(OK)
    events = told(talk.segments + again.segments)
    assert {event.connection_id for event in events} == {1, 2}
    # Also when its end was not captured, and when its own beginning was not.
    for segments in (talk.segments[:7] + again.segments, talk.segments + moved(again.segments[3:], 2**31)):
        exchanges = run_events(told(segments))
        assert [describe(each) for each in exchanges] == [WHOLE[0], WHOLE[0].replace("/1", "/2")]


def moved(segments: list[Segment], distance: int) -> list[Segment]:
    return [
        replace(s, sequence=s.sequence + distance, acknowledgement=s.acknowledgement + distance)
        for s in segments
    ]


def test_packets_that_stray_in_after_the_end_are_no_connection() -> None:
    talk = exchange()
    response, first = talk.segments[5], talk.segments[0]
    stray = [replace(segment, unix_ns=talk.unix_ns) for segment in (first, response)]
    assert described(talk.segments + stray) == WHOLE
    later = replace(response, unix_ns=talk.unix_ns + 121 * SECOND_NS)
    assert len(described([*talk.segments, later])) == 2


def test_packets_of_no_known_connection_without_bytes_begin_none() -> None:
    talk = exchange()
    assert told(talk.segments[-1:]) == []
    reset = replace(talk.segments[4], flags=RST, payload=b"x")
    assert told([reset]) == []


def test_vlans_keep_connections_apart_and_interfaces_do_not() -> None:
    talk = exchange()
    packets = [
        replace(packet, data=link_packet(1, segment.ip, [(0x8100, vlan)]))
        for packet, segment in zip(talk.packets, talk.segments, strict=True)
        for vlan in (1, 2)
    ]
    assert len(run_packets(packets)) == 2
    doubled = [packet for packet in talk.packets for _ in range(2)]
    assert len(run_packets(doubled)) == 1


def test_connections_are_bound_in_number() -> None:
    talks = [Talk((f"192.0.2.{number}", 1_000)) for number in range(3)]
    for talk in talks:
        talk.open()
    for talk in talks:
        talk.request(GET)
    segments = [segment for talk in talks for segment in talk.segments]
    assert counted(segments, PacketLimits(max_flows=2))["flows_evicted"] == 1
    assert len(run_events(told(segments, PacketLimits(max_flows=2)))) == 3
    ended = exchange()
    after = ended.segments + [segment for talk in talks[:2] for segment in talk.segments]
    assert "flows_evicted" not in counted(after, PacketLimits(max_flows=2))


def test_outdated_alarms_do_not_pile_up() -> None:
    segments = []
    for number in range(200):
        talk = Talk(("192.0.2.9", number + 1))
        talk.open()
        talk.send(0, GET)
        segments += talk.segments
    assert len(run_events(told(segments, PacketLimits(max_flows=3)))) == 200
