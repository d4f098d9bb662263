from __future__ import annotations

import pytest

from parsers.http1.framing import Framing, decide_request_framing, decide_response_framing, split_codings
from parsers.http1.head import RequestHead, ResponseHead, parse_request_head, parse_response_head


def request(*lines: bytes, version: bytes = b"1.1") -> RequestHead:
    head = parse_request_head(b"\r\n".join((b"POST / HTTP/" + version, b"Host: a", *lines)))
    assert head is not None
    return head


def response(status: int, *lines: bytes, version: bytes = b"1.1") -> ResponseHead:
    head = parse_response_head(b"\r\n".join((b"HTTP/%s %d X" % (version, status), *lines)))
    assert head is not None
    return head


@pytest.mark.parametrize(
    ("lines", "framing", "length", "anomalies"),
    [
        ([], Framing.NO_BODY, 0, []),
        ([b"Connection: close"], Framing.NO_BODY, 0, []),
        ([b"Content-Length: 5"], Framing.LENGTH, 5, []),
        ([b"Content-Length: 0"], Framing.NO_BODY, 0, []),
        ([b"Content-Length: 5, 5"], Framing.LENGTH, 5, ["duplicate_content_length"]),
        ([b"Content-Length: 0", b"Content-Length: 0"], Framing.NO_BODY, 0, ["duplicate_content_length"]),
        ([b"Content-Length: 5", b"Content-Length: 6"], Framing.AMBIGUOUS, 0, ["conflicting_content_length"]),
        ([b"Content-Length: -5"], Framing.AMBIGUOUS, 0, ["invalid_content_length"]),
        ([b"Content-Length: 5 5"], Framing.AMBIGUOUS, 0, ["invalid_content_length"]),
        ([b"Content-Length: 9999999999999999999"], Framing.AMBIGUOUS, 0, ["invalid_content_length"]),
        ([b"Content-Length:"], Framing.AMBIGUOUS, 0, ["invalid_content_length"]),
        ([b"Transfer-Encoding: chunked"], Framing.CHUNKED, 0, []),
        ([b"Transfer-Encoding: CHUNKED"], Framing.CHUNKED, 0, []),
        ([b"Transfer-Encoding: gzip, chunked"], Framing.CHUNKED, 0, ["unsupported_transfer_coding"]),
        ([b"Transfer-Encoding: identity, chunked"], Framing.CHUNKED, 0, ["unsupported_transfer_coding"]),
        ([b"Transfer-Encoding: ,chunked"], Framing.CHUNKED, 0, ["unsupported_transfer_coding"]),
        (
            [b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"],
            Framing.CHUNKED,
            0,
            ["unsupported_transfer_coding"],
        ),
        ([b"Content-Length: " + b"0" * 18 + b"5"], Framing.LENGTH, 5, []),
        ([b"Content-Length: " + b"0" * 5_000 + b"5"], Framing.LENGTH, 5, []),
        ([b"Content-Length: " + b"0" * 5_000], Framing.NO_BODY, 0, []),
        ([b"Content-Length: " + b"9" * 5_000], Framing.AMBIGUOUS, 0, ["invalid_content_length"]),
        ([b"Content-Length: 05", b"Content-Length: 5"], Framing.LENGTH, 5, ["duplicate_content_length"]),
        ([b"Transfer-Encoding: chunked, chunked"], Framing.CHUNKED, 0, ["repeated_chunked"]),
        ([b"Transfer-Encoding: chunked, gzip"], Framing.AMBIGUOUS, 0, ["transfer_encoding_not_chunked"]),
        ([b"Transfer-Encoding:"], Framing.AMBIGUOUS, 0, ["transfer_encoding_not_chunked"]),
        (
            [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
            Framing.CHUNKED,
            0,
            ["transfer_encoding_with_content_length"],
        ),
    ],
)
def test_requests(lines: list[bytes], framing: Framing, length: int, anomalies: list[str]) -> None:
    head = request(*lines)
    assert decide_request_framing(head) == (framing, length)
    assert head.fields.anomalies == anomalies


@pytest.mark.parametrize(
    ("status", "method", "lines", "framing", "length"),
    [
        (200, b"GET", [], Framing.UNTIL_END, 0),
        (200, None, [], Framing.UNTIL_END, 0),
        (200, b"GET", [b"Content-Length: 5"], Framing.LENGTH, 5),
        (200, b"GET", [b"Transfer-Encoding: chunked", b"Content-Length: 5"], Framing.CHUNKED, 0),
        (200, b"GET", [b"Transfer-Encoding: gzip"], Framing.UNTIL_END, 0),
        (200, b"GET", [b"Content-Length: 5, 6"], Framing.AMBIGUOUS, 0),
        (200, b"HEAD", [b"Content-Length: 5"], Framing.NO_BODY, 0),
        (404, b"HEAD", [b"Transfer-Encoding: chunked"], Framing.NO_BODY, 0),
        (204, b"GET", [b"Content-Length: 5"], Framing.NO_BODY, 0),
        (304, b"GET", [b"Content-Length: 5"], Framing.NO_BODY, 0),
        (103, b"GET", [b"Content-Length: 5"], Framing.NO_BODY, 0),
        (101, b"GET", [], Framing.TUNNEL, 0),
        (200, b"CONNECT", [b"Content-Length: 5"], Framing.TUNNEL, 0),
        (299, b"CONNECT", [], Framing.TUNNEL, 0),
        (407, b"CONNECT", [b"Content-Length: 5"], Framing.LENGTH, 5),
    ],
)
def test_responses(
    status: int, method: bytes | None, lines: list[bytes], framing: Framing, length: int
) -> None:
    assert decide_response_framing(response(status, *lines), method) == (framing, length)


def test_transfer_encoding_in_http10_is_an_anomaly() -> None:
    head = request(b"Transfer-Encoding: chunked", version=b"1.0")
    assert decide_request_framing(head) == (Framing.CHUNKED, 0)
    assert head.fields.anomalies == ["transfer_encoding_in_http10"]


def test_codings_are_listed_in_the_order_they_were_applied() -> None:
    head = request(b"Content-Encoding: BR, identity", b"Transfer-Encoding: gzip, chunked")
    assert split_codings(head.fields) == [b"br", b"gzip"]
