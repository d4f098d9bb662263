from __future__ import annotations

from ebpf.capture_ids import CAPTURE_ID_BYTES, derive_capture_id, new_capture_id


def test_each_capture_has_an_id_of_its_own() -> None:
    made = {new_capture_id() for _ in range(100)}
    assert len(made) == 100
    assert {len(each) for each in made} == {CAPTURE_ID_BYTES}


def test_a_derived_id_depends_on_each_part_and_its_place() -> None:
    made = [
        derive_capture_id(*parts) for parts in ((b"ab", b"c"), (b"a", b"bc"), (b"abc",), (b"c", b"ab"), ())
    ]
    assert len(set(made)) == len(made)
    assert {len(each) for each in made} == {CAPTURE_ID_BYTES}
    assert derive_capture_id(b"ab", b"c") == made[0]
