"""HTTP/2 in the middle of a connection: what is known for it, and above all what is not taken for it."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hpack import Encoder
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from ebpf.http_prefixes import prefix_table

RunC = Callable[..., list[str]]
Judge = Callable[[list[bytes]], list[str]]

HEADER = f"""
#include <stdio.h>
#include <string.h>
{prefix_table()}
#include "inference.h"

/* As the kernel side does, the call being a buffer in this program. */
static enum inference judge_call(const unsigned char *call, __u64 moved) {{
    struct window window = {{.sender = 0}};
    for (int i = 0; i < FRAMES_BELIEVED; i++) {{
        __u64 length = moved - window.at;
        memset(window.frame, 0, sizeof(window.frame));
        memcpy(window.frame, call + window.at, length < 16 ? length : 16);
        if (!walk_frame(&window, moved))
            break;
    }}
    return infer_frames(&window, moved);
}}

static int decides(enum inference inference) {{
    return inference == INFERENCE_HTTP2_REQUEST || inference == INFERENCE_HTTP2_RESPONSE;
}}
"""

JUDGE = (
    HEADER
    + """
static const char *names[INFERENCES] = {[INFERENCE_NO_MATCH] = "no_match",
                                        [INFERENCE_HTTP2_REQUEST] = "request",
                                        [INFERENCE_HTTP2_RESPONSE] = "response",
                                        [INFERENCE_HTTP2_FRAMES] = "frames"};

/* Judges each argument; after "-parts" every stretch of each, and prints what the first that decides is. */
int main(int count, char **arguments) {
    static unsigned char call[65536];
    int parts = strcmp(arguments[1], "-parts") == 0;
    for (int i = 1 + parts; i < count; i++) {
        unsigned length = strlen(arguments[i]) / 2;
        enum inference inference;
        for (unsigned j = 0; j < length; j++)
            sscanf(arguments[i] + 2 * j, "%2hhx", &call[j]);
        inference = judge_call(call, length);
        for (unsigned start = 0; parts && start < length; start++) {
            for (unsigned end = start + 1; end <= length && !decides(inference); end++)
                inference = judge_call(call + start, end - start);
        }
        puts(parts && !decides(inference) ? "undecided" : names[inference]);
    }
    return 0;
}
"""
)

CHANCE = (
    HEADER
    + """
/* Counts the calls that decide, of random bytes: all of them random, or half of them zero, as numbers have
 * them, behind a length of four bytes. */
int main(void) {
    static unsigned char call[512];
    __u64 state = 88172645463325252ULL;
    int taken[2] = {0};
    for (int i = 0; i < 2000000; i++) {
        unsigned moved = 9 + i % 500;
        for (unsigned j = 0; j < moved && j < 64; j++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            call[j] = state >> 32;
            if (i % 2 && state >> 63)
                call[j] = 0;
        }
        if (i % 2) {
            call[0] = call[1] = 0;
            call[2] = (moved - 4) >> 8;
            call[3] = moved - 4;
        }
        taken[i % 2] += decides(judge_call(call, moved));
    }
    printf("%d %d\\n", taken[0], taken[1]);
    return 0;
}
"""
)


@pytest.fixture
def judge(run_c: RunC) -> Judge:
    """Judge each of these as a call in the middle of a connection."""

    def run(calls: list[bytes]) -> list[str]:
        return run_c(JUDGE, *(call.hex() for call in calls))

    return run


def header(length: int, kind: int, flags: int, stream: int) -> bytes:
    return length.to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")


def head(
    fields: list[tuple[str, str]], *, stream: int = 7, flags: tuple[str, ...] = (), **more: int
) -> bytes:
    block = Encoder().encode(fields)
    return serialise(HeadersFrame(stream, block, flags=("END_HEADERS", *flags), **more))


def serialise(*frames: Frame) -> bytes:
    return b"".join(frame.serialize() for frame in frames)


REQUEST = [(":method", "GET"), (":path", "/a"), (":scheme", "http"), (":authority", "a"), ("x", "y")]
RESPONSE = [(":status", "200"), ("content-type", "text/plain")]
DATA = serialise(DataFrame(7, b"d" * 100))
PING = serialise(PingFrame(0, b"12345678"))

TELLING = {
    "request": (head(REQUEST), "request"),
    "response": (head(RESPONSE), "response"),
    "another status": (head([(":status", "418")]), "response"),
    "another method": (head([(":method", "PATCH")]), "request"),
    "padded": (head(REQUEST, flags=("PADDED",), pad_length=9), "request"),
    "with a priority": (head(RESPONSE, flags=("PRIORITY",), depends_on=5, stream_weight=9), "response"),
    "with both": (head(REQUEST, flags=("PADDED", "PRIORITY"), pad_length=1, depends_on=5), "request"),
    "request and body": (head(REQUEST) + DATA, "request"),
    "window, then a head": (serialise(WindowUpdateFrame(0, 5)) + head(RESPONSE), "response"),
    "the beginning of a body": (head(REQUEST) + DATA[:9], "request"),
    "two heads": (head(REQUEST) + head(REQUEST, stream=9)[:20], "request"),
    # numbers given out earlier, as Go's client begins with its :authority
    "known fields first": (header(3, 1, 5, 9) + b"\xbf\xbe\x82", "request"),
    "a late telling field": (header(4, 1, 5, 9) + b"\xbf\xbe\xc0\x86", "request"),
    "the highest stream": (header(1, 1, 5, (1 << 31) - 1) + b"\x88", "response"),
}
SILENT = {
    "ping": PING,
    "settings": serialise(SettingsFrame(0, {1: 4096})),
    "acknowledged settings": serialise(SettingsFrame(0, flags=("ACK",))),
    "acknowledged ping": serialise(PingFrame(0, b"12345678", flags=("ACK",))),
    "window of the connection": serialise(WindowUpdateFrame(0, 65_535)),
    "window of a stream": serialise(WindowUpdateFrame(3, 65_535)),
    "reset": serialise(RstStreamFrame(3, 8)),
    "goodbye": serialise(GoAwayFrame(0, 3, 0, b"why")),
    "data": DATA,
    "the end of a stream": header(0, 0, 1, 3),
    "data of the largest size": serialise(DataFrame(7, bytes(16_384))),
    "data, cut in the second frame": DATA + DATA[:20],
    "trailers": head([("grpc-status", "0")], flags=("END_STREAM",)),
    "only known fields": header(4, 1, 5, 9) + b"\xbf\xbe\xc0\xc1",
    "too many known fields": header(5, 1, 5, 9) + b"\xbf\xbe\xc0\xc1\x82",
    "a number of several bytes": header(3, 1, 5, 9) + b"\xff\x01\x82",
}
NOT_FRAMES = {
    "nothing but a header": header(5, 1, 5, 1),
    "cut": head(REQUEST)[:-1],
    "a byte too many": head(REQUEST) + b"\0",
    "eight bytes": header(0, 0, 1, 3)[:8],
    "the middle of a body": b"d" * 100 + head(REQUEST),
    "empty data that ends nothing": header(0, 0, 0, 3),
    "data of the connection": header(1, 0, 0, 0) + b"d",
    "data of a pushed stream": header(1, 0, 0, 2) + b"d",
    "an illegal flag": header(1, 0, 4, 1) + b"d",
    "the reserved bit": header(1, 1, 4, 1 << 31 | 1) + b"\x88",
    "an empty head": header(0, 1, 4, 1),
    "a head of the connection": header(1, 1, 4, 0) + b"\x88",
    "an illegal flag of a head": header(1, 1, 0x10, 1) + b"\x88",
    "larger than may be": header(16_385, 0, 0, 1) + bytes(16_385),
    "a short reset": header(3, 3, 0, 1) + bytes(3),
    "settings of a stream": header(6, 4, 0, 1) + bytes(6),
    "half a setting": header(3, 4, 0, 0) + bytes(3),
    "acknowledged settings that set": header(6, 4, 1, 0) + bytes(6),
    "settings without any": header(0, 4, 0, 0),
    "a ping of a stream": header(8, 6, 0, 1) + bytes(8),
    "a long ping": header(9, 6, 0, 0) + bytes(9),
    "a short goodbye": header(7, 7, 0, 0) + bytes(7),
    "a flagged window": header(4, 8, 1, 0) + bytes(4),
    "priority": serialise(PriorityFrame(3, depends_on=1)),
    "a promise": serialise(PushPromiseFrame(1, 2, Encoder().encode(REQUEST), flags=("END_HEADERS",))),
    "an unknown type": header(1, 9, 0, 1) + b"d",
    "a ping, then no frame": PING + b"\xff" * 20,
    "a ping, then half a header": PING + PING[:8],
}


def test_a_head_decides_and_tells_who_sent_it(judge: Judge) -> None:
    calls = [call for call, _ in TELLING.values()]
    assert dict(zip(TELLING, judge(calls), strict=True)) == {
        name: each for name, (_, each) in TELLING.items()
    }


def test_other_frames_are_known_but_decide_nothing(judge: Judge) -> None:
    assert dict(zip(SILENT, judge([*SILENT.values()]), strict=True)) == dict.fromkeys(SILENT, "frames")


def test_what_is_nearly_a_frame_is_none(judge: Judge) -> None:
    assert dict(zip(NOT_FRAMES, judge([*NOT_FRAMES.values()]), strict=True)) == dict.fromkeys(
        NOT_FRAMES, "no_match"
    )


def kafka(key: int, version: int, correlation: int, body: bytes) -> bytes:
    """Return a request: length, API, version, correlation, client."""
    message = struct.pack(">hhih", key, version, correlation, 9) + b"client-01" + body
    return struct.pack(">i", len(message)) + message


def postgres(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack(">i", len(body) + 4) + body


def mysql(sequence: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "little") + bytes((sequence,)) + body


def mongodb(body: bytes) -> bytes:
    return struct.pack("<iiiii", len(body) + 21, 257, 0, 2013, 0) + b"\0" + body


OTHER_PROTOCOLS = {
    "mysql greeting": mysql(0, b"\x0a8.0.36\0\x0b\0\0\0abcdefgh\0\xff\xf7\xff\2\0"),
    "mysql query": mysql(0, b"\3SELECT 1"),
    "mysql query of 256 bytes": mysql(0, b"\3SELECT " + b"1" * 248),
    "mysql answer": mysql(1, b"\1")
    + mysql(2, b"\3def\0\0\0\0011\0\x0c\x3f\0\1\0\0\0\x08\x81")
    + mysql(5, b"\xfe\0\0"),
    "mysql ok": mysql(1, b"\0\0\0\2\0\0\0"),
    "mysql ok of 256 bytes": mysql(1, b"\0\1\0\2\0\0\0" + bytes(249)),
    "postgres start": struct.pack(">ii", 41, 196_608) + b"user\0app\0database\0shop\0\0",
    "postgres encryption": struct.pack(">ii", 8, 80_877_103),
    "postgres query": postgres(b"Q", b"SELECT 1\0"),
    "postgres rows": postgres(b"T", b"\0\1id\0" + bytes(18))
    + postgres(b"D", b"\0\1\0\0\0\0011")
    + postgres(b"Z", b"I"),
    "postgres binary copy": postgres(
        b"d", b"PGCOPY\n\xff\r\n\0" + struct.pack(">iihiqiq", 0, 0, 2, 8, 7, 8, 1)
    ),
    "redis command": b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\n\0\0\x04\x08\r\n",
    "redis answer": b"$-1\r\n:1\r\n+OK\r\n",
    "kafka versions": kafka(18, 3, 1, b"\0"),
    "kafka produce": kafka(0, 9, 1, struct.pack(">hhii", -1, 1, 30_000, 1)),
    "kafka old produce": kafka(0, 0, 257, bytes(244)),
    "kafka fetch": kafka(1, 12, 65_537, struct.pack(">iiiiB", -1, 500, 1, 1 << 20, 0)),
    "kafka fetch of 257 bytes": kafka(1, 0, 257, bytes(238)),
    "kafka answer": struct.pack(">iiiih", 4 + 4 + 4 + 2, 7, 0, 0, 0),
    "kafka answer of 257 bytes": struct.pack(">ii", 257, 257) + bytes(range(253)),
    "amqp start": b"AMQP\0\0\x09\1",
    "amqp method": b"\1\0\0" + struct.pack(">i", 12) + b"\0\x0a\0\x0b\0\0\0\0\0\0\0\0\xce",
    "amqp heartbeat": b"\x08\0\0\0\0\0\0\xce",
    "amqp 1.0 frame": struct.pack(">iBBH", 26, 2, 0, 0) + b"\0\x53\x10\xc0\x0d\2\xa1\1c\xa1\6broker",
    "mongodb message": mongodb(b"\x13\0\0\0\x10ping\0\1\0\0\0\0"),
    "tls application data": b"\x17\3\3\0\x20" + bytes(range(200, 232)),
    "tls alert": b"\x15\3\3\0\2\1\0",
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "ssh packet": b"\0\0\1\x04\x05\x14" + bytes(range(250)),
    "cassandra": b"\4\0\0\1\7\0\0\0\x0d\0\0\0\6SELECT\0\1\0",
    "zookeeper connect": struct.pack(">iiqiqi", 45, 0, 0, 30_000, 0, 16) + bytes(17),
    "zookeeper ping": struct.pack(">iii", 8, -2, 11),
    "zookeeper answer": struct.pack(">iiqi", 16, 1, 1, 0),
    "dns over tcp": b"\0\x1d\0\1\1\0\0\1\0\0\0\0\0\0\7example\3com\0\0\1\0\1",
    "mqtt": b"\x10\x10\0\4MQTT\4\2\0\x3c\0\4abcd",
    "memcached": b"\x80\0\0\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0k",
    "thrift": struct.pack(">iI", 20, 0x80010001) + b"\0\0\0\4ping\0\0\0\1\0\0\0\0",
    "smb": b"\0\0\0\x40\xfeSMB\x40\0" + bytes(58),
    "ldap": b"0\x0c\2\1\1\x60\7\2\1\3\4\0\x80\0",
    "nats": b"PUB a 9\r\n\0\0\x04\x08\0\0\0\0\1\r\n",
    "pulsar": struct.pack(">ii", 17, 13) + b"\x08\x12\x92\1\x09" + bytes(8),
    "oracle": b"\0\x3a\0\0\1\0\0\0\1\x39\1\x2c" + bytes(46),
    "erlang distribution": b"\0\0\0\x0d\x70\x83\x68\4\x61\6\x67\x58\0\1\1\x77\0",
    "zeros": bytes(512),
    "big-endian numbers": b"".join(struct.pack(">I", number) for number in range(256)),
    "little-endian numbers": b"".join(struct.pack("<I", number) for number in range(256)),
    "big-endian short numbers": b"".join(struct.pack(">H", number) for number in range(512)),
    "big-endian long numbers": b"".join(struct.pack(">Q", number) for number in range(128)),
    "counted bytes": bytes(range(256)) * 2,
}


def test_messages_of_other_protocols_are_not_taken_for_it(judge: Judge) -> None:
    for times in (1, 2, 3):
        judged = dict(
            zip(OTHER_PROTOCOLS, judge([each * times for each in OTHER_PROTOCOLS.values()]), strict=True)
        )
        assert judged == dict.fromkeys(OTHER_PROTOCOLS, "no_match")


def test_no_stretch_of_other_protocols_decides(run_c: RunC) -> None:
    conversations = [(each * 3).hex() for each in OTHER_PROTOCOLS.values()]
    judged = dict(zip(OTHER_PROTOCOLS, run_c(JUDGE, "-parts", *conversations), strict=True))
    assert judged == dict.fromkeys(OTHER_PROTOCOLS, "undecided")


def test_random_bytes_are_not_taken_for_it(run_c: RunC) -> None:
    assert run_c(CHANCE) == ["0 0"]
