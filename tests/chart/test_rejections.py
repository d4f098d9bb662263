"""Values that can't be meant: each is refused before anything is installed, with words that help."""

from __future__ import annotations

import pytest

from tests.chart.helm_command import Document, HelmError, render

pytestmark = pytest.mark.chart

ENDPOINT = {"endpoint": "http://collector:4317"}


def refusal(values: Document) -> str:
    with pytest.raises(HelmError) as raised:
        render(values=values)
    return str(raised.value)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"tolerashuns": []}, "additional properties 'tolerashuns' not allowed"),
        ({"image": {"name": "x"}}, "at '/image': additional properties 'name' not allowed"),
        ({"config": {"otpl": {}}}, "at '/config': additional properties 'otpl' not allowed"),
        (
            {"config": {"otlp": {"endpont": "x"}}},
            "at '/config/otlp': additional properties 'endpont' not allowed",
        ),
        ({"extraEnv": [{"nmae": "A"}]}, "at '/extraEnv/0'"),
        ({"resources": {"limit": {}}}, "at '/resources': additional properties 'limit' not allowed"),
    ],
)
def test_a_misspelt_key_is_named(values: Document, said: str) -> None:
    assert said in refusal(values)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"podLabels": ["a"]}, "at '/podLabels': got array, want object"),
        (
            {"config": {"content": {"max_body": "64k"}}},
            "at '/config/content/max_body': got string, want integer",
        ),
        ({"config": {"content": {"bodies": "no"}}}, "at '/config/content/bodies': got string, want boolean"),
        ({"extraEnv": [{"name": "A", "value": 1}]}, "at '/extraEnv/0/value': got number, want string"),
        ({"nodeSelector": {"gpu": True}}, "at '/nodeSelector/gpu': got boolean, want string"),
        ({"health": {"port": 70_000}}, "at '/health/port': maximum: got 70,000, want 65,535"),
        ({"config": {"capture": {"ports": [0]}}}, "at '/config/capture/ports/0': minimum: got 0, want 1"),
        (
            {"config": {"capture": {"direction": "in"}}},
            "at '/config/capture/direction': value must be one of 'ingress', 'egress', 'both'",
        ),
        ({"image": {"digest": "sha256:abc"}}, "at '/image/digest': 'sha256:abc' does not match pattern"),
        ({"maxUnavailable": 0}, "at '/maxUnavailable': minimum: got 0, want 1"),
        ({"maxUnavailable": "0%"}, "at '/maxUnavailable': '0%' does not match pattern"),
        ({"health": {"host": "::"}}, "at '/health/host': '::' does not match pattern"),
    ],
)
def test_a_value_of_a_wrong_kind_is_named_with_what_is_accepted(values: Document, said: str) -> None:
    assert said in refusal(values)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"config": {"otlp": {"protocol": "grpc"}}}, "config.otlp.endpoint is missing"),
        ({"config": {"output": {"spans_file": "-"}, "otlp": {"compression": "gzip"}}}, "endpoint is missing"),
        ({"otlp": {"headers": {"existingSecret": "s"}}}, "config.otlp.endpoint is missing"),
        ({"config": {"otlp": {"endpoint": ""}}}, "config.otlp.endpoint is missing"),
        (
            {"extraEnv": [{"name": "OTEL_EXPORTER_OTLP_HEADERS", "value": "a=b"}]},
            "config.otlp.endpoint is missing",
        ),
        ({"otlp": {"tls": {"existingSecret": "s", "ca": "ca.crt"}}}, "config.otlp.endpoint is missing"),
        (
            {
                "config": {"otlp": {**ENDPOINT, "headers": {"x": "y"}}},
                "otlp": {"headers": {"existingSecret": "s"}},
            },
            "otlp.headers.existingSecret and config.otlp.headers are both given",
        ),
        (
            {
                "config": {"otlp": ENDPOINT},
                "otlp": {"headers": {"existingSecret": "s"}},
                "extraEnv": [{"name": "OTEL_EXPORTER_OTLP_HEADERS", "value": "a=b"}],
            },
            "extraEnv has OTEL_EXPORTER_OTLP_HEADERS already",
        ),
        (
            {"config": {"otlp": ENDPOINT}, "otlp": {"tls": {"existingSecret": "s", "key": "tls.key"}}},
            "none of its keys: set otlp.tls.ca, or otlp.tls.certificate and otlp.tls.key",
        ),
        (
            {
                "config": {"otlp": ENDPOINT},
                "otlp": {"tls": {"existingSecret": "s", "ca": "c", "key": "tls.key"}},
            },
            "otlp.tls.certificate is missing",
        ),
        (
            {"config": {"otlp": ENDPOINT}, "otlp": {"tls": {"existingSecret": "s", "certificate": "c"}}},
            "otlp.tls.key is missing",
        ),
        (
            {"config": {"otlp": ENDPOINT}, "otlp": {"tls": {"ca": "ca.crt"}}},
            "otlp.tls.existingSecret is missing",
        ),
        ({"config": {"otlp": {**ENDPOINT, "client_key": "/k"}}}, "name that in otlp.tls.existingSecret"),
        ({"config": {"kubernetes": {"enabled": False}}}, "to choose pods, use config.kubernetes.default"),
        ({"config": {"kubernetes": {"node": "a"}}}, "the same on every node"),
        ({"config": {"kubernetes": {"kubeconfig": "/k"}}}, "the same on every node"),
        ({"config": {"capture": {"pids": [1]}}}, "another process on each node"),
        ({"config": {"agent": {"health_listen": ":1"}}}, "set health.port and health.host instead"),
        ({"config": {"agent": {"duration": 60}}}, "over and over"),
        ({"config": {"output": {"spans_file": "/var/spans"}}}, '"/var/spans" can\'t be written'),
        ({"config": {"otlp": ENDPOINT, "output": {"verbose": True}}}, "config.output.verbose"),
        ({"extraEnv": [{"name": "NODE_NAME", "value": "a"}]}, "NODE_NAME is set by the chart"),
        ({"extraEnv": [{"name": "A", "value": "a", "valueFrom": {"fieldRef": {}}}]}, "at '/extraEnv/0'"),
        ({"serviceAccount": {"create": False}}, "serviceAccount.name is missing"),
        (
            {"podLabels": {"app.kubernetes.io/name": "x"}},
            "podLabels: app.kubernetes.io/name is set by the chart",
        ),
    ],
)
def test_what_contradicts_itself_is_refused_with_a_way_out(values: Document, said: str) -> None:
    assert said in refusal(values)


@pytest.mark.parametrize(
    "values",
    [
        {
            "extraEnv": [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://c:4317"}],
            "otlp": {"headers": {"existingSecret": "s"}},
        },
        {"config": {"output": {"verbose": True}}},
        {"config": {"output": {"spans_file": "-"}}},
        {"config": {"otlp": {**ENDPOINT, "headers": {"x-tenant": "shop"}}}},
        {"serviceAccount": {"create": False, "name": "mine"}},
        {"maxUnavailable": "100%"},
        {"global": {"anything": 1}},
        {"tolerations": [], "resources": {"limits": None}},
    ],
)
def test_what_only_looks_odd_is_accepted(values: Document) -> None:
    render(values=values)
