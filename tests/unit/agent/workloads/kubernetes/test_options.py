"""Which node this is, when it is not configured."""

import pytest

from agent.workloads.kubernetes import options
from agent.workloads.kubernetes.options import default_node


def test_the_daemon_set_knows_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options.socket, "gethostname", lambda: "Worker-1.Example.com")
    assert default_node({"NODE_NAME": "node-7"}) == "node-7"
    # kubelet takes the host's name in lower case
    assert default_node({}) == default_node({"NODE_NAME": ""}) == "worker-1.example.com"
