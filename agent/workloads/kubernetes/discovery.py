"""Pods of this node, from the Kubernetes API, as a Discovery.

Owns which collections are followed and how their parts are put together: watches feed the state, the state
answers, what it lacks of owners is asked for on the side. Nothing here waits for the API but
`wait_until_known`: without it, what was last known stays in force.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Mapping
from typing import Any

from agent.workloads.kubernetes.api import NAMESPACES, PODS, SERVICES
from agent.workloads.kubernetes.client import KubernetesApi
from agent.workloads.kubernetes.cluster import STATES, ClusterState
from agent.workloads.kubernetes.collection_watch import CollectionConsumer, CollectionWatch, RetryPace
from agent.workloads.kubernetes.invalid_annotations import InvalidAnnotationReports
from agent.workloads.kubernetes.objects import parse_namespace, parse_pod, parse_service
from agent.workloads.kubernetes.options import KubernetesOptions
from agent.workloads.kubernetes.owners import OwnerChains
from agent.workloads.kubernetes.request_queue import RequestQueue
from agent.workloads.workload import ContainerReference, Finding

CLOSE_SECONDS = 2.0
"""Longest that closing waits for the threads, of the ten seconds that a stop has."""

log = logging.getLogger(__name__)


class KubernetesDiscovery:
    """Knows the containers of this node's pods. A Discovery."""

    def __init__(self, options: KubernetesOptions, pace: RetryPace | None = None) -> None:
        """Begin to look. Raises KubeconfigError; an API that doesn't answer is waited for."""
        pace = pace or RetryPace()
        self._options = options
        self._api = KubernetesApi(options.kubeconfig)
        self._requests = RequestQueue(self._api.journal, pace)
        owners = OwnerChains(self._api, self._requests, lambda uid: self._state.resolve_owner(uid))
        reports = InvalidAnnotationReports(self._api, self._requests, options.node)
        self._state = state = ClusterState(options, chain=owners.chain, report=reports.report)
        pods = CollectionConsumer(
            parse=functools.partial(parse_pod, exported_annotations=options.annotations),
            replace=state.replace_pods,
            put=state.put_pod,
            remove=state.remove_pod,
            deny=state.deny_pods,
        )
        namespaces = CollectionConsumer(
            parse=parse_namespace,
            replace=state.replace_namespaces,
            put=state.put_namespace,
            remove=state.remove_namespace,
            deny=state.deny_namespaces,
        )
        services = CollectionConsumer(
            parse=parse_service,
            replace=state.replace_services,
            put=state.put_service,
            remove=state.remove_service,
            deny=state.deny_services,
        )
        this_node = pods_of(options.node)
        self._watches: tuple[CollectionWatch[Any], ...] = (
            CollectionWatch(self._api, NAMESPACES, namespaces, pace=pace),
            CollectionWatch(self._api, PODS, pods, field_selector=this_node, pace=pace),
            CollectionWatch(self._api, SERVICES, services, pace=pace),
        )
        self._requests.start()
        for watch in self._watches:
            watch.start()

    @property
    def version(self) -> int:
        """Raised whenever some answer of `find` or `peer` may have changed."""
        return self._state.version

    @property
    def has_answered(self) -> bool:
        """Whether pods and namespaces were listed once, or may not be."""
        return self._state.has_namespaces.is_set() and self._state.has_pods.is_set()

    def wait_until_known(self, seconds: float) -> bool:
        """Wait until pods and namespaces were listed, or may not be; return whether that is so."""
        deadline = time.monotonic() + seconds
        known = self._state.has_namespaces.wait(seconds)
        known = self._state.has_pods.wait(max(0.0, deadline - time.monotonic())) and known
        count = self._state.counters()["known_pods"]
        if count:
            log.info("Kubernetes: %d pods on node %s", count, self._options.node)
        elif known:
            log.warning(
                "Kubernetes: no pods on node %s; `kubernetes.node` or NODE_NAME sets another name",
                self._options.node,
            )
        return known

    def find(self, reference: ContainerReference) -> Finding:
        """Return what is known of a container now; never waits."""
        return self._state.find(reference)

    def peer(self, address: str) -> Mapping[str, str]:
        """Return the pod or service that is known to have an IP address."""
        return self._state.peer(address)

    @property
    def states(self) -> frozenset[str]:
        """Those of the counters that go down as well."""
        return STATES

    def counters(self) -> dict[str, int]:
        """Return what was counted.

        Of the API, by kind of object: `requests_`, `received_bytes_`, `lists_`, `changes_`, `expired_`. Of
        trouble: `unreachable`, `cut_connections`, `denied`, `credentials_renewed`, `oversized_answers`,
        `refused_requests`, `abandoned_requests`, `forgotten_owners`, `bugs`. Of annotations:
        `invalid_annotations`, `events_created`, `events_not_created`, `forgotten_reports`. Of the state:
        `known_`, `retained`, `forgotten_early`, `refused_`, `attributes_left_out`. What was never counted
        is not there.
        """
        return self._state.counters() | self._api.journal.counters()

    def close(self) -> None:
        """Stop looking. Idempotent."""
        deadline = time.monotonic() + CLOSE_SECONDS
        # All get the request to end before the first is waited for.
        for watch in self._watches:
            watch.ask_to_stop()
        for watch in self._watches:
            watch.close(deadline)
        self._requests.close(deadline)
        self._api.close()


def pods_of(node: str) -> str:
    """Return the field selector for the pods of a node that have not ended: the API server sends no others.

    A node keeps what has ended for days, of CronJobs thousands; and nothing runs in it any more.
    """
    return f"spec.nodeName={node},status.phase!=Succeeded,status.phase!=Failed"
