"""The installed command told by a real API server what to capture; the pods' processes are real, too."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ebpf.events import Policy
from tests.e2e.conftest import CLIENT, SERVER, ExportedSpan, curl, read_spans
from tests.kept_load import CONNECTIONS, KeptLoad
from tests.kubernetes.api_server import ApiServer
from tests.kubernetes.conftest import Site
from tests.nginx import running_nginx
from tests.pod_cgroup import PodCgroup, pod_cgroup
from tests.policy_map import KernelPolicy, policies_of, wait_for_policies
from tests.running_agent import Agent

pytestmark = [pytest.mark.kubernetes, pytest.mark.e2e]

StartAgent = Callable[..., Agent]
INGRESS, EGRESS = Policy.CAPTURE_INGRESS, Policy.CAPTURE_EGRESS
REQUESTS_BEFORE, REQUESTS_AFTER = 211, 199
# Answers one request by a child that has ended before the agent could look at it.
FORKING_SERVER = """
import os, socket, sys
with socket.create_server(("127.0.0.1", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        with connection:
            if os.fork() == 0:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
                os._exit(0)
        os.wait()
"""


class PodServer:
    """A server in the cgroup of a pod's container."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self.pid = process.pid
        self.port = int(process.stdout.readline())

    def ask(self, path: str) -> None:
        curl(f"http://127.0.0.1:{self.port}{path}")


@pytest.fixture
def serve(site: Site) -> Iterator[Callable[..., PodServer]]:
    """Start a server in a container of a pod that exists, or of none."""
    with contextlib.ExitStack() as closing:

        def start(pod: str, container: str = "app", *, uid: str, program: str = "") -> PodServer:
            cgroup: PodCgroup = closing.enter_context(pod_cgroup(uid, site.container_id(pod, container)))
            command = [sys.executable, "-m", "tests.e2e.servers.threaded_server", "127.0.0.1"]
            if program:
                command = [sys.executable, "-c", program]
            process = closing.enter_context(cgroup.start(*command, stdout=subprocess.PIPE))
            closing.callback(process.kill)
            return PodServer(process)

        yield start


def environment(site: Site, **settings: str) -> dict[str, str]:
    return {
        **os.environ,
        "NODE_NAME": site.node,
        "WIRESPAN_KUBERNETES_KUBECONFIG": site.server.admin_kubeconfig(),
        **{f"WIRESPAN_KUBERNETES_{key.upper()}": value for key, value in settings.items()},
    }


def roles_in(found: dict[int, KernelPolicy]) -> dict[int, Policy]:
    return {tgid: policy.roles for tgid, policy in found.items() if policy.roles}


def test_annotations_decide_while_it_runs(
    agent: StartAgent,
    api_server: ApiServer,
    site: Site,
    serve: Callable[..., PodServer],
    tmp_path: Path,
) -> None:
    spans_file = tmp_path / "spans.jsonl"
    servers = {}
    for name in ("one", "two"):
        uid = site.run_pod(name, annotations={"bodies": "true"})["metadata"]["uid"]
        servers[name] = serve(name, uid=uid)
    running = agent(
        *("run", "--kubernetes", "--no-bodies", "--spans-file", str(spans_file)),
        env=environment(site, default="none"),
    )
    expected = []

    def step(number: int, **captured: Policy) -> None:
        """Wait until the kernel captures these pods in these roles, ask all, and note what must come."""
        by_pid = {servers[name].pid: roles for name, roles in captured.items()}
        wait_for_policies(running.process.pid, lambda found: roles_in(found) == by_pid)
        for name, server in servers.items():
            server.ask(f"/{number}/{name}")
            if captured.get(name, Policy.IGNORE) & INGRESS:
                expected.append((name, f"/{number}/{name}"))

    step(0)
    api_server.annotate(site.pod_path("one"), capture="true")
    step(1, one=INGRESS | EGRESS)
    api_server.annotate(site.path, capture="true", direction="ingress")
    step(2, one=INGRESS, two=INGRESS)
    api_server.annotate(site.pod_path("two"), capture="false")
    step(3, one=INGRESS)
    api_server.annotate(site.pod_path("two"), capture=None, direction="egress")
    step(4, one=INGRESS, two=EGRESS)
    api_server.annotate(site.pod_path("one"), direction="both", ports=f"{servers['one'].port},9")
    step(5, one=INGRESS | EGRESS, two=EGRESS)
    assert policies_of(running.process.pid)[servers["one"].pid].has_ports
    api_server.annotate(site.pod_path("one"), ports="9")
    wait_for_policies(running.process.pid, lambda found: not any(each.finishing for each in found.values()))
    servers["one"].ask("/other-port")
    api_server.annotate(site.pod_path("one"), ports=None, bodies="false", service_name="checkout")
    wait_for_policies(running.process.pid, lambda found: not found[servers["one"].pid].has_ports)
    step(6, one=INGRESS | EGRESS, two=EGRESS)
    api_server.annotate(site.path, capture=None, direction=None)
    api_server.annotate(site.pod_path("one"), capture=None)
    step(7)
    running.stop()

    spans = read_spans(spans_file)
    assert {span.kind for span in spans} == {SERVER}
    assert [(span.resource["k8s.pod.name"], span.attributes["url.path"]) for span in spans] == expected
    *earlier, last = spans
    assert last.resource["service.name"] == "checkout"
    assert "http.response.body.content" not in last.attributes
    assert last.attributes["http.response.body.size"] > 0
    for span in earlier:
        assert (
            span.attributes["http.response.body.content"] == f"you asked for {span.attributes['url.path']}\n"
        )
        assert "wirespan.incomplete" not in span.attributes


def test_identity_holds_for_two_containers_short_lives_and_a_pod_that_is_replaced(
    agent: StartAgent,
    api_server: ApiServer,
    site: Site,
    serve: Callable[..., PodServer],
    tmp_path: Path,
) -> None:
    spans_file = tmp_path / "spans.jsonl"
    running = agent("run", "--kubernetes", "--spans-file", str(spans_file), env=environment(site))
    # The container runs before the API server is told of it, as always with kubelet.
    uid = site.create_pod("shop", containers=("app", "proxy", "brief"))["metadata"]["uid"]
    for container in ("app", "proxy"):
        serve("shop", container, uid=uid).ask(f"/{container}")
    brief = serve("shop", "brief", uid=uid, program=FORKING_SERVER)
    for _ in range(5):
        brief.ask("/brief")
    site.report_running("shop", "app", "proxy", "brief")
    # Its successor has the same name, and is another pod.
    api_server.delete(site.pod_path("shop"))
    successor = site.run_pod("shop", containers=("other",))["metadata"]["uid"]
    serve("shop", "other", uid=successor).ask("/other")
    # A container without a known pod is captured provisionally, and then not exported.
    serve("unknown", uid="11111111-2222-3333-4444-555555555555").ask("/unknown")
    running.stop()
    spans = [span for span in read_spans(spans_file) if span.kind == SERVER]
    assert Counter(
        (span.attributes["url.path"], span.resource["k8s.container.name"], span.resource["k8s.pod.uid"])
        for span in spans
    ) == Counter(
        {
            ("/app", "app", uid): 1,
            ("/proxy", "proxy", uid): 1,
            ("/brief", "brief", uid): 5,
            ("/other", "other", successor): 1,
        }
    )
    for span in spans:
        container = span.resource["k8s.container.name"]
        assert span.resource["container.id"] == site.container_id("shop", container)
        assert span.resource["k8s.namespace.name"] == site.namespace
        assert span.resource["service.name"] == "shop"


def test_the_last_known_state_stays_in_force_while_the_api_server_is_away(
    agent: StartAgent,
    api_server: ApiServer,
    site: Site,
    serve: Callable[..., PodServer],
    tmp_path: Path,
) -> None:
    spans_file = tmp_path / "spans.jsonl"
    uid = site.run_pod("one")["metadata"]["uid"]
    server = serve("one", uid=uid)
    running = agent("run", "--kubernetes", "--spans-file", str(spans_file), env=environment(site))
    try:
        api_server.stop()
        server.ask("/meanwhile")
        assert roles_in(policies_of(running.process.pid)) == {server.pid: INGRESS | EGRESS}
    finally:
        api_server.start()
    api_server.annotate(site.pod_path("one"), capture="false")
    wait_for_policies(running.process.pid, lambda found: not roles_in(found))
    server.ask("/after")
    running.stop()
    assert [span.attributes["url.path"] for span in read_spans(spans_file)] == ["/meanwhile"]


def numbers(spans: list[ExportedSpan], key: str) -> dict[int, list[int]]:
    """Return the requests of each connection that spans with a request and a response are of, in order."""
    found = defaultdict(list)
    for span in spans:
        if key in span.attributes and "http.response.status_code" in span.attributes:
            _, connection, number = span.attributes[key].rsplit("/", 2)
            found[int(connection)].append(int(number))
    return found


def test_a_change_of_direction_under_load_loses_and_doubles_nothing(
    agent: StartAgent,
    api_server: ApiServer,
    site: Site,
    tmp_path: Path,
) -> None:
    spans_file = tmp_path / "spans.jsonl"
    folder = tmp_path / "nginx"
    folder.mkdir(mode=0o777)
    created = site.run_pod("gateway", annotations={"direction": "ingress"})
    with contextlib.ExitStack() as closing:
        command = [sys.executable, "-m", "tests.e2e.servers.threaded_server", "127.0.0.1"]
        upstream = closing.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
        closing.callback(upstream.kill)
        assert upstream.stdout is not None
        server = f"127.0.0.1:{int(upstream.stdout.readline())}"
        cgroup = closing.enter_context(pod_cgroup(created["metadata"]["uid"], site.container_id("gateway")))
        kept = closing.enter_context(
            running_nginx(
                folder,
                "location / { proxy_pass http://api; proxy_http_version 1.1;"
                ' proxy_set_header Connection ""; }',
                upstreams=f"upstream api {{ server {server}; keepalive {CONNECTIONS}; }}",
                start=cgroup.start,
            )
        )
        running = agent("run", "--kubernetes", "--spans-file", str(spans_file), env=environment(site))
        load = KeptLoad(kept)
        closing.callback(load.end)
        load.wait_for(REQUESTS_BEFORE)
        api_server.annotate(site.pod_path("gateway"), direction="egress")
        wait_for_policies(
            running.process.pid,
            lambda found: set(roles_in(found).values()) == {EGRESS},
        )
        load.wait_for(REQUESTS_AFTER)
        load.end()
        assert load.failures == []
        running.stop()
    spans = read_spans(spans_file)
    served = numbers([span for span in spans if span.kind == SERVER], "url.path")
    asked = numbers([span for span in spans if span.kind == CLIENT], "url.full")
    for connection, total in load.sent.items():
        before, after = served[connection], asked[connection]
        assert len(before) >= REQUESTS_BEFORE
        assert len(after) >= REQUESTS_AFTER
        assert before == list(range(len(before))), "each one before the change, once"
        assert after == list(range(total - len(after), total)), "each one after it, once"
        # The one in flight at the change is served before it, and may be passed on before or after it.
        assert after[0] - before[-1] in (0, 1), (before[-3:], after[:3])
    # Of what was in flight, the response alone is captured, once for each connection to the server behind.
    # As long as such a connection is never quiet, the order on it is not proven, and its spans say so.
    for span in spans:
        reason = span.attributes.get("wirespan.incomplete")
        assert reason in ((None,) if span.kind == SERVER else (None, "joined_late"))
    responses_alone = [span for span in spans if span.kind == CLIENT and "url.full" not in span.attributes]
    assert len(responses_alone) <= CONNECTIONS
