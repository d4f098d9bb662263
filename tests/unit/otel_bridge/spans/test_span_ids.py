from __future__ import annotations

import pytest

from otel_bridge.spans.span_ids import CaptureIdGenerator, divide_digest

CAPTURE = bytes(range(16))


def test_ids_have_their_sizes_and_depend_on_all_that_they_are_made_of() -> None:
    keys = [(CAPTURE, 1, 0), (bytes(16), 1, 0), (CAPTURE, 2, 0), (CAPTURE, 1, 1), (CAPTURE, 0, 1)]
    made = [
        CaptureIdGenerator(lambda capture=capture: capture).generate(connection_id, ordinal)  # type: ignore[misc]
        for capture, connection_id, ordinal in keys
    ]
    assert {(len(trace_id), len(span_id)) for trace_id, span_id in made} == {(16, 8)}
    halves = {trace_id[:8] for trace_id, _ in made} | {trace_id[8:] for trace_id, _ in made}
    assert len(halves | {span_id for _, span_id in made}) == 3 * len(keys)


def test_the_same_exchange_always_has_the_same_ids() -> None:
    first, second = (CaptureIdGenerator(lambda: CAPTURE).generate(2**64 - 1, 2**63) for _ in range(2))
    assert first == second


def test_every_bit_is_set_in_about_half_of_the_ids() -> None:
    generate = CaptureIdGenerator(lambda: CAPTURE).generate
    count = 4_000
    made = [b"".join(generate(1, ordinal)) for ordinal in range(count)]
    for bit in range(192):
        ones = sum(int.from_bytes(each, "big") >> bit & 1 for each in made)
        assert abs(ones - count / 2) < 200, "six deviations of a fair coin"


def test_ids_are_never_all_zero() -> None:
    assert divide_digest(bytes(24)) == (bytes(15) + b"\1", bytes(7) + b"\1")
    assert divide_digest(bytes(15) + b"\2" + bytes(8)) == (bytes(15) + b"\2", bytes(7) + b"\1")
    assert divide_digest(bytes(16) + b"\3" * 8) == (bytes(15) + b"\1", b"\3" * 8)


def test_the_id_of_the_capture_is_asked_for_once_it_is_needed() -> None:
    asked = []

    def read() -> bytes:
        asked.append(1)
        return CAPTURE

    ids = CaptureIdGenerator(read)
    assert not asked
    ids.generate(1, 1)
    ids.generate(1, 2)
    assert len(asked) == 1
    with pytest.raises(AssertionError, match="before its first exchange"):
        CaptureIdGenerator(lambda: b"").generate(1, 1)
