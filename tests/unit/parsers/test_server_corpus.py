"""Shapes of requests with the verdicts of five real servers; `make test-servers` asks the servers again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from parsers.exchange import Incomplete
from parsers.http_exchange import HttpExchange
from tests.builders import Conversation, run_events, split_bytes
from tests.servers.corpus import Case, read_corpus
from tests.servers.judgement import CLASSES, SAME, find_fault, show
from tests.servers.readings import FOLLOWER, Verdict

CASES = list(read_corpus())
REFUSAL = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def answers(case: Case) -> Iterator[tuple[Verdict, bytes]]:
    """Yield what each server said, once for servers that said the same, and bytes that say so."""
    for word in sorted(set(case.verdicts.values())):
        status, _, reading = word.partition(":")
        if not status.isdigit():
            yield Verdict(waited=status == "wait"), b"read" if status == "http0.9" else b""
            continue
        content = b"" if case.method == "HEAD" else b"read"
        first = b"HTTP/1.1 %s X\r\nContent-Length: 4\r\n\r\n%s" % (status.encode(), content)
        behind = {"+": b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nread", "-": REFUSAL}
        follower = {"+": "answered", "-": "misread"}.get(reading[-1:], "unseen")
        answer = first + behind.get(reading[-1:], b"") if reading else REFUSAL
        yield Verdict(int(status), None, follower, answer=answer), answer


def test_the_corpus_is_of_all_classes() -> None:
    by_class = Counter(case.class_name for case in CASES)
    assert len({case.data for case in CASES}) == len(CASES) >= 2_000
    assert set(by_class) == set(CLASSES)
    assert all(count >= 50 for count in by_class.values()), by_class


@pytest.mark.parametrize("class_name", CLASSES)
def test_shapes_are_shown_as_the_servers_took_them(class_name: str) -> None:
    wrong = []
    for case in CASES:
        if case.class_name != class_name:
            continue
        for verdict, answer in answers(case):
            showing = show(case.data, answer)
            fault = find_fault(class_name, showing, verdict)
            request = None if showing.first is None else showing.first.request
            if not fault and class_name == SAME and request is not None:
                read = (str(request.method, "latin-1"), request.body.size or 0)
                fault = "" if read == (case.method, case.body_length) else f"read as {read}"
            if fault:
                wrong.append(f"{case.name}: {fault}: {case.data!r}")
    assert wrong == []


def outline(exchange: HttpExchange) -> tuple[Incomplete | None, tuple[str, ...]]:
    # A head that is none may be given up at its first line, before the oddities behind it have come.
    is_invalid = exchange.incomplete is Incomplete.INVALID
    return exchange.incomplete, () if is_invalid else exchange.anomalies


@pytest.mark.parametrize("class_name", CLASSES)
def test_shapes_read_the_same_byte_by_byte(class_name: str) -> None:
    cases = [case for case in CASES if case.class_name == class_name][::17]
    assert len(cases) > 3
    for case in cases:
        if b"expect" in case.data.lower():
            continue  # the first byte of a body that may be left out may be that of the next request
        talk = Conversation()
        talk.request(case.data + FOLLOWER)
        talk.response(REFUSAL)
        talk.end_requests()
        talk.close()
        cut = [piece for event in talk.events for piece in split_bytes(event)]
        whole, parts = talk.run(), run_events(cut)
        assert [outline(exchange) for exchange in parts[:1]] == [outline(exchange) for exchange in whole[:1]]


def test_requests_that_end_differently_leave_doubt_behind_them() -> None:
    talk = Conversation()
    talk.request(
        b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        + FOLLOWER
    )
    talk.response(b"HTTP/1.1 204 No Content\r\n\r\n" * 2)
    assert [exchange.incomplete for exchange in talk.run()] == [Incomplete.INVALID] * 2
