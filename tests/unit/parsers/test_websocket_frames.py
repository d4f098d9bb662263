from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.websocket.frames import (
    RSV,
    RSV1,
    advance_key,
    is_legal,
    read_frame_header,
    unmask,
)
from tests.websocket_peers import KEY, frame, masked


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65_535, 65_536, 2**63 - 1])
@pytest.mark.parametrize("key", [b"", KEY])
def test_a_header_has_every_width_of_length(length: int, key: bytes) -> None:
    data = b"??" + frame(2, key=key, length=length)
    assert read_frame_header(data, 2) == (0x82, length, key, len(data))
    for cut in range(2, len(data)):
        assert read_frame_header(data[:cut], 2) is None


@pytest.mark.parametrize(
    ("data", "is_masked", "allowed_rsv", "legal"),
    [
        (frame(1), False, 0, True),
        (frame(1), True, 0, False),
        (masked(1), True, 0, True),
        (masked(1), False, 0, False),
        (frame(0, fin=False), False, 0, True),
        (frame(3), False, RSV, False),
        (frame(11), False, RSV, False),
        (frame(1, rsv=0x40), False, 0, False),
        (frame(1, rsv=0x40), False, RSV1, True),
        (frame(1, rsv=0x20), False, RSV1, False),
        (frame(1, rsv=0x20), False, RSV, True),
        (frame(9, b"x" * 125), False, 0, True),
        (frame(9, b"x" * 126), False, 0, False),
        (frame(9, fin=False), False, 0, False),
        (frame(9, rsv=0x40), False, RSV, False),
        (frame(2, length=2**63), False, 0, False),
    ],
)
def test_what_an_endpoint_may_send(data: bytes, is_masked: bool, allowed_rsv: int, legal: bool) -> None:  # noqa: FBT001 - parameters of the test
    header = read_frame_header(data, 0)
    assert header is not None
    assert is_legal(header, masked=is_masked, allowed_rsv=allowed_rsv) is legal


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4), st.integers(0, 300))
def test_unmasking_is_that_of_the_rfc_from_any_byte_on(data: bytes, key: bytes, start: int) -> None:
    expected = bytes(byte ^ key[index % 4] for index, byte in enumerate(data))
    assert unmask(data, key) == expected
    assert unmask(data[start:], advance_key(key, start)) == expected[start:]
    assert unmask(data, b"") == data
