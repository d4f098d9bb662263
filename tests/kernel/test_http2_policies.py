"""Policies on HTTP/2 connections: how much of DATA is copied, and frames around what is not wanted."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator

import pytest

from ebpf.events import Direction, EventKind, Missing, Policy, ProcessPolicy, Protocol
from tests.kernel.conftest import BOTH, PREFACE, Tap, inode_of
from tests.kernel.test_http2 import (
    ANSWERED,
    ASKED,
    PING,
    SETTINGS,
    download,
    head,
    kept_frames,
    known,
    pass_on,
    transmit,
)

pytestmark = pytest.mark.kernel

Pair = tuple[socket.socket, socket.socket]
OpenTap = Callable[..., Tap]
Change = Callable[..., None]


@pytest.fixture
def change(tap: Tap) -> Iterator[Change]:
    """Return a function that changes the policy of this process."""

    def change_to(capture: Policy = BOTH) -> None:
        tap.capture.set_policy(os.getpid(), ProcessPolicy(capture=capture))

    yield change_to
    change_to()


def test_without_bodies_heads_are_whole_and_data_is_as_much_as_a_header_block(
    open_tap: OpenTap, pair: Pair
) -> None:
    tap = open_tap(header_budget=20_011)
    tap.capture.set_policy(os.getpid(), ProcessPolicy(capture=BOTH, bodies=False))
    client, server = pair
    pass_on(client, server, PREFACE + SETTINGS + ASKED)
    long_head = head(9, (":status", "200"), ("x-long", "y" * 10_007))
    answer = head(7, (":status", "200")) + download(7, 10) + long_head + download(9, 10)
    transmit(server, client, answer, 10_007)
    pass_on(client, server, PING)
    pass_on(server, client, PING)
    frames = kept_frames(answer + PING, known(tap, inode_of(server), Direction.EGRESS))
    body = [16_384, 20_011 - 16_384, *[0] * 8]
    assert [kept for _, stream, kept in frames if stream == 7][1:] == body
    assert [kept for _, stream, kept in frames if stream == 9] == [len(long_head) - 9, *body]


def test_a_hole_within_a_frame_does_not_lose_the_frames_behind_it(
    tap: Tap, change: Change, pair: Pair
) -> None:
    client, server = pair
    pass_on(client, server, PREFACE + SETTINGS + ASKED)
    body = download(7, 30)
    transmit(server, client, body[:10_007], 8_192)
    change(Policy.CAPTURE_EGRESS)
    pass_on(server, client, body[10_007:12_011])
    change()
    transmit(server, client, body[12_011:], 8_192)
    egress = tap.data(inode_of(server), Direction.EGRESS)
    assert [event.position for event in egress if event.missing & Missing.UNWANTED] == [12_011]
    pass_on(client, server, PING)
    pass_on(server, client, ANSWERED)
    *_, last = tap.data(inode_of(server), Direction.EGRESS)
    assert (last.position, last.payload) == (len(body), ANSWERED)
    # over its budget: frames are still followed, or all of it would have been copied
    payload = sum(len(event.payload) for event in tap.data(inode_of(server), Direction.EGRESS))
    assert payload < 131_072 + 65_536 + 1_000


def test_a_connection_that_went_unwatched_is_captured_from_the_next_head(
    tap: Tap, change: Change, pair: Pair
) -> None:
    client, server = pair
    pass_on(client, server, PREFACE + SETTINGS + ASKED)
    change(Policy.IGNORE)
    pass_on(server, client, SETTINGS + ANSWERED[:30])
    change()
    pass_on(server, client, ANSWERED[30:])
    pass_on(client, server, PING)
    assert tap.data(inode_of(server), Direction.EGRESS) == []
    pass_on(client, server, ASKED)
    pass_on(server, client, ANSWERED)
    for endpoint, asked in ((client, Direction.EGRESS), (server, Direction.INGRESS)):
        first, second = tap.of(inode_of(endpoint), EventKind.OPENED)
        assert (first.joined_late, second.joined_late, second.socket.protocol) == (
            False,
            True,
            Protocol.HTTP2,
        )
        assert first.role == second.role
        assert first.connection_id != second.connection_id
        of_second = [
            event
            for event in tap.of(inode_of(endpoint), EventKind.DATA)
            if event.connection_id == second.connection_id
        ]
        assert [(event.direction, event.position, event.payload) for event in of_second] == [
            (asked, 0, ASKED),
            (Direction(1 - asked), 0, ANSWERED),
        ]
