"""Messages of gRPC, however their bytes are cut and whatever of them is lost."""

from __future__ import annotations

import gzip
import struct
from base64 import b64encode
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ebpf.events import Missing
from otel_bridge.otlp.protobuf_wire import (
    encode_field,
    encode_varint,
    length_delimited_tag,
    varint_tag,
)
from parsers.counters import new_counters
from parsers.grpc.protobuf_text import MAX_CHARACTERS, ProtobufText
from parsers.grpc.reader import GrpcReader
from parsers.limits import ParserLimits

MAX_BODY = 60

messages = st.lists(st.tuples(st.binary(max_size=30), st.booleans()), max_size=8)
places = st.lists(st.integers(0, 300), max_size=12)


def build_reader(*, text: bool = False) -> GrpcReader:
    return GrpcReader(b"gzip", ParserLimits(max_body=MAX_BODY), new_counters(), web=text, text=text)


def encode(sent: list[tuple[bytes, bool]]) -> tuple[bytes, list[int]]:
    """Return the messages on the wire, those that are to be compressed so, and the size of each."""
    stream, sizes = b"", []
    for content, compressed in sent:
        coded = gzip.compress(content, mtime=0) if compressed else content
        sizes.append(len(coded))
        stream += struct.pack(">BI", compressed, len(coded)) + coded
    return stream, sizes


def cut(stream: bytes, at: list[int]) -> list[bytes]:
    edges = sorted({0, len(stream), *(place for place in at if place < len(stream))})
    return [stream[begin:end] for begin, end in pairwise(edges)]


def check_kept(reader: GrpcReader, sent: list[tuple[bytes, bool]], sizes: list[int]) -> None:
    """What is kept is the beginning of what was sent, in order; what is not flagged is all of it."""
    assert sum(len(message.content) for message in reader.messages) <= MAX_BODY
    position = 0
    for message in reader.messages:
        # A message for which there was no room is left out; a later one that is empty needs none.
        while (sizes[position], sent[position][1]) != (message.size, message.compressed) or not (
            sent[position][0].startswith(message.content) or message.truncation is not None
        ):
            position += 1
        if message.truncation is None:
            assert message.content == sent[position][0]
        position += 1


@given(sent=messages, at=places)
def test_any_cutting_gives_the_same_messages(sent: list[tuple[bytes, bool]], at: list[int]) -> None:
    stream, sizes = encode(sent)
    whole = build_reader()
    whole.receive(stream, 0)
    whole.end(0)
    assert (whole.flow.count, whole.flow.size, whole.flow.uncounted) == (len(sent), sum(sizes), False)
    check_kept(whole, sent, sizes)

    for text in (False, True):
        reader = build_reader(text=text)
        for chunk in cut(b64encode(stream) if text else stream, at):
            reader.receive(chunk, 0)
        reader.end(0)
        assert (reader.messages, reader.flow) == (whole.messages, whole.flow)


@given(sent=messages, at=places, lost=st.sets(st.integers(0, 12)), unknown=st.booleans())
def test_losses_never_give_a_wrong_message_or_count_unflagged(
    sent: list[tuple[bytes, bool]], at: list[int], lost: set[int], *, unknown: bool
) -> None:
    stream, sizes = encode(sent)
    reader = build_reader()
    for index, chunk in enumerate(cut(stream, at)):
        if index in lost:
            reader.miss(None if unknown else len(chunk), Missing.RING_FULL, 0)
        else:
            reader.receive(chunk, 0)
    reader.end(0)
    check_kept(reader, sent, sizes)
    flow = reader.flow
    assert flow.uncounted or (flow.count, flow.size) == (len(sent), sum(sizes))
    assert flow.size == sum(sizes[: flow.count])


@given(noise=st.lists(st.binary(max_size=40)), text=st.booleans())
def test_noise_is_read_without_an_error(noise: list[bytes], *, text: bool) -> None:
    reader = build_reader(text=text)
    for chunk in noise:
        reader.receive(chunk, 0)
    reader.end(0)
    assert reader.held_bytes <= MAX_BODY + 64


fields = st.recursive(
    st.one_of(
        st.tuples(st.integers(1, 2**29 - 1), st.integers(0, 2**64 - 1)).map(
            lambda field: varint_tag(field[0]) + encode_varint(field[1])
        ),
        st.tuples(st.integers(1, 2**29 - 1), st.binary(max_size=20)).map(
            lambda field: encode_field(length_delimited_tag(field[0]), field[1])
        ),
    ),
    lambda inner: st.tuples(st.integers(1, 100), st.lists(inner, max_size=4).map(b"".join)).map(
        lambda field: encode_field(length_delimited_tag(field[0]), field[1])
    ),
    max_leaves=10,
)


@given(message=st.lists(fields, max_size=6).map(b"".join), end=st.integers(0, 400))
def test_every_message_and_every_beginning_of_one_is_rendered(message: bytes, end: int) -> None:
    assert ProtobufText().render(message, len(message)) is not None
    assert ProtobufText().render(message[:end], len(message)) is not None
    assert ProtobufText().render(message[:end], None) is not None


@given(data=st.binary(max_size=300), missing=st.integers(0, 50))
def test_any_bytes_are_rendered_within_bounds_or_not_at_all(data: bytes, missing: int) -> None:
    shown = ProtobufText().render(data, len(data) + missing)
    assert shown is None or len(shown) < MAX_CHARACTERS
