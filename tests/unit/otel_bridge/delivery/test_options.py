from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from otel_bridge.delivery.options import (
    ExportConfigurationError,
    ExportOptions,
    OtlpCompression,
    OtlpProtocol,
    is_export_configured,
)

GRPC, HTTP = OtlpProtocol.GRPC, OtlpProtocol.HTTP_PROTOBUF


@pytest.mark.parametrize(
    ("environ", "explicit", "endpoint", "protocol", "secure"),
    [
        ({}, {}, "http://localhost:4318/v1/traces", HTTP, False),
        ({}, {"protocol": "grpc"}, "localhost:4317", GRPC, False),
        ({}, {"endpoint": "http://c:4318"}, "http://c:4318/v1/traces", HTTP, False),
        ({}, {"endpoint": "http://c:4318/v1/traces"}, "http://c:4318/v1/traces", HTTP, False),
        ({}, {"endpoint": "https://c/otlp/"}, "https://c/otlp/v1/traces", HTTP, True),
        ({}, {"endpoint": "http://c:4317"}, "c:4317", GRPC, False),
        ({}, {"endpoint": "https://c:443", "protocol": "grpc"}, "c:443", GRPC, True),
        ({}, {"endpoint": "c:4317"}, "c:4317", GRPC, True),
        ({}, {"endpoint": "c:4317", "insecure": True}, "c:4317", GRPC, False),
        ({"OTEL_EXPORTER_OTLP_INSECURE": "TRUE"}, {"endpoint": "c:4317"}, "c:4317", GRPC, False),
        ({}, {"endpoint": "unix:/run/otlp.sock", "protocol": "grpc"}, "unix:/run/otlp.sock", GRPC, False),
        ({}, {"endpoint": "http://[::1]:4317"}, "[::1]:4317", GRPC, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://e:9/b"}, {}, "http://e:9/b/v1/traces", HTTP, False),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://e:9/b"}, {}, "http://e:9/b", HTTP, False),
        (
            {
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t:9/x",
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://e:9",
            },
            {},
            "http://t:9/x",
            HTTP,
            False,
        ),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://e:9"},
            {"endpoint": "http://c:1"},
            "http://c:1/v1/traces",
            HTTP,
            False,
        ),
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
            {"endpoint": "http://c:4317"},
            "http://c:4317/v1/traces",
            HTTP,
            False,
        ),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_PROTOCOL": "x"},
            {},
            "localhost:4317",
            GRPC,
            False,
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, {}, "http://localhost:4318/v1/traces", HTTP, False),
    ],
)
def test_destination(
    environ: dict[str, str], explicit: dict[str, Any], endpoint: str, protocol: OtlpProtocol, *, secure: bool
) -> None:
    options = ExportOptions.from_environment(environ, **explicit)
    assert (options.endpoint, options.protocol, options.secure) == (endpoint, protocol, secure)


def test_the_other_settings_from_the_environment(tmp_path: Path) -> None:
    pem = tmp_path / "x.pem"
    pem.write_text("-----BEGIN CERTIFICATE-----\n")
    options = ExportOptions.from_environment(
        {
            "OTEL_EXPORTER_OTLP_HEADERS": "Api-Key=a%20b, x=1=2,,",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "GZIP",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
            "OTEL_EXPORTER_OTLP_CERTIFICATE": str(pem),
            "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY": str(pem),
            "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": str(pem),
        },
        headers={"X": "explicit"},
    )
    assert options.headers == (("api-key", "a b"), ("x", "explicit"))
    assert options.compression is OtlpCompression.GZIP
    assert options.timeout_seconds == 2.5
    assert (options.certificate, options.client_key, options.client_certificate) == (pem, pem, pem)


def test_explicit_settings_win() -> None:
    options = ExportOptions.from_environment(
        {"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"},
        compression="none",
        timeout_seconds=3,
    )
    assert (options.compression, options.timeout_seconds) == (OtlpCompression.NONE, 3)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "ftp://x"},
            "OTEL_EXPORTER_OTLP_ENDPOINT is 'ftp://x'.*must be a URL such as",
        ),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://"},
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT.*must be a URL",
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:99999"}, "must be a URL"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "must be a URL"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[::1"}, "must be a URL"),
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
            "OTEL_EXPORTER_OTLP_PROTOCOL is 'http/json'; it must be grpc or",
        ),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "br"},
            "TRACES_COMPRESSION is 'br'; it must be gzip or none",
        ),
        (
            {"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"},
            "OTEL_EXPORTER_OTLP_TIMEOUT must be a number of milliseconds",
        ),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "10"}, "milliseconds, 100 or more"),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "inf"}, "milliseconds"),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "nan"}, "milliseconds"),
        (
            {"OTEL_EXPORTER_OTLP_INSECURE": "yes"},
            "OTEL_EXPORTER_OTLP_INSECURE is 'yes'; it must be true or false",
        ),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "a=1,oops"}, "OTEL_EXPORTER_OTLP_HEADERS must be name=value pairs"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "a=1%0d%0ax"}, "header 'a' cannot be sent"),
        (
            {"OTEL_EXPORTER_OTLP_CERTIFICATE": "/nonexistent.pem"},
            "OTEL_EXPORTER_OTLP_CERTIFICATE: /nonexistent.pem: No such",
        ),
        ({"OTEL_EXPORTER_OTLP_CERTIFICATE": "/etc/hostname"}, "/etc/hostname is not a PEM file"),
    ],
)
def test_a_bad_value_is_named_with_what_is_accepted(environ: dict[str, str], message: str) -> None:
    with pytest.raises(ExportConfigurationError, match=message):
        ExportOptions.from_environment(environ)


@pytest.mark.parametrize(
    ("protocol", "name", "value"),
    [
        ("grpc", "trace-bin", "x"),
        ("grpc", "grpc-timeout", "1S"),
        ("grpc", "x y", "x"),
        ("grpc", "x!", "x"),
        ("grpc", ":path", "/"),
        ("grpc", "", "x"),
        ("grpc", "x", "\u00e9"),
        ("grpc", "x", "a\tb"),
        ("grpc", "x", "a\x7fb"),
        ("http/protobuf", "x y", "x"),
        ("http/protobuf", "x:", "x"),
        ("http/protobuf", "\u00e9", "x"),
        ("http/protobuf", "x", "\u20ac"),
        ("http/protobuf", "x", "\ud83d\ude00"),
        ("http/protobuf", "x", "a\nb"),
        ("http/protobuf", "x", "a\0b"),
    ],
)
def test_a_header_that_the_protocol_cannot_carry_is_refused_at_the_start(
    protocol: str, name: str, value: str
) -> None:
    with pytest.raises(ExportConfigurationError, match="cannot be sent over") as raised:
        ExportOptions.from_environment(
            {}, endpoint="http://localhost:1", protocol=protocol, headers={name: value}
        )
    assert len(value) == 1 or value not in str(raised.value)


@pytest.mark.parametrize(
    ("protocol", "value"), [("grpc", "Basic dTpw=="), ("http/protobuf", "caf\u00e9"), ("http/protobuf", "")]
)
def test_a_header_that_the_protocol_carries_is_kept(protocol: str, value: str) -> None:
    options = ExportOptions.from_environment(
        {}, endpoint="http://localhost:1", protocol=protocol, headers={"X-Key": f" {value} "}
    )
    assert options.headers == (("x-key", value),)


def test_a_bad_header_is_not_repeated_in_the_message() -> None:
    with pytest.raises(ExportConfigurationError) as caught:
        ExportOptions.from_environment({"OTEL_EXPORTER_OTLP_HEADERS": "cAnArY"})
    assert "cAnArY" not in str(caught.value)


def test_mutual_tls_needs_both_files(tmp_path: Path) -> None:
    pem = tmp_path / "x.pem"
    pem.write_text("-----BEGIN CERTIFICATE-----\n")
    with pytest.raises(
        ExportConfigurationError, match="CLIENT_KEY and OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE belong together"
    ):
        ExportOptions.from_environment({}, client_key=str(pem))


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c"}, True),
    ],
)
def test_export_is_configured_by_an_endpoint(environ: dict[str, str], *, expected: bool) -> None:
    assert is_export_configured(environ) is expected
