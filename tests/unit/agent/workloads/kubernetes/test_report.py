"""The report of what is captured of each pod."""

import json
from typing import Any

from agent.workloads.kubernetes.options import KubernetesOptions
from agent.workloads.kubernetes.report import PodLine, PodReport, ask, format_json, format_text, report
from tests.unit.agent.workloads.kubernetes.conftest import ScriptedApi

LINE = PodLine(
    namespace="shop",
    pod="web",
    containers=("app", "proxy"),
    direction="ingress",
    ports=(80, 8080),
    bodies=False,
    tls=True,
    rule="kubernetes.default is all",
)


def test_people_see_a_table_with_what_is_wrong_below() -> None:
    lines = format_text(PodReport(node="n", lines=(LINE,), notes=("an annotation",))).splitlines()
    assert lines[0] == "node n"
    assert lines[2].split() == ["POD", "CONTAINERS", "CAPTURED", "PORTS", "BODIES", "TLS", "RULE"]
    assert lines[3].split(maxsplit=6) == [
        "shop/web",
        "app,proxy",
        "ingress",
        "80,8080",
        "no",
        "yes",
        "kubernetes.default is all",
    ]
    assert lines[4:] == ["", "an annotation"]
    assert lines[2].index("RULE") == lines[3].index("kubernetes.default")


def test_a_node_without_pods_says_how_a_node_is_named() -> None:
    text = format_text(PodReport(node="n", lines=(), notes=("a note",)))
    assert text.startswith("no pods on node n;")
    assert "NODE_NAME" in text
    assert text.endswith("\na note")


def test_programs_see_the_same_as_json() -> None:
    document = json.loads(format_json(PodReport(node="n", lines=(LINE,), notes=())))
    assert document["node"] == "n"
    (pod,) = document["pods"]
    assert pod["containers"] == ["app", "proxy"]
    assert (pod["direction"], pod["ports"], pod["bodies"]) == ("ingress", [80, 8080], False)


def pod(name: str, *containers: str, **annotations: str) -> dict[str, Any]:
    ours = {f"wirespan.io/{key}": value for key, value in annotations.items()}
    return {
        "metadata": {"uid": name, "name": name, "namespace": "shop", "annotations": ours},
        "spec": {"containers": [{"name": each} for each in containers]},
    }


def test_containers_that_fare_alike_share_a_line(scripted: ScriptedApi) -> None:
    namespace = {"metadata": {"uid": "n", "name": "shop", "annotations": {"wirespan.io/bodies": "false"}}}
    scripted.say({"items": [pod("b", "x", "y", "z", containers="x,z", ports="80"), pod("a", "x", ports="?")]})
    scripted.say({"items": [namespace]})
    found = ask(KubernetesOptions(node="n", kubeconfig=scripted.kubeconfig()))
    assert [(line.pod, line.containers, line.direction) for line in found.lines] == [
        ("a", ("x",), "both"),
        ("b", ("x", "z"), "both"),
        ("b", ("y",), "none"),
    ]
    assert found.lines[1].ports == (80,)
    assert not found.lines[0].bodies
    (note,) = found.notes
    assert note.startswith("pod shop/a: annotation wirespan.io/ports: '?'")
    assert scripted.requests[0].query["fieldSelector"].startswith("spec.nodeName=n,")


def test_namespaces_that_may_not_be_read_are_a_note(scripted: ScriptedApi) -> None:
    scripted.say({"items": [pod("a", "x")]})
    scripted.say({"message": "no"}, status=403)
    text = report(KubernetesOptions(node="n", kubeconfig=scripted.kubeconfig()), "text")
    assert "annotations of namespaces are not heeded: not allowed to list namespaces (403: no)" in text
    assert "kubernetes.default is all" in text
