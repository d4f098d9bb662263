"""The README says what each dependency is for: those of pyproject.toml, all of them and no others."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DEPENDENCIES = sorted(re.split(r"[^\w.-]", each)[0] for each in PROJECT["dependencies"])


def rows() -> list[tuple[list[str], str]]:
    """Return the packages and the purpose of each row of the table."""
    table = README.partition("| package | for |\n|---|---|\n")[2].partition("\n\n")[0]
    cells = [line.strip("| ").split(" | ") for line in table.splitlines()]
    return [(re.findall(r"`([^`]+)`", packages), purpose) for packages, purpose in cells]


def test_the_readme_names_every_dependency_once_and_none_that_is_gone() -> None:
    assert DEPENDENCIES
    assert sorted(package for packages, _ in rows() for package in packages) == DEPENDENCIES


@pytest.mark.parametrize(("packages", "purpose"), rows(), ids=str)
def test_a_row_says_what_its_packages_are_for(packages: list[str], purpose: str) -> None:
    assert packages
    assert len(purpose) > 5
