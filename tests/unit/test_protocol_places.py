"""Where a new protocol has to be made known: each place says so in a comment, and there are no others.

A place that takes HTTP for granted gets such a comment and a line here; docs/design/0013-protocols.md is the
recipe.
"""

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("ebpf", "parsers", "otel_bridge", "agent")
MARK = re.compile(r"^\s*(?:#|/\*) PROTOCOL: ", re.MULTILINE)
PLACES = (
    "ebpf/bpf/records.h",
    "ebpf/events.py",
    "ebpf/inference.py",
    "ebpf/packets/connection.py",
    "ebpf/protocols.py",
    "otel_bridge/sinks/console.py",
    "otel_bridge/spans/builder.py",
    "parsers/protocols.py",
)
NEUTRAL = (
    "agent/attribution.py",
    "agent/export.py",
    "agent/pipeline.py",
    "agent/selection.py",
    "agent/waiting.py",
    "otel_bridge/spans/description.py",
    "parsers/stream.py",
    "parsers/tracker.py",
)
"""What works on exchanges or connections of any protocol."""
HTTP_NAMES = re.compile(r"\bHttp[A-Z]\w+|parsers\.http\d?|spans\.http\b|\.request\b|\.response\b")


def test_each_place_is_marked_once_and_listed() -> None:
    marks: Counter[str] = Counter()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.*"):
            if path.suffix in (".py", ".h", ".c"):
                marks[str(path.relative_to(ROOT))] += len(MARK.findall(path.read_text()))
    assert +marks == Counter(PLACES)


def test_what_is_neutral_names_nothing_of_http() -> None:
    found = {name: HTTP_NAMES.findall((ROOT / name).read_text()) for name in NEUTRAL}
    assert found == {name: [] for name in NEUTRAL}


def test_the_recipe_names_every_place() -> None:
    recipe = (ROOT / "docs/design/0013-protocols.md").read_text()
    assert [place for place in PLACES if Path(place).name not in recipe] == []
