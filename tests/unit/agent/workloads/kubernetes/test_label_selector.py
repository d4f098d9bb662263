"""Selectors as Kubernetes reads them. tests/kubernetes holds them to the API server's own answers."""

import pytest

from agent.workloads.kubernetes.label_selector import MAX_SELECTOR_CHARACTERS, SelectorError, parse_selector

LABELS = {"app": "web", "tier": "a", "x": "", "example.com/rank": "5", "in": "out"}


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        ("", True),
        ("  ", True),
        ("app", True),
        ("app=web", True),
        ("app==web", True),
        (" app = web ", True),
        ("app=api", False),
        ("app=", False),
        ("x=", True),
        ("x=,app=web", True),
        ("app!=web", False),
        ("app!=api", True),
        ("missing!=api", True),
        ("!missing", True),
        ("! app", False),
        ("missing", False),
        ("tier in (a,b)", True),
        ("tier in(b,c)", False),
        ("tier notin (a,b)", False),
        ("tier notin (b)", True),
        ("missing notin (b)", True),
        ("missing in (b)", False),
        ("x in ()", True),
        ("x in (a,)", True),
        ("app=web,tier in (a,b),!canary", True),
        ("app=web,tier in (a,b),!app", False),
        ("example.com/rank>4", True),
        ("example.com/rank > 5", False),
        ("example.com/rank<6", True),
        ("app<6", False),
        ("missing>1", False),
        ("in in (out)", True),
        ("in=out", True),
    ],
)
def test_a_selector_matches_as_the_api_server_would(selector: str, matches: bool) -> None:  # noqa: FBT001
    assert parse_selector(selector).matches(LABELS) is matches


@pytest.mark.parametrize(
    ("selector", "part"),
    [
        (",", "`,` stands where the key"),
        ("app=web,", "the end stands where the key"),
        ("app web", "`web` follows the key `app`"),
        ("app=web tier=a", "`tier` stands where a comma"),
        ("app in a", "`a` stands where ( and values"),
        ("app in (a", "the end stands where a comma or )"),
        ("app in (a b)", "`b` stands where a comma or )"),
        ("app in (=)", "`=` stands where a value"),
        ("=web", "`=` stands where the key"),
        ("!", "the end stands where the key"),
        ("!app=web", "`=` stands where a comma"),
        ("app=we$b", "`we$b` is no value"),
        ("app=" + "x" * 64, "is no value"),
        ("-app=web", "`-app` is no key"),
        ("Example.com/app", "before the slash"),
        ("a/b/c", "before the slash"),
        ("/app", "before the slash"),
        ("app/", "is no key"),
        ("app>web", "`web` stands where a whole number"),
        ("app>", "the end stands where a whole number"),
        ("app=(", "`(` stands where a value"),
        ("x" * (MAX_SELECTOR_CHARACTERS + 1), "at most"),
    ],
)
def test_what_can_not_be_read_is_named(selector: str, part: str) -> None:
    with pytest.raises(SelectorError) as raised:
        parse_selector(selector)
    assert part in str(raised.value)


def test_a_selector_shows_as_it_was_written() -> None:
    assert str(parse_selector("app = web")) == "app = web"
