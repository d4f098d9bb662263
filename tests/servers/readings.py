"""What a server made of a shape: put to it with a second request behind it, and told by its answers.

A shape and the request behind it go out in one write. A server that answers the second one is done with
the first; the end of the client's direction says to one that stays quiet that nothing more comes. What was
read is in the header X-Read.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass, field

from tests.servers.five_servers import DEFAULT_HOST

FOLLOWER_TARGET = b"/behind"
FOLLOWER = b"GET " + FOLLOWER_TARGET + b" HTTP/1.1\r\nHost: behind.test\r\n\r\n"

_ANSWER_HEAD = re.compile(rb"HTTP/1\.[0-9] (\d\d\d)[^\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n")
_LENGTH = re.compile(rb"^content-length: *(\d+)", re.IGNORECASE | re.MULTILINE)
_CHUNKED = re.compile(rb"^transfer-encoding: *chunked", re.IGNORECASE | re.MULTILINE)
_READ = re.compile(rb"^x-read: *([^\r\n]+)", re.IGNORECASE | re.MULTILINE)
_ABSOLUTE = re.compile(rb"[A-Za-z][-+.A-Za-z0-9]*://[^/?#]*")
_PORT = re.compile(r":[0-9]*$")
_METHOD_NOT_ALLOWED = 405


@dataclass(frozen=True)
class Read:
    """What a server says that it read."""

    method: bytes
    target: bytes
    """Without scheme and authority."""
    host: str
    """Which one the server acts on: lower-cased, without port; empty when there is none."""
    length: int
    digest: str


@dataclass
class Verdict:
    """What one server made of one shape."""

    status: int = 0
    """Status of the first answer; 0 when there was none."""
    read: Read | None = None
    follower: str = "unseen"
    """What came of the second request: `answered`, `misread`, or `unseen` when nothing shows."""
    waited: bool = False
    """The server was quiet until the client's direction ended."""
    answer: bytes = field(default=b"", repr=False)

    @property
    def is_accepted(self) -> bool:
        """Whether the server took the shape; a method that it does not allow was read all the same."""
        if self.waited:
            return False
        return 200 <= self.status < 400 or self.status == _METHOD_NOT_ALLOWED

    @property
    def is_headless(self) -> bool:
        """Whether the server was done without the head of an answer: it read HTTP/0.9, or left."""
        return not self.waited and not self.answer.startswith(b"HTTP/")

    def code(self) -> str:
        """Return the verdict as one word: the status, `wait` for a server that wanted more, or `none`."""
        if self.waited:
            return "wait"
        if self.is_headless:
            return "http0.9" if self.answer else "none"
        return str(self.status)


def parse_answers(data: bytes) -> list[tuple[int, Read | None]]:
    """Return the status of each whole answer, and what it says was read; interim ones are left out."""
    answers: list[tuple[int, Read | None]] = []
    at = 0
    while head := _ANSWER_HEAD.match(data, at):
        at = head.end()
        status = int(head[1])
        if status < 200:
            continue
        read = _READ.search(head[2])
        found = _decode_read(read[1]) if read else None
        if not (found and found.method == b"HEAD") and status not in (204, 304):
            at = _find_body_end(data, at, head[2])
        if at > len(data):
            break
        answers.append((status, found))
    return answers


def _find_body_end(data: bytes, at: int, fields: bytes) -> int:
    """Return where the body behind a head ends; beyond the data when it is not whole."""
    length = _LENGTH.search(fields)
    if length:
        return at + int(length[1])
    if _CHUNKED.search(fields):
        end = data.find(b"0\r\n\r\n", at)
        return len(data) + 1 if end < 0 else end + 5
    return len(data)


def _decode_read(words: bytes) -> Read:
    method, target, host, length, digest = words.decode().split(" ")
    return Read(
        bytes.fromhex(method),
        normalize_target(bytes.fromhex(target)),
        normalize_host(bytes.fromhex(host)),
        int(length),
        digest,
    )


def normalize_target(target: bytes) -> bytes:
    """Return a target without scheme and authority."""
    rest = _ABSOLUTE.sub(b"", target, count=1)
    is_path_missing = rest.startswith(b"?") or (rest != target and not rest.startswith(b"/"))
    return b"/" + rest if is_path_missing else rest


def normalize_host(host: bytes) -> str:
    """Return a host as servers compare it: lower-cased, without port; empty for the one by default."""
    name = host.decode("latin-1").lower()
    name = name if name.endswith("]") else _PORT.sub("", name)
    return "" if name == DEFAULT_HOST else name.removesuffix(".")


async def ask(port: int, shape: bytes, quiet_seconds: float) -> Verdict:
    """Put a shape to a server; `quiet_seconds` without a byte mean that it waits for more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    verdict = Verdict()
    data = b""
    half_closed = False
    with suppress(ConnectionError):
        writer.write(shape + FOLLOWER)
        while True:
            answers = parse_answers(data)
            if any(
                read and read.target == FOLLOWER_TARGET and read.host == "behind.test" for _, read in answers
            ):
                break
            try:
                part = await asyncio.wait_for(reader.read(65_536), quiet_seconds)
            except TimeoutError:
                if half_closed:
                    break
                half_closed = True
                verdict.waited = not answers
                writer.write_eof()
                continue
            if not part:
                break
            data += part
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    verdict.answer = data
    _judge(verdict, parse_answers(data))
    return verdict


def _judge(verdict: Verdict, answers: list[tuple[int, Read | None]]) -> None:
    if not answers:
        return
    verdict.status, verdict.read = answers[0]
    behind = answers[1:]
    if behind:
        status, read = behind[0]
        is_follower = (
            status == 200
            and read is not None
            and read.target == FOLLOWER_TARGET
            and read.host == "behind.test"
        )
        verdict.follower = "answered" if is_follower and read.method == b"GET" else "misread"
