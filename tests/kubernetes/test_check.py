"""`wirespan check --kubernetes` against a real API server."""

import json
import os
from pathlib import Path

import pytest

from tests.e2e.conftest import wirespan
from tests.kubernetes.api_server import ApiServer
from tests.kubernetes.conftest import Site

pytestmark = pytest.mark.kubernetes


def environment(site: Site, kubeconfig: str, **further: str) -> dict[str, str]:
    return {**os.environ, "NODE_NAME": site.node, "WIRESPAN_KUBERNETES_KUBECONFIG": kubeconfig, **further}


def test_each_pod_is_explained(api_server: ApiServer, site: Site, tmp_path: Path) -> None:
    api_server.annotate(site.path, direction="egress")
    site.create_pod("api", containers=("app", "proxy"), annotations={"capture": "true", "containers": "app"})
    site.create_pod("ports", annotations={"ports": "8080,80", "bodies": "false", "direction": "both"})
    site.create_pod("wrong", annotations={"capture": "si"})
    config = tmp_path / "wirespan.yaml"
    config.write_text("kubernetes:\n  selector: app=web\n")
    ended = wirespan(
        *("check", "--kubernetes", "--format", "json", "--config", str(config)),
        env=environment(site, api_server.admin_kubeconfig()),
    )
    assert ended.returncode == 0, ended.stderr
    document = json.loads(ended.stdout)
    assert document["node"] == site.node
    found = {(pod["pod"], *pod["containers"]): pod for pod in document["pods"]}
    assert list(found) == [("api", "app"), ("api", "proxy"), ("ports", "app"), ("wrong", "app")]
    assert found["api", "app"]["direction"] == "egress"
    assert found["api", "app"]["rule"] == (
        'annotation wirespan.io/capture of the pod is "true";'
        " annotation wirespan.io/direction of the namespace is egress"
    )
    assert found["api", "proxy"]["direction"] == "none"
    assert found["ports", "app"]["ports"] == [80, 8080]
    assert found["ports", "app"]["bodies"] is False
    assert found["wrong", "app"]["rule"] == "kubernetes.selector (app=web) does not match"
    (note,) = document["notes"]
    assert f"pod {site.namespace}/wrong: annotation wirespan.io/capture: 'si'" in note

    text = wirespan("check", "--kubernetes", env=environment(site, api_server.admin_kubeconfig())).stdout
    lines = text.splitlines()
    assert lines[0] == f"node {site.node}"
    assert lines[2].split() == ["POD", "CONTAINERS", "CAPTURED", "PORTS", "BODIES", "TLS", "RULE"]
    assert lines[5].split()[:6] == [f"{site.namespace}/ports", "app", "both", "80,8080", "no", "yes"]


def test_a_node_without_pods_is_said_to_be_one(api_server: ApiServer, site: Site) -> None:
    ended = wirespan("check", "--kubernetes", env=environment(site, api_server.admin_kubeconfig()))
    assert ended.returncode == 0
    assert f"no pods on node {site.node}" in ended.stdout
    assert "NODE_NAME" in ended.stdout


def test_what_is_denied_is_one_message(api_server: ApiServer, site: Site) -> None:
    kubeconfig = api_server.create_service_account(f"check-{site.number}")
    ended = wirespan("check", "--kubernetes", env=environment(site, kubeconfig))
    assert ended.returncode == 3
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert "not allowed to list pods (403: " in line
    assert 'grant its user the verb "list" on pods' in line


def test_without_the_right_to_namespaces_it_says_so_and_goes_on(api_server: ApiServer, site: Site) -> None:
    site.create_pod("web")
    kubeconfig = api_server.create_service_account(f"check-pods-{site.number}")
    api_server.grant(f"check-pods-{site.number}", ("", "pods", "list"))
    ended = wirespan("check", "--kubernetes", env=environment(site, kubeconfig))
    assert ended.returncode == 0
    assert "annotations of namespaces are not heeded: not allowed to list namespaces" in ended.stdout
    assert ended.stderr == ""


def test_a_server_that_does_not_answer_is_one_message(api_server: ApiServer, site: Site) -> None:
    files = {"token": "unused"}
    kubeconfig = api_server.write_kubeconfig("nowhere", files, "https://127.0.0.1:9")
    ended = wirespan("check", "--kubernetes", env=environment(site, kubeconfig))
    assert ended.returncode == 3
    (line,) = ended.stderr.splitlines()
    assert "https://127.0.0.1:9" in line
    assert "Connection refused" in line


@pytest.mark.parametrize("content", [None, "", "[]", "clusters: 5", "{", "current-context: absent"])
def test_a_kubeconfig_that_is_none_is_one_message(site: Site, tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "kubeconfig"
    if content is not None:
        file.write_text(content)
    ended = wirespan("check", "--kubernetes", env=environment(site, str(file)))
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert f"no access to the Kubernetes API from {file}" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
