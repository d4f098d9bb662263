"""Which outputs a configuration names."""

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.config import Configuration
from agent.config_sources import ConfigurationError
from agent.outputs import (
    id_generator,
    names_otlp,
    open_sinks,
    resource_builder,
    span_options,
    uses_standard_output,
)
from otel_bridge.delivery.otlp_sink import OtlpSink
from otel_bridge.sinks.console import ConsoleSink
from otel_bridge.sinks.sdk_exporter import SdkExporterSink
from otel_bridge.sinks.spans_file import SpansFileSink

NOWHERE = "http://127.0.0.1:1"


def kinds(environment: dict[str, str] | None = None, **sections: dict[str, object]) -> list[type]:
    sinks = open_sinks(Configuration.model_validate(sections), environment or {})
    for sink in sinks:
        sink.close(0.1)
    return [type(sink) for sink in sinks]


def test_nothing_named_is_the_console() -> None:
    assert kinds() == [ConsoleSink]
    assert kinds(output={"verbose": True}) == [ConsoleSink]


def test_what_is_named_replaces_the_console(tmp_path: Path) -> None:
    file = str(tmp_path / "spans")
    assert kinds(output={"spans_file": file}) == [SpansFileSink]
    assert kinds(otlp={"endpoint": NOWHERE}) == [OtlpSink]
    assert kinds(otlp={"protocol": "grpc"}) == [OtlpSink]
    assert kinds(otlp={"endpoint": NOWHERE}, output={"spans_file": file}) == [OtlpSink, SpansFileSink]


@pytest.mark.parametrize("variable", ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
def test_the_standard_variables_name_an_output(variable: str) -> None:
    assert kinds({variable: NOWHERE}) == [OtlpSink]
    assert names_otlp(Configuration(), {variable: NOWHERE})
    assert not names_otlp(Configuration(), {variable: ""})


@pytest.mark.parametrize(
    ("sections", "uses"),
    [
        ({}, True),
        ({"output": {"spans_file": "-"}}, True),
        ({"output": {"spans_file": "/tmp/x"}}, False),
        ({"otlp": {"endpoint": NOWHERE}}, False),
        ({"otlp": {"endpoint": NOWHERE}, "output": {"spans_file": "-"}}, True),
        ({"output": {"exporters": ["console"], "spans_file": "/tmp/x"}}, True),
        ({"output": {"exporters": ["none"]}}, False),
        ({"output": {"exporters": ["otlp"]}}, False),
    ],
)
def test_standard_output_is_the_console_or_a_dash(sections: dict[str, dict[str, object]], uses: bool) -> None:  # noqa: FBT001
    assert uses_standard_output(Configuration.model_validate(sections), {}) is uses


@pytest.mark.parametrize(
    "sections", [{"output": {"spans_file": "/no/such/folder/x"}}, {"otlp": {"endpoint": "ftp://x"}}]
)
def test_an_output_that_cannot_be_opened_is_a_matter_of_configuration(
    sections: dict[str, dict[str, object]],
) -> None:
    with pytest.raises(ConfigurationError):
        open_sinks(Configuration.model_validate(sections), {})


def exporters(*names: str) -> dict[str, dict[str, object]]:
    return {"output": {"exporters": list(names)}}


def test_named_exporters_decide_alone_whether_otlp_is_among_them(caplog: pytest.LogCaptureFixture) -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": NOWHERE}
    assert kinds(**exporters("otlp")) == [OtlpSink]
    assert kinds(endpoint, **exporters("console")) == [SdkExporterSink]
    assert kinds(endpoint, **exporters("console", "otlp")) == [OtlpSink, SdkExporterSink]
    assert not caplog.records
    assert kinds(otlp={"endpoint": NOWHERE}, **exporters("console")) == [SdkExporterSink]
    assert "`otlp.endpoint` is not used: `output.exporters` is console" in caplog.text


def test_no_exporter_is_no_output_unless_a_file_is_named(tmp_path: Path) -> None:
    assert kinds({"OTEL_EXPORTER_OTLP_ENDPOINT": NOWHERE}, **exporters("none")) == []
    named = {"exporters": ["none"], "spans_file": str(tmp_path / "spans")}
    assert kinds(output=named) == [SpansFileSink]


def test_an_exporter_that_is_not_installed_is_a_matter_of_configuration() -> None:
    with pytest.raises(
        ConfigurationError, match=r"OTEL_TRACES_EXPORTER\): `zipkni` is not installed.*console"
    ):
        kinds(**exporters("zipkni"))


def test_a_disabled_sdk_has_no_output(caplog: pytest.LogCaptureFixture) -> None:
    disabled = {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": NOWHERE}
    assert kinds(disabled) == []
    assert "OTEL_SDK_DISABLED" in caplog.text
    assert not uses_standard_output(Configuration(), disabled)
    assert kinds({"OTEL_SDK_DISABLED": "false"}) == [ConsoleSink]
    with pytest.raises(ConfigurationError, match="OTEL_SDK_DISABLED"):
        kinds({"OTEL_SDK_DISABLED": "yes"})


def test_a_variable_without_effect_is_said(caplog: pytest.LogCaptureFixture) -> None:
    assert kinds({"OTEL_TRACES_SAMPLER": "always_off"}) == [ConsoleSink]
    assert "OTEL_TRACES_SAMPLER has no effect" in caplog.text


def test_span_options_follow_the_content_and_redaction_sections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "64")
    chosen = Configuration.model_validate(
        {
            "content": {"headers": False, "max_body": 0},
            "redaction": {"enabled": False, "names": ["x-partner"]},
        }
    )
    options = span_options(chosen)
    assert not options.capture_headers
    assert not options.capture_bodies
    assert not options.redaction
    assert options.redacted_names == ("x-partner",)
    assert options.max_attributes == 64


@pytest.mark.parametrize(
    ("variable", "value", "read"),
    [
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many", lambda: span_options(Configuration())),
        (
            "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS",
            "no_such",
            lambda: resource_builder(span_options(Configuration())),
        ),
        ("OTEL_PYTHON_ID_GENERATOR", "no_such", lambda: id_generator(lambda: bytes(16))),
    ],
)
def test_a_bad_value_of_a_standard_variable_is_a_matter_of_configuration(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, read: Callable[[], object]
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=variable):
        read()
