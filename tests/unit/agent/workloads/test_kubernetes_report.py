"""The report of what is captured of each pod."""

import json

from agent.workloads.kubernetes_report import PodLine, PodReport, format_json, format_text

LINE = PodLine(
    namespace="shop",
    pod="web",
    containers=("app", "proxy"),
    direction="ingress",
    ports=(80, 8080),
    bodies=False,
    rule="kubernetes.default is all",
)


def test_people_see_a_table_with_what_is_wrong_below() -> None:
    lines = format_text(PodReport(node="n", lines=(LINE,), notes=("an annotation",))).splitlines()
    assert lines[0] == "node n"
    assert lines[2].split() == ["POD", "CONTAINERS", "CAPTURED", "PORTS", "BODIES", "RULE"]
    assert lines[3].split(maxsplit=5) == [
        "shop/web",
        "app,proxy",
        "ingress",
        "80,8080",
        "no",
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
