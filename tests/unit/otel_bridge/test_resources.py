from __future__ import annotations

import dataclasses
import socket

import pytest

from ebpf.events import ProcessFacts
from otel_bridge.resources import UNKNOWN_SERVICE, ResourceBuilder
from otel_bridge.scope import scope_version

FACTS = ProcessFacts(1, 42, 1_790_000_000_000_000_000, "/usr/sbin/nginx", ("nginx", "--token=abc"), None)


def test_a_process_in_full() -> None:
    attributes = dict(ResourceBuilder({}).build(FACTS).attributes)
    assert len(str(attributes.pop("service.instance.id"))) == 36
    assert attributes.pop("telemetry.sdk.version")
    assert attributes == {
        "service.name": "nginx",
        "process.pid": 42,
        "process.executable.name": "nginx",
        "process.executable.path": "/usr/sbin/nginx",
        "process.command_line": "nginx --token=REDACTED",
        "host.name": socket.gethostname(),
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "opentelemetry",
        "telemetry.distro.name": "wirespan",
        "telemetry.distro.version": scope_version(),
    }


def test_a_service_goes_by_its_own_word_first() -> None:
    named = ProcessFacts(1, 42, None, "/usr/bin/python3", (), "shop")
    unknown = ProcessFacts(1, 0, None, None, (), None)
    builder = ResourceBuilder({})
    assert builder.build(named).service_name == "shop"
    assert "service.instance.id" not in builder.build(named).attributes
    assert builder.build(unknown).service_name == UNKNOWN_SERVICE
    assert (
        not {"process.pid", "process.executable.path", "process.command_line"}
        & builder.build(unknown).attributes.keys()
    )


@pytest.mark.parametrize(
    ("workload", "declared", "name"),
    [
        ({"service.name": "annotated", "k8s.deployment.name": "d"}, "declared", "annotated"),
        ({"k8s.deployment.name": "d", "k8s.replicaset.name": "d-1"}, "declared", "declared"),
        ({"k8s.pod.name": "d-1-x", "k8s.replicaset.name": "d-1", "k8s.deployment.name": "d"}, None, "d"),
        ({"k8s.pod.name": "s-0", "k8s.statefulset.name": "s"}, None, "s"),
        ({"k8s.pod.name": "c-1-x", "k8s.job.name": "c-1", "k8s.cronjob.name": "c"}, None, "c"),
        ({"k8s.pod.name": "bare", "k8s.container.name": "app"}, None, "bare"),
        ({"container.name": "shop"}, None, "shop"),
        ({"container.name": "x_shop_1", "container.label.com.docker.compose.service": "shop"}, None, "shop"),
        ({"container.id": "1234"}, None, "nginx"),
    ],
)
def test_a_service_goes_by_annotation_own_word_workload_container_program(
    workload: dict[str, str], declared: str | None, name: str
) -> None:
    facts = dataclasses.replace(FACTS, service_name=declared, workload=workload)
    attributes = ResourceBuilder({}).build(facts).attributes
    assert attributes["service.name"] == name
    assert all(attributes[key] == value for key, value in workload.items() if key != "service.name")


def test_labels_and_annotations_lose_their_secrets() -> None:
    workload = {
        "container.label.com.example.db-password": "hunter2",
        "k8s.pod.annotation.example.com/config": '{"token": "abc", "colour": "red"}',
        "k8s.pod.label.app": "token-service",
        "k8s.pod.name": "session-1",
    }
    attributes = ResourceBuilder({}).build(dataclasses.replace(FACTS, workload=workload)).attributes
    assert attributes["container.label.com.example.db-password"] == "REDACTED"
    assert attributes["k8s.pod.annotation.example.com/config"] == '{"token": "REDACTED", "colour": "red"}'
    assert attributes["k8s.pod.label.app"] == "token-service"
    assert attributes["k8s.pod.name"] == "session-1", "a name is no credential"
    unredacted = ResourceBuilder({}, redactor=None).build(dataclasses.replace(FACTS, workload=workload))
    assert unredacted.attributes["container.label.com.example.db-password"] == "hunter2"


def test_what_is_known_of_a_pod_wins_over_the_agents_environment() -> None:
    facts = dataclasses.replace(FACTS, workload={"k8s.node.name": "node-2"})
    builder = ResourceBuilder({"k8s.node.name": "node-1"})
    assert builder.build(facts).attributes["k8s.node.name"] == "node-2"


def test_an_instance_is_a_process_not_a_number() -> None:
    builder = ResourceBuilder({})
    ids = [
        builder.build(ProcessFacts(1, tgid, start, None, (), None)).attributes["service.instance.id"]
        for tgid, start in ((1, 10), (1, 10), (1, 11), (2, 10))
    ]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


def test_attributes_of_the_host_win_over_what_it_says_of_itself() -> None:
    attributes = ResourceBuilder({"host.name": "node 1", "cloud.region": "eu"}).build(FACTS).attributes
    assert attributes["host.name"] == "node 1"
    assert attributes["cloud.region"] == "eu"
    assert attributes["service.name"] == "nginx"


def test_names_that_are_no_text_can_be_encoded() -> None:
    odd = ProcessFacts(1, 42, None, "/opt/caf\udce9", ("caf\udce9",), "s\udce9")
    for value in ResourceBuilder({}, redactor=None).build(odd).attributes.values():
        str(value).encode()
