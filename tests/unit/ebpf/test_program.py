from __future__ import annotations

import re
from pathlib import Path

import pytest

from ebpf.btf import BtfError, KernelTypes
from ebpf.events import Protocol
from ebpf.program import (
    _MEMBERS,
    _MEMBERS_BY_MACHINE,
    SOURCE_DIRECTORY,
    offset_flags,
    program_text,
    splice,
)
from ebpf.protocols import JUDGED_PROTOCOLS, MAX_PROTOCOLS, JudgedProtocol
from tests.unit.ebpf.test_btf import example


def test_local_includes_are_spliced_once_and_keep_their_lines(tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text(
        '#include "a.h"\nint line_2;\n#include "b.h"\nint line_4;\n#include <c.h>\n'
    )
    (tmp_path / "a.h").write_text('#include "b.h"\nint a_2;\n')
    (tmp_path / "b.h").write_text("int b_1;\n")
    text = splice(tmp_path / "main.c")
    assert text.count("int b_1;") == 1
    assert "#include <c.h>" in text
    position = {}
    name, number = "", 0
    for line in text.splitlines():
        if mark := re.match(r'#line (\d+) "(.+)"', line):
            number, name = int(mark[1]) - 1, mark[2]
            continue
        number += 1
        position[line] = (name, number)
    assert position["int line_2;"] == ("main.c", 2)
    assert position["int line_4;"] == ("main.c", 4)
    assert position["int a_2;"] == ("a.h", 2)
    assert position["int b_1;"] == ("b.h", 1)


def test_the_whole_program_is_one_text_with_every_header() -> None:
    text = program_text()
    assert "HTTP_PREFIXES(X)" in text
    assert not re.search(r'^#include "', text, re.MULTILINE)
    for header in SOURCE_DIRECTORY.glob("*.h"):
        assert f'#line 1 "{header.name}"' in text


def test_a_protocol_beside_http_is_a_row_of_the_table_and_the_text_of_its_function(tmp_path: Path) -> None:
    source = tmp_path / "infer_toy.h"
    source.write_text("int toy;\n")
    text = program_text([JudgedProtocol("toy", 7, source)])
    assert "#define JUDGED_PROTOCOLS(X) X(7, infer_toy)\n" in text
    assert text.endswith('#line 1 "infer_toy.h"\nint toy;')


def test_numbers_of_protocols_fit_and_are_used_once() -> None:
    numbers = [int(protocol) for protocol in Protocol]
    judged = [protocol.number for protocol in JUDGED_PROTOCOLS]
    assert sorted([*judged, Protocol.HTTP1, Protocol.HTTP2]) == sorted(numbers)
    assert max(numbers) < MAX_PROTOCOLS


def test_every_offset_the_program_reads_is_provided() -> None:
    text = program_text()
    read = {f"{s}_{m}" for s, m in re.findall(r"READ_KERNEL\([^;]*?, (\w+), (\w+)\);", text)}
    read |= set(re.findall(r"OFFSET_([a-z]\w*)", text))
    provided = {
        f"{s}_{m}" for members in (_MEMBERS, *_MEMBERS_BY_MACHINE.values()) for s, m, *_others in members
    }
    assert read - {"struct_member"} == provided  # the excepted one is an explanation


def test_a_kernel_that_lacks_a_type_is_named() -> None:
    with pytest.raises(BtfError, match="no type task_struct"):
        offset_flags(KernelTypes(example()), "x86_64")
