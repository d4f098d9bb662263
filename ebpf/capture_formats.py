"""Which kind of file an input is, by its first bytes.

Owns the beginnings of recordings and packet captures, and what is said of files that are neither.

Contract: a file is known by what it holds, whatever its name. One that is foreign is named where it can be,
with what makes a capture of it.
"""

from __future__ import annotations

import re
from enum import Enum, auto

from ebpf.input_stream import InputError, InputStream

RECORDING_MAGIC = b"wirespan recording\n"
PCAPNG_MAGIC = b"\x0a\x0d\x0d\x0a"
PCAP_MAGICS = tuple(
    bytes.fromhex(magic) if order == ">" else bytes.fromhex(magic)[::-1]
    for magic in ("a1b2c3d4", "a1b23c4d", "a1b2cd34", "1c0001ac", "1c0001ab")
    for order in "><"
)
"""The usual one, that with nanoseconds, Kuznetzov's with longer packet headers, and two of Ixia."""
_BEGINNING_BYTES = 512
"""Bytes that are looked at to name a foreign file."""


class CaptureFormat(Enum):
    """What wirespan reads."""

    RECORDING = auto()
    PCAP = auto()
    PCAPNG = auto()


_CONVERT = "`editcap -F pcapng` of Wireshark makes a packet capture of it."
_FOREIGN: tuple[tuple[bytes, str, str], ...] = (
    (b"snoop\0\0\0", "a snoop capture", _CONVERT),
    (b"RTSS", "a Network Monitor capture", _CONVERT),
    (b"GMBU", "a Network Monitor capture", _CONVERT),
    (b"TRSNIFF data", "a Sniffer capture", _CONVERT),
    (b"XCP\0", "a Sniffer (NetXRay) capture", _CONVERT),
    (b"iptrace ", "an iptrace capture of AIX", _CONVERT),
    (b"\x05VNF", "a Visual Networks capture", _CONVERT),
    (b"ObserverPktBuffe", "an Observer capture", _CONVERT),
    (b"\xa1\x2b\x3c\x4d", "a packet capture in Navtel's form of pcap", _CONVERT),
    (b"\x4d\x3c\x2b\xa1", "a packet capture in Navtel's form of pcap", _CONVERT),
    (b"\xa1\xb2\x34\xcd", "a packet capture in a form of pcap that no program writes", ""),
    (b"\xcd\x34\xb2\xa1", "a packet capture in a form of pcap that no program writes", ""),
    (b"\x1f\x8b", "compressed twice", "Unpack it once."),
    (b"BZh", "compressed twice", "Unpack it once."),
    (b"\xfd7zXZ\0", "compressed twice", "Unpack it once."),
    (b"\x28\xb5\x2f\xfd", "compressed twice", "Unpack it once."),
    (b"\x04\x22\x4d\x18", "compressed by lz4", "Unpack it: `lz4 -dc FILE | wirespan replay -`."),
    (b"LZIP", "compressed by lzip", "Unpack it: `lzip -dc FILE | wirespan replay -`."),
    (b"\x1f\x9d", "compressed by compress", "Unpack it: `zcat FILE | wirespan replay -`."),
    (b"\x89LZO", "compressed by lzop", "Unpack it: `lzop -dc FILE | wirespan replay -`."),
    (b"PK\3\4", "a ZIP archive", "Unpack it, and name a file of it."),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "Unpack it, and name a file of it."),
    (b"Rar!", "a RAR archive", "Unpack it, and name a file of it."),
    (b"\x7fELF", "a program", "Name a file made by `wirespan record` or tcpdump."),
)
"""Beginning, what the file is, and what is to be done."""
_HAR = re.compile(rb'\s*\{\s*"log"\s*:')
_SPANS = re.compile(rb'\s*\{\s*"resourceSpans"\s*:')
_PRINTED_BY_TCPDUMP = re.compile(
    rb"(\d\d:\d\d:\d\d\.\d+|\d{9,10}\.\d+|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+)"
    rb" (IP6?|ARP|ethertype|[0-9a-f:]{17})"
)
_PRINTED_BY_TSHARK = re.compile(rb"\s*\d+\s+\d+\.\d+\s+\S+\s+(\xe2\x86\x92|->)\s+\S+")
_SUFFIXES = (
    (".etl", "a Windows event trace", "`pktmon etl2pcap` or etl2pcapng makes a packet capture of it."),
    (".erf", "a capture in Endace's form", _CONVERT),
)


def find_format(stream: InputStream) -> CaptureFormat | None:
    """Return what an input is, None as long as its first bytes have not come.

    Raises InputError when it is something else.
    """
    stream.holds(len(RECORDING_MAGIC))
    start = stream.peek(_BEGINNING_BYTES)
    if start[:4] in PCAP_MAGICS:
        return CaptureFormat.PCAP
    if start.startswith(PCAPNG_MAGIC):
        return CaptureFormat.PCAPNG
    if start.startswith(RECORDING_MAGIC):
        return CaptureFormat.RECORDING
    if not stream.is_over and (len(start) < 4 or RECORDING_MAGIC.startswith(start)):
        return None
    if stream.problem is not None and not start:
        raise InputError(f"{stream.name} {stream.problem}. Copy it again from where it was made.")
    if not start:
        raise InputError(f"{stream.name} is empty. {_EMPTY}")
    stream.holds(_BEGINNING_BYTES)
    kind, remedy = _describe(stream.peek(_BEGINNING_BYTES), stream.name)
    raise InputError(f"{stream.name} is {kind}. {remedy}".rstrip())


_EMPTY = "The program that writes it has ended without a packet or could not begin: look for its own message."
_NEITHER = "neither a recording of wirespan nor a packet capture (pcap, pcapng)"


def _describe(start: bytes, name: str) -> tuple[str, str]:
    """Return what a foreign file is, and what is to be done."""
    for magic, kind, remedy in _FOREIGN:
        if start.startswith(magic):
            return kind, remedy
    if start[257:262] == b"ustar":
        return "a tar archive", "Unpack it: `tar -xOf FILE NAME | wirespan replay -`."
    if _HAR.match(start):
        return "a HAR file of a browser", "It holds no packets; name a recording or a packet capture."
    if _SPANS.match(start):
        return "a file of spans", "Name the recording or packet capture that they came from."
    if _PRINTED_BY_TCPDUMP.match(start):
        return "what tcpdump prints", "Have it write packets: `tcpdump -U -w - | wirespan replay -`."
    if _PRINTED_BY_TSHARK.match(start):
        return "what tshark prints", "Have it write packets: `tshark -w - | wirespan replay -`."
    for suffix, kind, remedy in _SUFFIXES:
        if name.lower().endswith(suffix):
            return kind, remedy
    if len(start) < 24 and (RECORDING_MAGIC.startswith(start) or PCAPNG_MAGIC.startswith(start)):
        return "cut at its beginning", "Record again, or copy it again from where it was made."
    return _NEITHER, "Name a file made by `wirespan record` or tcpdump."
