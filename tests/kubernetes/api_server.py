"""A real API server with its etcd on loopback, and what a test writes to it. No kubelet: pods are text."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import yaml

ROOT = Path(__file__).parents[2]
BUILD_SCRIPT = ROOT / "scripts" / "build-go-program.sh"
START_SECONDS = 90.0
WAIT_SECONDS = 30.0
KEPT_SECONDS = 30.0
"""How long a connection is used again: the API server closes one that is idle for 90 seconds."""
ADMIN_TOKEN = "admin-token"

Document: TypeAlias = dict[str, Any]


def missing_parts() -> str | None:
    """Return what this machine lacks to run an API server; None when nothing."""
    for program, remedy in (("etcd", "apt-get install etcd-server"), ("openssl", "apt-get install openssl")):
        if shutil.which(program) is None:
            return f"{program} is missing: {remedy}"
    if not binary().exists():
        return f"no kube-apiserver at {binary()}: `make apiserver` builds it once, which needs Go"
    return None


def binary() -> Path:
    given = os.environ.get("KUBE_APISERVER")
    if given:
        return Path(given)
    found = subprocess.run(
        [BUILD_SCRIPT, "kube-apiserver", "--path"], capture_output=True, text=True, check=True
    )
    return Path(found.stdout.strip())


def wait_until(condition: Callable[[], Any], what: str = "", seconds: float = WAIT_SECONDS) -> Any:
    """Return the first true value of a condition."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not so after {seconds} s: {what or condition}"
        time.sleep(0.02)
    return value


class ApiError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class ApiServer:
    """etcd and kube-apiserver, and a client of the tests' own with every right."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = folder / "ca.crt"
        _make_keys(folder)
        (folder / "tokens.csv").write_text(f'{ADMIN_TOKEN},admin,1,"system:masters"\n')
        self.etcd_port, peer_port, self.port = _free_ports(3)
        self.url = f"https://127.0.0.1:{self.port}"
        self._etcd = self._spawn(
            "etcd",
            ["etcd", "--data-dir", str(folder / "etcd"), "--log-level", "error"],
            *(
                f"--{option}=http://127.0.0.1:{port}"
                for option, port in (
                    ("listen-client-urls", self.etcd_port),
                    ("advertise-client-urls", self.etcd_port),
                    ("listen-peer-urls", peer_port),
                    ("initial-advertise-peer-urls", peer_port),
                )
            ),
            f"--initial-cluster=default=http://127.0.0.1:{peer_port}",
        )
        self._server: subprocess.Popen[bytes] | None = None
        self._context = ssl.create_default_context(cafile=str(self.ca))
        self._connection: http.client.HTTPSConnection | None = None
        self._asked_at = 0.0
        self.warnings: list[str] = []
        """What the last answer warned of (RFC 7234 §5.5, as Kubernetes uses it)."""
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Start the API server and wait until it is ready."""
        folder = self.folder
        self._server = self._spawn(
            "kube-apiserver",
            [str(binary())],
            f"--etcd-servers=http://127.0.0.1:{self.etcd_port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self.port}",
            "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--tls-cert-file={folder}/server.crt",
            f"--tls-private-key-file={folder}/server.key",
            f"--client-ca-file={self.ca}",
            f"--token-auth-file={folder}/tokens.csv",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={folder}/accounts.key",
            f"--service-account-signing-key-file={folder}/accounts.key",
            "--authorization-mode=RBAC",
            # There is no controller to make the accounts that it requires of pods.
            "--disable-admission-plugins=ServiceAccount",
            "--watch-cache=true",
        )
        wait_until(self._is_ready, "the API server is ready", START_SECONDS)

    def stop(self) -> None:
        """End the API server at once; etcd keeps what was written."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None
        self._disconnect()

    def close(self) -> None:
        self.stop()
        self._etcd.kill()
        self._etcd.wait()

    def request(self, method: str, path: str, body: object = None, patch: str = "merge-patch") -> Document:
        """Make a request with every right; raise ApiError for a refusal."""
        kind = f"application/{patch}+json" if method == "PATCH" else "application/json"
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}", "Content-Type": kind}
        if time.monotonic() - self._asked_at > KEPT_SECONDS:
            self._disconnect()
        self._asked_at = time.monotonic()
        if self._connection is None:
            self._connection = http.client.HTTPSConnection(
                "127.0.0.1", self.port, context=self._context, timeout=WAIT_SECONDS
            )
        try:
            self._connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = self._connection.getresponse()
            content = answer.read()
            self.warnings = answer.headers.get_all("Warning") or []
        except (OSError, http.client.HTTPException):
            self._disconnect()
            raise
        if answer.status >= 300:
            raise ApiError(answer.status, content.decode(errors="replace")[:500])
        return json.loads(content) if content.startswith(b"{") else {}

    def create(self, path: str, body: Document) -> Document:
        return self.request("POST", path, body)

    def delete(self, path: str) -> None:
        self.request("DELETE", f"{path}?gracePeriodSeconds=0")

    def annotate(self, path: str, **annotations: str | None) -> None:
        """Set annotations below wirespan.io/; None removes one."""
        ours = {f"wirespan.io/{key.replace('_', '-')}": value for key, value in annotations.items()}
        self.request("PATCH", path, {"metadata": {"annotations": ours}})

    def create_namespace(self, name: str, **annotations: str) -> str:
        self.create("/api/v1/namespaces", {"metadata": {"name": name}})
        if annotations:
            self.annotate(f"/api/v1/namespaces/{name}", **annotations)
        return f"/api/v1/namespaces/{name}"

    def create_service_account(self, name: str) -> str:
        """Create an account without any rights and return a kubeconfig's path for it."""
        account = {"metadata": {"name": name}}
        self.create("/api/v1/namespaces/default/serviceaccounts", account)
        return self.account_kubeconfig(name)

    def account_kubeconfig(self, name: str, namespace: str = "default") -> str:
        """Return a kubeconfig's path for an account that there is."""
        token_file = self.folder / f"{name}.token"
        token_file.write_text(self.new_token(name, namespace))
        return self.write_kubeconfig(name, {"tokenFile": str(token_file)})

    def new_token(self, account: str, namespace: str = "default") -> str:
        """Return a fresh token of an account, as kubelet would ask for it."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        answer = self.create(path, {"spec": {"expirationSeconds": 3600}})
        return str(answer["status"]["token"])

    def grant(self, account: str, *rules: tuple[str, str, str]) -> str:
        """Grant an account (group, resources, verbs), and return the path of the role."""
        listed = [
            {"apiGroups": [group], "resources": resources.split(","), "verbs": verbs.split(",")}
            for group, resources, verbs in rules
        ]
        metadata = {"name": f"{account}-{len(rules)}-{abs(hash(rules))}"}
        base = "/apis/rbac.authorization.k8s.io/v1"
        self.create(f"{base}/clusterroles", {"metadata": metadata, "rules": listed})
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": metadata["name"]}
        subject = {"kind": "ServiceAccount", "name": account, "namespace": "default"}
        binding = {"metadata": metadata, "roleRef": role, "subjects": [subject]}
        self.create(f"{base}/clusterrolebindings", binding)
        return f"{base}/clusterroles/{metadata['name']}"

    def write_kubeconfig(self, name: str, user: Mapping[str, str], server: str | None = None) -> str:
        file = self.folder / f"{name}.kubeconfig"
        cluster = {"server": server or self.url, "certificate-authority": str(self.ca)}
        document = {
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": dict(user)}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }
        file.write_text(yaml.safe_dump(document))
        return str(file)

    def admin_kubeconfig(self) -> str:
        """Return a kubeconfig that authenticates by certificate."""
        files = {"client-certificate": "admin.crt", "client-key": "admin.key"}
        return self.write_kubeconfig("admin", {key: str(self.folder / file) for key, file in files.items()})

    def compact_etcd(self) -> None:
        """Have etcd forget every version but the present ones."""
        key = base64.b64encode(b"/").decode()
        revision = self._ask_etcd("range", {"key": key})["header"]["revision"]
        self._ask_etcd("compaction", {"revision": revision, "physical": True})

    def _ask_etcd(self, operation: str, body: Document) -> Document:
        connection = http.client.HTTPConnection("127.0.0.1", self.etcd_port, timeout=WAIT_SECONDS)
        with contextlib.closing(connection):
            connection.request("POST", f"/v3/kv/{operation}", json.dumps(body))
            answer: Document = json.loads(connection.getresponse().read())
        assert "header" in answer, answer
        return answer

    def _is_ready(self) -> bool:
        assert self._server is not None
        log = self.folder / "kube-apiserver.log"
        assert self._server.poll() is None, log.read_text(errors="replace")[-3000:]
        try:
            self.request("GET", "/readyz")
            # The namespace that Events on cluster objects go to is made shortly after.
            self.request("GET", "/api/v1/namespaces/default")
        except (OSError, http.client.HTTPException, ApiError):
            return False
        return True

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _spawn(self, name: str, command: list[str], *options: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen([*command, *options], stdout=log, stderr=log, cwd=self.folder)


def pod_document(
    name: str,
    *,
    node: str,
    containers: tuple[str, ...] = ("app",),
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    owner: Document | None = None,
    **spec: Any,
) -> Document:
    """Return a pod that is bound to a node already."""
    metadata: Document = {"name": name, "labels": dict(labels or {})}
    if annotations:
        metadata["annotations"] = {f"wirespan.io/{key}": value for key, value in annotations.items()}
    if owner:
        metadata["ownerReferences"] = [reference_to(owner)]
    listed = [{"name": each, "image": f"registry.test:5000/shop/{each}:1.2"} for each in containers]
    return {"metadata": metadata, "spec": {"nodeName": node, "containers": listed, **spec}}


def reference_to(owner: Document) -> Document:
    metadata = owner["metadata"]
    kind, version = owner["kind"], owner["apiVersion"]
    return {
        "apiVersion": version,
        "kind": kind,
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
    }


def status_document(ids: Mapping[str, str], ip: str | None = None, **further: Any) -> Document:
    """Return the status that kubelet would report of running containers."""
    status: Document = {
        "phase": "Running",
        "containerStatuses": [
            {
                "name": name,
                "containerID": f"containerd://{container_id}",
                "image": "",
                "imageID": "",
                "ready": True,
                "restartCount": 0,
                "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
            }
            for name, container_id in ids.items()
        ],
        **further,
    }
    if ip:
        status |= {"podIP": ip, "podIPs": [{"ip": ip}]}
    return {"status": status}


@contextlib.contextmanager
def running_api_server(folder: Path) -> Iterator[ApiServer]:
    server = ApiServer(folder)
    try:
        yield server
    finally:
        server.close()


def _make_keys(folder: Path) -> None:
    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=test-ca")
    signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-x509")
    openssl(
        *("req", *new_key, *signed, "-keyout", "server.key", "-out", "server.crt", "-subj", "/CN=server"),
        *("-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"),
    )
    openssl(
        *("req", *new_key, *signed, "-keyout", "admin.key", "-out", "admin.crt"),
        *("-subj", "/O=system:masters/CN=admin", "-addext", "extendedKeyUsage=clientAuth"),
    )
    openssl("genrsa", "-out", "accounts.key", "2048")


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as closing:
        sockets = [closing.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
