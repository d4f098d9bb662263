from __future__ import annotations

import pytest
from h2.connection import H2Connection
from hyperframe.frame import (
    AltSvcFrame,
    ContinuationFrame,
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

from parsers.http2.frames import (
    DEFAULT_MAX_FRAME_SIZE,
    PREFACE,
    begins_frames,
    breaks_protocol,
    find_frames,
    is_plausible,
    unpack_header,
)

FRAMES: list[Frame] = [
    DataFrame(1, b"content", flags=["END_STREAM"]),
    DataFrame(1, b"content", pad_length=3, flags=["PADDED"]),
    DataFrame(3),
    HeadersFrame(1, b"\x82", flags=["END_HEADERS", "END_STREAM"]),
    HeadersFrame(1, b"\x82", pad_length=1, depends_on=3, flags=["PADDED", "PRIORITY"]),
    PriorityFrame(5, depends_on=3, stream_weight=1),
    RstStreamFrame(5, error_code=8),
    SettingsFrame(0, settings={3: 100, 4: 65_535}),
    SettingsFrame(0, flags=["ACK"]),
    PushPromiseFrame(1, promised_stream_id=2, data=b"\x82", flags=["END_HEADERS"]),
    PingFrame(0, b"12345678"),
    PingFrame(0, b"12345678", flags=["ACK"]),
    GoAwayFrame(0, last_stream_id=9, error_code=0, additional_data=b"bye"),
    WindowUpdateFrame(0, window_increment=10),
    WindowUpdateFrame(7, window_increment=10),
    ContinuationFrame(1, b"\x82", flags=["END_HEADERS"]),
    AltSvcFrame(0, b"a.example", b"h3"),
]


def test_a_client_of_h2_begins_with_the_preface() -> None:
    client = H2Connection()
    client.initiate_connection()
    assert client.data_to_send().startswith(PREFACE)


def read(data: bytes) -> tuple[int, int, int, int]:
    high, low, kind, flags, stream_id = unpack_header(data, 0)
    return high << 8 | low, kind, flags, stream_id


@pytest.mark.parametrize("frame", FRAMES, ids=repr)
def test_whatever_hyperframe_writes_is_plausible_and_reads_alike(frame: Frame) -> None:
    data = frame.serialize()
    length, kind, flags, stream_id = read(data)
    parsed, parsed_length = Frame.parse_frame_header(memoryview(data[:9]))
    assert (length, kind, stream_id) == (parsed_length, parsed.type, parsed.stream_id)
    assert len(data) == 9 + length
    assert is_plausible(length, kind, flags, stream_id, DEFAULT_MAX_FRAME_SIZE)
    assert not breaks_protocol(length, kind, stream_id)
    assert begins_frames(data)
    # As the middle of bytes tells, with two more behind it.
    chain = b"text" + data + PingFrame(0, b"12345678").serialize() + WindowUpdateFrame(0, 5).serialize()
    if frame.type <= 9:
        assert find_frames(chain, 0, DEFAULT_MAX_FRAME_SIZE) == 4


@pytest.mark.parametrize(
    ("length", "kind", "flags", "stream_id"),
    [
        pytest.param(20_000, 0, 0, 1, id="longer than is allowed"),
        pytest.param(0, 0, 0, 1 << 31 | 1, id="reserved bit"),
        pytest.param(0, 0, 0x20, 1, id="flag that DATA does not have"),
        pytest.param(0, 0, 0x08, 1, id="padded without a pad length"),
        pytest.param(0, 0, 0, 0, id="DATA of no stream"),
        pytest.param(0, 1, 0x04, 1, id="HEADERS without a block"),
        pytest.param(5, 1, 0x24, 1, id="HEADERS with a priority only"),
        pytest.param(4, 2, 0, 1, id="short PRIORITY"),
        pytest.param(5, 3, 0, 1, id="long RST_STREAM"),
        pytest.param(7, 4, 0, 0, id="SETTINGS of no multiple of 6"),
        pytest.param(6, 4, 1, 0, id="SETTINGS that acknowledges and sets"),
        pytest.param(6, 4, 0, 1, id="SETTINGS of a stream"),
        pytest.param(3, 5, 0, 1, id="short PUSH_PROMISE"),
        pytest.param(7, 6, 0, 0, id="short PING"),
        pytest.param(4, 7, 0, 0, id="short GOAWAY"),
        pytest.param(3, 8, 0, 0, id="short WINDOW_UPDATE"),
        pytest.param(1, 9, 0x01, 1, id="flag that CONTINUATION does not have"),
        pytest.param(1, 0x0B, 0, 0, id="unknown type"),
    ],
)
def test_what_no_sender_sends_is_not_plausible(length: int, kind: int, flags: int, stream_id: int) -> None:
    assert not is_plausible(length, kind, flags, stream_id, DEFAULT_MAX_FRAME_SIZE)
    header = length.to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big")
    assert not begins_frames(header + bytes(length))


@pytest.mark.parametrize(
    ("length", "kind", "stream_id", "breaks"),
    [
        (0, 0x0B, 0, False),
        (100_000, 0x0B, 3, False),
        (0, 0x0A, 0, False),
        (4, 2, 1, False),
        (5, 2, 0, True),
        (5, 3, 1, True),
        (7, 4, 0, True),
        (6, 4, 1, True),
        (7, 6, 0, True),
        (4, 8, 0, False),
        (5, 8, 0, True),
        (0, 9, 0, True),
    ],
)
def test_only_what_ends_a_connection_breaks_the_protocol(
    length: int,
    kind: int,
    stream_id: int,
    breaks: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    assert breaks_protocol(length, kind, stream_id) is breaks


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\x00\x08\x06",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        bytes(4_000),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        PingFrame(0, b"12345678").serialize() + b"rest",
    ],
)
def test_other_bytes_do_not_begin_frames(data: bytes) -> None:
    assert not begins_frames(data)
    assert find_frames(data, 0, DEFAULT_MAX_FRAME_SIZE) is None


def test_two_frames_in_a_row_begin_frames_wherever_the_second_ends() -> None:
    data = WindowUpdateFrame(0, 5).serialize() + DataFrame(1, bytes(5_000)).serialize()
    assert begins_frames(data[:100])
    assert not begins_frames(data[:20])
    assert find_frames(b"x" + data[:100], 0, DEFAULT_MAX_FRAME_SIZE) is None
    assert find_frames(b"x" + data, 0, DEFAULT_MAX_FRAME_SIZE) == 1


def test_a_larger_frame_is_plausible_only_where_it_was_allowed() -> None:
    data = DataFrame(1, bytes(40_000)).serialize()
    assert not begins_frames(data)
    assert begins_frames(data, 0, 40_000)
