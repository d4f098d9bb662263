from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import os
import pty
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
import zstandard

from ebpf import input_stream
from ebpf.input_stream import InputError, InputStream, StreamedItems
from ebpf.packets.capture import PacketCapture
from ebpf.recording import RecordedCapture
from tests.packets import pcap, to_packets
from tests.property.capture_samples import PACKERS, samples, segments

COMPRESSIONS = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": zstandard.compress}


class Pipe:
    """A pipe whose reading end is a stream."""

    def __init__(self) -> None:
        reading, self.writing = os.pipe()
        self.stream = InputStream(reading, "pipe")

    def write(self, data: bytes) -> None:
        assert os.write(self.writing, data) == len(data)

    def end(self) -> None:
        if self.writing >= 0:
            os.close(self.writing)
        self.writing = -1


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.end()
    pipe.stream.close()


def read_all(stream: InputStream) -> bytes:
    data = b""
    while stream.holds(1) or not stream.is_over:
        data += stream.take(stream.held) if stream.held and stream.holds(stream.held) else b""
        stream.wait(0.05)
    return data


def test_a_quiet_pipe_is_not_waited_for(pipe: Pipe) -> None:
    stream = pipe.stream
    assert not stream.holds(1)
    stream.wait(0)
    assert (stream.is_over, stream.held, stream.size) == (False, 0, None)
    pipe.write(b"abcdefgh")
    assert stream.holds(3)
    assert not stream.holds(9)
    assert stream.peek(100) == b"abcdefgh"
    assert stream.take(3) == b"abc"
    assert (stream.position, stream.held) == (3, 5)
    waiting = stream.await_bytes(7)
    assert next(waiting) is None
    pipe.write(b"ij")
    with pytest.raises(StopIteration) as ended:
        next(waiting)
    assert ended.value.value is True
    assert stream.take(7) == b"defghij"
    pipe.write(b"end")
    pipe.end()
    assert list(stream.await_bytes(4)) == []
    assert not stream.holds(4)
    assert stream.is_over
    assert stream.holds(3)
    assert stream.take(3) == b"end"
    assert stream.problem is None


def test_bytes_are_passed_over_without_being_held(pipe: Pipe) -> None:
    pipe.write(bytes(50_000) + b"end")
    passed = 0
    while passed < 50_000:
        passed += pipe.stream.skip(min(7_000, 50_000 - passed))
    assert pipe.stream.skip(0) == 0
    assert pipe.stream.holds(3)
    assert pipe.stream.take(3) == b"end"
    assert pipe.stream.skip(5) == 0


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_every_compression_is_unpacked(pipe: Pipe, compression: str) -> None:
    pack = COMPRESSIONS[compression]
    content = Random(5).randbytes(20_000)
    packed = pack(content)
    # Several compressed files one behind the other are one.
    for data in (packed, pack(b"first") + pack(b"") + packed):
        other = Pipe()
        writer = threading.Thread(target=lambda data=data, other=other: (other.write(data), other.end()))
        writer.start()
        whole = read_all(other.stream)
        writer.join()
        assert whole.endswith(content)
        assert len(whole) - len(content) == (0 if data == packed else 5)
        assert (other.stream.problem, other.stream.is_unpacked) == (None, True)
        other.stream.close()
    # Cut anywhere, it says so; what came before is there.
    pipe.write(packed[: len(packed) // 2])
    pipe.end()
    assert content.startswith(read_all(pipe.stream))
    assert pipe.stream.problem == f"is cut: its {compression} compression has no end"
    assert pipe.stream.is_cut


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_compressed_file_that_is_damaged_says_so(tmp_path: Path, compression: str) -> None:
    packed = bytearray(COMPRESSIONS[compression](Random(5).randbytes(200_000)))
    packed[150_000:150_100] = bytes(100)
    (tmp_path / "file").write_bytes(packed)
    stream = InputStream.open(tmp_path / "file")
    read_all(stream)
    if compression != "zstd":  # which has a check sum only when it is told to
        assert stream.problem is not None
        assert stream.problem.startswith("can't be unpacked any further (")
        assert not stream.is_cut
    stream.close()
    (tmp_path / "file").write_bytes(COMPRESSIONS[compression](b"abc") + b"something else")
    stream = InputStream.open(tmp_path / "file")
    assert read_all(stream) == b"abc"
    assert stream.problem is not None
    stream.close()


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_what_unpacks_far_beyond_its_size_is_held_within_the_bound(tmp_path: Path, compression: str) -> None:
    packed = COMPRESSIONS[compression](bytes(60_000_000))
    assert len(packed) < 100_000
    (tmp_path / "bomb").write_bytes(packed)
    stream = InputStream.open(tmp_path / "bomb")
    tracemalloc.start()
    passed = 0
    while stream.holds(1):
        passed += stream.skip(stream.held)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert passed == 60_000_000
    assert peak < 20_000_000
    stream.close()


def test_a_window_beyond_the_bound_is_refused(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=29, enable_ldm=True)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    (tmp_path / "wide").write_bytes(compressor.compress(bytes(1_000)) + compressor.flush())
    stream = InputStream.open(tmp_path / "wide")
    assert not stream.holds(1)
    assert stream.problem is not None
    assert "memory" in stream.problem
    stream.close()


def test_a_file_of_a_parallel_compressor_begins_with_a_frame_to_skip(tmp_path: Path) -> None:
    skipped = b"\x50\x2a\x4d\x18\4\0\0\0abcd"
    (tmp_path / "file").write_bytes(skipped + zstandard.compress(b"content"))
    stream = InputStream.open(tmp_path / "file")
    assert read_all(stream) == b"content"
    stream.close()


def test_a_file_knows_its_size_and_what_is_left(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    stream = InputStream.open(tmp_path / "file")
    assert stream.size == 10
    assert stream.holds(10)
    assert stream.describe_rest(4) == "at byte 4; its last 6 bytes are not read"
    stream.close()
    stream.close()
    assert not stream.holds(11)
    (tmp_path / "file").write_bytes(gzip.compress(b"0123456789"))
    stream = InputStream.open(tmp_path / "file")
    assert stream.holds(10)
    assert stream.describe_rest(4) == "at byte 4 of what is unpacked"
    stream.close()


def test_a_named_pipe_without_a_writer_is_quiet(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    stream = InputStream.open(tmp_path / "fifo")
    assert not stream.holds(1)
    assert not stream.is_over
    writing = os.open(tmp_path / "fifo", os.O_WRONLY)
    os.write(writing, b"abcdef")
    assert stream.holds(6)
    assert not stream.is_over
    os.close(writing)
    assert not stream.holds(7)
    assert stream.is_over
    stream.close()


def test_an_input_that_fails_says_so(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_descriptor: int, _count: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    pipe.write(b"x")
    monkeypatch.setattr(input_stream.os, "read", fail)
    assert not pipe.stream.holds(1)
    assert pipe.stream.problem == "can't be read any further (Input/output error)"
    assert not pipe.stream.is_cut


def test_another_reader_of_the_pipe_may_be_quicker(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_nothing(_descriptor: int, _count: int) -> bytes:
        raise BlockingIOError

    pipe.write(b"a packet")
    monkeypatch.setattr(input_stream.os, "read", find_nothing)
    assert not pipe.stream.holds(1)
    assert not pipe.stream.is_over
    monkeypatch.undo()
    assert pipe.stream.holds(1)


def test_what_is_no_input_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"is a folder\. Name a file in it"):
        InputStream.open(tmp_path)
    with pytest.raises(InputError, match=r"missing can't be read: No such file.*or - for standard input"):
        InputStream.open(tmp_path / "missing")
    controlling, terminal = pty.openpty()
    with pytest.raises(InputError, match=r"is a terminal\. Pipe a recording or a packet capture into it"):
        InputStream.open(Path(os.ttyname(terminal)))
    monkeypatch.setattr(sys, "stdin", open(terminal, closefd=False))  # noqa: SIM115
    with pytest.raises(InputError, match=r"standard input is a terminal\. Pipe a recording"):
        InputStream.open(Path("-"))
    sys.stdin.close()
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputError, match=r"standard input is closed\. Pipe a recording"):
        InputStream.open(Path("-"))
    os.close(controlling)
    os.close(terminal)


def test_standard_input_is_read(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with io.open(reading) as standard_input:  # noqa: UP020
        monkeypatch.setattr(sys, "stdin", standard_input)
        stream = InputStream.open(Path("-"))
        os.write(writing, b"abc")
        os.close(writing)
        assert read_all(stream) == b"abc"
        assert stream.name == "standard input"
        stream.close()


def poll_all(source: PacketCapture | RecordedCapture) -> list[object]:
    events: list[object] = []
    while not source.exhausted:
        events += source.poll(0.05)
    source.close()
    return events


@pytest.mark.parametrize("name", ["recording", "pcap", "pcapng, sections", "pcapng, zstd", "pcap, modified"])
def test_a_pipe_that_trickles_gives_what_the_file_gives(name: str, tmp_path: Path) -> None:
    content = samples()[name]
    kind: Callable[[InputStream], PacketCapture | RecordedCapture]
    kind = RecordedCapture if name == "recording" else PacketCapture
    (tmp_path / "file").write_bytes(content)
    expected = poll_all(kind(InputStream.open(tmp_path / "file")))
    random = Random(7)
    pipe = Pipe()
    source = kind(pipe.stream)
    events: list[object] = []
    at = 0
    while at < len(content):
        size = random.choice((1, 2, 3, 5, 8, 15, 16, 17, 100, 5_000))
        pipe.write(content[at : at + size])
        at += size
        events += source.poll(0)
    pipe.end()
    assert events + poll_all(source) == expected
    assert source.damage is None


def test_spans_come_while_the_pipe_is_open(pipe: Pipe) -> None:
    source = PacketCapture(pipe.stream)
    assert source.poll(0) == []
    pipe.write(pcap(to_packets(segments()[:6])))
    first = source.poll(0)
    assert len(first) > 2
    assert not source.exhausted
    assert source.poll(0) == []
    source.close()


@pytest.mark.parametrize("kind", [PacketCapture, RecordedCapture])
def test_a_stop_ends_a_quiet_pipe_with_what_is_there(
    pipe: Pipe, kind: type[PacketCapture] | type[RecordedCapture], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_stream, "LAST_WAIT_SECONDS", 0.001)
    is_stopped = threading.Event()
    source = kind(pipe.stream, is_stopped=is_stopped.is_set)
    content = samples()["recording"] if kind is RecordedCapture else samples()["pcap"]
    cut = len(content) * 3 // 4
    pipe.write(content[: cut // 2])
    events = source.poll(0)
    is_stopped.set()
    # What the writer still writes when it ends is read as well.
    pipe.write(content[cut // 2 : cut])
    more = source.poll(0)
    assert len(events) > 2
    assert len(more) > 2
    assert source.exhausted
    assert source.poll(0) == []


def test_items_stop_where_nothing_is_at_hand(pipe: Pipe) -> None:
    items = StreamedItems(pipe.stream, iter([1, 2, None, 3, None, None, 4]))
    assert list(items.at_hand(0)) == [1, 2]
    assert list(items.at_hand(0)) == [3]
    assert list(items.at_hand(0)) == []
    assert not items.exhausted
    assert list(items.at_hand(0)) == [4]
    assert items.exhausted
    items.close()


def test_all_compressions_of_a_capture_are_samples() -> None:
    assert set(PACKERS) == set(COMPRESSIONS.values())
