"""Captures made by tcpdump in the end-to-end tests, and the comparison of their replay with a live run."""

import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.conftest import ExportedSpan, read_spans, wirespan
from tests.running_agent import END_SECONDS

STAMPED_APART_NS = 500_000_000
"""A packet is stamped when it passes the interface, a call when it returns: on a busy machine after a while.
Times of different clocks would be years apart."""

LAST_PACKET = b"the last packet of the capture"
"""Without it, what tcpdump has not read when it is ended is missing from the file."""


def _bind(endpoint: socket.socket) -> str:
    endpoint.bind(("127.0.0.1", 0))
    return str(endpoint.getsockname()[1])


@contextmanager
def capturing(file: Path, port: int, *options: str, interface: str = "lo") -> Iterator[None]:
    """Run tcpdump on a port; the file is whole afterwards. It ends with a datagram that replay ignores."""
    command = ["tcpdump", "--immediate-mode", "-U", "-Z", "root", "-i", interface, "-B", "65536", *options]
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as marked,
        subprocess.Popen(
            [*command, "-w", str(file), "tcp", "port", str(port), "or", "udp", "port", _bind(marked)],
            stderr=subprocess.PIPE,
            text=True,
        ) as tcpdump,
    ):
        assert tcpdump.stderr is not None
        for line in tcpdump.stderr:
            if "listening on" in line:
                break
        try:
            yield
            marked.sendto(LAST_PACKET, marked.getsockname())
            deadline = time.monotonic() + END_SECONDS
            while LAST_PACKET not in file.read_bytes():
                assert time.monotonic() < deadline, "tcpdump did not capture the last packet"
                time.sleep(0.02)
        finally:
            tcpdump.terminate()
        summary = tcpdump.communicate(timeout=END_SECONDS)[1]
    dropped = re.search(r"(\d+) packets? dropped by kernel", summary)
    assert dropped is not None, summary
    assert dropped[1] == "0"


def comparable(spans: list[ExportedSpan]) -> list[tuple[Any, ...]]:
    """Return what is compared: everything but process names, ids and times."""
    return sorted(
        (span.kind, span.name, str(sorted(span.attributes.items())), str(span.events)) for span in spans
    )


def assert_equal(live: list[ExportedSpan], replayed: list[ExportedSpan]) -> None:
    first, second = comparable(live), comparable(replayed)
    differing = [pair for pair in zip(first, second, strict=False) if pair[0] != pair[1]]
    assert not differing, f"live and replayed differ: {differing}"
    assert len(first) == len(second)
    for ours, theirs in zip(live, replayed, strict=True):
        assert abs(ours.start_unix_ns - theirs.start_unix_ns) < STAMPED_APART_NS
        assert abs(ours.end_unix_ns - theirs.end_unix_ns) < STAMPED_APART_NS


def replay(capture: Path, spans_file: Path) -> list[ExportedSpan]:
    ended = wirespan("replay", str(capture), "--spans-file", str(spans_file))
    assert ended.returncode == 0, ended.stderr
    assert "lost:" not in ended.stderr
    return read_spans(spans_file)
