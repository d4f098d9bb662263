"""Layers of the configuration, and what is said about values that are not accepted."""

from pathlib import Path

import pytest

from agent.config import Configuration
from agent.config_sources import (
    MAX_FILE_BYTES,
    ConfigurationError,
    describe_unknown_variables,
    environment_variable,
    load_configuration,
    section_keys,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "wirespan.yaml"


def refusal(file: Path, text: str, **environment: str) -> str:
    file.write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        load_configuration({}, environment, file)
    return str(refused.value)


def test_nothing_given_is_the_defaults() -> None:
    assert load_configuration({}, {}, None) == Configuration()


def test_options_win_over_environment_over_file_over_defaults(file: Path) -> None:
    file.write_text("content: {max_body: 1, bodies: false, headers: false}\n")
    environment = {"WIRESPAN_CONTENT_MAX_BODY": "2", "WIRESPAN_CONTENT_BODIES": "true"}
    loaded = load_configuration({("content", "max_body"): ("--max-body", 3)}, environment, file)
    assert loaded.content.max_body == 3
    assert loaded.content.bodies
    assert not loaded.content.headers
    assert loaded.content.attributes == "otel"


def test_an_empty_file_or_section_sets_nothing(file: Path) -> None:
    file.write_text("")
    assert load_configuration({}, {}, file) == Configuration()
    file.write_text("content:\n")
    assert load_configuration({}, {}, file) == Configuration()


def test_several_values_are_separated_by_commas_in_the_environment() -> None:
    environment = {"WIRESPAN_CAPTURE_PORTS": "80, 8080", "WIRESPAN_CAPTURE_EXECUTABLES": "*nginx*"}
    loaded = load_configuration({}, environment, None)
    assert loaded.capture.ports == (80, 8080)
    assert loaded.capture.executables == ("*nginx*",)


def test_exporters_are_named_as_the_standard_variable_has_them(file: Path) -> None:
    environment = {"OTEL_TRACES_EXPORTER": "otlp, console,otlp"}
    assert load_configuration({}, environment, None).output.exporters == ("otlp", "console")
    option = {("output", "exporters"): ("--exporter", ("console,zipkin", "otlp"))}
    assert load_configuration(option, environment, None).output.exporters == ("console", "zipkin", "otlp")
    file.write_text("output: {exporters: [none]}")
    assert load_configuration({}, {}, file).output.exporters == ("none",)
    refused = refusal(file, "", OTEL_TRACES_EXPORTER="none,otlp")
    assert refused.startswith("OTEL_TRACES_EXPORTER: `output.exporters` should be `none` alone")
    assert "valid tuple" in refusal(file, "output: {exporters: console}")


def test_an_empty_variable_counts_as_unset() -> None:
    assert load_configuration({}, {"WIRESPAN_CONTENT_MAX_BODY": ""}, None) == Configuration()


def test_every_key_outside_otlp_can_be_set_by_its_variable() -> None:
    known = {environment_variable(s, k): "" for s in Configuration.model_fields for k in section_keys(s)}
    assert describe_unknown_variables(known) == []


@pytest.mark.parametrize("variable", ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
def test_a_standard_variable_displaces_the_value_of_the_file(file: Path, variable: str) -> None:
    file.write_text("otlp: {endpoint: 'http://file:4317', protocol: grpc}\n")
    loaded = load_configuration({}, {variable: "http://environment:4317"}, file)
    assert loaded.otlp.endpoint is None, "the exporter reads it from the environment"
    assert loaded.otlp.protocol == "grpc"


def test_an_option_wins_over_a_standard_variable() -> None:
    options = {("otlp", "endpoint"): ("--otlp-endpoint", "http://option:4317")}
    loaded = load_configuration(options, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://environment"}, None)
    assert loaded.otlp.endpoint == "http://option:4317"


def test_an_unknown_section_is_named_with_a_near_miss(file: Path) -> None:
    message = refusal(file, "captrue: {ports: [80]}\n")
    assert str(file) in message
    assert "`captrue` (did you mean `capture`?)" in message
    assert "redaction" in message


def test_an_unknown_key_is_named_with_a_near_miss(file: Path) -> None:
    message = refusal(file, "capture: {prots: [80]}\n")
    assert f"{file}: unknown key `capture.prots` (did you mean `ports`?)" in message
    assert "direction" in message


def test_a_bad_value_is_named_with_what_is_accepted(file: Path) -> None:
    message = refusal(file, "capture: {direction: ingres}\n")
    assert "`capture.direction` should be 'ingress', 'egress' or 'both', not 'ingres'" in message
    assert "did you mean `ingress`?" in message


def test_all_bad_values_are_named_at_once(file: Path) -> None:
    message = refusal(file, "capture: {ports: [0, 80]}\ncontent: {max_body: many}\n")
    assert "`capture.ports` should be greater than or equal to 1, not 0" in message
    assert "`content.max_body` should be a valid integer" in message


def test_the_message_names_the_variable_that_is_at_fault(file: Path) -> None:
    message = refusal(file, "content: {max_body: 1}\n", WIRESPAN_CONTENT_MAX_BODY="lots")
    assert message.startswith("WIRESPAN_CONTENT_MAX_BODY: `content.max_body` should be a valid integer")


def test_the_message_names_the_option_that_is_at_fault() -> None:
    with pytest.raises(
        ConfigurationError, match=r"--health-listen: `agent.health_listen` should be HOST:PORT"
    ):
        load_configuration({("agent", "health_listen"): ("--health-listen", "9464")}, {}, None)


def test_values_of_export_headers_are_never_shown(file: Path) -> None:
    message = refusal(file, "otlp: {headers: {authorization: [canary]}}\n")
    assert "`otlp.headers`" in message
    assert "canary" not in message


def test_a_key_given_twice_is_an_error(file: Path) -> None:
    message = refusal(file, "content:\n  max_body: 1\n  max_body: 2\n")
    assert "line 3, column 3: key `max_body` appears twice" in message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("capture: [", "not valid YAML: line 1"),
        ("a\n", "should hold sections: capture"),
        ("[1, 2]\n", "should hold sections: capture"),
        ("capture: 80\n", "`capture` should hold keys: pids"),
        ("? [1, 2]\n: 3\n", "not valid YAML"),
        ("a: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
        ("a: \x00\n", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_configuration_says_so(file: Path, text: str, part: str) -> None:
    assert part in refusal(file, text)


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"missing\.yaml: No such file or directory"):
        load_configuration({}, {}, tmp_path / "missing.yaml")


def test_a_huge_file_is_refused_without_being_parsed(file: Path) -> None:
    assert "hardly a configuration" in refusal(file, "#" * (MAX_FILE_BYTES + 1))


def test_unknown_variables_are_warned_of_and_not_an_error() -> None:
    warnings = describe_unknown_variables(["WIRESPAN_CAPTURE_PORT", "WIRESPAN_CONFIG", "PATH"])
    assert warnings == [
        "environment variable WIRESPAN_CAPTURE_PORT is not known (did you mean `WIRESPAN_CAPTURE_PORTS`?)"
    ]
