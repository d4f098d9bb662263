"""ARCHITECTURE.md is the map for newcomers: it names every source file, and none that is gone."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAP = (ROOT / "ARCHITECTURE.md").read_text()
PACKAGES = tuple(
    tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]
)
SOURCES = sorted(
    path.relative_to(ROOT)
    for package in PACKAGES
    for pattern in ("*.py", "*.[ch]")
    for path in (ROOT / package).rglob(pattern)
    if path.name != "__init__.py"
    # A program of the demo stack stands alone in its folder.
    if path.suffix != ".py" or (path.parent / "__init__.py").exists()
)


def test_the_tree_is_looked_through() -> None:
    """Packages within packages, and what is no Python."""
    assert {source.parts[0] for source in SOURCES} == set(PACKAGES)
    assert any(len(source.parts) > 3 for source in SOURCES)
    assert {source.suffix for source in SOURCES} == {".py", ".c", ".h"}


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_every_source_file_is_on_the_map(source: Path) -> None:
    in_its_row = rf"`{source.parent}/\w+\.\w+`(, `\w+\.\w+`)*, `{source.name}`"
    in_the_row_of_its_folder = rf"(?m)^\| `{source.parent}/` \|.*`{source.name}`"
    assert f"`{source}`" in MAP or re.search(in_its_row, MAP) or re.search(in_the_row_of_its_folder, MAP)


@pytest.mark.parametrize("name", re.findall(rf"`((?:{'|'.join(PACKAGES)})/[\w/.]+\.\w+)`", MAP))
def test_every_file_on_the_map_exists(name: str) -> None:
    assert (ROOT / name).is_file()
