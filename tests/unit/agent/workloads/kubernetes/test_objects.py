"""What is kept of the API's JSON, whole or odd."""

from typing import Any

import pytest

from agent.workloads.kubernetes.objects import (
    Container,
    Owner,
    image_name,
    parse_namespace,
    parse_owner,
    parse_pod,
    parse_service,
)

METADATA = {"uid": "u-1", "name": "web", "namespace": "shop"}


def test_a_pod_is_kept_as_far_as_it_matters() -> None:
    ended = {"terminated": {"containerID": "cri-o://old"}}
    pod = parse_pod(
        {
            "metadata": {
                **METADATA,
                "resourceVersion": "1",
                "labels": {"app": "web"},
                "annotations": {
                    "wirespan.io/capture": "true",
                    "team/owner": "a",
                    "team/note": "b",
                    "kubernetes.io/config.hash": "h",
                },
                "ownerReferences": [{"kind": "Job", "name": "j", "uid": "u-2", "controller": True}],
            },
            "spec": {
                "nodeName": "n",
                "containers": [{"name": "app", "image": "shop/app:1"}, {"name": "late"}],
                "initContainers": [{"name": "setup", "image": "busybox"}],
                "ephemeralContainers": [{"name": "debug", "image": "busybox"}],
            },
            "status": {
                "podIP": "10.0.0.1",
                "podIPs": [{"ip": "10.0.0.1"}, {"ip": "FD00:0::1"}],
                "containerStatuses": [
                    {
                        "name": "app",
                        "containerID": "containerd://new",
                        "state": {"running": {}},
                        "lastState": ended,
                    },
                    {"name": "unheard-of", "containerID": "containerd://x"},
                ],
                "initContainerStatuses": [
                    {
                        "name": "setup",
                        "containerID": "docker://init",
                        "state": {"terminated": {"containerID": "docker://init"}},
                    }
                ],
                "ephemeralContainerStatuses": [{"name": "debug", "containerID": "docker://eph"}],
            },
        },
        ("team/o*",),
    )
    assert pod is not None
    assert pod.containers == (
        Container("app", "shop/app:1", ("new", "old")),
        Container("late", None),
        Container("setup", "busybox", ("init",)),
        Container("debug", "busybox", ("eph",)),
    )
    assert pod.annotations == {"wirespan.io/capture": "true", "team/owner": "a"}
    assert pod.owner == Owner("Job", "j", "u-2")
    assert pod.addresses == ("10.0.0.1", "fd00::1")
    assert (pod.node, pod.static_uid) == ("n", "h")


@pytest.mark.parametrize(
    ("spec", "status"),
    [
        ({"hostNetwork": True}, {"podIP": "10.0.0.1"}),
        ({}, {"podIP": "10.0.0.1", "phase": "Succeeded"}),
        ({}, {"podIP": "10.0.0.1", "phase": "Failed"}),
        ({}, {"podIP": ""}),
        ({}, {}),
    ],
)
def test_an_address_that_is_not_the_pods_own_is_not_kept(spec: Any, status: Any) -> None:
    pod = parse_pod({"metadata": METADATA, "spec": spec, "status": status})
    assert pod is not None
    assert pod.addresses == ()


ODD: list[Any] = [None, 5, "text", [], {}, [5], {"a": 5}]


@pytest.mark.parametrize("odd", ODD)
def test_odd_json_is_no_exception(odd: Any) -> None:
    for parse in (parse_pod, parse_namespace, parse_service):
        assert parse({"metadata": odd}) is None
    whole = {
        "metadata": {**METADATA, "labels": odd, "annotations": odd, "ownerReferences": odd},
        "spec": {"containers": odd, "nodeName": odd, "clusterIPs": odd},
        "status": {"containerStatuses": odd, "podIPs": odd, "podIP": odd},
    }
    assert parse_pod(whole) is not None
    assert parse_service(whole) is not None
    named = {"containers": [{"name": "app", "image": odd}]}
    statuses = [{"name": "app", "containerID": odd, "state": odd, "lastState": {"terminated": odd}}]
    pod = parse_pod({"metadata": METADATA, "spec": named, "status": {"containerStatuses": statuses}})
    assert pod is not None
    assert pod.containers[0].name == "app"
    assert parse_pod({"metadata": METADATA, "spec": odd, "status": odd}) is not None


def test_a_namespace_keeps_our_annotations() -> None:
    namespace = parse_namespace({"metadata": {**METADATA, "annotations": {"wirespan.io/x": "1", "y": "2"}}})
    assert namespace is not None
    assert (namespace.name, namespace.annotations) == ("web", {"wirespan.io/x": "1"})


@pytest.mark.parametrize(
    ("spec", "addresses"),
    [
        ({"clusterIPs": ["10.96.0.1", "fd00::1"], "clusterIP": "10.96.0.1"}, ("10.96.0.1", "fd00::1")),
        ({"clusterIP": "10.96.0.1"}, ("10.96.0.1",)),
        ({"clusterIP": "None", "clusterIPs": ["None"]}, ()),
        ({"externalName": "example.com"}, ()),
    ],
)
def test_a_service_keeps_its_addresses(spec: Any, addresses: tuple[str, ...]) -> None:
    service = parse_service({"metadata": METADATA, "spec": spec})
    assert service is not None
    assert service.addresses == addresses


def test_only_a_controller_is_an_owner() -> None:
    friend = {"kind": "Node", "name": "n", "uid": "1"}
    assert parse_owner({"metadata": {"ownerReferences": [friend]}}) is None
    controller = {"kind": "DaemonSet", "name": "d", "uid": "2", "controller": True}
    assert parse_owner({"metadata": {"ownerReferences": [friend, controller]}}) == Owner(
        "DaemonSet", "d", "2"
    )


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("nginx", "nginx"),
        ("nginx:1.27", "nginx"),
        ("registry:5000/shop/cart", "registry:5000/shop/cart"),
        ("registry:5000/shop/cart:1.2", "registry:5000/shop/cart"),
        ("shop/cart:1.2@sha256:abc", "shop/cart"),
        ("shop/cart@sha256:abc", "shop/cart"),
    ],
)
def test_an_image_goes_by_its_name_alone(image: str, name: str) -> None:
    assert image_name(image) == name
