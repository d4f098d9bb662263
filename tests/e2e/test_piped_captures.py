"""`replay` of what comes through a pipe: spans while it is open, and an end when it is asked for."""

import gzip
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Server, curl, wirespan
from tests.packets import RAW, PcapPacket, Talk, ip_packet, pcap
from tests.property.capture_samples import samples
from tests.running_agent import COMMAND, END_SECONDS

pytestmark = pytest.mark.e2e


def exchanges(count: int) -> list[PcapPacket]:
    """Return a connection with so many exchanges, which is not closed."""
    talk = Talk()
    talk.open()
    for number in range(count):
        talk.request(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
        talk.response(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    return talk.packets


class Replay:
    """A replay of standard input, and a deadline for all of it."""

    def __init__(self, *options: str, source: str = "-") -> None:
        self.process = subprocess.Popen(
            [COMMAND, "replay", source, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._deadline = threading.Timer(END_SECONDS, self.process.kill)
        self._deadline.start()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.input, self.output = self.process.stdin, self.process.stdout

    def write(self, data: bytes) -> None:
        self.input.write(data)
        self.input.flush()

    def end(self) -> str:
        """Return what it says until it has ended."""
        assert self.process.stderr is not None
        said = self.process.stderr.read().decode()
        self.process.wait()
        return said

    def close(self) -> None:
        self._deadline.cancel()
        self.process.kill()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        self.process.wait()


@pytest.fixture
def replay() -> Iterator[Callable[..., Replay]]:
    started: list[Replay] = []

    def start(*options: str, source: str = "-") -> Replay:
        started.append(Replay(*options, source=source))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.mark.parametrize("source", ["-", "/dev/stdin", "fifo"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_spans_come_while_the_pipe_is_open_and_a_signal_ends_it(
    replay: Callable[..., Replay], tmp_path: Path, source: str, number: signal.Signals
) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    running = replay(source=str(path) if source == "fifo" else source)
    writing = open(path, "wb") if source == "fifo" else running.input  # noqa: PTH123, SIM115
    content = pcap(exchanges(3))
    at = len(pcap(exchanges(1)))
    for start, end, told in ((0, at, [b"/0"]), (at, len(content), [b"/1", b"/2"])):
        writing.write(content[start:end])
        writing.flush()
        for each in told:
            assert each in running.output.readline()
    running.process.send_signal(number)
    said = running.end()
    assert running.process.returncode == 0, said
    assert "read: packets 15, segments 15" in said
    assert "warning" not in said
    writing.close()


def test_a_signal_ends_a_replay_that_has_read_nothing(replay: Callable[..., Replay]) -> None:
    running = replay("--log-level", "debug")
    running.write(b"\xd4\xc3")
    while not _catches(running.process.pid, signal.SIGTERM):
        assert running.process.poll() is None
    running.process.send_signal(signal.SIGTERM)
    assert running.end() == ""
    assert running.process.returncode == 0


def _catches(pid: int, number: signal.Signals) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> number - 1 & 1)


def test_tcpdump_is_read_live(replay: Callable[..., Replay], server: Callable[..., Server]) -> None:
    api = server()
    running = replay()
    with subprocess.Popen(
        [
            "tcpdump",
            "-U",
            "--immediate-mode",
            "-Z",
            "root",
            "-i",
            "lo",
            "-w",
            "-",
            "tcp",
            "port",
            str(api.port),
        ],
        stdout=running.input,
        stderr=subprocess.PIPE,
        text=True,
    ) as tcpdump:
        assert tcpdump.stderr is not None
        for line in tcpdump.stderr:
            if "listening on" in line:
                break
        for number in range(3):
            curl(f"{api.url}/live/{number}")
            assert f"/live/{number}".encode() in running.output.readline()
        running.input.close()
        tcpdump.terminate()
    said = running.end()
    assert running.process.returncode == 0
    assert "connections_http 3" in said


def test_a_capture_in_a_pipe_may_be_compressed(replay: Callable[..., Replay]) -> None:
    packing = gzip.GzipFile(fileobj=(running := replay()).input, mode="wb")
    content = pcap(exchanges(2))
    at = len(pcap(exchanges(1)))
    packing.write(content[:at])
    packing.flush()
    running.input.flush()
    assert b"/0" in running.output.readline()
    packing.write(content[at:])
    packing.close()
    running.input.close()
    assert b"/1" in running.output.readline()
    assert "warning" not in running.end()


def test_a_recording_is_read_from_a_pipe() -> None:
    ended = subprocess.run(
        [COMMAND, "replay", "-"], input=samples()["recording, gzip"], capture_output=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert b"/2" in ended.stdout


def test_a_damaged_recording_shows_what_stands_before_and_ends_with_2(tmp_path: Path) -> None:
    content = bytearray(samples()["recording"])
    place = content.rindex(b"\x03\x10\0\0\0")
    content[place + 13 : place + 21] = b"\xff" * 8
    path = tmp_path / "shop.wsr"
    path.write_bytes(content)
    ended = wirespan("replay", str(path))
    assert ended.returncode == 2
    assert "/1" in ended.stdout
    message = ended.stderr.partition("wirespan: ")[2]
    assert message.startswith(f"{path} is damaged: a reading of the clocks says ")
    assert f"at byte {place}; its last {len(content) - place} bytes are not read." in message
    assert "What stands before that was exported." in message
    assert "Traceback" not in ended.stderr
    assert "a bug" not in ended.stderr


def test_a_damaged_capture_shows_what_stands_before_and_ends_with_2(tmp_path: Path) -> None:
    path = tmp_path / "shop.pcap"
    path.write_bytes(pcap(exchanges(2)) + b"\xff" * 100)
    ended = wirespan("replay", str(path))
    assert ended.returncode == 2
    assert ended.stdout.count("GET") == 2
    assert "it claims a packet of 4294967295 bytes, at byte" in ended.stderr


def test_what_was_not_opened_is_said_in_words(tmp_path: Path) -> None:
    packets = [
        PcapPacket(number, ip_packet("192.0.2.1", "192.0.2.2", 50, bytes(40))) for number in range(412)
    ]
    path = tmp_path / "vpn.pcap"
    path.write_bytes(pcap(packets, RAW))
    ended = wirespan("replay", str(path))
    assert ended.returncode == 0
    assert "412 packets in ESP (encrypted) were not opened" in ended.stderr
    path.write_bytes(pcap([]))
    assert "vpn.pcap holds no packets" in wirespan("replay", str(path)).stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "standard input is empty."),
        (b"12:00:00.123456 IP 10.0.0.1.4 > 10.0.0.2.80", "standard input is what tcpdump prints."),
        (b"{}", "standard input is neither a recording of wirespan nor a packet capture"),
    ],
)
def test_what_is_no_capture_is_refused_with_2(content: bytes, said: str) -> None:
    ended = subprocess.run([COMMAND, "replay", "-"], input=content, capture_output=True, check=False)
    assert ended.returncode == 2
    assert said in ended.stderr.decode()
    assert ended.stdout == b""


def test_help_says_that_there_are_pipes() -> None:
    shown = wirespan("replay", "--help").stdout
    assert "- is standard input" in shown
    assert "tcpdump -U -w - | wirespan replay -" in " ".join(shown.split())
