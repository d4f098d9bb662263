"""Paths and names of kinds of objects."""

from agent.workloads.kubernetes.api import JOBS, PODS, REPLICA_SETS


def test_a_resource_has_paths() -> None:
    assert PODS.path() == "/api/v1/pods"
    assert PODS.path("shop", "web") == "/api/v1/namespaces/shop/pods/web"
    assert REPLICA_SETS.path("a/b", "c?d") == "/apis/apps/v1/namespaces/a%2Fb/replicasets/c%3Fd"


def test_a_resource_is_called_as_in_a_role() -> None:
    assert [str(each) for each in (PODS, REPLICA_SETS, JOBS)] == ["pods", "replicasets.apps", "jobs.batch"]
