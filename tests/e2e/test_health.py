"""Health and metrics of a real run."""

import re
from collections.abc import Callable

import pytest

from tests.e2e.conftest import Server, curl
from tests.running_agent import Agent

pytestmark = pytest.mark.e2e


def metrics_of(text: str) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in re.findall(r"^(wirespan\S+|process\S+) (\S+)$", text, re.MULTILINE)
    }


def sum_of(metrics: dict[str, float], prefix: str) -> float:
    return sum(value for name, value in metrics.items() if name.startswith(prefix))


def test_a_run_is_live_ready_and_its_books_balance(
    agent: Callable[..., Agent], server: Callable[..., Server]
) -> None:
    api = server()
    running = agent("run", "--port", str(api.port), "--health-listen", "127.0.0.1:0")
    port = re.search(r"health and metrics on port (\d+)", "".join(running.log))
    assert port
    health = f"http://127.0.0.1:{port[1]}"
    assert curl(f"{health}/healthz") == "ok\n"
    assert curl(f"{health}/readyz") == "ready\n"
    for _ in range(11):
        curl(f"{api.url}/counted")
    metrics: dict[str, float] = {}
    for _ in range(200):
        metrics = metrics_of(curl(f"{health}/metrics"))
        if metrics["wirespan_exchanges_total"] == 22:
            break
    assert metrics["wirespan_exchanges_total"] == 22
    assert metrics["wirespan_spans_built_total"] + metrics["wirespan_span_failures_total"] == 22
    fates = sum_of(metrics, "wirespan_spans_total{") + sum_of(metrics, "wirespan_spans_queued{")
    assert fates == metrics["wirespan_spans_built_total"]
    assert metrics['wirespan_capture_losses_total{cause="ring_full_records"}'] == 0
    assert metrics["process_resident_memory_bytes"] < 120_000_000
    running.stop()


def test_the_agent_does_not_show_its_own_health_checks(agent: Callable[..., Agent]) -> None:
    running = agent("run", "--direction", "ingress", "--health-listen", "[::1]:0")
    port = re.search(r"health and metrics on port (\d+)", "".join(running.log))
    assert port
    # Other agents of this host are asked for their health too.
    assert curl(f"http://[::1]:{port[1]}/healthz?of=this-agent") == "ok\n"
    assert "of=this-agent" not in running.stop()
