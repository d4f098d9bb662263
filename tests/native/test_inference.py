from __future__ import annotations

from collections.abc import Callable

import pytest

from ebpf.http_prefixes import HTTP_PREFIXES, prefix_table

RunC = Callable[..., list[str]]

PROGRAM = """
#include <stdio.h>
#include <string.h>
%s
#include "inference.h"

int main(int count, char **arguments) {
    static const char *names[] = {"no_match",      "need_more",      "request",      "response",
                                  "http2_request", "http2_response", "http2_frames", "tls",
                                  "possible_request"};
    for (int i = 1; i < count; i++) {
        unsigned char bytes[16] = {0};
        __u64 words[2];
        unsigned length = strlen(arguments[i]) / 2;
        enum inference inference;
        for (unsigned j = 0; j < length && j < 16; j++)
            sscanf(arguments[i] + 2 * j, "%%2hhx", &bytes[j]);
        memcpy(words, bytes, sizeof(words));
        length = length < 16 ? length : 16;
        inference = infer(words[0], words[1], length);
        if (inference == INFERENCE_NO_MATCH)
            inference = infer_settings(words[0], words[1], length);
        puts(names[inference]);
    }
    return 0;
}
"""


@pytest.fixture
def infer(run_c: RunC) -> Callable[[list[bytes]], list[str]]:
    """Judge these as the first bytes of a connection."""

    def run(cases: list[bytes]) -> list[str]:
        return run_c(PROGRAM % prefix_table(), *(case.hex() for case in cases))

    return run


def test_every_prefix_is_recognised_and_every_beginning_of_it_awaits_more(
    infer: Callable[..., list[str]],
) -> None:
    cases, expected = [], []
    for prefix, meaning in HTTP_PREFIXES:
        for end in range(1, len(prefix)):
            cases.append(prefix[:end])
            expected.append("need_more")
        for rest in (b"", b"/", b"/index.html HTTP/1.1\r\n"):
            cases.append(prefix + rest)
            expected.append(meaning.removeprefix("INFERENCE_").lower())
    assert infer(cases) == expected


@pytest.mark.parametrize("breaks", [b"\r\n", b"\n", b"\r\n\r\n", b"\r\n" * 4])
def test_line_breaks_before_a_request_are_skipped(infer: Callable[..., list[str]], breaks: bytes) -> None:
    assert infer([breaks, breaks + b"G", breaks + b"GET / HTTP/1.1"]) == ["need_more", "need_more", "request"]


@pytest.mark.parametrize("size", [0, 6, 18, 60])
def test_a_server_that_begins_with_its_settings_is_recognised(
    infer: Callable[..., list[str]], size: int
) -> None:
    header = size.to_bytes(3, "big") + b"\x04\0\0\0\0\0"
    cases = [header[:end] for end in range(1, 9)] + [header, header + bytes(size)]
    assert infer(cases) == ["need_more"] * 8 + ["http2_response"] * 2


@pytest.mark.parametrize(
    ("first", "meaning"),
    [
        (b"\x16\x03\x01\x02\x00\x01", "tls"),
        (b"\x16", "need_more"),
        (b"\x16\x04", "no_match"),
        (b"HTTP/2 200", "no_match"),
        (b"HTTP/0.9 200", "no_match"),
        (b"SSH-2.0-OpenSSH\r\n", "no_match"),
        (b"PING\r\n", "no_match"),
        (b" GET /", "no_match"),
        (b"G@T / HTTP/1.1", "no_match"),
        (b"FROB \0", "no_match"),
        (b"*1\r\n$4", "no_match"),
        (b"\0GET / H", "no_match"),
        (b"\r\n" * 8, "no_match"),
        (b"\0\0\x07\x04\0\0\0\0\0", "no_match"),  # not whole settings
        (b"\0\0\x42\x04\0\0\0\0\0", "no_match"),  # more than there are
        (b"\0\0\x06\x04\x01\0\0\0\0", "no_match"),  # an acknowledgement comes later
        (b"\0\0\x06\x04\0\0\0\0\x01", "no_match"),  # of one stream
        (b"\0\0\x06\x06\0\0\0\0\0", "no_match"),  # another type
        (b"\0\x01\0\x04\0\0\0\0\0", "no_match"),
    ],
)
def test_what_is_not_http_is_told_apart(infer: Callable[..., list[str]], first: bytes, meaning: str) -> None:
    assert infer([first]) == [meaning]


@pytest.mark.parametrize(
    "first",
    [
        b"PROPFIND /a HTTP/1.1",
        b"VERSION-CONTROL /a HTTP/1.1",
        b"BASELINE-CONTROL /a HTTP/1.1",
        b"get / HTTP/1.1",
        b"GETS /",
        b"GET\t/",
        b"X",
        b"!#$%&'*+-.^_`|~ /",
        b"0123456789 /",
        b"FROB  /a",
        b"FROB \xc3\xa4",
        b"\r\nFROB /a",
        b"\r\n\r\n\r\n\r\nFROB /a",
        b"PROXY TCP4 192.0.2.10 192.0.2.20 56324 443\r\n",
        b"PROXY UNKNOWN\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
        b"220 smtp",  # a server that begins so is no client: its role tells, not its bytes
    ],
)
def test_what_an_answer_may_show_to_be_a_request_is_possible(
    infer: Callable[..., list[str]], first: bytes
) -> None:
    assert infer([first]) == ["possible_request"]


def test_every_byte_of_a_token_and_no_other_may_stand_in_a_method(infer: Callable[..., list[str]]) -> None:
    tokens = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    others = [bytes((byte,)) for byte in range(256) if byte not in tokens and byte not in b" \t"]
    for place in (0, 1, 5, 11):
        method = b"y" * place
        assert infer([method + bytes((byte,)) + b"x /" for byte in tokens]) == ["possible_request"] * 77
        answers = infer([method + byte + b"x /" for byte in others if place or byte not in (b"\r", b"\n")])
        assert set(answers) == {"no_match"}


def test_the_signature_of_the_proxy_protocol_awaits_its_end(infer: Callable[..., list[str]]) -> None:
    signature = b"\r\n\r\n\0\r\nQUIT\n"
    assert infer([signature[:end] for end in range(1, 12)]) == ["need_more"] * 11
    assert infer([signature[:10] + b"\0\0", b"\r\n\r\n\0\r\nQUIX\n"]) == ["no_match"] * 2


def test_the_prefixes_fit_the_word_they_are_compared_in() -> None:
    prefixes = [prefix for prefix, _ in HTTP_PREFIXES]
    assert all(2 <= len(prefix) <= 8 and 0 not in prefix for prefix in prefixes)
    assert not [(a, b) for a in prefixes for b in prefixes if a != b and a.startswith(b)]
