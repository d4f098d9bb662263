"""What the chart makes of values, as its readers see it: reviewers, and the agent."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.config import Configuration
from agent.config_sources import load_configuration
from tests.chart import rendered
from tests.chart.helm_command import (
    CHART,
    ROOT,
    VALUE_FILES,
    VALUES,
    Document,
    documents,
    from_file,
    helm,
    one,
    render,
)

pytestmark = pytest.mark.chart
every_example = pytest.mark.parametrize("file", VALUE_FILES.values(), ids=VALUE_FILES)


def container(objects: list[Document]) -> Document:
    (only,) = one(objects, "DaemonSet")["spec"]["template"]["spec"]["containers"]
    found: Document = only
    return found


def configuration_file(objects: list[Document]) -> str:
    text: str = one(objects, "ConfigMap")["data"]["wirespan.yaml"]
    return text


@every_example
def test_lint_has_nothing_to_say(file: Path | None) -> None:
    helm("lint", "--strict", str(CHART), *from_file(file))


def test_what_is_made_of_the_chart_is_current() -> None:
    stale = [str(path) for path, content in rendered.files().items() if path.read_text() != content]
    assert stale == [], "`make chart` renews them"


def test_the_chart_deploys_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == version
    assert container(documents(render()))["image"] == f"wirespan:{version}"


def test_the_manifest_without_helm_is_what_helm_installs() -> None:
    namespace, *objects = documents(rendered.MANIFEST.read_text())
    assert namespace["metadata"]["name"] == "wirespan"
    expected = documents(render(VALUES / "manifest.yaml"))
    for each in expected:
        for label in ("helm.sh/chart", "app.kubernetes.io/managed-by"):
            del each["metadata"]["labels"][label]
    del one(expected, "DaemonSet")["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
    assert objects == expected


def test_every_value_is_documented() -> None:
    documented: dict[int, bool] = {}
    comment = ""
    for line in (CHART / "values.yaml").read_text().splitlines():
        if line.lstrip().startswith("#"):
            comment += line
            continue
        if key := re.match(r"( *)([\w./]+):(.*)", line):
            depth = len(key[1])
            documented = {at: done for at, done in documented.items() if at < depth}
            documented[depth] = "# -- " in comment or any(documented.values())
            assert documented[depth] or not key[3], f"{key[2]} has no comment with `# --`"
        comment = ""


def test_the_schema_is_closed() -> None:
    """Wherever keys are known: what is passed on as it stands is judged by the API server."""

    def open_objects(schema: Any, path: str = "") -> Iterator[str]:
        if isinstance(schema, dict):
            if "properties" in schema and schema.get("additionalProperties") is not False:
                yield path
            for key, each in schema.items():
                yield from open_objects(each, f"{path}/{key}")

    schema = json.loads(rendered.SCHEMA.read_text())
    assert list(open_objects(schema)) == []
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(schema["properties"]) == {*values, "global"}


@every_example
def test_the_agent_accepts_its_configuration(file: Path | None, tmp_path: Path) -> None:
    objects = documents(render(file))
    path = tmp_path / "wirespan.yaml"
    path.write_text(configuration_file(objects))
    loaded = load_configuration({}, {}, path)
    assert loaded.kubernetes.enabled
    assert loaded.agent.health_listen is not None
    (port,) = container(objects)["ports"]
    assert loaded.agent.health_listen.port == port["containerPort"]
    spec = one(objects, "DaemonSet")["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] >= loaded.agent.shutdown_timeout + 5


@every_example
def test_nothing_of_the_users_configuration_is_changed(file: Path | None) -> None:
    given = yaml.safe_load(file.read_text())["config"] if file else {}
    found = yaml.safe_load(configuration_file(documents(render(file))))
    for section, keys in given.items():
        assert {key: found[section][key] for key in keys} == keys


def test_what_is_false_or_empty_is_said_too() -> None:
    given = {
        "agent": {"log_format": "text"},
        "capture": {"ports": []},
        "content": {"bodies": False, "max_body": 0},
        "kubernetes": {"enabled": True, "namespaces": [], "cluster_name": ""},
        "otlp": {"endpoint": "collector:4317", "insecure": False, "headers": {}},
    }
    tls = {"existingSecret": "pki", "ca": "ca.crt"}
    found = yaml.safe_load(
        configuration_file(documents(render(values={"config": given, "otlp": {"tls": tls}})))
    )
    for section, keys in given.items():
        assert {key: found[section][key] for key in keys} == keys


def test_values_that_yaml_would_take_for_something_else_stay_what_they_are(tmp_path: Path) -> None:
    names = ["on", "12:30:45", "0x10", "1_000", "null", "~", "1e3", "2026-01-01", "a: b", "- c", "# d", "é"]
    values = {"config": {"redaction": {"names": names}, "kubernetes": {"cluster_name": "0o17"}}}
    path = tmp_path / "wirespan.yaml"
    path.write_text(configuration_file(documents(render(values=values))))
    loaded = load_configuration({}, {}, path)
    assert list(loaded.redaction.names) == names
    assert loaded.kubernetes.cluster_name == "0o17"


def test_the_chart_sets_as_little_as_it_must() -> None:
    found = yaml.safe_load(configuration_file(documents(render())))
    assert found == {
        "agent": {"health_listen": ":9464", "log_format": "json"},
        "kubernetes": {"enabled": True},
    }
    assert set(found) <= set(Configuration.model_fields)


def test_only_a_changed_configuration_starts_pods_over() -> None:
    def checksum(values: Document) -> str:
        template = one(documents(render(values=values)), "DaemonSet")["spec"]["template"]
        found: str = template["metadata"]["annotations"]["checksum/config"]
        return found

    assert checksum({}) == checksum({"podLabels": {"team": "a"}})
    assert checksum({}) != checksum({"config": {"agent": {"log_level": "debug"}}})


@pytest.mark.parametrize(
    "values", [{}, {"podLabels": {"team": "a"}, "fullnameOverride": "x", "image": {"tag": "9"}}]
)
def test_the_selector_is_the_same_whatever_the_values(values: Document) -> None:
    spec = one(documents(render(values=values)), "DaemonSet")["spec"]
    assert spec["selector"] == {
        "matchLabels": {"app.kubernetes.io/name": "wirespan", "app.kubernetes.io/instance": "wirespan"}
    }
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()


def test_the_container_may_do_no_more_than_it_must() -> None:
    objects = documents(render())
    assert container(objects)["securityContext"] == {
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["BPF", "PERFMON", "SYS_PTRACE"]},
    }
    pod = one(objects, "DaemonSet")["spec"]["template"]["spec"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert [key for key in pod if key.startswith("host")] == ["hostPID"]
    assert all("hostPath" not in volume for volume in pod["volumes"])
    assert one(objects, "ServiceAccount")["automountServiceAccountToken"] is False


@pytest.mark.parametrize(
    ("switch", "added"),
    [("olderNodes", ["SYS_ADMIN", "SYS_RESOURCE"]), ("readEnvironments", ["DAC_READ_SEARCH"])],
)
def test_further_capabilities_are_asked_for_by_name(switch: str, added: list[str]) -> None:
    found = container(documents(render(values={"privileges": {switch: True}})))["securityContext"]
    assert found["capabilities"]["add"] == ["BPF", "PERFMON", "SYS_PTRACE", *added]


def test_rights_are_those_of_the_documentation() -> None:
    table = (ROOT / "docs" / "configuration.md").read_text().partition("needs these rights")[2]
    documented = set()
    for resources, verbs in re.findall(r"^\| (`.*?`) \| ([a-z, ]+) \|", table.partition("## Keys")[0], re.M):
        for resource in re.findall(r"`(.*?)`", resources):
            name, _, group = resource.partition(".")
            documented |= {(group, name, verb) for verb in verbs.split(", ")}
    granted = {
        (group, resource, verb)
        for rule in one(documents(render()), "ClusterRole")["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert granted == documented


ENDPOINT = {"config": {"otlp": {"endpoint": "https://collector:4317"}}}


def merged(base: Document, over: Document) -> Document:
    result = copy.deepcopy(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def test_mutual_tls_reads_its_files_from_a_secret() -> None:
    tls = {"existingSecret": "pki", "ca": "ca.crt", "certificate": "tls.crt", "key": "tls.key"}
    objects = documents(render(values=merged(ENDPOINT, {"otlp": {"tls": tls}})))
    otlp = yaml.safe_load(configuration_file(objects))["otlp"]
    (mount,) = (each for each in container(objects)["volumeMounts"] if each["name"] == "otlp-tls")
    assert mount["readOnly"]
    files = {f"{mount['mountPath']}/{name}" for name in ("ca.crt", "tls.crt", "tls.key")}
    assert {otlp["certificate"], otlp["client_certificate"], otlp["client_key"]} == files
    (volume,) = (
        each
        for each in one(objects, "DaemonSet")["spec"]["template"]["spec"]["volumes"]
        if each["name"] == "otlp-tls"
    )
    assert volume["secret"]["secretName"] == "pki"
    assert volume["secret"]["defaultMode"] == 0o400


def test_one_secret_entry_may_serve_as_two_files() -> None:
    tls = {"existingSecret": "pki", "ca": "all.pem", "certificate": "all.pem", "key": "all.pem"}
    objects = documents(render(values=merged(ENDPOINT, {"otlp": {"tls": tls}})))
    volumes = one(objects, "DaemonSet")["spec"]["template"]["spec"]["volumes"]
    (items,) = (each["secret"]["items"] for each in volumes if "secret" in each)
    assert items == [{"key": "all.pem", "path": "all.pem"}]
