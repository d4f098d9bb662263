"""The report of what this host supports."""

import json

import pytest

from agent.check import format_json, format_text, would_run
from agent.tls.report import StackLine, TlsReport
from ebpf.preflight import Finding

FINE = Finding("kernel", satisfied=True, detail="6.1")
LIMITED = Finding("CAP_SYS_PTRACE", satisfied=False, detail="not held", remedy="add it", required=False)
MISSING = Finding("bcc", satisfied=False, detail="not installed", remedy="apt-get install python3-bpfcc")
NO_TLS = TlsReport()
JAVA = TlsReport(
    stacks=(
        StackLine(
            name="java", version=None, path="/jvm/libjvm.so", problem="no function", files=2, processes=3
        ),
        StackLine(name="openssl", version="3.0.17", path="/ssl", problem=None, files=1, processes=1),
    ),
    notes=("a note",),
)


@pytest.mark.parametrize(
    ("findings", "works"), [([FINE], True), ([FINE, LIMITED], True), ([FINE, MISSING], False), ([], True)]
)
def test_only_what_is_required_decides(findings: list[Finding], works: bool) -> None:  # noqa: FBT001
    assert would_run(findings) is works


def test_people_see_what_is_missing_and_the_command_that_mends_it() -> None:
    lines = format_text([FINE, LIMITED, MISSING], NO_TLS).splitlines()
    assert lines[0].split() == ["ok", "kernel", "6.1"]
    assert lines[1].startswith("limited")
    assert lines[3].split() == ["missing", "bcc", "not", "installed"]
    assert lines[4].strip() == "→ apt-get install python3-bpfcc"
    assert "would not work" in lines[-1]
    assert "would work here" in format_text([FINE], NO_TLS)


def test_people_see_whose_tls_would_be_captured() -> None:
    lines = format_text([FINE], JAVA).splitlines()
    assert lines[2:6] == [
        "TLS implementations in use:",
        "  java            /jvm/libjvm.so (2 files)  3 processes  not captured: no function",
        "  openssl 3.0.17  /ssl                      1 process    captured",
        "a note",
    ]
    assert "no TLS implementation" in format_text([FINE], NO_TLS)


def test_programs_see_the_same_as_json() -> None:
    document = json.loads(format_json([FINE, MISSING], JAVA))
    assert document["would_run"] is False
    assert document["findings"][1]["remedy"] == "apt-get install python3-bpfcc"
    assert document["tls"]["stacks"][0]["name"] == "java"
    assert document["tls"]["notes"] == ["a note"]
