"""The variables that the SDK's own code reads."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry.sdk import environment_variables
from opentelemetry.sdk.trace import SpanLimits

from otel_bridge.sdk import environment
from otel_bridge.sdk.components import SdkSettingError
from otel_bridge.sdk.environment import (
    describe_unheeded,
    is_disabled,
    read_batch_arguments,
    read_host_attributes,
    read_span_limits,
)
from otel_bridge.spans.options import SpanOptions
from tests.installed_distribution import install_distribution

ROOT = Path(__file__).parents[4]


@pytest.fixture(autouse=True)
def no_standard_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_defaults_of_the_sdk_are_those_of_spans() -> None:
    assert read_span_limits() == {}
    limits, options = SpanLimits(), SpanOptions()
    assert limits.max_span_attributes == options.max_attributes
    assert limits.max_span_attribute_length == options.max_value_length
    assert limits.max_events == options.max_events
    assert limits.max_event_attributes == options.max_event_attributes


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"OTEL_ATTRIBUTE_COUNT_LIMIT": "64"}, {"max_attributes": 64, "max_event_attributes": 64}),
        (
            {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "32", "OTEL_ATTRIBUTE_COUNT_LIMIT": "64"},
            {"max_attributes": 32, "max_event_attributes": 64},
        ),
        ({"OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": " 100 "}, {"max_value_length": 100}),
        ({"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "7"}, {"max_value_length": 7}),
        ({"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": ""}, {}),
        ({"OTEL_SPAN_EVENT_COUNT_LIMIT": "9", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": ""}, {"max_events": 9}),
        ({"OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": "3"}, {"max_event_attributes": 3}),
    ],
)
def test_span_limits_are_those_that_the_sdk_reads(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: dict[str, int]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert SpanOptions(**read_span_limits()) == SpanOptions(**expected)  # type: ignore[arg-type]


def test_every_variable_of_the_sdks_limits_is_known() -> None:
    limits = {
        name for name in vars(environment_variables) if name.startswith("OTEL_") and name.endswith("_LIMIT")
    }
    others = {name for name in limits if "LOGRECORD" in name}
    assert set(environment.SPAN_LIMIT_VARIABLES) == limits - others


@pytest.mark.parametrize("variable", environment.SPAN_LIMIT_VARIABLES)
@pytest.mark.parametrize("value", ["many", "-1", "1.5"])
def test_a_bad_span_limit_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SdkSettingError, match=rf"{variable}.*{value}.*whole number"):
        read_span_limits()


def test_a_bad_value_is_named_even_before_the_sdk_was_imported() -> None:
    # Importing `opentelemetry.sdk.trace` reads one of the variables itself.
    code = "from otel_bridge.sdk.environment import read_span_limits\nread_span_limits()"
    done = run(code, OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT="many")
    assert "SdkSettingError: OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT must be" in done.stderr


def test_the_agents_environment_speaks_for_host_and_deployment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "OTEL_RESOURCE_ATTRIBUTES",
        "host.name=node%201, k8s.cluster.name=prod,deployment.environment.name=test,cloud.region=eu,"
        "service.name=agent,service.version=1,process.pid=1,telemetry.sdk.name=x,k8s.pod.name=agent-1,"
        "container.id=abc,garbage,=x",
    )
    monkeypatch.setenv("OTEL_SERVICE_NAME", "agent")
    assert read_host_attributes() == {
        "host.name": "node 1",
        "k8s.cluster.name": "prod",
        "deployment.environment.name": "test",
        "cloud.region": "eu",
    }


def test_detectors_of_the_sdk_add_what_they_find(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "host, os,process")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "host.name=named")
    attributes = read_host_attributes()
    assert attributes["host.name"] == "named"
    assert attributes["host.arch"] == os.uname().machine
    assert attributes["os.type"] == "linux"
    assert not any(name.startswith(("process.", "service.", "telemetry.")) for name in attributes)


def test_an_installed_detector_is_found_and_its_values_fit_a_span(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install_distribution(
        tmp_path,
        "rack_detector",
        "from opentelemetry.sdk.resources import Resource, ResourceDetector\n"
        "class Rack(ResourceDetector):\n"
        "    def detect(self):\n"
        "        return Resource({'host.ip': ['10.0.0.1', '::1'], 'host.load': 0.5, 'host.cores': 4,\n"
        "                         'container.id': 'x'})\n",
        {"opentelemetry_resource_detector": {"rack": "rack_detector:Rack"}},
    )
    code = "from otel_bridge.sdk.environment import read_host_attributes\nprint(read_host_attributes())"
    for names in ("rack", "os,rack"):
        # A process of its own: the SDK looks once at what is installed.
        done = run(code, PYTHONPATH=f"{ROOT}:{tmp_path}", OTEL_EXPERIMENTAL_RESOURCE_DETECTORS=names)
        attributes = ast.literal_eval(done.stdout)
        expected = {"host.ip": ("10.0.0.1", "::1"), "host.load": "0.5", "host.cores": 4}
        assert {name: value for name, value in attributes.items() if name.startswith("host")} == expected
        assert ("os.type" in attributes) == ("os" in names)
        assert "container.id" not in attributes


def test_an_unknown_detector_is_refused_with_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "host,hots")
    with pytest.raises(
        SdkSettingError, match=r"OTEL_EXPERIMENTAL_RESOURCE_DETECTORS: `hots`.*host, os, otel"
    ):
        read_host_attributes()


def test_nothing_set_imports_nothing() -> None:
    code = (
        "import sys\nfrom otel_bridge.sdk.environment import read_host_attributes, read_span_limits\n"
        "from otel_bridge.sdk.id_generator import open_id_generator\n"
        "assert (read_span_limits(), read_host_attributes(), open_id_generator(None)) == ({}, {}, None)\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = run(code, OTEL_RESOURCE_ATTRIBUTES="", OTEL_SPAN_EVENT_COUNT_LIMIT=" ")
    assert done.stdout == "[]\n"


def test_the_sdk_can_be_disabled() -> None:
    for value in ("", " ", "false", "False"):
        assert not is_disabled({"OTEL_SDK_DISABLED": value})
    assert not is_disabled({})
    assert is_disabled({"OTEL_SDK_DISABLED": "True"})
    with pytest.raises(SdkSettingError, match="OTEL_SDK_DISABLED is 'yes'; it must be true or false"):
        is_disabled({"OTEL_SDK_DISABLED": "yes"})


def test_batches_are_bounded_by_the_variables_of_the_sdks_processor() -> None:
    variables = {
        "OTEL_BSP_MAX_QUEUE_SIZE": "100",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": " 10 ",
        "OTEL_BSP_SCHEDULE_DELAY": "250",
    }
    assert set(variables) <= set(vars(environment_variables))
    assert read_batch_arguments(variables) == {
        "max_queue_spans": 100,
        "max_batch_spans": 10,
        "max_batch_age_seconds": 0.25,
    }
    assert read_batch_arguments(dict.fromkeys(variables, "")) == {}
    for name in variables:
        for value in ("0", "-1", "many", "1.5"):
            with pytest.raises(SdkSettingError, match=f"{name} is '{value}'; it must be a whole number"):
                read_batch_arguments({name: value})


def test_a_sampler_is_said_to_have_no_effect() -> None:
    assert describe_unheeded({"OTEL_TRACES_SAMPLER": ""}) == []
    (said,) = describe_unheeded({"OTEL_TRACES_SAMPLER": "always_off"})
    assert said.startswith("OTEL_TRACES_SAMPLER has no effect: ")
