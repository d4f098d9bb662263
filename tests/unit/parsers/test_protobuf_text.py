from __future__ import annotations

import struct

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.struct_pb2 import Struct
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_bridge.otlp.protobuf_wire import (
    encode_field,
    encode_varint,
    length_delimited_tag,
    varint_tag,
)
from parsers.grpc.protobuf_text import MAX_BINARY, MAX_CHARACTERS, MAX_DEPTH, MAX_FIELDS, ProtobufText


def text(number: int, content: bytes) -> bytes:
    return encode_field(length_delimited_tag(number), content)


def varint(number: int, value: int) -> bytes:
    return varint_tag(number) + encode_varint(value)


def render(data: bytes, size: int | None = -1) -> str | None:
    return ProtobufText().render(data, len(data) if size == -1 else size)


def test_a_message_of_every_wire_type() -> None:
    span = Span(
        name="GET", trace_id=bytes(range(16)), kind=Span.SPAN_KIND_SERVER, start_time_unix_nano=77, flags=256
    )
    assert render(span.SerializeToString()) == (
        r'{1: b"\<000102030405060708090a0b0c0d0e0f>", 5: "GET", 6: 2, 7: 0x000000000000004d, 16: 0x00000100}'
    )


def test_messages_nest() -> None:
    nested = Struct()
    nested.update({"a": {"b": 'say "é"'}})
    assert render(nested.SerializeToString()) == r'{1: {1: "a", 2: {5: {1: {1: "b", 2: {3: "say \"é\""}}}}}}'


@pytest.mark.parametrize(
    ("field", "shown"),
    [
        (varint(1, 0), "1: 0"),
        (varint(1, 2**63 - 1), "1: 9223372036854775807"),
        (varint(1, 2**64 - 1), "1: 18446744073709551615 (-1)"),
        (varint(2**29 - 1, 1), "536870911: 1"),
        (b"\x08\x81\x00", "1: 1"),
        (b"\x09" + struct.pack("<d", 2.5), "1: 0x4004000000000000 (2.5)"),
        (b"\x09" + struct.pack("<d", -1e-6), "1: 0xbeb0c6f7a0b5ed8d (-1e-06)"),
        (b"\x09" + struct.pack("<d", float("nan")), "1: 0x7ff8000000000000"),
        (b"\x09" + struct.pack("<Q", 5), "1: 0x0000000000000005"),
        (b"\x0d" + struct.pack("<f", 0.1), "1: 0x3dcccccd (0.1)"),
        (b"\x0d" + struct.pack("<f", float("-inf")), "1: 0xff800000"),
        (b"\x0d" + struct.pack("<I", 5), "1: 0x00000005"),
        (text(1, b""), '1: ""'),
        (text(1, b"two\nlines\tand\r"), '1: "two\nlines\tand\r"'),
        (text(1, b'{"a": "\\n"}'), r'1: "{\"a\": \"\\n\"}"'),
        (text(1, b"\t12345678"), '1: "\t12345678"'),
        (text(1, "日本".encode()), '1: "日本"'),
        (text(1, b'\x00\xffab"<>\\\x01'), r'1: b"\<00ff>ab\"<>\\\<01>"'),
        (text(1, b"\x7f"), r'1: b"\<7f>"'),
        (text(1, "\x85".encode()), r'1: b"\<c285>"'),
        (text(1, b"\xff" * MAX_BINARY), rf'1: b"\<{"ff" * MAX_BINARY}>"'),
        (text(1, b"\xff" * (MAX_BINARY + 1)), f"1: <{MAX_BINARY + 1} bytes>"),
        (text(1, text(1, b"x")), '1: {1: "x"}'),
        (text(1, b"\n\nsome text"), '1: "\n\nsome text"'),
        (text(1, b"\n\x0512345"), '1: {1: "12345"}'),
        (text(1, b"\n\n0123456789"), '1: {1: "0123456789"}'),
    ],
)
def test_a_value_has_the_form_that_its_bytes_allow(field: bytes, shown: str) -> None:
    assert render(field) == f"{{{shown}}}"


def test_nothing_is_an_empty_message() -> None:
    assert render(b"") == "{}"


@pytest.mark.parametrize(
    "data",
    [
        b"\x08",
        b"\x08\x80",
        b"\x08" + b"\xff" * 9 + b"\x7f",
        b"\x08" + b"\x80" * 11,
        b"\x80",
        b"\x00\x01",
        encode_varint(1 << 32) + b"\x01",
        b"\x0b\x0c",
        b"\x0e",
        b"\x0f",
        b"\x09\0\0\0",
        b"\x0d\0\0",
        b"\x0a\x05abc",
        b"\x0a",
        b"\x0a" + b"\xff" * 10,
        b"<html>",
    ],
)
def test_what_is_not_the_wire_format_is_none(data: bytes) -> None:
    assert render(data) is None


def test_a_message_that_was_cut_shows_what_is_whole() -> None:
    message = varint(1, 300) + text(2, text(3, b"inner") + text(4, b"x" * 100)) + varint(5, 1)
    size = len(message)
    shown = [render(message[:end], size) for end in range(size)]
    assert shown[0] == "{…}"
    assert shown[2] == "{…}"
    assert shown[3] == "{1: 300, …}"
    assert shown[5] == "{1: 300, 2: <0 of 109 bytes>, …}"
    assert shown[8] == "{1: 300, 2: {3: <1 of 5 bytes>, …}, …}"
    assert shown[12] == '{1: 300, 2: {3: "inner", …}, …}'
    assert shown[50] == '{1: 300, 2: {3: "inner", 4: <36 of 100 bytes>, …}, …}'
    assert shown[-1] == '{1: 300, 2: {3: "inner", 4: "%s"}, …}' % ("x" * 100)
    assert render(message[:12], None) == shown[12]


@pytest.mark.parametrize("cut", [b"\x09\0\0", b"\x0d\0", b"\x08", b"\x0a\xff"])
def test_a_fixed_number_or_a_tag_that_was_cut_is_left_out(cut: bytes) -> None:
    assert render(varint(1, 1) + cut, 1000) == "{1: 1, …}"


def test_a_field_beyond_the_whole_message_is_wrong() -> None:
    assert render(b"\x0a\x7fab", 100) is None
    assert render(b"\x09abc", 5) is None
    assert render(b"\x0a" + encode_varint(2**31), None) is None


def test_a_cut_value_that_is_no_message_shows_only_its_size() -> None:
    assert render(text(1, b"secret secret")[:9], 15) == "{1: <7 of 13 bytes>, …}"
    assert render(text(1, b"\xff" * 13)[:9], 15) == "{1: <7 of 13 bytes>, …}"


def test_depth_is_bounded() -> None:
    message = b"\x08\x01"
    for _ in range(MAX_DEPTH + 1):
        message = text(1, message)
    assert render(message) == "{1: " * (MAX_DEPTH + 1) + r'b"\<0801>"' + "}" * (MAX_DEPTH + 1)
    for _ in range(5000):
        message = text(1, message)
    shown = render(message)
    assert shown is not None
    assert shown.count("{") == MAX_DEPTH + 1


def test_the_number_of_fields_is_bounded_over_all_messages() -> None:
    rendering = ProtobufText()
    message = varint(1, 1) * (MAX_FIELDS - 10)
    assert (rendering.render(message, len(message)) or "").count("1: 1") == MAX_FIELDS - 10
    assert not rendering.is_spent
    assert rendering.render(message, len(message)) == "{" + "1: 1, " * 10 + "…}"
    assert rendering.is_spent
    assert rendering.render(message, len(message)) == "{…}"


def test_the_number_of_characters_is_bounded_over_all_messages() -> None:
    rendering = ProtobufText()
    message = text(1, b"x" * 1000) * 100
    shown = rendering.render(message, len(message))
    assert shown is not None
    assert len(shown) < MAX_CHARACTERS + 100
    # What does not fit any more is left out as a whole.
    assert shown.count("x") == 1000 * (MAX_CHARACTERS // 1007)
    assert "1: <1000 bytes>" in shown
    assert rendering.is_spent


def test_a_long_value_gives_way_to_shorter_ones() -> None:
    message = text(1, b"x" * (MAX_CHARACTERS + 1)) + text(2, b"short")
    assert render(message) == f'{{1: <{MAX_CHARACTERS + 1} bytes>, 2: "short"}}'


def test_a_long_nested_message_shows_its_beginning() -> None:
    inner = text(3, b"y" * 100) * 1000
    shown = render(text(1, inner) + varint(2, 1))
    assert shown is not None
    assert shown.startswith('{1: {3: "yyy')
    assert shown.endswith("…}, …}")
    assert len(shown) < MAX_CHARACTERS + 200


def test_attempts_that_fail_cost_no_characters() -> None:
    # Each value begins like a message that holds a long string, and ends unlike one.
    almost = text(1, text(1, b"z" * 900) + b"\x00")
    rendering = ProtobufText()
    assert (
        rendering.render(almost * 100, len(almost) * 100) == "{" + ", ".join(["1: <904 bytes>"] * 100) + "}"
    )


@pytest.mark.parametrize(
    "unit", [b"\x0a", b"\x0a\x7f", b"\x0a\xff\xff\x03", b"\xff", b"\x08\x01", b"\x0a\x02"]
)
def test_long_adversarial_bytes_stay_within_the_bounds(unit: bytes) -> None:
    data = (unit * 131_072)[:131_072]
    for size in (len(data), len(data) * 2, None):
        shown = ProtobufText().render(data, size)
        assert shown is None or len(shown) < MAX_CHARACTERS + 200


def test_a_real_descriptor_is_rendered() -> None:
    file = FileDescriptorProto()
    Span.DESCRIPTOR.file.CopyToProto(file)
    shown = render(file.SerializeToString())
    assert shown is not None
    assert shown.startswith(
        '{1: "opentelemetry/proto/trace/v1/trace.proto", 2: "opentelemetry.proto.trace.v1"'
    )
