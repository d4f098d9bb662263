from __future__ import annotations

from ebpf.compiler_child import link_function, replace_maps


def test_a_placeholder_becomes_the_call_of_a_kernel_function_and_nothing_else_changes() -> None:
    helper = bytes.fromhex("8500000006000000")
    placeholder = bytes.fromhex("850000000100ff7f")
    load_of_the_same_number = bytes.fromhex("b70000000100ff7f")
    # the placeholder's bytes, but across two instructions
    straddling = bytes.fromhex("b700000085000000") + bytes.fromhex("0100ff7f00000000")
    linked = link_function(
        helper + placeholder + load_of_the_same_number + straddling + placeholder, 0x7FFF0001, 0x12345
    )
    called = bytes.fromhex("8520000045230100")
    assert linked == helper + called + load_of_the_same_number + straddling + called


def test_only_maps_are_replaced_by_others() -> None:
    def load(source: int, number: int) -> bytes:
        return bytes((0x18, source << 4 | 1, 0, 0)) + number.to_bytes(4, "little") + bytes(8)

    move = bytes((0xB7, 0x11, 0, 0)) + (7).to_bytes(4, "little")
    given = load(1, 7) + load(0, 7) + move + load(1, 8)
    assert replace_maps(given, {7: 9}) == load(1, 9) + load(0, 7) + move + load(1, 8)
