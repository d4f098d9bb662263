from __future__ import annotations

import pytest
from hpack import Decoder, Encoder, NeverIndexedHeaderTuple
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from parsers.counters import new_counters
from parsers.http2 import huffman
from parsers.http2.fields import FieldBlock
from parsers.http2.headers import MAX_REMEMBERED_BLOCKS, HeaderDecoder
from parsers.http2.huffman import decode_huffman
from parsers.limits import ParserLimits

HUFFMAN = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
PATH = (b":path", b"/orders")


def build_decoder(limits: ParserLimits | None = None) -> HeaderDecoder:
    return HeaderDecoder(limits or ParserLimits(), new_counters())


def tainted_decoder(limits: ParserLimits | None = None) -> HeaderDecoder:
    """A decoder behind a gap whose end is known."""
    decoder = build_decoder(limits)
    decoder.taint()
    decoder.trust()
    return decoder


def test_a_strict_decoder_that_lost_one_block_turns_bob_into_alice_and_this_one_does_not() -> None:
    encoder = Encoder()
    first = encoder.encode([(b":method", b"GET"), (b"user", b"alice")])
    lost = encoder.encode([(b":method", b"GET"), (b"user", b"bob")])
    third = encoder.encode([(b":method", b"GET"), (b"user", b"bob")])

    strict = Decoder()
    strict.decode(first, raw=True)
    assert (b"user", b"alice") in strict.decode(third, raw=True)

    decoder = build_decoder()
    decoder.decode(first)
    assert lost
    decoder.taint()
    decoder.trust()
    block = decoder.decode(third)
    assert not block.failed
    assert (block.method, block.headers, block.unknown) == (b"GET", [], 1)


def test_what_was_learned_since_a_gap_is_known_and_what_lies_below_is_not() -> None:
    encoder = Encoder()
    encoder.encode([PATH, (b"user", b"alice")])
    decoder = tainted_decoder()
    assert decoder.decode(encoder.encode([(b"user", b"bob")])).unknown == 1
    block = decoder.decode(encoder.encode([(b"color", b"red"), (b"user", b"bob"), (b"color", b"red")]))
    assert block.headers == [(b"color", b"red"), (b"color", b"red")]
    # The name of the new `user` was that of an older entry.
    assert block.unknown == 1
    assert decoder.decode(encoder.encode([(b"color", b"blue")])).headers == [(b"color", b"blue")]
    assert decoder.decode(encoder.encode([PATH])).path is None


def test_a_size_update_to_nothing_makes_the_table_known_again() -> None:
    encoder = Encoder()
    encoder.encode([PATH])
    decoder = tainted_decoder()
    encoder.header_table_size = 0
    encoder.header_table_size = 4_096
    assert decoder.decode(encoder.encode([PATH])).path == b"/orders"
    assert decoder.decode(encoder.encode([PATH])).path == b"/orders"
    # Nothing lies below, so an index beyond it is an error and not a lack of knowledge.
    assert decoder.decode(b"\xff\x00").failed


def test_entries_learned_in_doubt_stay_in_doubt() -> None:
    encoder = Encoder()
    decoder = build_decoder()
    decoder.taint()
    assert not decoder.decode(encoder.encode([(b"user", b"alice")])).in_doubt
    assert decoder.decode(encoder.encode([(b"user", b"alice")])).in_doubt
    decoder.trust()
    assert decoder.decode(encoder.encode([(b"user", b"alice")])).in_doubt
    decoder.decode(encoder.encode([(b"user", b"bob")]))
    block = decoder.decode(encoder.encode([(b"user", b"bob")]))
    assert (block.headers, block.in_doubt) == ([(b"user", b"bob")], False)
    assert decoder.decode(encoder.encode([(b"user", b"alice")])).in_doubt


def test_blocks_that_repeat_are_shared_while_the_table_stays_as_it_is() -> None:
    decoder = build_decoder()
    assert decoder.decode(b"\x82\x84") is decoder.decode(b"\x82\x84")
    before = decoder.decode(b"\x82\x84")
    decoder.decode(b"\x40\x01a\x01b")
    assert decoder.decode(b"\x82\x84") is not before
    for value in range(MAX_REMEMBERED_BLOCKS + 1):
        decoder.decode(b"\x00\x01a\x01" + bytes((97 + value,)))
    assert len(decoder._blocks) <= MAX_REMEMBERED_BLOCKS


def test_sensitive_fields_read_like_any_other_and_are_not_indexed() -> None:
    encoder = Encoder()
    decoder = build_decoder()
    block = decoder.decode(encoder.encode([NeverIndexedHeaderTuple(b"authorization", b"secret")]))
    assert block.headers == [(b"authorization", b"secret")]
    assert decoder.held_bytes == 0


@pytest.mark.parametrize(
    "coded",
    [
        pytest.param(b"\x80", id="index 0"),
        pytest.param(b"\xbe", id="index beyond a table that is wholly known"),
        pytest.param(b"\x7e\x01a", id="name beyond it"),
        pytest.param(b"\xff", id="integer without its end"),
        pytest.param(b"\xff\xff\xff\xff\xff\xff\x01", id="endless integer"),
        pytest.param(b"\x00", id="literal without a name"),
        pytest.param(b"\x00\x05ab", id="short name"),
        pytest.param(b"\x00\x01a\x7f\x80\x80\x04v", id="short value"),
        pytest.param(b"\x00\x81\xff", id="invalid Huffman code"),
        pytest.param(b"\x82\x20", id="size update behind a field"),
    ],
)
def test_what_is_no_hpack_fails_and_keeps_what_came_before(coded: bytes) -> None:
    block = build_decoder().decode(b"\x82" + coded)
    assert block.failed
    assert block.method == b"GET"


def test_an_unknown_index_is_no_error_behind_a_gap() -> None:
    block = tainted_decoder().decode(b"\x82\xbe\x7e\x01a\x84")
    assert not block.failed
    assert (block.method, block.path, block.unknown) == (b"GET", b"/", 2)


def test_an_entry_with_an_unknown_name_keeps_its_place() -> None:
    decoder = tainted_decoder()
    decoder.decode(b"\x40\x01a\x01b")  # index 62
    decoder.decode(b"\x7f\x01\x01v")  # the name of index 64, which is unknown; it is 62 now
    block = decoder.decode(b"\xbf\xbe")
    assert (block.headers, block.unknown) == ([(b"a", b"b")], 1)


def test_a_table_evicts_as_the_peers_does() -> None:
    encoder, decoder = Encoder(), build_decoder()
    for size in (64, 4_096, 0, 100):
        encoder.header_table_size = size
        for number in range(40):
            fields = [(b"x-%d" % (number % 5), b"%d" % number), (b"user", b"u" * number)]
            assert decoder.decode(encoder.encode(fields)).headers == fields
            assert decoder.held_bytes == sum(
                32 + len(name) + len(value) for name, value in encoder.header_table.dynamic_entries
            )


def test_an_entry_larger_than_the_table_empties_it() -> None:
    decoder = build_decoder()
    decoder.decode(b"\x40\x01a\x01b")
    block = decoder.decode(b"\x40\x01a\x7f\xa1\x1f" + b"v" * 4_128)
    assert len(block.headers[0][1]) == 4_128
    assert decoder.held_bytes == 0
    assert decoder.decode(b"\xbe").failed


def test_the_table_is_bounded_whatever_size_is_announced() -> None:
    limits = ParserLimits(max_header_table=200)
    counts = new_counters()
    decoder = HeaderDecoder(limits, counts)
    decoder.decode(b"\x3f\xe1\xff\x03")  # 65,536
    for number in range(10):
        decoder.decode(b"\x40\x01a\x01%d" % number)
        assert decoder.held_bytes <= 200
    # What the peer may still have is unknown, not wrong.
    block = decoder.decode(b"\xbe\xc5")
    assert (block.headers, block.unknown, block.failed) == ([(b"a", b"9")], 1, False)
    assert counts["http2_forgotten_entries"] == 5
    # An entry beyond the bound has its place, but nothing of it is kept.
    decoder.decode(b"\x40\x01b\x7f\xad\x01" + b"v" * 300)
    decoder.decode(b"\x40\x01c\x01d")
    assert decoder.held_bytes <= 200
    block = decoder.decode(b"\xbe\xbf\xc0")
    assert (block.headers, block.unknown) == ([(b"c", b"d"), (b"a", b"9")], 1)


def test_a_bomb_of_indexed_fields_is_cut() -> None:
    limits = ParserLimits(max_headers=1_000)
    decoder = build_decoder(limits)
    decoder.decode(b"\x40\x01a\x7f\x81\x1e" + b"v" * 3_968)
    block = decoder.decode(b"\x82" + b"\xbe" * 60_000)
    assert block.method == b"GET"
    assert sum(len(name) + len(value) for name, value in block.headers) <= limits.max_header_list
    assert block.dropped == 60_000 - len(block.headers)


def test_no_more_fields_are_kept_than_the_bound() -> None:
    decoder = build_decoder(ParserLimits(max_headers=3))
    block = decoder.decode(b"\x82" + b"\x90" * 5)
    assert (len(block.headers), block.dropped, block.method) == (3, 2, b"GET")


def read(*fields: tuple[bytes, bytes]) -> FieldBlock:
    return build_decoder().decode(Encoder().encode(fields))


@pytest.mark.parametrize(
    ("fields", "anomaly"),
    [
        ([(b"X-Upper", b"1")], "uppercase_field_name"),
        ([(b"a b", b"1")], "invalid_field_name"),
        ([(b"", b"1")], "invalid_field_name"),
        ([(b"a", b"1"), (b":status", b"200")], "pseudo_field_after_field"),
        ([(b":status", b"200"), (b"a", b"1 ")], "invalid_field_value"),
        ([(b":method", b"GET"), (b":scheme", b"http"), (b"host", b"a")], "missing_pseudo_field"),
        ([(b":method", b"CONNECT")], "missing_host"),
        ([(b":color", b"red")], "unknown_pseudo_field"),
        ([(b"connection", b"close")], "connection_field"),
        ([(b"te", b"gzip")], "connection_field"),
    ],
)
def test_what_is_odd_is_kept_and_named(fields: list[tuple[bytes, bytes]], anomaly: str) -> None:
    block = read(*fields)
    assert block.anomalies == (anomaly,)
    assert not block.malformed
    assert block.headers == [known for known in fields if not known[0].startswith(b":")]


def test_binary_metadata_behind_a_nul_is_not_odd_and_another_nul_is() -> None:
    assert read((b":status", b"200"), (b"x-sum-bin", b"\0\xff\0\n")).anomalies == ()
    assert read((b":status", b"200"), (b"x-sum-bin", b"\xff\0")).anomalies == ("invalid_field_value",)
    assert read((b":status", b"200"), (b"x-sum", b"\0\xff")).anomalies == ("invalid_field_value",)


def test_plain_fields_are_not_odd() -> None:
    assert read((b":status", b"200"), (b"te", b"trailers"), (b"x-1", b"")).anomalies == ()
    assert read((b"x-1", b"")).anomalies == ()


def test_what_may_be_among_unknown_fields_is_not_missing() -> None:
    # An entry that was not seen stands before `:method`, and another behind it.
    first = tainted_decoder().decode(b"\xbe\x82")
    assert (first.is_request, first.hides_pseudo, first.anomalies) == (True, True, ())
    later = tainted_decoder().decode(b"\x82\x84\x86\x90\xbe")
    assert (later.is_request, later.hides_pseudo, later.anomalies) == (True, False, ())


def test_two_paths_are_no_path() -> None:
    block = read((b":method", b"GET"), (b":path", b"/a"), (b":path", b"/b"))
    assert block.malformed
    assert (block.method, block.path, block.is_request, block.is_response) == (None, None, True, False)


@pytest.mark.parametrize("status", [b"20", b"2000", b"abc", b"099", b"+20"])
def test_a_status_that_is_none_is_unknown(status: bytes) -> None:
    block = read((b":status", status))
    assert (block.status, block.malformed, block.is_response) == (None, True, True)


def test_pseudo_fields_of_both_sides_are_malformed() -> None:
    block = read((b":method", b"GET"), (b":status", b"200"))
    assert (block.status, block.malformed) == (None, True)
    assert block.is_request
    assert block.is_response


def test_cookie_crumbs_become_one_cookie_in_the_place_of_the_first() -> None:
    block = read((b"a", b"1"), (b"cookie", b"x=1"), (b"b", b"2"), (b"cookie", b"y=2"), (b"c", b"3"))
    assert block.headers == [(b"a", b"1"), (b"cookie", b"x=1; y=2"), (b"b", b"2"), (b"c", b"3")]


def test_crumbs_stay_as_they_were_sent_when_one_may_be_missing() -> None:
    # Joined, they would read as a whole cookie that was never sent.
    block = tainted_decoder().decode(b"\x00\x06cookie\x03x=1\xbe\x00\x06cookie\x03y=2")
    assert block.headers == [(b"cookie", b"x=1"), (b"cookie", b"y=2")]
    assert block.unknown == 1


def test_repeated_codings_are_one_list() -> None:
    assert read((b"content-encoding", b"gzip"), (b"content-encoding", b"br")).content_encoding == b"gzip,br"


@pytest.mark.parametrize("text", [b"", b"a", b"/orders?id=1", b"\x00\xff\x80", bytes(range(256))])
def test_huffman_strings_are_what_hpack_coded(text: bytes) -> None:
    assert decode_huffman(HUFFMAN.encode(text)) == text


@pytest.mark.parametrize("coded", [b"\xff", b"\xff\xff\xff\xff", b"\x1c\xff\xff", b"\x18"])
def test_bad_huffman_codes_and_padding_are_refused(coded: bytes) -> None:
    assert decode_huffman(coded) is None


def test_steps_are_remembered_up_to_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huffman, "_steps", {})
    monkeypatch.setattr(huffman, "MAX_STEPS", 5)
    text = b"the quick brown fox jumps over the lazy dog"
    for _ in range(2):
        assert decode_huffman(HUFFMAN.encode(text)) == text
    assert len(huffman._steps) == 5
