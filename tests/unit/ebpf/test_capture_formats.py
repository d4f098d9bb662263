from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import pytest

from ebpf.capture_formats import PCAP_MAGICS, RECORDING_MAGIC, CaptureFormat, find_format
from ebpf.input_stream import InputError, InputStream

TAR = bytes(257) + b"ustar\x0000" + bytes(248)


def refusal(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    stream = InputStream.open(path)
    with pytest.raises(InputError) as refused:
        find_format(stream)
    stream.close()
    return str(refused.value)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (RECORDING_MAGIC, CaptureFormat.RECORDING),
        (b"\x0a\x0d\x0d\x0a", CaptureFormat.PCAPNG),
        *[
            (struct.pack(order + "I", magic), CaptureFormat.PCAP)
            for magic in (0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34, 0x1C0001AC, 0x1C0001AB)
            for order in "<>"
        ],
    ],
)
def test_what_is_read_is_known_by_its_first_bytes(
    tmp_path: Path, content: bytes, found: CaptureFormat
) -> None:
    for data in (content, content + bytes(600), gzip.compress(content)):
        (tmp_path / "file").write_bytes(data)
        stream = InputStream.open(tmp_path / "file")
        assert find_format(stream) is found
        assert stream.position == 0
        stream.close()
    assert len(PCAP_MAGICS) == 10


def test_a_pipe_is_known_when_its_first_bytes_have_come() -> None:
    for content, found in ((RECORDING_MAGIC, CaptureFormat.RECORDING), (PCAP_MAGICS[1], CaptureFormat.PCAP)):
        reading, writing = os.pipe()
        stream = InputStream(reading, "pipe")
        for byte in content[:-1]:
            assert find_format(stream) is None
            os.write(writing, bytes([byte]))
        assert find_format(stream) is None
        os.write(writing, content[-1:] + b"more")
        assert find_format(stream) is found
        os.close(writing)
        stream.close()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"snoop\0\0\0" + bytes(100), "is a snoop capture. `editcap"),
        (b"RTSS" + bytes(100), "is a Network Monitor capture"),
        (b"GMBU" + bytes(100), "is a Network Monitor capture"),
        (b"iptrace 2.0" + bytes(100), "is an iptrace capture of AIX"),
        (b"XCP\0" + bytes(100), "is a Sniffer (NetXRay) capture"),
        (b"\xa1\x2b\x3c\x4d" + bytes(100), "in Navtel's form of pcap"),
        (b"\xcd\x34\xb2\xa1" + bytes(100), "in a form of pcap that no program writes."),
        (
            b"\x04\x22\x4d\x18" + bytes(100),
            "is compressed by lz4. Unpack it: `lz4 -dc FILE | wirespan",
        ),
        (gzip.compress(gzip.compress(b"x")), "is compressed twice. Unpack it once"),
        (b"PK\3\4" + bytes(100), "is a ZIP archive"),
        (TAR, "is a tar archive"),
        (b"\x7fELF" + bytes(100), "is a program"),
        (b'{"log":{"version":"1.2"', "is a HAR file of a browser"),
        (b'{"resourceSpans":[]}', "is a file of spans"),
        (b"12:00:00.123456 IP 10.0.0.1.4 > 10.0.0.2.80: Flags", "is what tcpdump prints"),
        (b"2026-01-01 12:00:00.123456 IP6 ::1.4 > ::1.80: Flags", "is what tcpdump prints"),
        (b"1700000000.123456 IP 10.0.0.1.4 > 10.0.0.2.80: Flags", "is what tcpdump prints"),
        (b"    1 0.000000000 10.0.0.1 \xe2\x86\x92 10.0.0.2 TCP", "is what tshark prints"),
        (b"", "is empty. The program that writes it"),
        (b"\xd4\xc3", "is neither a recording of wirespan nor a packet capture"),
        (b"wirespan rec", "is cut at its beginning. Record again"),
        (b"hello", "is neither a recording of wirespan nor a packet capture (pcap, pcapng). Name a file"),
        (b"\x1f\x8bnope", "can't be unpacked any further"),
        (bytes(1_000), "is neither"),
    ],
)
def test_what_is_not_read_is_named_with_what_to_do(tmp_path: Path, content: bytes, said: str) -> None:
    assert said in refusal(tmp_path / "file", content)


def test_a_name_tells_what_the_bytes_do_not(tmp_path: Path) -> None:
    assert "is a Windows event trace. `pktmon etl2pcap`" in refusal(tmp_path / "trace.ETL", bytes(100))
    assert "in Endace's form" in refusal(tmp_path / "card.erf", bytes(100))
