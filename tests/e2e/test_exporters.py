"""Exporters and other components of the OpenTelemetry SDK, used by the installed command."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.e2e.conftest import wirespan
from tests.installed_distribution import install_distribution
from tests.otlp_receiver import OtlpReceiver
from tests.property.capture_samples import samples

pytestmark = pytest.mark.e2e

VENDOR = """
import os
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource, ResourceDetector
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator

class Tape(SpanExporter):
    def export(self, spans):
        with open(os.environ["TAPE_FILE"], "ab") as file:
            file.write(encode_spans(spans).SerializeToString())
        return SpanExportResult.SUCCESS

    def shutdown(self):
        with open(os.environ["TAPE_FILE"] + ".end", "w") as file:
            file.write("shut down")

class Torn(SpanExporter):
    def export(self, spans):
        raise OSError("the tape is torn")

class Counting(IdGenerator):
    number = 0

    def generate_span_id(self):
        self.number += 1
        return self.number

    generate_trace_id = generate_span_id

class Rack(ResourceDetector):
    def detect(self):
        return Resource({"host.rack": "r7", "service.name": "agent", "process.pid": 1})
"""


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "recording"
    path.write_bytes(samples()["recording"])
    return path


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has installed a vendor's package."""
    site = tmp_path / "site"
    install_distribution(
        site,
        "vendor_tape",
        VENDOR,
        {
            "opentelemetry_traces_exporter": {"tape": "vendor_tape:Tape", "torn": "vendor_tape:Torn"},
            "opentelemetry_id_generator": {"counting": "vendor_tape:Counting"},
            "opentelemetry_resource_detector": {"rack": "vendor_tape:Rack"},
        },
    )
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(site)]))
    return {**inherited, "PYTHONPATH": path, "TAPE_FILE": str(tmp_path / "tape")}


def replay(
    recording: Path, environment: dict[str, str], *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    ended = wirespan("replay", str(recording), *arguments, env={**environment, **variables})
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended


def lines(path: Path) -> list[dict[str, Any]]:
    """The spans of a spans file, each with its resource's attributes."""
    return [
        {**span, "resource": scoped["resource"]["attributes"]}
        for line in path.read_text().splitlines()
        for scoped in json.loads(line)["resourceSpans"]
        for span in scoped["scopeSpans"][0]["spans"]
    ]


def documents(text: str) -> list[dict[str, Any]]:
    """The JSON documents that stand one after the other."""
    decoder = json.JSONDecoder()
    found = []
    while text := text.strip():
        document, end = decoder.raw_decode(text)
        found.append(document)
        text = text[end:]
    return found


def by_id(spans: list[Span]) -> dict[bytes, Span]:
    return {span.span_id: span for span in spans}


def test_the_sdks_console_shows_every_span(
    recording: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "spans"
    shown = documents(
        replay(recording, environment, "--exporter", "console", "--spans-file", str(file)).stdout
    )
    written = lines(file)
    assert len(written) > 10
    assert [one["context"]["span_id"] for one in shown] == [f"0x{one['spanId']}" for one in written]
    assert [one["name"] for one in shown] == [one["name"] for one in written]
    for one, other in zip(shown, written, strict=True):
        assert list(one["attributes"]) == [attribute["key"] for attribute in other["attributes"]]


def test_a_vendors_exporter_is_given_what_otlp_delivers(
    recording: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    with OtlpReceiver(protocol="http/protobuf") as receiver, OtlpReceiver(protocol="grpc") as second:
        ended = replay(
            recording,
            environment,
            "--exporter",
            "tape,otlp",
            "--exporter",
            "otlp_proto_grpc",
            "--otlp-endpoint",
            receiver.endpoint,
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=second.endpoint,
            OTEL_EXPORTER_OTLP_TRACES_INSECURE="true",
        )
        assert ended.stdout == ""
        assert "dropped" not in ended.stderr
        delivered, official = by_id(receiver.spans), by_id(second.spans)
    assert len(delivered) > 10
    assert (tmp_path / "tape.end").read_text() == "shut down"
    request = type(receiver.requests[0]).FromString((tmp_path / "tape").read_bytes())
    taped = by_id([span for group in request.resource_spans for span in group.scope_spans[0].spans])
    for span in delivered.values():
        # The official encoder leaves out what the protocol has bits 0-7 for.
        span.flags &= ~0xFF
    assert official == delivered
    # Only OTLP has bytes.
    bodies = [each.value for span in delivered.values() for each in span.attributes]
    bodies += [
        each.value for span in delivered.values() for event in span.events for each in event.attributes
    ]
    assert any(value.HasField("bytes_value") for value in bodies)
    for value in bodies:
        if value.HasField("bytes_value"):
            value.string_value = b64encode(value.bytes_value).decode()
    assert taped == delivered


def test_zipkins_exporter_is_used_as_it_is_installed(recording: Path, environment: dict[str, str]) -> None:
    taken: list[dict[str, Any]] = []

    class Zipkin(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.extend(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(202)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Zipkin) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/api/v2/spans"
        ended = replay(
            recording,
            environment,
            "--spans-file",
            "-",
            "--exporter",
            "zipkin_json",
            OTEL_EXPORTER_ZIPKIN_ENDPOINT=url,
        )
        server.shutdown()
    assert "dropped" not in ended.stderr
    written = [
        span
        for line in ended.stdout.splitlines()
        for scoped in json.loads(line)["resourceSpans"]
        for span in scoped["scopeSpans"][0]["spans"]
    ]
    assert len(written) > 10
    assert [one["id"] for one in taken] == [one["spanId"] for one in written]
    assert [one["name"] for one in taken] == [one["name"] for one in written]
    assert {one["kind"] for one in taken} == {"SERVER"}
    for one, other in zip(taken, written, strict=True):
        assert {attribute["key"] for attribute in other["attributes"]} <= set(one["tags"])


def test_the_standard_variable_names_exporters_and_an_option_wins(
    recording: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    named = replay(recording, environment, OTEL_TRACES_EXPORTER="tape")
    assert named.stdout == ""
    assert (tmp_path / "tape").stat().st_size
    (tmp_path / "tape").unlink()
    silent = replay(recording, environment, "--exporter", "none", OTEL_TRACES_EXPORTER="tape")
    assert silent.stdout == ""
    assert not (tmp_path / "tape").exists()


def test_a_name_that_is_not_installed_is_refused_with_those_that_are(
    recording: Path, environment: dict[str, str]
) -> None:
    ended = wirespan("replay", str(recording), "--exporter", "zipkni", env=environment)
    assert ended.returncode == 2
    assert "`zipkni` is not installed; installed are: console, otlp" in ended.stderr
    assert "tape, torn" in ended.stderr


def test_what_an_exporter_does_not_take_is_counted(recording: Path, environment: dict[str, str]) -> None:
    ended = replay(recording, environment, "--exporter", "torn")
    assert ended.stderr.count("exporter torn did not take") == 1
    assert "OSError: the tape is torn" in ended.stderr
    assert "spans dropped: dropped_failed" in ended.stderr


def test_a_disabled_sdk_exports_nothing(recording: Path, environment: dict[str, str]) -> None:
    ended = replay(recording, environment, "--exporter", "console", OTEL_SDK_DISABLED="true")
    assert ended.stdout == ""
    assert "OTEL_SDK_DISABLED" in ended.stderr


def test_limits_host_attributes_and_ids_come_from_the_sdk(
    recording: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    plain, changed = tmp_path / "plain", tmp_path / "changed"
    replay(recording, environment, "--spans-file", str(plain))
    replay(
        recording,
        environment,
        "--spans-file",
        str(changed),
        OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT="3",
        OTEL_PYTHON_ID_GENERATOR="counting",
        OTEL_EXPERIMENTAL_RESOURCE_DETECTORS="rack",
        OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test,service.version=agent's",
        OTEL_SERVICE_NAME="agent",
    )
    before, after = lines(plain), lines(changed)
    assert len(before) == len(after)
    numbers = [int(one["spanId"], 16) for one in after] + [int(one["traceId"], 16) for one in after]
    assert set(range(1, len(after) + 1)) <= set(numbers)
    for one, other in zip(before, after, strict=True):
        assert other["attributes"] == one["attributes"][:3]
        cut = len(one["attributes"]) - 3
        assert other["droppedAttributesCount"] == one.get("droppedAttributesCount", 0) + cut
        added = [attribute for attribute in other["resource"] if attribute not in one["resource"]]
        assert [(each["key"], each["value"]["stringValue"]) for each in added] == [
            ("host.rack", "r7"),
            ("deployment.environment.name", "test"),
        ]
