from __future__ import annotations

import pytest

from ebpf.events import Role
from tests.builders import describe, run_events, split_bytes
from tests.unit.parsers.transcripts import Transcript, play, read_transcripts

TRANSCRIPTS = read_transcripts()
by_name = pytest.mark.parametrize(
    "transcript", TRANSCRIPTS, ids=[transcript.name for transcript in TRANSCRIPTS]
)


@by_name
@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
def test_transcript_gives_its_exchanges(transcript: Transcript, role: Role) -> None:
    exchanges = play(transcript, role).run()
    assert [describe(exchange) for exchange in exchanges] == transcript.expected
    assert all(exchange.role is role for exchange in exchanges)


# A body and a request in its place are told apart at the beginning of a call only.
@pytest.mark.parametrize(
    "transcript",
    [transcript for transcript in TRANSCRIPTS if "body_not_sent" not in "".join(transcript.expected)],
    ids=lambda transcript: transcript.name,
)
def test_transcript_cut_into_bytes_gives_the_same(transcript: Transcript) -> None:
    events = [part for event in play(transcript, Role.SERVER).events for part in split_bytes(event)]
    assert [describe(exchange) for exchange in run_events(events)] == transcript.expected


@by_name
@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
def test_messages_tell_the_role_that_the_kernel_did_not_see(transcript: Transcript, role: Role) -> None:
    exchanges = play(transcript, role, kernel_role=Role.UNKNOWN).run()
    assert [describe(exchange) for exchange in exchanges] == transcript.expected
    assert all(exchange.role is role for exchange in exchanges)


@pytest.mark.parametrize(
    "transcript",
    [transcript for transcript in TRANSCRIPTS if transcript.steps[-1][0] in ("<", ">")],
    ids=lambda transcript: transcript.name,
)
def test_garbage_behind_a_transcript_changes_nothing_before_it(transcript: Transcript) -> None:
    talk = play(transcript, Role.SERVER)
    talk.request(b"\x00\xff garbage \r\n\r\n" * 3)
    talk.response(b"\x00\xff garbage \r\n\r\n" * 3)
    assert [describe(exchange) for exchange in talk.run()] == transcript.expected


def test_the_corpus_is_found() -> None:
    assert len(TRANSCRIPTS) > 30
