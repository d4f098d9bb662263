from __future__ import annotations

from ebpf.compiler import link_function


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
