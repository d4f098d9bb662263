"""Packet captures judge first bytes in Python, the kernel side in C: both must come to the same answers."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from ebpf.http_prefixes import HTTP_PREFIXES, prefix_table
from ebpf.inference import Inference, frame_bytes, infer, infer_frames, infer_settings

RunC = Callable[..., list[str]]

CASES = 4_000
BYTES = 64
TOKEN_BYTES = b"!#$%&'*+-.^_`|~09azAZ"
PROXY_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
PROGRAM = """
#include <stdio.h>
#include <string.h>
%s
#include "inference.h"

int main(int count, char **arguments) {
    for (int i = 1; i < count; i++) {
        unsigned char bytes[256] = {0};
        struct window window = {0};
        unsigned length = strlen(arguments[i]) / 2, judged = length < 16 ? length : 16;
        for (unsigned j = 0; j < length; j++)
            sscanf(arguments[i] + 2 * j, "%%2hhx", &bytes[j]);
        memcpy(window.first, bytes, sizeof(window.first));
        memcpy(window.frame, bytes, sizeof(window.frame));
        for (int frames = 0; frames < FRAMES_BELIEVED && walk_frame(&window, length); frames++)
            memcpy(window.frame, bytes + window.at, sizeof(window.frame));
        printf("%%d %%d %%d %%d\\n", (int)infer(window.first[0], window.first[1], judged),
               (int)infer_settings(window.first[0], window.first[1], judged),
               (int)frame_bytes(window.first[0], window.first[1]), (int)infer_frames(&window, length));
    }
    return 0;
}
"""
# In the order of `enum inference`.
MEANINGS = list(Inference)


def draw(random: Random) -> bytes:
    """Return first bytes that are near to something that is known."""
    kind = random.randrange(5)
    if kind == 4:
        return change(request_line(random)[: random.randint(1, 24)], random)
    if kind == 0:
        prefix = random.choice([prefix for prefix, _ in HTTP_PREFIXES] + [b"\x16\x03\x01", b"HTTP/2"])
        data = random.choice([b"", b"\r\n", b"\n" * 7, b"\r" * 9]) + prefix + random.randbytes(9)
        return change(data[: random.randint(1, len(data))], random)
    if kind == 1:
        return change((b"\0\0" + bytes([6 * random.randrange(12)]) + b"\4\0\0\0\0\0" + bytes(8)), random)
    return change(b"".join(frame(random) for _ in range(kind - 1)), random)[:BYTES]


def request_line(random: Random) -> bytes:
    """Return what begins like a request of any method, or like the PROXY protocol."""
    method = bytes(random.choices(TOKEN_BYTES, k=random.choice([1, 3, 7, 8, 15, 16])))
    start = random.choice([method, b"PROXY", PROXY_SIGNATURE, b"\r\n" + method, b"\n" * 7 + method])
    return start + random.choice([b" ", b"  ", b"\t", b"", b" \0"]) + b"/a HTTP/1.1\r\n"


def frame(random: Random) -> bytes:
    length = random.choice([0, 1, 4, 5, 6, 8, 9, 12])
    kind = random.choice([0, 1, 1, 3, 4, 6, 7, 8, 9])
    flags = random.choice([0, 1, 4, 5, 8, 0x20, 0x2D, 0x40])
    stream = random.choice([0, 1, 2, 3, 2**31 - 1, 2**31 + 1])
    fields = bytes(
        random.choice([0x82, 0x88, 0x04, 0x48, 0xBE, 0xC1, 0xFF, 0x00, 0x10]) for _ in range(length)
    )
    return length.to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + fields


def change(data: bytes, random: Random) -> bytes:
    if random.random() < 0.7:
        return data
    place = random.randrange(len(data))
    return data[:place] + random.randbytes(1) + data[place + 1 :]


def test_both_judge_alike(run_c: RunC) -> None:
    random = Random(9113)
    cases = [draw(random) for _ in range(CASES)]
    answers = run_c(PROGRAM % prefix_table(), *(case.hex() for case in cases))
    seen: set[Inference] = set()
    for case, answer in zip(cases, answers, strict=True):
        first, settings, length, frames = map(int, answer.split())
        # A frame's header that is cut is legal in C when the missing bytes may be zero; no call of the
        # kernel side judges so few.
        ours = frame_bytes(case[:16]) if len(case) >= 9 else length
        judged = (infer(case), infer_settings(case), infer_frames(case, len(case)))
        assert (MEANINGS[first], MEANINGS[settings], MEANINGS[frames]) == judged, case
        assert ours == length, case
        seen.update(judged)
    assert seen == set(Inference)
