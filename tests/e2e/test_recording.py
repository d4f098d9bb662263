"""`record`, then `replay`: the same spans as the run beside it, without root and without bcc."""

import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ExportedSpan, Server, curl, read_spans, wirespan
from tests.running_agent import Agent

pytestmark = pytest.mark.e2e

CLOCKS_APART_NS = 2_000_000
"""Two captures stamp a call one after the other, and read both clocks by themselves."""


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return tmp_path / "traffic.wsr"


def without_times(spans: list[ExportedSpan], lasting_pid: int) -> list[tuple[Any, ...]]:
    """Return what is compared: of a curl each agent read from /proc what was still there."""
    compared = []
    for span in spans:
        resource = span.resource
        if resource["process.pid"] != lasting_pid:
            resource = {name: resource[name] for name in ("service.name", "process.pid", "host.name")}
        compared.append(
            (span.kind, span.name, str(sorted(span.attributes.items())), str(sorted(resource.items())))
        )
    return sorted(compared)


def test_a_replay_gives_the_spans_of_the_run_beside_it(
    agent: Callable[..., Agent], server: Callable[..., Server], tmp_path: Path, recording: Path
) -> None:
    api = server()
    live, replayed = tmp_path / "live", tmp_path / "replayed"
    running = agent("run", "--port", str(api.port), "--spans-file", str(live))
    recorder = agent("record", str(recording), "--port", str(api.port))
    curl(f"{api.url}/one", f"{api.url}/two", "--data", "password=hunter2&x=1")
    curl(f"{api.url}/three")
    subprocess.run(["sh", "-c", f"exec curl -s {api.url}/four"], check=True, stdout=subprocess.DEVNULL)
    running.stop()
    recorder.stop()
    assert wirespan("replay", str(recording), "--spans-file", str(replayed)).returncode == 0
    ours, theirs = read_spans(live), read_spans(replayed)
    assert len(ours) == 8
    assert without_times(ours, api.pid) == without_times(theirs, api.pid)
    for mine, other in zip(ours, theirs, strict=True):
        assert abs(mine.start_unix_ns - other.start_unix_ns) < CLOCKS_APART_NS
        assert abs(mine.end_unix_ns - other.end_unix_ns) < CLOCKS_APART_NS


def test_a_recording_can_be_read_by_its_owner_only(agent: Callable[..., Agent], recording: Path) -> None:
    agent("record", str(recording), "--port", "1").stop()
    assert stat.S_IMODE(recording.stat().st_mode) == 0o600


def test_a_replay_needs_neither_root_nor_bcc(
    agent: Callable[..., Agent], server: Callable[..., Server], tmp_path: Path, recording: Path
) -> None:
    api = server()
    recorder = agent("record", str(recording), "--port", str(api.port))
    curl(f"{api.url}/one")
    recorder.stop()
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    (shadow / "bcc.py").write_text("raise ImportError('bcc is not for a replay')\n")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        readable = shutil.copy(recording, folder)
        Path(readable).chmod(0o644)
        ended = wirespan(
            "replay",
            readable,
            user=65_534,
            group=65_534,
            extra_groups=[],
            env={**os.environ, "PYTHONPATH": str(shadow), "HOME": "/"},
        )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("/one") == 2


def test_a_recording_of_selected_processes_holds_no_others(
    agent: Callable[..., Agent], server: Callable[..., Server], recording: Path
) -> None:
    api = server()
    recorder = agent("record", str(recording), "--exe", "curl", "--port", str(api.port))
    curl(f"{api.url}/one")
    recorder.stop()
    shown = wirespan("replay", str(recording)).stdout
    assert shown.count("/one") == 1


def test_a_cut_recording_is_replayed_as_far_as_it_goes(
    agent: Callable[..., Agent], server: Callable[..., Server], recording: Path
) -> None:
    api = server()
    recorder = agent("record", str(recording), "--port", str(api.port))
    curl(f"{api.url}/one")
    recorder.stop()
    whole = recording.read_bytes()
    recording.write_bytes(whole[:-3])
    ended = wirespan("replay", str(recording))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("/one") == 2
    assert "cut" in ended.stderr


def test_a_recording_that_cannot_be_written_says_so() -> None:
    ended = wirespan("record", "/no/such/folder/file")
    assert ended.returncode == 2
    assert "/no/such/folder/file" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_every_replay_of_a_recording_gives_the_same_ids(
    agent: Callable[..., Agent], server: Callable[..., Server], tmp_path: Path, recording: Path
) -> None:
    api = server()
    recorder = agent("record", str(recording), "--port", str(api.port))
    curl(f"{api.url}/one", f"{api.url}/two")
    recorder.stop()
    ids = []
    for number in range(2):
        spans = tmp_path / f"spans-{number}"
        assert wirespan("replay", str(recording), "--spans-file", str(spans)).returncode == 0
        ids.append(re.findall(r'"(traceId|spanId)": ?"([0-9a-f]+)"', spans.read_text()))
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == len(ids[0]) == 2 * 4
