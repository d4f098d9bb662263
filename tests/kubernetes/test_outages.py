"""An API server that goes away, comes back, forgets, and closes connections."""

import contextlib
import threading
from collections.abc import Callable, Iterator

import pytest

from agent.workloads.kubernetes.capture_rules import CaptureDefault, CaptureRules
from agent.workloads.workload import Absence
from ebpf.events import Policy
from tests.kubernetes.api_server import ApiServer, wait_until
from tests.kubernetes.conftest import Discovered, Site
from tests.kubernetes.relay import Relay

pytestmark = pytest.mark.kubernetes

KEYS = {"client-certificate": "crt", "client-key": "key"}
OWN_THREADS = ("watch-", "kubernetes-")
NONE = CaptureRules(default=CaptureDefault.NONE)


@pytest.fixture
def relay(api_server: ApiServer) -> Iterator[Relay]:
    with contextlib.closing(Relay(api_server.port)) as opened:
        yield opened


def behind(relay: Relay, api_server: ApiServer) -> str:
    """Return a kubeconfig that goes through a relay."""
    files = {key: str(api_server.folder / f"admin.{end}") for key, end in KEYS.items()}
    return api_server.write_kubeconfig("relayed", files, f"https://127.0.0.1:{relay.port}")


def test_while_the_server_is_away_the_last_known_state_holds(
    api_server: ApiServer,
    site: Site,
    discover: Callable[..., Discovered],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "agent.workloads.kubernetes.journal")
    site.run_pod("web", annotations={"capture": "true"}, ip="10.9.0.1")
    discovered = discover(rules=NONE)
    known = discovered.until("web", lambda each: each.is_resolved)
    # etcd moves on, so that the server's next life begins later than the watches of the last one ended
    api_server.create_namespace(f"{site.namespace}-other")
    api_server.stop()
    try:
        api_server.compact_etcd()
        wait_until(lambda: discovered.counter("unreachable") >= 20)
        assert discovered.workload("web") == known
        assert discovered.discovery.peer("10.9.0.1")
    finally:
        api_server.start()
    api_server.annotate(site.pod_path("web"), direction="ingress")
    changed = discovered.until(
        "web", lambda each: each.decision is not None and each.decision.roles == Policy.CAPTURE_INGRESS
    )
    assert changed.container_id == known.container_id
    # the versions that it knew are too old for the server's new cache
    assert discovered.counter("expired_pods") >= 1
    assert discovered.counter("lists_pods") >= 2
    wait_until(lambda: any("reachable again" in each for each in caplog.messages))
    assert len([each for each in caplog.messages if "last known state stays in force" in each]) == 1
    assert len([each for each in caplog.messages if "reachable again" in each]) == 1


def test_pods_that_end_while_nobody_watches_are_missed_afterwards(
    api_server: ApiServer, site: Site, relay: Relay, discover: Callable[..., Discovered]
) -> None:
    site.run_pod("stays")
    site.run_pod("goes")
    discovered = discover(kubeconfig=behind(relay, api_server))
    assert discovered.counter("known_pods") == 2
    relay.close()
    wait_until(lambda: discovered.counter("unreachable") >= 3)
    api_server.delete(site.pod_path("goes"))
    site.run_pod("comes")
    api_server.compact_etcd()
    # the same address again: the agent finds its way back by itself
    with contextlib.closing(Relay(api_server.port, listen=relay.port)):
        discovered.until("comes", lambda each: each.is_resolved)
        wait_until(lambda: discovered.counter("known_pods") == 2)
        assert discovered.workload("stays")


def test_a_connection_that_is_cut_is_resumed_where_it_was(
    api_server: ApiServer, site: Site, relay: Relay, discover: Callable[..., Discovered]
) -> None:
    site.run_pod("web")
    discovered = discover(rules=NONE, kubeconfig=behind(relay, api_server))
    for direction, roles in (("ingress", Policy.CAPTURE_INGRESS), ("egress", Policy.CAPTURE_EGRESS)):
        requests = discovered.counter("requests_pods")
        # again and again: a connection may be on its way when the others are cut
        wait_until(
            lambda requests=requests: relay.cut() or discovered.counter("requests_pods") > requests + 1
        )
        api_server.annotate(site.pod_path("web"), capture="true", direction=direction)
        discovered.until(
            "web", lambda each, roles=roles: each.decision is not None and each.decision.roles == roles
        )
    assert discovered.counter("lists_pods") == 1


def test_a_server_that_was_never_there_is_waited_for_and_closing_is_prompt(
    api_server: ApiServer, site: Site, relay: Relay, discover: Callable[..., Discovered]
) -> None:
    from agent.workloads.kubernetes.discovery import KubernetesDiscovery
    from agent.workloads.kubernetes.options import KubernetesOptions
    from tests.kubernetes.conftest import PACE

    site.run_pod("web")
    kubeconfig = behind(relay, api_server)
    relay.close()
    discovery = KubernetesDiscovery(KubernetesOptions(node=site.node, kubeconfig=kubeconfig), PACE)
    with contextlib.closing(discovery):
        assert not discovery.wait_until_known(0.2)
        assert discovery.find(site.reference("web")) is Absence.PENDING
        with contextlib.closing(Relay(api_server.port, listen=relay.port)):
            assert discovery.wait_until_known(30)
            assert discovery.find(site.reference("web")) is not Absence.PENDING
            discovery.close()
            assert not [each for each in threading.enumerate() if each.name.startswith(OWN_THREADS)]
