"""What is captured goes on undisturbed when the agent starts, ends, is killed and is started again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import SERVER, Server, read_spans
from tests.kept_load import CONNECTIONS, KeptLoad
from tests.running_agent import Agent

pytestmark = pytest.mark.e2e

REQUESTS = 101
"""Of each connection, in each state."""


@pytest.mark.parametrize("killed", [False, True], ids=["ended", "killed"])
def test_no_request_fails_while_agents_come_and_go(
    agent: Callable[..., Agent],
    server: Callable[..., Server],
    tmp_path: Path,
    *,
    killed: bool,
) -> None:
    api = server()
    load = KeptLoad(api.port)
    spans_file = tmp_path / "spans.jsonl"
    try:
        load.wait_for(REQUESTS)
        first = agent("run", "--port", str(api.port), "--spans-file", str(tmp_path / "first.jsonl"))
        load.wait_for(REQUESTS)
        if killed:
            first.process.kill()
            first.process.wait()
        else:
            first.stop()
        load.wait_for(REQUESTS)
        second = agent("run", "--port", str(api.port), "--spans-file", str(spans_file))
        load.wait_for(REQUESTS)
        second.stop()
    finally:
        load.end()
    assert load.failures == []
    # The second agent captures what was open before it, wherever the first one has left off.
    served = [span for span in read_spans(spans_file) if span.kind == SERVER]
    whole = Counter(
        span.attributes["url.path"].split("/")[1]
        for span in served
        if "wirespan.incomplete" not in span.attributes
    )
    assert set(whole) == {str(number) for number in range(CONNECTIONS)}
    assert min(whole.values()) >= REQUESTS - 1, "all but what was in flight at its start"
