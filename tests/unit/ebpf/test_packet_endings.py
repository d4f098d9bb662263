"""How connections end in packet captures, and what that says of their last exchange."""

from __future__ import annotations

import pytest

from parsers.exchange import Incomplete
from tests.builders import describe
from tests.packets import ACK, FIN, RST, Talk, run_packets, to_packets

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
UNTIL_END = b"HTTP/1.0 200 OK\r\n\r\nhalf"
UPLOAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\nabc"
REFUSED = b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno"


def begin(request: bytes, response: bytes) -> Talk:
    talk = Talk()
    talk.open()
    talk.request(request)
    if response:
        talk.response(response)
    return talk


def end(talk: Talk, *steps: str) -> None:
    """End by FIN or RST of either side, such as `server FIN`."""
    for step in steps:
        side, flag = step.split()
        talk.send(int(side == "server"), flags=(FIN if flag == "FIN" else RST) | ACK)
    talk.send(0)


@pytest.mark.parametrize(
    ("request_", "response", "steps", "expected"),
    [
        (GET, UNTIL_END, ("server FIN", "client FIN"), "GET / 1.1 (0) -> 200 1.0 (4 b'half')"),
        (GET, UNTIL_END, ("server RST",), "GET / 1.1 (0) -> 200 1.0 (4 b'half') incomplete closed"),
        (GET, UNTIL_END, ("client RST",), "GET / 1.1 (0) -> 200 1.0 (4 b'half') incomplete closed"),
        (GET, b"", ("server FIN", "client FIN"), "GET / 1.1 (0) -> ? incomplete closed"),
        (GET, b"", ("client FIN", "server FIN"), "GET / 1.1 (0) -> ? incomplete one_side"),
        *(
            (
                UPLOAD,
                REFUSED,
                steps,
                "POST / 1.1 (3 b'abc') -> 413 1.1 (2 b'no') anomalies request_cut_short",
            )
            for steps in (("server FIN", "client FIN"), ("server FIN", "client RST"), ("server RST",))
        ),
    ],
)
def test_the_last_exchange(request_: bytes, response: bytes, steps: tuple[str, ...], expected: str) -> None:
    talk = begin(request_, response)
    end(talk, *steps)
    assert [describe(exchange) for exchange in run_packets(talk.packets)] == [expected]


@pytest.mark.parametrize("steps", [("client FIN", "server FIN"), ("client RST",), ()])
def test_a_capture_of_one_direction(steps: tuple[str, ...]) -> None:
    talk = begin(GET, b"HTTP/1.1 204 No Content\r\n\r\n")
    talk.request(GET)
    talk.response(b"HTTP/1.1 204 No Content\r\n\r\n")
    end(talk, *steps)
    client = talk.ends[0]
    seen = [segment for segment in talk.segments if segment.source == client]
    causes = {exchange.incomplete for exchange in run_packets(to_packets(seen))}
    # The client acknowledges what it got, so it may be known that something is missing.
    assert causes
    assert causes <= {Incomplete.ONE_SIDE, Incomplete.LOST_BYTES, Incomplete.STOPPED}
