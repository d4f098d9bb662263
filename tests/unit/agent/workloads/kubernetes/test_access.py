"""Where the API is and who we are there, and what is said when that can't be told."""

import contextlib
from pathlib import Path

import pytest

from agent.workloads.kubernetes.access import MAX_CAUSE, Access, describe_cause
from agent.workloads.kubernetes.api import NAMESPACES, PODS, ApiUnreachableError, KubeconfigError
from agent.workloads.kubernetes.client import KubernetesApi
from tests.unit.agent.workloads.kubernetes.conftest import ScriptedApi


def test_nobody_there_is_one_plain_line(tmp_path: Path) -> None:
    script = ScriptedApi(tmp_path, port=9)
    api = KubernetesApi(script.kubeconfig())
    with contextlib.closing(api), pytest.raises(ApiUnreachableError) as raised:
        api.list(PODS, {})
    refused = "Failed to establish a new connection: [Errno 111] Connection refused"
    assert str(raised.value) == f"http://127.0.0.1:9: {refused}"


def test_in_a_pod_the_service_account_is_used_and_its_token_renewed(
    scripted: ScriptedApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from kubernetes.config import incluster_config

    for name in ("token", "ca.crt"):
        (tmp_path / name).write_text("first")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "9")
    with contextlib.closing(KubernetesApi()) as api, pytest.raises(ApiUnreachableError) as raised:
        api.list(NAMESPACES, {})
    assert "https://127.0.0.1:9" in str(raised.value)
    (tmp_path / "token").unlink()
    with pytest.raises(KubeconfigError, match="from the pod's service account: "):
        KubernetesApi()


@pytest.mark.parametrize("content", [None, "", "[]", "clusters: 5", "{", "current-context: absent", "\0"])
def test_a_kubeconfig_that_is_none_says_which_file(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "kubeconfig"
    if content is not None:
        file.write_text(content)
    with pytest.raises(KubeconfigError) as raised:
        Access(str(file))
    assert f"no access to the Kubernetes API from {file}: " in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_certificate_that_is_not_there_says_so(scripted: ScriptedApi) -> None:
    file = Path(scripted.kubeconfig())
    text = file.read_text().replace("http://", "https://")
    file.write_text(text.replace("server:", "certificate-authority: /nowhere/ca.crt\n    server:"))
    with pytest.raises(KubeconfigError, match=r"/nowhere/ca\.crt"):
        Access(str(file))


def test_a_cause_is_one_line_of_bounded_length() -> None:
    assert describe_cause(OSError()) == "OSError"
    assert describe_cause(ValueError("first\nsecond")) == "first"
    assert len(describe_cause(ValueError("x" * 5000))) == MAX_CAUSE
