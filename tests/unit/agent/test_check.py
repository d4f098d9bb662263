"""The report of what this host supports."""

import json

import pytest

from agent.check import format_json, format_text, would_run
from ebpf.preflight import Finding

FINE = Finding("kernel", satisfied=True, detail="6.1")
LIMITED = Finding("CAP_SYS_PTRACE", satisfied=False, detail="not held", remedy="add it", required=False)
MISSING = Finding("bcc", satisfied=False, detail="not installed", remedy="apt-get install python3-bpfcc")


@pytest.mark.parametrize(
    ("findings", "works"), [([FINE], True), ([FINE, LIMITED], True), ([FINE, MISSING], False), ([], True)]
)
def test_only_what_is_required_decides(findings: list[Finding], works: bool) -> None:  # noqa: FBT001
    assert would_run(findings) is works


def test_people_see_what_is_missing_and_the_command_that_mends_it() -> None:
    lines = format_text([FINE, LIMITED, MISSING]).splitlines()
    assert lines[0].split() == ["ok", "kernel", "6.1"]
    assert lines[1].startswith("limited")
    assert lines[3].split() == ["missing", "bcc", "not", "installed"]
    assert lines[4].strip() == "→ apt-get install python3-bpfcc"
    assert "would not work" in lines[-1]
    assert "would work here" in format_text([FINE])


def test_programs_see_the_same_as_json() -> None:
    document = json.loads(format_json([FINE, MISSING]))
    assert document["would_run"] is False
    assert document["findings"][1]["remedy"] == "apt-get install python3-bpfcc"
