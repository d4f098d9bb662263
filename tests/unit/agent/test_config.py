"""The configuration's keys and the stages' options made from them."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from agent.config import Configuration, ListenAddress
from agent.config_reference import key_table
from agent.outputs import span_options
from agent.selection_rules import CaptureDirection
from agent.workloads.kubernetes.capture_rules import CaptureDefault
from ebpf.events import Policy
from otel_bridge.spans.trust import DEFAULT_TRUSTED_PROXIES

DOCUMENT = Path(__file__).parents[3] / "docs" / "configuration.md"


def configuration(**sections: dict[str, object]) -> Configuration:
    return Configuration.model_validate(sections)


def test_defaults_capture_everything_with_bodies() -> None:
    options = Configuration().capture_options()
    assert options.default_policy == Policy.CAPTURE_INGRESS | Policy.CAPTURE_EGRESS
    assert options.ports == frozenset()
    assert not options.undecided_at_exec
    limits = Configuration().parser_limits()
    assert limits.capture_bodies
    assert limits.max_body == 131_072


def test_budget_of_a_turn_holds_the_body_limit_and_a_header_block() -> None:
    limits = configuration(content={"max_body": 1000}).parser_limits()
    options = configuration(content={"max_body": 1000}).capture_options()
    assert options.turn_budget == 1000 + limits.max_header_block


@pytest.mark.parametrize("content", [{"bodies": False}, {"max_body": 0}])
def test_without_bodies_only_the_header_block_is_budgeted(content: dict[str, object]) -> None:
    chosen = configuration(content=content)
    assert not chosen.parser_limits().capture_bodies
    assert chosen.capture_options().turn_budget == chosen.parser_limits().max_header_block


@pytest.mark.parametrize("capture", [{"pids": [1]}, {"executables": ["*nginx*"]}])
def test_a_selection_makes_the_default_policy_ignore(capture: dict[str, object]) -> None:
    assert configuration(capture=capture).capture_options().default_policy == Policy.IGNORE


def test_executables_are_decided_on_and_direction_becomes_policy() -> None:
    chosen = configuration(capture={"executables": ["x"], "direction": "ingress"})
    assert chosen.capture_options().undecided_at_exec
    assert chosen.selection_rules().direction is CaptureDirection.INGRESS
    assert chosen.selection_rules().direction.roles == Policy.CAPTURE_INGRESS


def test_seconds_become_nanoseconds_of_event_time() -> None:
    assert configuration(limits={"idle_seconds": 1.5}).parser_limits().idle_ns == 1_500_000_000


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("localhost:0", ("localhost", 0)),
        (":9464", ("", 9464)),
        ("[::1]:9464", ("::1", 9464)),
    ],
)
def test_listen_addresses(text: str, address: tuple[str, int]) -> None:
    assert configuration(agent={"health_listen": text}).agent.health_listen == ListenAddress(*address)


@pytest.mark.parametrize("text", ["9464", "::1:9464", "localhost:", "localhost:http", "localhost:65536", ""])
def test_addresses_that_name_no_host_and_port_are_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="HOST:PORT"):
        configuration(agent={"health_listen": text})


@pytest.mark.parametrize(
    "sections",
    [
        {"capture": {"ports": [0]}},
        {"capture": {"ports": [65_536]}},
        {"capture": {"pids": [0]}},
        {"capture": {"ring_bytes": 3_000_000}},
        {"capture": {"ring_bytes": 4096}},
        {"content": {"max_body": -1}},
        {"content": {"max_body": 1_048_577}},
        {"content": {"attributes": "hypertrace"}},
        {"agent": {"duration": 0}},
        {"agent": {"shutdown_timeout": 0}},
        {"limits": {"connections": 0}},
        {"unknown": {}},
        {"capture": {"unknown": 1}},
    ],
)
def test_values_out_of_range_and_unknown_keys_are_refused(sections: dict[str, dict[str, object]]) -> None:
    with pytest.raises(ValidationError):
        configuration(**sections)


def test_a_configuration_is_immutable() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Configuration().content.max_body = 1


def test_labels_of_compose_are_exported_unless_others_are_chosen() -> None:
    assert configuration().docker.labels == ("com.docker.compose.project", "com.docker.compose.service")
    assert configuration(docker={"labels": []}).docker.labels == ()


def test_every_key_is_in_the_documentation_as_it_is() -> None:
    assert key_table() in DOCUMENT.read_text(), "run: python -m agent.config_reference"


def test_kubernetes_rules_take_direction_and_bodies_from_their_sections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NODE_NAME", "node-1")
    chosen = configuration(
        kubernetes={"selector": "app=web,!canary", "namespaces": ["shop-*"], "default": "none"},
        capture={"direction": "egress"},
        content={"bodies": False},
    ).kubernetes_options()
    assert chosen.node == "node-1"
    assert chosen.rules.default is CaptureDefault.NONE
    assert chosen.rules.direction is CaptureDirection.EGRESS
    assert not chosen.rules.bodies
    assert chosen.rules.selector is not None
    assert chosen.rules.selector.matches({"app": "web"})
    assert chosen.rules.egress_selector is None
    assert configuration(kubernetes={"node": "other"}).kubernetes_options().node == "other"


def test_a_pod_may_ask_for_bodies_that_others_go_without() -> None:
    chosen = configuration(content={"bodies": False}, kubernetes={"enabled": True})
    assert chosen.captures_bodies
    assert chosen.parser_limits().capture_bodies
    assert not chosen.kubernetes_options().rules.bodies
    assert not chosen.without_pods().captures_bodies
    assert not configuration(content={"max_body": 0}, kubernetes={"enabled": True}).captures_bodies
    assert not configuration(content={"bodies": False}).parser_limits().capture_bodies


@pytest.mark.parametrize(
    ("selector", "part"),
    [
        ("app in web", r"should be a label selector, such as app=web \(`web` stands where \( and"),
        (5, "should be a label selector"),
        (["app=web"], "should be a label selector"),
    ],
)
def test_a_selector_is_read_at_start(selector: object, part: str) -> None:
    with pytest.raises(ValidationError, match=part):
        configuration(kubernetes={"egress_selector": selector})
    assert configuration(kubernetes={"selector": None}).kubernetes.selector is None


def test_programs_whose_tls_is_left_alone_have_to_be_decided_on_unless_all_is() -> None:
    default = configuration()
    assert default.capture_options().tls
    assert not default.selection_rules().decides_at_exec
    excluding = configuration(tls={"exclude_executables": ["vault"]})
    assert excluding.selection_rules().tls_excluded == ("vault",)
    assert excluding.capture_options().undecided_at_exec
    without = configuration(tls={"enabled": False, "exclude_executables": ["vault"]})
    assert not without.capture_options().tls
    assert not without.selection_rules().decides_at_exec


@pytest.mark.parametrize("value", ["10.0.0.0/33", "load-balancer", "", "10.0.0.0/8/8"])
def test_a_trusted_proxy_is_an_address_or_a_network(value: str) -> None:
    with pytest.raises(ValidationError, match="should be an address or a network"):
        configuration(trust={"proxies": [value]})


def test_trusted_proxies_reach_the_spans() -> None:
    assert span_options(configuration()).trusted_proxies == DEFAULT_TRUSTED_PROXIES
    given = configuration(trust={"proxies": ["203.0.113.0/24", "fd00::1"]})
    assert span_options(given).trusted_proxies == ("203.0.113.0/24", "fd00::1")
    assert span_options(configuration(trust={"proxies": []})).trusted_proxies == ()
