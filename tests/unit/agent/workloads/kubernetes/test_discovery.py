"""How the parts are put together; tests/kubernetes has them at work."""

import threading
from pathlib import Path

import pytest

from agent.workloads.kubernetes import discovery as discovery_module
from agent.workloads.kubernetes.api import KubeconfigError
from agent.workloads.kubernetes.discovery import KubernetesDiscovery
from agent.workloads.kubernetes.options import KubernetesOptions
from agent.workloads.workload import Absence, ContainerReference, Discovery
from tests.unit.agent.workloads.kubernetes.conftest import PACE, ScriptedApi


def test_a_kubeconfig_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    options = KubernetesOptions(node="n", kubeconfig=str(tmp_path / "none"))
    with pytest.raises(KubeconfigError, match="none"):
        KubernetesDiscovery(options)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("watch-")]


def test_without_an_answer_nothing_is_known_and_closing_still_ends(
    scripted: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery_module, "CLOSE_SECONDS", 0.0)
    discovery: Discovery = (
        started := KubernetesDiscovery(KubernetesOptions(node="n", kubeconfig=scripted.kubeconfig()), PACE)
    )
    scripted.until_requests(3)
    assert not started.wait_until_known(0.01)
    assert discovery.version == 0
    assert discovery.find(ContainerReference("c")) is Absence.PENDING
    assert discovery.peer("10.0.0.1") == {}
    assert discovery.counters()["known_pods"] == 0
    assert {request.path for request in scripted.requests} == {
        "/api/v1/namespaces",
        "/api/v1/pods",
        "/api/v1/services",
    }
    # It comes back although the server keeps all three waiting: their threads hold up no exit.
    discovery.close()
    discovery.close()
    assert all(each.daemon for each in threading.enumerate() if each.name.startswith("watch-"))
