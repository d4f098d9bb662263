"""What the command says when it is used wrongly, and with which exit code it ends. No root is needed here."""

import os
from pathlib import Path

import pytest

from tests.e2e.conftest import wirespan

pytestmark = pytest.mark.e2e


def refused(*arguments: str, **environment: str) -> str:
    ended = wirespan(*arguments, env={**os.environ, **environment})
    assert ended.returncode == 2, ended.stderr
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    return ended.stderr


def test_help_lists_the_commands_in_their_order() -> None:
    ended = wirespan("--help")
    assert ended.returncode == 0
    names = [line.split()[0] for line in ended.stdout.partition("Commands:")[2].splitlines() if line]
    assert [name for name in names if name in ("run", "record", "replay", "check", "demo")] == [
        "run",
        "record",
        "replay",
        "check",
        "demo",
    ]


@pytest.mark.parametrize(
    "option",
    [
        "--pid",
        "--exe",
        "--container",
        "--port",
        "--direction",
        "--kubernetes",
        "--max-body",
        "--no-bodies",
        "--attributes",
        "--otlp-endpoint",
        "--otlp-protocol",
        "--spans-file",
        "--config",
        "--duration",
        "--health-listen",
        "--shutdown-timeout",
        "--log-level",
        "--log-format",
        "--verbose",
    ],
)
def test_run_offers_every_option(option: str) -> None:
    assert option in wirespan("run", "--help").stdout


def test_a_wrong_option_names_a_near_miss() -> None:
    assert "--port" in refused("run", "--prot", "80")


def test_a_wrong_command_says_so() -> None:
    assert "No such command" in refused("rnu")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--port", "0"), "1<=x<=65535"),
        (("--port", "http"), "not a valid integer"),
        (("--pid", "0"), "x>=1"),
        (("--direction", "sideways"), "'ingress', 'egress', 'both'"),
        (("--attributes", "hypertrace"), "'otel'"),
        (("--duration", "0"), "x>0"),
        (("--otlp-protocol", "udp"), "'grpc', 'http/protobuf'"),
        (("--health-listen", "9464"), "HOST:PORT"),
        (("--health-listen", "192.0.2.1:9464"), "can't listen on 192.0.2.1 port 9464"),
        (("--max-body", "9999999"), "--max-body: `content.max_body` should be less than or equal to 1048576"),
        (("--spans-file", "/no/such/folder/spans"), "/no/such/folder/spans"),
        (("--otlp-endpoint", "ftp://collector"), "ftp"),
        (("--config", "/no/such/file"), "/no/such/file: No such file or directory"),
    ],
)
def test_a_bad_value_says_what_is_accepted(arguments: tuple[str, ...], part: str) -> None:
    assert part in refused("run", *arguments)


@pytest.mark.parametrize(
    ("variable", "value", "part"),
    [
        ("WIRESPAN_CAPTURE_PORTS", "80,http", "WIRESPAN_CAPTURE_PORTS: `capture.ports`"),
        ("WIRESPAN_AGENT_LOG_LEVEL", "loud", "'debug', 'info', 'warning' or 'error'"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "udp", "OTEL_EXPORTER_OTLP_PROTOCOL"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon", "OTEL_EXPORTER_OTLP_TIMEOUT"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT"),
    ],
)
def test_a_bad_variable_is_named(variable: str, value: str, part: str) -> None:
    environment = {variable: value, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    assert part in refused("run", **environment)


def test_a_bad_key_in_the_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "wirespan.yaml"
    file.write_text("capture: {prot: 80}\n")
    assert f"{file}: unknown key `capture.prot` (did you mean `ports`?)" in refused(
        "run", "--config", str(file)
    )
    assert "did you mean" in refused("run", WIRESPAN_CONFIG=str(file))


def test_a_process_that_does_not_exist_is_wrong_usage() -> None:
    assert "no process has the number 2147483647" in refused("run", "--pid", "2147483647")


def test_a_recording_that_is_none_says_so(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.write_text("not a recording, but long enough to hold a preamble of one" * 20)
    assert str(foreign) in refused("replay", str(foreign))
    assert "missing" in refused("replay", str(tmp_path / "missing"))


def test_without_privileges_the_message_names_what_is_missing() -> None:
    ended = wirespan("run", "--duration", "1", user=65_534, group=65_534, extra_groups=[])
    assert ended.returncode == 3, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "this host cannot capture" in ended.stderr


def test_check_without_privileges_ends_with_3_and_names_the_remedy() -> None:
    ended = wirespan("check", user=65_534, group=65_534, extra_groups=[])
    assert ended.returncode == 3, ended.stderr
    assert "missing" in ended.stdout
    assert "→" in ended.stdout


def test_check_with_privileges_ends_with_0() -> None:
    ended = wirespan("check")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "would work here" in ended.stdout
    assert '"would_run": true' in wirespan("check", "--format", "json").stdout
