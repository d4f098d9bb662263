from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.multipart import MAX_BOUNDARY, find_boundary, read_parts


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        (b"multipart/mixed; boundary=-", b"-"),
        (b'multipart/mixed; boundary="-"', b"-"),
        (b'multipart/mixed;boundary="a b";x=y', b"a b"),
        (b"multipart/mixed; deferSpec=20220824; Boundary=abc, x", b"abc"),
        (b"multipart/mixed", None),
        (b"multipart/mixed; boundary=", None),
        (b"multipart/mixed; xboundary=a", None),
        (b'multipart/mixed; boundary="' + b"x" * (MAX_BOUNDARY + 1) + b'"', None),
    ],
)
def test_the_boundary_is_found(content_type: bytes, boundary: bytes | None) -> None:
    assert find_boundary(content_type) == boundary


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"--x\n\na\n--x--\n", ([b"a"], True)),
        (b"--x\nA: b\nC: d\n\na\n--x\n\nb\nc\n--x--", ([b"a", b"b\nc"], True)),
        (b"preamble\n--x  \n\na\n--x--\nepilogue\n--x\n\nb\n--x--", ([b"a"], True)),
        (b"\n--x\n\na\n--x\n", ([b"a"], False)),
        (b"--x\n\na\n--x\nA: b\n\nnot ended", ([b"a"], False)),
        (b"--x\n\n\n--x--", ([b""], True)),
        (b"--x\nA: b\n--x--", ([], True)),
        (b"--x\n--x--", ([], True)),
        (b"--x\n\na--x\n--xy\n--x--", ([b"a--x\n--xy"], True)),
        (b"--y\n\na\n--y--", ([], False)),
        (b"", ([], False)),
    ],
)
def test_parts_are_read(line_end: bytes, text: bytes, expected: tuple[list[bytes], bool]) -> None:
    parts, ended = expected
    assert read_parts(text.replace(b"\n", line_end), b"x") == (
        [part.replace(b"\n", line_end) for part in parts],
        ended,
    )


def test_a_boundary_is_no_expression() -> None:
    assert read_parts(b"--a.*b\r\n\r\nx\r\n--a.*b--", b"a.*b") == ([b"x"], True)
    assert read_parts(b"--axxb\r\n\r\nx\r\n--axxb--", b"a.*b") == ([], False)


@given(
    st.binary(max_size=60) | st.text("-x\r\n a:", max_size=60).map(str.encode), st.sampled_from([b"x", b"-"])
)
def test_any_bytes_are_read(content: bytes, boundary: bytes) -> None:
    parts, _ = read_parts(content, boundary)
    assert sum(map(len, parts)) <= len(content)


@given(st.lists(st.text("ab-\r\n", max_size=6).map(str.encode), max_size=4), st.integers(0, 100))
def test_a_beginning_has_the_first_parts(contents: list[bytes], cut: int) -> None:
    body = b"".join(b"\r\n--=\r\nA: b\r\n\r\n" + content for content in contents) + b"\r\n--=--\r\n"
    parts, ended = read_parts(body, b"=")
    assert (parts, ended) == (contents, True)
    beginning, _ = read_parts(body[:cut], b"=")
    assert beginning == parts[: len(beginning)]
