"""Packet captures with anything done to them: the same exchanges, or flagged ones, never a wrong one."""

from __future__ import annotations

import contextlib
import gzip
from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from ebpf.events import EventKind, SocketEvent
from ebpf.input_stream import InputError
from ebpf.packets.limits import PacketLimits
from parsers.http_exchange import HttpExchange
from tests.builders import Conversation, describe, run_events
from tests.packets import (
    ACK,
    ETHERNET,
    FIN,
    SYN,
    PcapPacket,
    Segment,
    Talk,
    enhanced,
    interface,
    pcap,
    read_capture,
    run_packets,
    section,
    socket_events,
    to_packets,
)
from tests.property.dialogues import Exchange, assert_no_wrong_pair_unflagged, batches, perform

HANDSHAKE = 3
either = st.booleans().flatmap(lambda pipelined: batches(pipelined=pipelined))
sizes = st.integers(1, 200)
sequence_numbers = st.sampled_from([0, 1_000, 2**31 - 40, 2**32 - 1, 2**32 - 40])


def talk_of(conversation: list[list[Exchange]], size: int, isn: int = 1_000) -> Talk:
    talk = Talk(client_isn=isn, server_isn=isn)
    talk.open()
    for batch in conversation:
        talk.request(b"".join(exchange.request for exchange in batch), size=size)
        talk.response(b"".join(exchange.response for exchange in batch), size=size)
    talk.close()
    return talk


def count_spared(conversation: list[list[Exchange]], size: int) -> int:
    """Return how many packets must be whole: a client that pipelines shows itself before anything is lost."""
    if all(len(batch) == 1 for batch in conversation):
        return 0
    return len(talk_of(conversation[:1], size).segments) - HANDSHAKE


def expected(conversation: list[list[Exchange]]) -> list[str]:
    """Return what one socket would have told of the conversation."""
    direct = Conversation()
    perform(direct, conversation, [])
    return summarise(direct.run())


def summarise(exchanges: list[HttpExchange]) -> list[str]:
    return [describe(exchange) for exchange in exchanges]


def assert_right_or_flagged(exchanges: list[HttpExchange], conversation: list[list[Exchange]]) -> None:
    """Fail when an exchange that claims to be whole is none of the conversation."""
    assert_no_wrong_pair_unflagged(exchanges)
    told = expected(conversation)
    for exchange in exchanges:
        bodies = [message.body for message in (exchange.request, exchange.response) if message is not None]
        if exchange.incomplete is None and not any(body.truncation for body in bodies):
            assert describe(exchange) in told


def assert_in_order(events: list[SocketEvent]) -> None:
    """Fail unless each direction of each connection is told once, in order and without a jump."""
    positions: dict[tuple[int, int], int] = {}
    for event in events:
        if event.kind is EventKind.DATA:
            key = (event.connection_id, event.direction)
            assert event.position == positions.get(key, 0)
            assert len(event.payload) <= event.length
            positions[key] = event.position + event.length


@given(either, sizes, sequence_numbers)
def test_any_segmentation_gives_the_same_exchanges(
    conversation: list[list[Exchange]], size: int, isn: int
) -> None:
    talk = talk_of(conversation, size, isn)
    assert summarise(run_packets(talk.packets)) == expected(conversation)


@given(either, sizes, st.randoms(use_true_random=False), st.sets(st.integers(0, 200)))
def test_segments_in_another_order_and_twice_give_the_same_exchanges(
    conversation: list[list[Exchange]], size: int, random: Random, twice: set[int]
) -> None:
    packets = talk_of(conversation, size).packets
    bunches: list[PcapPacket] = []
    for start in range(HANDSHAKE, len(packets), 20):
        bunch = packets[start : start + 20]
        bunch += [packet for number, packet in enumerate(bunch) if start + number in twice]
        random.shuffle(bunch)
        bunches += bunch
    assert summarise(run_packets(packets[:HANDSHAKE] + bunches)) == expected(conversation)


@given(either, sizes, st.lists(st.tuples(st.integers(0, 5_000), st.integers(1, 300)), max_size=8))
def test_repeated_and_overlapping_segments_give_the_same_exchanges(
    conversation: list[list[Exchange]], size: int, repeated: list[tuple[int, int]]
) -> None:
    talk = talk_of(conversation, size)
    streams = (stream_of(talk, 0), stream_of(talk, 1))
    segments = list(talk.segments)
    for where, length in repeated:
        index = HANDSHAKE + where % (len(segments) - HANDSHAKE)
        model = segments[index]
        sender = talk.ends.index(model.source)
        base, stream = streams[sender]
        at = model.sequence - base
        before = max(0, at - length)
        again = replace(model, sequence=base + before, payload=stream[before : at + length], flags=ACK)
        # A host repeats what it has sent, not what it is going to send.
        sent = max(s.sequence + len(s.payload) for s in segments[: index + 1] if s.source == model.source)
        again = replace(again, payload=again.payload[: sent - again.sequence])
        segments.insert(index + 1, again)
    assert summarise(run_packets(to_packets(segments))) == expected(conversation)


def stream_of(talk: Talk, sender: int) -> tuple[int, bytes]:
    """Return the sequence number of the first byte of a direction, and its bytes."""
    sent = [segment for segment in talk.segments if segment.source == talk.ends[sender]]
    return sent[0].sequence + 1, b"".join(segment.payload for segment in sent)


@given(either, sizes, st.sets(st.integers(0, 300)), st.randoms(use_true_random=False), st.booleans())
def test_missing_segments_never_give_a_wrong_exchange_unflagged(
    conversation: list[list[Exchange]],
    size: int,
    dropped: set[int],
    random: Random,
    shuffled: bool,  # noqa: FBT001 - drawn
) -> None:
    packets = talk_of(conversation, size).packets
    spared = count_spared(conversation, size)
    left = [packet for number, packet in enumerate(packets[spared:]) if number not in dropped]
    if shuffled:
        random.shuffle(left)
    events = socket_events(packets[:spared] + left)
    assert_in_order(events)
    assert_right_or_flagged(run_events(events), conversation)


@given(batches(pipelined=False), sizes, st.integers(0, 400))
def test_a_capture_that_begins_late_never_gives_a_wrong_exchange_unflagged(
    conversation: list[list[Exchange]], size: int, missed: int
) -> None:
    packets = talk_of(conversation, size).packets[missed:]
    assert_right_or_flagged(run_packets(packets), conversation)


@given(either, sizes, st.integers(54, 300))
def test_a_snapshot_length_never_gives_a_wrong_exchange_unflagged(
    conversation: list[list[Exchange]], size: int, snap: int
) -> None:
    packets = talk_of(conversation, size).packets
    spared = count_spared(conversation, size)
    events = socket_events(packets[:spared] + [packet.cut(snap) for packet in packets[spared:]])
    assert_in_order(events)
    assert_right_or_flagged(run_events(events), conversation)


@given(either, st.integers(0, 1))
def test_one_direction_alone_gives_flagged_exchanges(conversation: list[list[Exchange]], sender: int) -> None:
    talk = talk_of(conversation, 1_460)
    exchanges = run_packets(to_packets([s for s in talk.segments if s.source == talk.ends[sender]]))
    # Without its request, what follows a response to HEAD can't be told from a body.
    assert 0 < len(exchanges) <= sum(len(batch) for batch in conversation)
    assert all(exchange.incomplete is not None for exchange in exchanges)


@given(either, sizes, st.lists(st.integers(0, 300), min_size=1, max_size=4), st.booleans())
def test_of_two_copies_that_differ_none_is_chosen_unflagged(
    conversation: list[list[Exchange]],
    size: int,
    forged: list[int],
    comes_first: bool,  # noqa: FBT001 - drawn
) -> None:
    talk = talk_of(conversation, size)
    carrying = [s for s in talk.segments[count_spared(conversation, size) :] if s.payload]
    if not carrying:
        return
    segments = list(talk.segments)
    for number in forged:
        model = carrying[number % len(carrying)]
        forgery = replace(model, payload=bytes(byte ^ 1 for byte in model.payload))
        segments.insert(segments.index(model) + (not comes_first), forgery)
    exchanges = run_packets(to_packets(segments))
    assert_right_or_flagged(exchanges, conversation)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            st.sampled_from([0, 1, 10, 2**24 + 1, 2**30, 2**31, 2**32 - 5]),
            st.sampled_from([0, 1, 10, 2**30, 2**31, 2**32 - 5]),
            st.sampled_from([ACK, SYN, SYN | ACK, FIN | ACK, 4, 0, FIN]),
            st.sampled_from(
                [b"", b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"\0\0", b"G" * 300]
            ),
            st.integers(-(10**9), 10**11),
        ),
        max_size=40,
    )
)
def test_any_segments_are_told_in_order_and_within_bounds(
    drawn: list[tuple[int, int, int, int, bytes, int]],
) -> None:
    talk = Talk()
    segments = [
        Segment(talk.ends[sender], talk.ends[1 - sender], sequence, ack, flags, payload, talk.unix_ns + later)
        for sender, sequence, ack, flags, payload, later in drawn
    ]
    limits = PacketLimits(max_held_pieces=3, max_held_bytes=500, max_total_held_bytes=800, max_flows=2)
    events = socket_events(to_packets(segments), limits)
    assert_in_order(events)
    run_events(events)


@given(st.data(), sizes, st.sampled_from([ETHERNET, 0, 12, 101, 108, 113, 228, 229, 276, 99]))
def test_damaged_packets_never_raise(data: st.DataObject, size: int, link_type: int) -> None:
    talk = talk_of(data.draw(batches(pipelined=False)), size)
    packets = to_packets(talk.segments, link_type)
    for number, place, value in data.draw(
        st.lists(st.tuples(st.integers(0, 300), st.integers(0, 80), st.integers(0, 255)), max_size=30)
    ):
        packet = packets[number % len(packets)]
        content = bytearray(packet.data)
        content[place % len(content)] = value
        packets[number % len(packets)] = replace(packet, data=bytes(content))
    packets.append(PcapPacket(talk.unix_ns, data.draw(st.binary(max_size=60))))
    events = socket_events(packets, link_type=link_type)
    assert_in_order(events)
    run_events(events)


@given(either, st.data(), st.booleans(), st.booleans())
def test_a_file_cut_or_damaged_anywhere_yields_what_stands_before(
    conversation: list[list[Exchange]],
    data: st.DataObject,
    newer: bool,  # noqa: FBT001 - drawn
    packed: bool,  # noqa: FBT001 - drawn
) -> None:
    packets = talk_of(conversation, 100).packets
    whole = pcap(packets)
    if newer:
        blocks = [enhanced(packet.data, packet.unix_ns // 1_000) for packet in packets]
        whole = section() + interface() + b"".join(blocks)
    if packed:
        whole = gzip.compress(whole)
    end = data.draw(st.integers(0, len(whole)))
    damaged = bytearray(whole[:end])
    for place, flip in data.draw(st.lists(st.tuples(st.integers(0), st.integers(1, 255)), max_size=2)):
        if damaged:
            damaged[place % len(damaged)] ^= flip
    for content in (whole[:end], bytes(damaged)):
        # Either refusal names the file; a cut in the magic leaves no packet capture.
        with contextlib.suppress(InputError):
            source, events = read_capture(content)
            told = [event for event in events if isinstance(event, SocketEvent)]
            assert_in_order(told)
            run_events(told)
            if content == whole:
                assert source.damage is None
            elif content == whole[:end] and packed:
                assert source.damage is not None
