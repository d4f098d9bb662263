"""Messages found in the middle of a stream: split start lines, and methods that are not on a list."""

from __future__ import annotations

import pytest

from ebpf.events import Missing, Role
from parsers.http1.beginnings import match_request_line, match_status_line
from parsers.http_exchange import HttpExchange
from parsers.limits import ParserLimits
from parsers.tracker import ConnectionTracker
from tests.builders import NOTHING_MISSING, Conversation

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def ask(method: bytes = b"GET", length: int = 1) -> bytes:
    return b"%s /%s HTTP/1.1\r\nHost: a\r\n\r\n" % (method, b"q" * length)


def methods(exchanges: list[HttpExchange]) -> list[bytes | None]:
    return [exchange.request.method for exchange in exchanges if exchange.request and exchange.response]


@pytest.mark.parametrize(
    ("start", "listed", "any_method"),
    [
        (b"GET / HTTP/1.1\r\n", True, True),
        (b"GET /a b HTTP/1.1\r\n", True, True),
        (b"FROB / HTTP/1.1\r\n", False, True),
        (b"FROB /a b HTTP/1.1\r\n", False, False),
        (b"ET / HTTP/1.1\r\n", False, True),
        (b"FROB / HTTP/2.0\r\n", False, False),
        (b"GET / HTTP/2.0\r\n", False, False),
        (b"G", None, None),
        (b"DELET", None, None),
        (b"GET /long", None, None),
        (b"FROB /long", False, None),
        (b"FROB http://a/long", False, None),
        (b"middle of a body", False, False),
        (b"GET /\x00", False, False),
        (b"<html>", False, False),
    ],
)
def test_what_begins_like_a_request(start: bytes, listed: bool | None, any_method: bool | None) -> None:  # noqa: FBT001 - parameters of the test
    assert match_request_line(start, 100, any_method=False) is listed
    assert match_request_line(start, 100, any_method=True) is any_method


@pytest.mark.parametrize("size", range(13))
def test_what_begins_like_a_response(size: int) -> None:
    assert match_status_line(OK[: size + 1]) is (None if size < 12 else True)
    assert match_status_line(OK[:size] + b"#") is False


@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
@pytest.mark.parametrize("kernel_role", [Role.UNKNOWN, None])
@pytest.mark.parametrize("segment", [1, 2, 7, 100, 1_448])
@pytest.mark.parametrize("method", [b"GET", b"DELETE"])
def test_joined_late_a_split_request_line_is_found(
    role: Role, kernel_role: Role | None, segment: int, method: bytes
) -> None:
    talk = Conversation(role=role, kernel_role=kernel_role, joined_late=True)
    for _ in range(3):
        for data, say in ((ask(method, 1_500), talk.request), (OK, talk.response)):
            for start in range(0, len(data), segment):
                say(data[start : start + segment])
    exchanges = talk.run()
    # Of a role that is not known, bytes below a bound of pieces are waited for.
    expected = 3 if kernel_role is None or segment > 7 else 0
    assert len(methods(exchanges)) >= expected
    assert all(found == method for found in methods(exchanges))


LISTED = [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"]


@pytest.mark.parametrize("kernel_role", [Role.UNKNOWN, None])
@pytest.mark.parametrize("answer_between", [False, True])
@pytest.mark.parametrize("method", LISTED)
def test_joined_late_a_request_line_cut_anywhere_is_read_whole(
    method: bytes,
    answer_between: bool,  # noqa: FBT001 - parameter of the test
    kernel_role: Role | None,
) -> None:
    """A Go server reads the first byte of a request while it still writes the response before."""
    for cut in range(1, len(method) + 4):
        talk = Conversation(kernel_role=kernel_role, joined_late=True)
        talk.request(ask(method)[:cut])
        if answer_between:
            talk.response(b"HTTP/1.1 204 No Content\r\n\r\n")
        talk.request(ask(method)[cut:])
        talk.response(b"HTTP/1.1 204 No Content\r\n\r\n")
        read = [(each.request.method, each.incomplete) for each in talk.run() if each.request is not None]
        assert read == [(method, None)], cut


@pytest.mark.parametrize("text", [b"G", b"GE", b"POS", b"a body that ends in P"])
def test_a_listed_method_is_believed_behind_any_byte(text: bytes) -> None:
    talk = Conversation(joined_late=True)
    talk.request(text)
    for method in LISTED[3:5]:
        talk.request(ask(method))
        talk.response(OK)
    assert methods(talk.run()) == LISTED[3:5]


@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
@pytest.mark.parametrize("method", [b"PROPFIND", b"FROB", b"M-SEARCH", b"x", b"$%&'*+.^_`|~", b"REPORT"])
def test_joined_late_any_method_is_found(role: Role, method: bytes) -> None:
    talk = Conversation(role=role, joined_late=True)
    talk.request(b"<the end of a body>")
    for _ in range(3):
        talk.request(ask(method))
        talk.response(OK)
    assert methods(talk.run()) == [method] * 3


@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
def test_behind_a_loss_a_method_off_the_list_is_not_believed(role: Role) -> None:
    talk = Conversation(role=role)
    talk.request(ask())
    talk.response(OK)
    talk.lose_request(1)
    talk.request(ask()[1:], missing=Missing.RING_FULL)
    talk.response(OK)
    talk.request(ask(b"FROB"))
    talk.response(OK)
    assert methods(talk.run()) == [b"GET", b"FROB"]


def test_a_letter_right_before_is_not_forgotten() -> None:
    talk = Conversation(joined_late=True)
    talk.request(b"F")
    talk.request(b"ROB / HTTP/1.1\r\nHost: a\r\n\r\n")
    talk.response(OK)
    assert methods(talk.run()) == []


def test_text_that_begins_like_a_request_gives_way_to_one() -> None:
    talk = Conversation(joined_late=True)
    talk.request(b"GET /that is what the text says")
    talk.request(b" and goes on with")
    talk.request(ask(b"PUT"))
    talk.response(OK)
    assert methods(talk.run()) == [b"PUT"]


@pytest.mark.parametrize("missing", [NOTHING_MISSING, Missing.RING_FULL])
def test_a_split_status_line_is_found(missing: Missing) -> None:
    talk = Conversation()
    for _ in range(4):
        talk.request(ask())
        talk.response(OK)
    talk.request(ask())
    talk.response(b"", length=len(OK), missing=Missing.RING_FULL)
    for _ in range(2):
        talk.request(ask())
        talk.response(OK[:5], missing=missing)
        talk.response(OK[5:])
    assert len(methods(talk.run())) == 6


def test_what_waits_for_its_line_end_is_bounded_and_given_back() -> None:
    limits = ParserLimits(max_header_block=2_000)
    tracker = ConnectionTracker(limits)
    talk = Conversation(joined_late=True)
    for _ in range(50):
        talk.request(b"GET /" + b"q" * 500)
        talk.request(b"q" * 900)
    talk.request(ask())
    talk.response(OK)
    exchanges: list[HttpExchange] = []
    for event in talk.events:
        exchanges += tracker.feed(event)
        assert tracker.buffered_bytes <= limits.max_header_block + 1_000
    assert methods(exchanges + tracker.flush()) == [b"GET"]
    assert tracker.buffered_bytes == 0
    assert tracker.last_bug is None
    assert tracker.counters()["discarded_bytes"] > 60_000
