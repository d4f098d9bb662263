"""ARCHITECTURE.md is the map for newcomers: it names every source file, and none that is gone."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAP = (ROOT / "ARCHITECTURE.md").read_text()
PACKAGES = ("ebpf", "parsers", "otel_bridge", "agent")
SOURCES = sorted(
    path.relative_to(ROOT)
    for package in PACKAGES
    for pattern in ("*.py", "*.[ch]")
    for path in (ROOT / package).rglob(pattern)
    if path.name != "__init__.py"
)


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_every_source_file_is_on_the_map(source: Path) -> None:
    in_its_row = rf"`{source.parent}/\w+\.\w+`(, `\w+\.\w+`)*, `{source.name}`"
    assert f"`{source}`" in MAP or re.search(in_its_row, MAP)


@pytest.mark.parametrize("name", re.findall(r"`((?:ebpf|parsers|otel_bridge|agent)/[\w/.]+\.\w+)`", MAP))
def test_every_file_on_the_map_exists(name: str) -> None:
    assert (ROOT / name).is_file()
